"""Winograd convolutions on a GPU: their products, how threads share their transforms, and their price."""

from __future__ import annotations

import math

from convc.target import Target
from convc.tiling.device_gemm import CHUNK, GemmProblem
from convc.tiling.device_transformed import LINE, Transformed
from convc.tiling.winograd import tile_counts, tile_outputs, tile_sizes
from convc.workload import ConvShape

VALUES = 96
"""Registers of a thread for the tile that it transforms. With temporaries and addresses some 150."""
WARPS = 8
"""Of each multiprocessor, that the threads of a transform should fill before they take several channels."""


def problem(s: ConvShape, m: int, target: Target) -> GemmProblem:
    """A product of tiles and channels for each frequency."""
    tiles = s.n * math.prod(tile_counts(s, m))
    columns = -(-s.oc // target.lanes) * target.lanes
    frequencies = math.prod(tile_sizes(s, m))
    return GemmProblem(frequencies, tiles, columns, -(-s.ic // target.lanes), CHUNK // target.lanes)


def transformed(s: ConvShape, m: int, target: Target) -> Transformed:
    """The three launches of a layer."""
    maps = ((s.ic, s.input), (s.oc, s.output))
    read, written = (target.vector_bytes * s.n * -(-c // target.lanes) * math.prod(size) for c, size in maps)
    p, outputs = problem(s, m, target), tile_outputs(s, m)
    # Neighbouring threads read inputs of neighbouring tiles, but write outputs of different channels.
    apart = min(1.0, CHUNK * outputs[-1] / LINE)
    forward = p.groups * (apart + CHUNK / LINE) * p.m * p.padded_chunks
    inverse = (p.groups * CHUNK / LINE + math.prod(outputs)) * p.m * p.n / target.lanes
    sms = target.device.sms
    return Transformed(p, read, written, forward / sms, inverse / sms)


def input_lanes(s: ConvShape, m: int, target: Target) -> int:
    """Channels of a tile that a thread of the input transform takes; it holds all of the tile."""
    p = problem(s, m, target)
    return _lanes(math.prod(tile_sizes(s, m)), p.padded_chunks * p.m, target)


def output_lanes(s: ConvShape, m: int, target: Target) -> int:
    """The same of the inverse transform, which holds the tile once its first axis is transformed."""
    held = tile_outputs(s, m)[0] * math.prod(tile_sizes(s, m)[1:])
    return _lanes(held, problem(s, m, target).m * -(-s.oc // target.lanes), target)


def _lanes(values: int, tiles: int, target: Target) -> int:
    """Four channels are one access of 16 bytes, but few tiles need every thread that there is."""
    threads = 32 * WARPS * target.device.sms
    fitting = [v for v in (1, 2, 4) if v * values <= VALUES and tiles * target.lanes // v >= threads]
    return max(fitting, default=1)
