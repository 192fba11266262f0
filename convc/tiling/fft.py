"""How FFT convolution cuts a layer into tiles, and what that costs: shared by the lowering and its schedule.

A tile of `tile` input pixels is transformed at once and gives tile - span + 1 outputs along each axis
(overlap-save), where span is the kernel's size, dilation included. Large tiles need fewer multiplications
an output, but more weights: one transformed kernel has as many numbers as a tile has pixels.

A single tile that holds a whole axis may wrap around instead: the zeros behind the input's end serve as the
padding before its start too, so that tile >= input + padding will do where overlap-save takes output + span
- 1 = input + 2 padding. Those zeros are neither stored nor transformed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from convc.target import Target
from convc.tiling import dft
from convc.tiling.registers import memory_seconds, overlapped_seconds
from convc.types import Array
from convc.workload import ConvShape

Pair = tuple[int, int]

SIZES = (4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 30, 32, 36, 40, 48, 64)
"""Tile sizes: even, with small factors."""

WRAPPED_SIZES = (*SIZES[:-1], 42, 50, 54, 56, 60, 64, 70, 72, 80)
"""Sizes of tiles that hold a whole axis. Straight-line code for more outgrows the instruction cache."""

LONGEST = 6
"""Tiles of more spans than this save little arithmetic, for many more weights and longer code."""

LARGEST_SPAN = SIZES[-1] // 2
"""The widest kernel, dilation included, for which half of the largest tile is output."""


@dataclass(frozen=True)
class Tiling:
    """The plan of one layer over (height, width); a 1-D layer has height 1.

    Each tile of `tile` input pixels gives `out` output pixels; `count` tiles along each axis cover the output
    of each of `images`. Tiles go through the stages in groups of `group`, a multiple of the `rows` tiles of
    the product's register tile. `products` is 3 (Gauss) or 4 real products for a complex one. `wrapped` is
    the length of the input along an axis whose only tile wraps around, else 0.
    """

    tile: Pair
    out: Pair
    count: Pair
    images: int
    group: int
    rows: int
    products: int
    wrapped: Pair = (0, 0)

    @property
    def inputs(self) -> Pair:
        """Input pixels of a tile along each axis; zeros fill the rest of one that wraps around."""
        return self.wrapped[0] or self.tile[0], self.wrapped[1] or self.tile[1]

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        return self.images * math.prod(self.count)

    @property
    def groups(self) -> int:
        """Groups of tiles; the last may be ragged."""
        return -(-self.tiles // self.group)

    @property
    def parts(self) -> int:
        """Real numbers stored for one complex number in the transformed domain."""
        return 3 if self.products == 3 else 2

    @property
    def columns(self) -> int:
        """Frequencies along the width that a real input makes independent."""
        return self.tile[1] // 2 + 1

    @property
    def real_columns(self) -> int:
        """How many of these are real before the transform along the height: the first and the last."""
        return min(self.columns, 2)

    @property
    def real_height(self) -> int:
        """Frequencies of a real column."""
        return self.tile[0] // 2 + 1

    @property
    def frequencies(self) -> int:
        """Complex frequencies that determine a tile: half as many as pixels, and one or two more."""
        return self.real_columns * self.real_height + (self.columns - self.real_columns) * self.tile[0]

    def slot(self, column: int) -> int:
        """Where a column is kept: the real ones, 0 and tile[1] / 2, come first."""
        if column in (0, self.columns - 1):
            return min(column, 1)
        return self.real_columns + column - 1

    def select(self, spectrum: Array) -> Array:
        """The independent frequencies (F, ...) of a half spectrum (tile[0], columns, ...), in slot order."""
        order = sorted(range(self.columns), key=self.slot)
        heights = [self.real_height] * self.real_columns + [self.tile[0]] * (self.columns - self.real_columns)
        return np.concatenate([spectrum[:height, j] for j, height in zip(order, heights, strict=True)])


def spans(s: ConvShape) -> tuple[int, ...]:
    """Input pixels that one output pixel sees along each axis: a dilated kernel is a larger, sparse one."""
    return tuple(d * (k - 1) + 1 for k, d in zip(s.kernel, s.dilations, strict=True))


def as_pair(values: tuple[int, ...], missing: int = 1) -> Pair:
    """Height and width, where a 1-D layer has height 1."""
    return (missing, values[0]) if len(values) == 1 else (values[0], values[1])


@lru_cache(maxsize=4096)
def choose(s: ConvShape, target: Target) -> Tiling:
    """The cheapest tiling of a layer. Depends on the layer's shape and the target alone."""
    return min(candidates(s, target), key=lambda t: seconds(s, t, target))


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis: size, outputs of each, count, and the input's length if a single one wraps."""

    size: int
    out: int
    count: int
    wrapped: int = 0


def axis_tiles(span: int, size: int, output: int, before: int) -> list[AxisTiles]:
    """Tiles along an axis of `size` inputs, `before` zeros in front, where none smaller means less work."""
    if span == 1:
        return [AxisTiles(1, 1, output)]
    found: list[AxisTiles] = []
    for tile in SIZES:
        if not span < tile <= max(LONGEST * span, SIZES[2]):
            continue
        count = -(-output // (tile - span + 1))
        if not found or count * tile < found[-1].size * found[-1].count:
            found.append(AxisTiles(tile, tile - span + 1, count))
    first, last = reach(span, size, output, before)
    enough = max(size - first, output + max(last, 0))
    fitting = [tile for tile in WRAPPED_SIZES if enough <= tile <= 1.3 * enough + 2]
    return found + [AxisTiles(tile, output, 1, size) for tile in fitting]


def reach(span: int, size: int, output: int, before: int) -> tuple[int, int]:
    """The first and the last offset from an output to an input that is there, over all taps of the kernel."""
    return max(-before, 1 - output), min(span - 1 - before, size - 1)


def candidates(s: ConvShape, target: Target) -> Iterator[Tiling]:
    """Every tiling worth pricing."""
    before = tuple(pad for pad, _ in s.pads)
    axes = zip(*map(as_pair, (spans(s), s.input, s.output)), as_pair(before, 0), strict=True)
    for down, across in itertools.product(*(axis_tiles(*axis) for axis in axes)):
        tiles = s.n * down.count * across.count
        plan = ((down.size, across.size), (down.out, across.out), (down.count, across.count), s.n)
        wrapped = (down.wrapped, across.wrapped)
        if s.depthwise:
            yield Tiling(*plan, group=tiles, rows=1, products=4, wrapped=wrapped)
            continue
        for products in (3, 4):
            for rows in register_rows(tiles, products, target):
                enough = -(-tiles // rows)
                for blocks in {1, 2, 4, -(-enough // target.threads), enough}:
                    if blocks <= enough:
                        yield Tiling(
                            *plan, group=rows * blocks, rows=rows, products=products, wrapped=wrapped
                        )


def register_rows(tiles: int, products: int, target: Target) -> list[int]:
    """Heights of the product's register tile that cover `tiles` with least waste, of few rows and of many.

    A row takes one sum for each part of a product: real and imaginary part of a complex product, or one of
    Gauss' three products at a time. Weights and the input element take the remaining registers; AVX-512
    reads an input element that is used once as an operand in memory. 8 sums cover the latency of a
    multiply-add. Few rows let the processor read far ahead, which weights out of cache need: with 14 to 18
    multiply-adds for each vector of weights such kernels slowed down by half, with 8 to 10 hardly.
    """
    sums, weights = (1, 1) if products == 3 else (2, 2)
    spare = weights + (not (products == 3 and target.unit.folds_broadcast)) + (not target.unit.fused)
    tallest = min((target.registers - spare) // sums, 10 if products == 3 else 8, tiles)
    lowest = min(tallest, 8 // sums)
    found = set()
    for low, high in ((lowest, tallest), ((lowest + tallest) // 2, tallest)):
        found.add(min(range(low, high + 1), key=lambda r: (-(-tiles // r) * r, -r)))
    return sorted(found)


@lru_cache(maxsize=4096)
def transform_work(tile: Pair, inputs: Pair, out: Pair, target: Target) -> tuple[float, float]:
    """Time to transform a tile of one channel block, forward and back, in multiply-adds."""
    (height, width), (rows, across), (kept, cropped) = tile, inputs, out
    columns = width // 2 + 1
    ends = min(columns, 2)
    forward = rows * _line_work(dft.real_forward(width, across), width, target)
    forward += ends * _line_work(dft.real_forward(height, rows), height, target)
    forward += (columns - ends) * _line_work(dft.complex_forward(height, rows), 2 * height, target)
    backward = kept * _line_work(dft.real_backward(width, cropped), width, target)
    backward += ends * _line_work(dft.real_backward(height, kept), height, target)
    backward += (columns - ends) * _line_work(dft.complex_backward(height, kept), 2 * height, target)
    between = 2 * columns  # vectors between the two passes, for each row
    crossing = target.vector_bytes / target.l2_bandwidth * target.flops / (2 * target.lanes)
    forward += crossing * (rows * across + _missed(between * rows, target))
    backward += crossing * (kept * cropped + _missed(between * kept, target))
    return forward, backward


def _line_work(program: dft.Program, values: int, target: Target) -> float:
    """Time of a program: arithmetic and loads nearly two at a time, stores, spills of what has no register.

    A quarter of the registers goes to constants and to values in between.
    """
    loads, stores = program.loads, program.stores
    spilled = max(0, values - 3 * target.registers // 4)
    return ISSUE * (program.arithmetic + loads) + stores + SPILL * spilled


def _missed(vectors: int, target: Target) -> float:
    """Vectors that cross between the caches when so many are written and read: those beyond half of L1."""
    return MISS * max(0, vectors - target.l1 // (8 * target.lanes))


ISSUE = 0.6
"""Time of an operation or a load."""

SPILL = 5
"""Stores and loads of a value that has no register, several times over."""

MISS = 4
"""Times that a vector beyond the first cache crosses its border: fetched, evicted, fetched again, evicted."""

PRODUCT = 1.6
"""Time of the products relative to their multiply-adds: few sums, a broadcast for each, weights out of cache.

192 channels at 17x17, 7x1, on two Zen 5 threads: 0.239 ms, multiply-adds 0.12; 3x3 layers 1.2 to 1.7.
"""

STORE = 1
"""Time to store a vector of the product and load it again, in multiply-adds."""

TRAFFIC = 6
"""Times that each number in the transformed domain crosses a cache's border.

Written and read, lines fetched to be overwritten, and the strides between frequencies, which defeat
prefetching: 128 channels at 112x112, 3x3, take 4.8 ms on two Zen 5 threads where arithmetic takes 1.9.
"""

EXPOSED = 0.35
"""Share of the shorter of computing and reading weights that the longer does not hide."""

SPILLING = 8
"""A group's data miss the second cache in full when they are so many times as large, and partly before."""


def seconds(s: ConvShape, t: Tiling, target: Target) -> float:
    """Predicted time on all threads: transforms, product, and traffic of what outgrows the caches.

    Weights count as read from memory, since those of a network together outgrow the caches. The constants are
    a fit to 16 depthwise layers on two Zen 5 cores, tiles of 10 to 72 pixels, of which all but one are priced
    within a third.
    """
    rate = target.flops / (2 * target.lanes)  # vector instructions a second and core
    in_blocks, out_blocks = (-(-c // target.lanes) for c in (s.ic, s.oc))
    forward, backward = transform_work(t.tile, t.inputs, t.out, target)
    transforms = (in_blocks * forward + out_blocks * backward) / rate
    if t.products == 3:  # forward an addition and a store more, back a load and two additions
        transforms += 1.5 * t.frequencies * (in_blocks + out_blocks) / rate
    maps = s.itemsize * s.n * (s.ic * math.prod(s.input) + s.oc * math.prod(s.output))
    if s.depthwise:
        turns = -(-t.tiles * in_blocks // target.threads)
        computing = turns * (transforms / in_blocks + 4 * t.frequencies / rate)
        return overlapped_seconds(computing, memory_seconds(maps, target), target)
    product = PRODUCT * t.frequencies * (t.products * s.ic + STORE * t.parts) * out_blocks / rate
    vectors = t.frequencies * t.parts * target.vector_bytes  # bytes of one vector for each frequency
    group_bytes = t.group * vectors * (in_blocks + out_blocks)
    missed = min(1.0, group_bytes / (SPILLING * target.l2)) if 2 * group_bytes > target.l2 else 0.0
    beyond_l2 = (
        target.l3_bandwidth if 2 * group_bytes < target.l3 else target.memory_bandwidth / target.threads
    )
    tile = transforms + product + TRAFFIC * missed * group_bytes / t.group / beyond_l2

    streamed = maps / target.memory_bandwidth if 4 * maps > target.l3 else 0.0
    weight_bytes = vectors * s.ic * out_blocks
    from_memory = weight_bytes / target.memory_bandwidth
    if t.groups == 1:
        computing = t.group * tile / target.threads + streamed
        exchanged = group_bytes / target.threads * (1 - 1 / target.threads) / target.l3_bandwidth
        return _overlapped(computing, from_memory) + exchanged + 3 * _launch(target)
    rounds = -(-t.groups // target.threads)
    again = weight_bytes / (target.l3_bandwidth if 4 * weight_bytes < target.l3 else target.memory_bandwidth)
    computing = rounds * t.group * tile + streamed
    # every thread reads all weights, at times of its own
    return _overlapped(computing, target.threads * from_memory + (rounds - 1) * again) + _launch(target)


def _overlapped(computing: float, reading: float) -> float:
    return max(computing, reading) + EXPOSED * min(computing, reading)


def _launch(target: Target) -> float:
    return target.launch_seconds if target.threads > 1 else 0.0
