"""How `winograd_rows` cuts a map into tiles along its rows and into tasks, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from convc.target import Target
from convc.tiling.registers import (
    Tile,
    divisors,
    imbalance,
    memory_seconds,
    tile_cycles,
)
from convc.tiling.winograd import even_parts, fits_registers, transform_operations
from convc.workload import ConvShape

OUTPUTS = 4
"""Outputs of a tile. With 2, 4 and 6 two Zen 5 cores took 0.375, 0.293 and 0.308 ms for 7x7 stride 2, 3 to 64
channels at 224x224; 0.241, 0.207 and 0.224 ms for 11x11 stride 4; 0.475, 0.396 and 0.396 for 3x3."""

MOST_BLOCKS = 4
"""Streams of weights that a register tile reads side by side."""


@dataclass(frozen=True)
class RowShape:
    """A convolution over rows; one with a single spatial axis has one row."""

    conv: ConvShape

    @classmethod
    def of(cls, s: ConvShape) -> RowShape:
        """The convolution over two axes."""
        if len(s.output) == 2:
            return cls(s)
        one = (1,)
        plane = replace(
            s,
            input=one + s.input,
            output=one + s.output,
            kernel=one + s.kernel,
            strides=one + s.strides,
            dilations=one + s.dilations,
            pads=((0, 0), *s.pads),
        )
        return cls(plane)

    @property
    def size(self) -> int:
        """Inputs of a tile, and products."""
        return (OUTPUTS - 1) * self.conv.strides[1] + self.conv.kernel[1]

    @property
    def period(self) -> int:
        """Inputs from one tile to the next."""
        return OUTPUTS * self.conv.strides[1]

    @property
    def tiles(self) -> int:
        """Tiles of a row; the last may be partial."""
        return -(-self.conv.output[1] // OUTPUTS)

    @property
    def terms(self) -> int:
        """Products in each sum of a frequency."""
        return self.conv.kernel[0] * self.conv.ic

    @cached_property
    def reach(self) -> int:
        """Columns of input that the tiles of a row see."""
        return (self.tiles - 1) * self.period + self.size

    def seen(self, rows: int) -> int:
        """Rows of input that so many output rows see."""
        return (rows - 1) * self.conv.strides[0] + self.conv.kernel[0]


@dataclass(frozen=True)
class Tiling:
    """Sums of `tiles` x `blocks` vectors of channels stay in registers; a task makes at most `rows` rows."""

    tiles: int
    blocks: int
    rows: int

    def groups(self, s: RowShape) -> int:
        """Register tiles that cover a row."""
        return -(-s.tiles // self.tiles)

    def vectors(self, s: RowShape, target: Target) -> int:
        """Vectors of tiles that hold a row of register tiles."""
        return -(-self.groups(s) * self.tiles // target.lanes)

    def runs(self, s: RowShape) -> int:
        """Tasks of an image: equal runs of rows, but for one row."""
        return -(-s.conv.output[0] // self.rows)

    def longest(self, s: RowShape) -> int:
        """Rows of the longest task."""
        return -(-s.conv.output[0] // self.runs(s))


@lru_cache(maxsize=4096)
def choose(s: ConvShape, target: Target) -> Tiling:
    """The tiling with the least predicted time."""
    return min(candidates(s, target), key=lambda t: seconds(s, t, target))


def candidates(s: ConvShape, target: Target) -> Iterator[Tiling]:
    """Every register tile that wastes little, with tasks whose transformed input a quarter of L2 holds."""
    rows = RowShape.of(s)
    height = rows.conv.output[0]
    heights = sorted({-(-height // runs) for runs in range(1, height + 1)})
    for blocks in divisors(-(-s.oc // target.lanes)):
        fitting = [t for t in range(1, target.registers) if fits_registers(t, blocks, target)]
        if blocks > MOST_BLOCKS or not fitting:
            break
        for tiles in even_parts(rows.tiles, fitting[-1])[:3]:
            for count in heights:
                t = Tiling(tiles, blocks, count)
                held = target.vector_bytes * rows.seen(count) * s.ic * rows.size * t.vectors(rows, target)
                if count == 1 or held <= target.l2 // 4:
                    yield t


def seconds(s: ConvShape, t: Tiling, target: Target) -> float:
    """Predicted time on all threads.

    Products at the efficiency of their register tile, both transforms at the instructions that they take,
    rows that two tasks see transformed twice; then the stores.
    """
    rows = RowShape.of(s)
    conv, (kernel, stride) = rows.conv, (rows.conv.kernel[1], rows.conv.strides[1])
    blocks = -(-s.oc // target.lanes)
    sums = t.longest(rows) * t.groups(rows) * t.tiles * blocks  # of each frequency
    products = rows.size * rows.terms * tile_cycles(Tile(1, t.tiles, t.blocks), rows.terms, target)
    forward, inverse = (transform_operations(OUTPUTS, kernel, stride, inverse=i) for i in (False, True))
    inverse += rows.size + FINISH * OUTPUTS
    forward = t.vectors(rows, target) * (forward + 2 * rows.size) + COPY * rows.tiles * rows.period
    tasks = s.n * t.runs(rows)
    instructions = sums * (products + inverse) + rows.seen(t.longest(rows)) * s.ic * forward
    arithmetic = instructions * tasks * imbalance(tasks, target.threads)
    launch = target.launch_seconds if target.threads > 1 else 0.0
    stores = target.vector_bytes * s.n * blocks * math.prod(conv.output)
    return 2 * target.lanes * arithmetic / target.peak + _stored_seconds(stores, target) + launch


def _stored_seconds(nbytes: int, target: Target) -> float:
    """Seconds that are seen of storing the outputs, which come all at once after many products.

    Lines that L2 does not hold are read before they are written, from memory since the network's other
    tensors have passed through L3.
    """
    if nbytes <= target.threads * target.l2:
        return memory_seconds(nbytes, target)
    bandwidth = target.core_memory_bandwidth if target.threads == 1 else target.memory_bandwidth
    return SEEN * 2 * nbytes / bandwidth


COPY = 2.0
"""Instructions to put an input where the transform reads it as part of a vector of tiles."""
SEEN = 0.6
"""Part of the traffic of stores that products do not hide. First layers in networks, Zen 5: VGG-16 (3x3, 3 to
64 channels, 12.8 MB) 1.12 and 0.63 ms with one and two threads, ResNet-18 (7x7, 3.2 MB) 0.68 and 0.35."""
FINISH = 3.0
"""Instructions for bias, epilogue and store of a vector of outputs."""
