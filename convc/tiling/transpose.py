"""Arithmetic of transposed convolution as a gather; no code is generated here.

Along an axis of stride s, output o receives the taps k with o + pad - k divisible by s: these are
k = (o + pad) mod s + s j, and tap j reads input (o + pad) div s - j. Outputs that agree modulo s make a
convolution of stride 1 with a kernel s times shorter (Shi et al., arXiv 1609.07009). A kernel that is dilated
along an axis with a stride is taken with its gaps filled by taps of zero, and then is not dilated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from convc.dtype import FLOAT32, DType
from convc.ops.conv import ConvTransposeAttrs
from convc.target import Target
from convc.tiling.registers import Tile, divisors, imbalance, memory_seconds, tile_cycles
from convc.workload import Workload


@dataclass(frozen=True)
class Axis:
    """One spatial axis; either the stride or the dilation is 1. Coordinates may be numbers or expressions."""

    size: int
    output: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    spread: int = 1
    """How far apart the given taps lie in the kernel, between taps of zero."""

    @classmethod
    def of(cls, size: int, output: int, kernel: int, stride: int, dilation: int, pad: int) -> Axis:
        """An axis of any stride and dilation."""
        if stride == 1 or dilation == 1:
            return cls(size, output, kernel, stride, dilation, pad)
        return cls(size, output, dilation * (kernel - 1) + 1, stride, 1, pad, spread=dilation)

    @property
    def taps(self) -> int:
        """Most taps that an output receives."""
        return -(-self.kernel // self.stride)

    @property
    def stored_taps(self) -> int:
        """As many for every output, those included that the kernel lacks and that weigh nothing."""
        return self.taps * self.stride

    def tap(self, output: Any, j: Any) -> Any:
        """The kernel's tap that is number j of an output."""
        return (output + self.pad) % self.stride + j * self.stride

    def source(self, output: Any, j: Any) -> Any:
        """The input that tap j reads."""
        return (output + self.pad) // self.stride - j * self.dilation

    def reach(self, outputs: int) -> tuple[int, int]:
        """Inputs read before the first and after the last one for so many outputs."""
        before, last = -self.source(0, self.taps - 1), self.source(outputs - 1, 0)
        return max(before, 0), max(last - (self.size - 1), 0)


@dataclass(frozen=True)
class Transposed:
    """A transposed convolution: its channels and axes."""

    n: int
    ic: int
    oc: int
    groups: int
    axes: tuple[Axis, ...]
    dtype: DType = FLOAT32
    """Of maps and weights."""

    @classmethod
    def of(cls, w: Workload) -> Transposed:
        """Read a `conv_transpose` workload."""
        x, weights, y, a = w.inputs[0], w.inputs[1], w.outputs[0], w.attrs
        assert isinstance(a, ConvTransposeAttrs)
        assert x is not None
        assert weights is not None
        before = (p for p, _ in a.pads)
        axes = zip(x.shape[2:], y.shape[2:], weights.shape[2:], a.strides, a.dilations, before, strict=True)
        made = tuple(Axis.of(*axis) for axis in axes)
        return cls(x.shape[0], x.shape[1], y.shape[1], a.groups, made, x.dtype)

    @property
    def group_in(self) -> int:
        """Input channels of a group."""
        return self.ic // self.groups

    @property
    def group_out(self) -> int:
        """Output channels of a group."""
        return self.oc // self.groups

    @property
    def terms(self) -> int:
        """Products in each sum, those with weights of zero included."""
        return self.group_in * math.prod(axis.taps for axis in self.axes)

    def columns(self, target: Target) -> int:
        """Outputs along the last axis for which sums are made: whole tiles, at least as many as there are."""
        last, cols = self.axes[-1], best_tile(self, target).cols
        return -(-last.output // cols) * cols


def _fits(s: Transposed, cols: int, blocks: int, target: Target) -> bool:
    """Whether sums, the weights of `stride` neighbouring outputs and an input fit the registers."""
    return cols * blocks + s.axes[-1].stride * blocks + 2 <= target.registers


def best_tile(s: Transposed, target: Target) -> Tile:
    """The tile with the least work, columns beyond the output counted in. Columns are whole strides."""
    last, shared = s.axes[-1], -(-s.group_out // target.lanes)
    found = [
        Tile(1, cols, blocks)
        for blocks in divisors(shared)
        for cols in range(last.stride, target.registers, last.stride)
        if _fits(s, cols, blocks, target)
    ]

    def cycles(tile: Tile) -> float:
        return -(-last.output // tile.cols) * tile.cols * tile_cycles(tile, s.terms, target)

    return min(found or [Tile(1, last.stride, 1)], key=lambda tile: (cycles(tile), tile.blocks))


def tiles(s: Transposed, target: Target) -> list[Tile]:
    """All tiles that cover the columns of the best one."""
    stride = s.axes[-1].stride
    return [
        Tile(1, cols, blocks)
        for blocks in divisors(-(-s.group_out // target.lanes))
        for cols in divisors(s.columns(target))
        if cols % stride == 0 and (_fits(s, cols, blocks, target) or (cols, blocks) == (stride, 1))
    ]


def seconds(s: Transposed, target: Target) -> float:
    """Predicted time: arithmetic at the tile's efficiency, or the traffic, whichever takes longer."""
    tile, blocks = best_tile(s, target), -(-s.oc // target.lanes)
    rows = s.n * math.prod(axis.output for axis in s.axes[:-1])
    work = 2 * rows * s.columns(target) * blocks * target.lanes * s.terms
    even = imbalance(rows * blocks // tile.blocks, target.threads)
    arithmetic = work * tile_cycles(tile, s.terms, target) * even
    values = s.n * (s.ic * math.prod(a.size for a in s.axes) + s.oc * math.prod(a.output for a in s.axes))
    weights = s.group_in * s.oc * math.prod(a.stored_taps for a in s.axes)
    return (
        max(arithmetic / target.peak, memory_seconds(s.dtype.nbytes * (values + weights), target))
        + target.launch_seconds
    )
