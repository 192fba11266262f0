"""What an FFT convolution costs, and which tiles make it cheapest."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import lru_cache

from convc.lowering import dft
from convc.lowering.fft_tiling import Tiling, as_pair, spans
from convc.target import Target
from convc.workload import ConvShape

SIZES = (4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 30, 32, 36, 40, 48, 64)
"""Tile sizes with cheap factors."""


@lru_cache(maxsize=4096)
def choose(s: ConvShape, target: Target) -> Tiling:
    """The cheapest tiling of a layer. Depends on the layer's shape and the target alone."""
    return min(candidates(s, target), key=lambda t: seconds(s, t, target))


def candidates(s: ConvShape, target: Target) -> list[Tiling]:
    """Every tiling worth pricing."""
    axes = []
    for span, output in zip(as_pair(spans(s)), as_pair(s.output), strict=True):
        sizes = [t for t in SIZES if t >= span + (span > 1)] if span > 1 else [1]
        enough = next((i for i, t in enumerate(sizes) if t - span + 1 >= output), len(sizes) - 1)
        axes.append([(t, t - span + 1, -(-output // (t - span + 1))) for t in sizes[: enough + 1]])
    found = []
    for (t0, m0, n0), (t1, m1, n1) in itertools.product(*axes):
        base = Tiling((t0, t1), (m0, m1), (n0, n1), s.n, s.n * n0 * n1, 4)
        found += [base] if s.depthwise else grouped(base, s, target)
    return found


def grouped(base: Tiling, s: ConvShape, target: Target) -> list[Tiling]:
    """The ways to cut the tiles of a dense layer into groups, times three or four real products."""
    found = []
    for products in (3, 4):
        found.append(replace(base, products=products))
    return found


def transform_work(t: Tiling) -> tuple[int, int]:
    """Vector instructions of arithmetic to transform one tile of one channel block, forward and back."""
    (height, width), (kept, cropped) = t.tile, t.out
    between = t.columns - t.real_columns
    forward = height * dft.real_forward(width).arithmetic
    forward += (
        t.real_columns * dft.real_forward(height).arithmetic
        + between * dft.complex_forward(height).arithmetic
    )
    backward = kept * dft.real_backward(width, cropped).arithmetic
    backward += t.real_columns * dft.real_backward(height, kept).arithmetic
    backward += between * dft.complex_backward(height, kept).arithmetic
    return forward, backward


def seconds(s: ConvShape, t: Tiling, target: Target) -> float:
    """Predicted time on all threads."""
    rate = target.peak / (2 * target.lanes)
    in_blocks, out_blocks = (-(-c // target.lanes) for c in (s.ic, s.oc))
    forward, backward = transform_work(t)
    tiles = t.groups * t.group
    work = 1.5 * tiles * (in_blocks * forward + out_blocks * backward)
    if not s.depthwise:
        work += tiles * t.frequencies * t.products * s.ic * out_blocks
    weights = 4 * t.frequencies * t.parts * out_blocks * target.lanes * (1 if s.depthwise else s.ic)
    return work / rate + weights / target.memory_bandwidth
