"""FFT convolutions on a GPU: their tiles, how threads share the transforms, and their price.

A block of threads transforms a few tiles of a few channels, 32 pairs in all, one for each thread of a warp.
Its warps take the lines of the tiles: rows first, then the columns of what they left in shared memory; on the
way back columns come first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

from convc.dtype import FLOAT32
from convc.target import Target
from convc.tiling import dft
from convc.tiling.device_gemm import CHUNK, WARP, GemmProblem
from convc.tiling.device_transformed import Transformed, seconds
from convc.tiling.fft import AxisTiles, Tiling, as_pair, axis_tiles, spans
from convc.workload import ConvShape

LARGEST_TILE = 32
"""Pixels of a line: a complex transform of so many keeps 64 values in a thread's registers."""
LARGEST_SPAN = 24
WARPS = 16
"""Of a block: with 512 threads each may have 128 registers."""
_PARTS = 3
"""Real products for a complex one."""
_PRICED = 6
"""Tilings that are priced: those that move least."""


def problem(s: ConvShape, t: Tiling, target: Target) -> GemmProblem:
    """Three products of tiles and channels for each frequency."""
    columns = -(-s.oc // target.lanes) * target.lanes
    chunks = -(-s.ic // target.lanes)
    return GemmProblem(_PARTS * t.frequencies, t.tiles, columns, chunks, CHUNK // target.lanes)


def warp_channels(p: GemmProblem) -> int:
    """Channels of one tile, or of two, that a warp transforms back at a time."""
    return WARP if p.columns % WARP == 0 else WARP // 2


def transformed(s: ConvShape, t: Tiling, target: Target) -> Transformed:
    """The three launches of a layer."""
    maps = ((s.ic, s.input), (s.oc, s.output))
    read, written = (target.vector_bytes * s.n * -(-c // target.lanes) * math.prod(size) for c, size in maps)
    p, sms = problem(s, t, target), target.device.sms
    blocks = p.padded_chunks * -(-p.m * target.lanes // WARP), p.m * -(-p.n // warp_channels(p))
    forward, inverse = (-(-count // sms) * cycles for count, cycles in zip(blocks, _cycles(t), strict=True))
    return Transformed(p, read, written, forward, inverse)


@lru_cache(maxsize=1024)
def _cycles(t: Tiling) -> tuple[float, float]:
    """Of one block's load and store unit, forward and back, and of its four arithmetic units.

    A warp's pixels lie in 8 lines, of neighbouring tiles or channel blocks; all else is one line an access.
    """
    (height, width), (kept, across) = t.tile, t.out
    ends, others = t.real_columns, t.columns - t.real_columns
    forward = (
        (height, dft.real_forward(width)),
        (ends, dft.real_forward(height)),
        (others, dft.complex_forward(height)),
    )
    inverse = (
        (kept, dft.real_backward(width, across)),
        (ends, dft.real_backward(height, kept)),
        (others, dft.complex_backward(height, kept)),
    )
    first, last = (sum(n * p.arithmetic for n, p in lines) / 4 for lines in (forward, inverse))
    frequencies = _PARTS * t.frequencies
    first += 8 * height * width + 4 * t.columns * height + frequencies
    last += 8 * kept * across + 4 * t.columns * kept + frequencies
    return first, last


@lru_cache(maxsize=1024)
def choose(s: ConvShape, target: Target) -> Tiling:
    """The cheapest tiling of a layer."""
    promising = sorted(tilings(s, target), key=lambda t: transformed(s, t, target).moved)[:_PRICED]
    return min(promising, key=lambda t: price(s, t, target))


def price(s: ConvShape, t: Tiling, target: Target) -> float:
    """Predicted seconds."""
    return seconds(transformed(s, t, target), target)


def tilings(s: ConvShape, target: Target) -> Iterator[Tiling]:
    """All tilings whose lines fit registers, and whose spectra shared memory."""
    for down, across in itertools.product(*(_axis(s, axis) for axis in range(2))):
        count = (down.count, across.count)
        t = Tiling((down.size, across.size), (down.out, across.out), count, s.n, 1, 1, _PARTS)
        if shared_bytes(t) <= target.device.block_shared_memory:
            yield t


def _axis(s: ConvShape, axis: int) -> list[AxisTiles]:
    before = as_pair(tuple(pad for pad, _ in s.pads), 0)[axis]
    span, size, output = (as_pair(values)[axis] for values in (spans(s), s.input, s.output))
    found = axis_tiles(span, size, output, before)
    return [tile for tile in found if tile.size <= LARGEST_TILE and not tile.wrapped]


def shared_bytes(t: Tiling) -> int:
    """What the rows of a block's tiles leave for their columns."""
    return FLOAT32.nbytes * WARP * 2 * t.columns * t.tile[0]
