"""How separable convolutions are cut into tasks and register tiles, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from convc.ops.separable import SeparableAttrs
from convc.target import Target
from convc.tiling.registers import (
    Tile,
    divisors,
    imbalance,
    memory_seconds,
    most_sums,
    overlapped_seconds,
    tile_cycles,
)
from convc.workload import ConvShape, Workload

Pixel = tuple[int, int]

FEW = 4
"""Register tiles that may each have code of their own."""


@dataclass(frozen=True)
class SeparableShape:
    """The two convolutions of a workload, in the field's letters."""

    depthwise: ConvShape
    pointwise: ConvShape
    depthwise_first: bool

    @classmethod
    def of(cls, w: Workload) -> SeparableShape:
        """Read a workload of either operator."""
        assert isinstance(w.attrs, SeparableAttrs)
        x, depthwise, pointwise = w.inputs[:3]
        assert x is not None
        assert depthwise is not None
        assert pointwise is not None
        n, wide, pixels, a = x.shape[0], depthwise.shape[0], w.outputs[0].shape[2:], w.attrs
        first = w.op == "depthwise_pointwise"
        at = pixels if first else x.shape[2:]
        ones, none = (1,) * len(at), ((0, 0),) * len(at)
        return cls(
            ConvShape(
                n, wide, wide, x.shape[2:], pixels, depthwise.shape[2:], a.strides, a.dilations, a.pads, wide
            ),
            ConvShape(n, pointwise.shape[1], pointwise.shape[0], at, at, ones, ones, ones, none, 1),
            first,
        )

    @property
    def cols(self) -> int:
        """Columns of the tensor between the convolutions, borders included."""
        return self.depthwise.output[1] if self.depthwise_first else self._span(self.depthwise.output[1], 1)

    def rows(self, outputs: int) -> int:
        """Rows between the convolutions that so many output rows need, borders included."""
        return outputs if self.depthwise_first else self._span(outputs, 0)

    def _span(self, outputs: int, axis: int) -> int:
        d = self.depthwise
        return (outputs - 1) * d.strides[axis] + d.dilations[axis] * (d.kernel[axis] - 1) + 1

    @property
    def refusal(self) -> str | None:
        """Why no kernel can join the two; None if one can."""
        d = self.depthwise
        if len(d.kernel) != 2:
            return f"the kernel has two spatial axes, not {len(d.kernel)}"
        reach = [(k - 1) * a + 1 for k, a in zip(d.kernel, d.dilations, strict=True)]
        if any(max(pads) >= r for pads, r in zip(d.pads, reach, strict=True)):
            return f"some windows of {tuple(reach)} pixels see nothing but the pads {d.pads}"
        return None


@dataclass(frozen=True)
class Walk:
    """Starts of `count` tiles along an axis: step after step, the last one no further than `last`."""

    count: int
    step: int
    last: int


STILL = Walk(1, 0, 0)


@dataclass(frozen=True)
class Patch:
    """A register tile: its pixels, relative to a start that walks down and across."""

    pixels: tuple[Pixel, ...]
    down: Walk
    across: Walk

    @property
    def rectangle(self) -> tuple[int, int] | None:
        """Height and width, where the pixels are a rectangle."""
        height, width = (last + 1 for last in self.pixels[-1])
        full = tuple((i, j) for i in range(height) for j in range(width))
        return (height, width) if self.pixels == full else None

    @property
    def computed(self) -> int:
        """Pixels that all its places compute."""
        return len(self.pixels) * self.down.count * self.across.count


def cover(rows: int, cols: int, longest: int) -> list[Patch]:
    """Tiles of equal size, at most `longest` pixels, that cover a map; neighbours overlap where they must.

    A pixel in two tiles is computed twice, with the same result. Narrow maps take whole rows in a tile; where
    these do not divide the height, and tiles are few, runs of pixels that begin anywhere: 7 x 7 pixels are
    two tiles of 25.
    """
    if cols > longest:
        count = -(-cols // longest)
        width = -(-cols // count)
        return [
            Patch(
                tuple((0, j) for j in range(width)), Walk(rows, 1, rows - 1), Walk(count, width, cols - width)
            )
        ]
    count = -(-rows // (longest // cols))
    height = -(-rows // count)
    if rows % height and rows * cols <= FEW * longest:
        flat = [(i, j) for i in range(rows) for j in range(cols)]
        each = -(-len(flat) // -(-len(flat) // longest))
        starts = [min(t, len(flat) - each) for t in range(0, len(flat), each)]
        return [Patch(tuple(flat[start : start + each]), STILL, STILL) for start in starts]
    pixels = tuple((i, j) for i in range(height) for j in range(cols))
    return [Patch(pixels, Walk(count, height, rows - height), STILL)]


@dataclass(frozen=True)
class Tiling:
    """One task makes `rows` output rows: of all channels, or of `blocks` where the 1x1 convolution is first.

    A register tile sums `pixels` x `blocks` of the 1x1 convolution, `taps` of the depthwise one. With
    `stream` a task goes row by row, and what is between the convolutions is read while in the first cache.
    """

    rows: int
    pixels: int
    blocks: int
    taps: int
    stream: bool


@lru_cache(maxsize=4096)
def choose(s: SeparableShape, target: Target) -> Tiling:
    """The tiling with the least predicted time."""
    return min(candidates(s, target), key=lambda t: seconds(s, t, target))


def candidates(s: SeparableShape, target: Target, *, smaller: bool = False) -> Iterator[Tiling]:
    """Every tiling worth pricing: the output in runs of rows, down to single ones, and each register tile.

    With `smaller` register tiles also such as the price would not tell from the largest, or finds dearer.
    """
    height = s.depthwise.output[0]
    heights = sorted({-(-height // runs) for runs in range(1, height + 1)}, reverse=True)
    # LLVM keeps inputs that taps share in registers, which must not be full of sums
    most_taps = target.registers // 2
    for blocks in divisors(-(-s.pointwise.oc // target.lanes)):
        fitting = [p for p in range(1, most_sums(target) // blocks + 1) if Tile(1, p, blocks).fits(target)]
        if not fitting or blocks > MOST_BLOCKS:
            break
        for rows in heights:
            streams = [False] if s.depthwise_first or rows == height else []
            streams += [] if s.depthwise_first else [True]
            for stream in streams:
                largest = Tiling(rows, fitting[-1], blocks, most_taps, stream)
                yield from _smaller(s, largest) if smaller else (largest,)


def _smaller(s: SeparableShape, t: Tiling) -> Iterator[Tiling]:
    """A tiling, and those with register tiles down to half of its size that cut the maps otherwise."""
    made = 1 if t.stream else t.rows
    needed = 1 if t.stream else min(s.rows(t.rows), s.pointwise.output[0])
    for pixels in _cuts(needed, s.pointwise.output[1], t.pixels):
        for taps in _cuts(made, s.depthwise.output[1], t.taps):
            yield replace(t, pixels=pixels, taps=taps)


def _cuts(rows: int, cols: int, longest: int) -> list[int]:
    """Sizes of tiles from `longest` down to its half, one of each that `cover` treats alike."""
    alike: dict[tuple[Patch, ...], int] = {}
    for size in range(longest, longest // 2, -1):
        alike.setdefault(tuple(cover(rows, cols, size)), size)
    return list(alike.values())


MOST_BLOCKS = 2
"""Vectors of weights in a register tile: 9 pixels x 3 took a fifth longer than 14 x 2 on MobileNet v2's last
layers (7 x 7 pixels, two Zen 5 cores)."""


def seconds(s: SeparableShape, t: Tiling, target: Target) -> float:
    """Predicted time on all threads.

    Arithmetic of both convolutions at the efficiency of their tiles, rows at the border of two tasks computed
    twice; what is between them crosses the border of a cache that cannot hold it; weights of the second
    convolution pass once for each task, and so does the input where the 1x1 convolution is first.
    """
    d, p = s.depthwise, s.pointwise
    runs = -(-d.output[0] // t.rows)
    between = s.rows(t.rows)
    inside = min(between, p.output[0])
    wide, last = (-(-c // target.lanes) for c in (d.oc, p.oc))
    if s.depthwise_first:
        tasks, products, taps = d.n * runs, last, wide
    else:
        tasks, products, taps = d.n * runs * (wide // t.blocks), t.blocks, t.blocks
    steps = (t.rows, inside) if t.stream else (1, 1)
    cycles = taps * _cycles(d.output, t.rows, steps[0], Tile(1, t.taps, 1), math.prod(d.kernel), target)
    cycles += products * _cycles(p.output, inside, steps[1], Tile(1, t.pixels, t.blocks), p.ic, target)
    arithmetic = 2 * target.lanes * cycles * tasks * imbalance(tasks, target.threads) / target.peak

    row = target.vector_bytes * s.cols * taps
    alive = row * (s.rows(1) if t.stream else between)
    again = max(0, tasks - target.threads) if s.depthwise_first else 0
    maps = math.prod(d.input) * (d.ic if s.depthwise_first else p.ic)
    maps += math.prod(d.output) * (p.oc if s.depthwise_first else d.oc)
    weights = p.weight_bytes
    traffic = memory_seconds(d.itemsize * d.n * maps, target)
    traffic += (weights + d.weight_bytes) / target.memory_bandwidth
    traffic += _beyond(alive, 2.0 * row * between * tasks, target)
    traffic += _beyond(alive + weights, weights * again, target)
    seen = p.input_bytes // p.n
    if not s.depthwise_first and seen > target.l2 / 2:  # single elements of it, which nothing fetches ahead
        traffic += 2.0 * seen * max(0, tasks - target.threads * p.n) / (target.threads * target.l3_bandwidth)
    return overlapped_seconds(arithmetic, traffic, target)


def _cycles(
    output: tuple[int, ...], rows: int, steps: int, largest: Tile, terms: int, target: Target
) -> float:
    """Multiply-adds of a vector, or their equivalent in time, for some rows in so many steps."""
    total = 0.0
    for patch in cover(rows // steps, output[1], largest.cols):
        tile = replace(largest, cols=len(patch.pixels))
        total += patch.computed * tile_cycles(tile, terms, target)
    return steps * terms * total


def _beyond(alive: float, moved: float, target: Target) -> float:
    """Seconds to move bytes of which `alive` are needed at a time by each thread, unless L1 holds these."""
    if 2 * alive <= target.l1:
        return 0.0
    bandwidth = target.l2_bandwidth if 2 * alive <= target.l2 else target.l3_bandwidth
    return moved / (target.threads * bandwidth)
