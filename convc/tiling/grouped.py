"""How `grouped` covers a convolution of small groups by register tiles, and what that costs.

A vector of output channels reads the channels of several groups. `direct` broadcasts each of them to all
lanes, against weights that are zero outside the lane's own group: groups of 4 channels in vectors of 16 lanes
take 4 times the multiply-adds of the definition. Here every lane is given a channel of its own group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from convc.target import Target
from convc.tiling.product import by_channel, narrow
from convc.tiling.registers import (
    Tile,
    divisors,
    imbalance,
    memory_seconds,
    overlapped_seconds,
    padded_columns,
)
from convc.workload import ConvShape


@dataclass(frozen=True)
class Groups:
    """How a vector of `lanes` output channels is fed with the channels of its groups.

    With `permuted`, groups are as many whole runs of lanes, as wide in the input as in the output: one
    permutation of an input vector feeds all lanes. Otherwise a vector has at most two groups, each fed by a
    broadcast, and the lanes are blended. A run of `inner` input channels never straddles two blocks.
    """

    lanes: int
    group_in: int
    group_out: int
    channels_out: int
    permuted: bool

    @property
    def inner(self) -> int:
        """Channels of a group that are read from one block of the input."""
        return self.group_in if self.permuted else math.gcd(self.lanes, self.group_in)

    @property
    def steps(self) -> int:
        """Runs of `inner` channels in a group."""
        return self.group_in // self.inner


def groups_of(s: ConvShape, target: Target) -> Groups | str:
    """How vectors are fed, or the reason why `grouped` has nothing to offer."""
    if s.groups == 1:
        return "there is one group"
    if by_channel(s):
        return "a depthwise convolution has no sum over channels"
    if narrow(s, target):
        return "the input is read in plain layout"
    group_in, group_out, lanes = s.ic // s.groups, s.oc // s.groups, target.lanes
    if group_out % lanes == 0:
        return f"vectors of {lanes} lanes divide groups of {group_out} channels"
    if lanes % group_out == 0 and group_in == group_out:
        return Groups(lanes, group_in, group_out, s.oc, permuted=True)
    vectors = [(first, min(first + lanes, s.oc) - 1) for first in range(0, s.oc, lanes)]
    most = max(last // group_out - first // group_out + 1 for first, last in vectors)
    if most > 2:
        return f"vectors of {lanes} lanes have up to {most} groups of {group_in} to {group_out} channels"
    return Groups(lanes, group_in, group_out, s.oc, permuted=False)


def found(s: ConvShape, target: Target) -> Groups:
    """How vectors are fed, where that is known to be possible."""
    groups = groups_of(s, target)
    assert isinstance(groups, Groups)
    return groups


def spare_registers(s: ConvShape) -> int:
    """Registers that hold no sums: an operand, and the weights of a row of taps while it passes over pixels.

    Weights of wider kernels than 3 are read from the first cache again.
    """
    return 1 + min(s.kernel[-1], 3)


def tiles(s: ConvShape, target: Target) -> list[Tile]:
    """The tiles that cover the output: exact in rows and blocks, and in padded columns."""
    blocks = -(-s.oc // target.lanes)
    columns = padded_columns(s.output[-1], target)
    rows = divisors(s.output[-2]) if len(s.output) > 1 else [1]
    most = target.registers - spare_registers(s)
    if s.kernel[-1] == 1:  # every operand serves one sum, and LLVM makes many before it uses the first
        most //= 2
    return [
        Tile(r, c, b)
        for c in divisors(columns)
        for r in rows
        for b in divisors(blocks)
        if r * c * b <= most and (r == 1 or c >= s.output[-1]) and (b == 1 or r * c <= most // 2)
    ]


UNROLLED = 1.4
"""Slowdown of tiles that leave a quarter of the registers: LLVM unrolls their short loop over rows of taps
and loads the input of all of them first, which spills."""

OPERAND = 2
"""Multiply-adds that could start while an operand is made, at one permutation (or two loads) a cycle."""


def operands(tile: Tile, s: ConvShape) -> int:
    """Operands that a tile makes for a row of taps: each input pixel that it sees, once."""
    seen = min((tile.cols - 1) * s.strides[-1] + s.kernel[-1], tile.cols * s.kernel[-1])
    return tile.rows * tile.blocks * seen


def tile_cycles(tile: Tile, s: ConvShape, target: Target) -> float:
    """Cycles that a tile takes for each of its multiply-adds, at best 1; see `registers.tile_cycles`."""
    taps = s.kernel[-1]
    step = max(tile.sums * taps, OPERAND * operands(tile, s), 8.0 * taps) + 0.5
    if taps > 1 and 4 * tile.sums < 3 * target.registers:
        step *= UNROLLED
    terms = s.ic // s.groups * math.prod(s.kernel)
    return (step / taps + (1.5 * tile.sums + 10) / terms) / tile.sums


def tile_of(s: ConvShape, target: Target) -> Tile:
    """The tile that takes the least time, of equals the one that makes fewest operands."""
    outputs = s.n * -(-s.oc // target.lanes) * math.prod(s.output[:-1]) * padded_columns(s.output[-1], target)

    def cycles(tile: Tile) -> float:
        return tile_cycles(tile, s, target) * imbalance(outputs // tile.sums, target.threads)

    return min(tiles(s, target), key=lambda t: (cycles(t), operands(t, s) / t.sums, -t.sums))


def seconds(s: ConvShape, target: Target) -> float:
    """Predicted time: multiply-adds at the tile's efficiency, overlapping with traffic but for a part."""
    tile = tile_of(s, target)
    blocks = -(-s.oc // target.lanes)
    pixels = math.prod(s.output[:-1]) * padded_columns(s.output[-1], target)
    terms = s.ic // s.groups * math.prod(s.kernel)
    work = 2 * s.n * blocks * target.lanes * pixels * terms
    tasks = s.n * blocks * pixels // tile.sums
    arithmetic = work * tile_cycles(tile, s, target) * imbalance(tasks, target.threads) / target.peak
    values = s.n * (s.ic * math.prod(s.input) + s.oc * math.prod(s.output))
    traffic = memory_seconds(s.itemsize * values, target) + s.weight_bytes / target.memory_bandwidth
    return overlapped_seconds(arithmetic, traffic, target)
