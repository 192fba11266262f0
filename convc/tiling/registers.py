"""Arithmetic of tiles that lowerings, their prices and their schedules share; no code is generated here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convc.target import Target
from convc.workload import ConvShape


def divisors(n: int) -> list[int]:
    """All divisors of `n`, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def flatten(index: Sequence[Any], extents: Sequence[int]) -> Any:
    """The row-major position of `index` (numbers or expressions) in an array of these extents."""
    position: Any = 0
    for i, extent in zip(index, extents, strict=True):
        position = position * extent + i
    return position


def unflatten(position: Any, extents: Sequence[int]) -> list[Any]:
    """The index of the element at a row-major position; the inverse of `flatten`."""
    index: list[Any] = []
    for extent in reversed(extents[1:]):
        index.append(position % extent)
        position = position // extent
    return [position, *reversed(index)] if extents else []


@dataclass(frozen=True)
class Tile:
    """Outputs whose sums stay in registers: `rows` x `cols` pixels of `blocks` vectors of channels."""

    rows: int
    cols: int
    blocks: int

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.rows * self.cols

    @property
    def sums(self) -> int:
        """Vector registers that hold sums."""
        return self.rows * self.cols * self.blocks

    def fits(self, target: Target) -> bool:
        """Whether sums, one weight vector a block and the input broadcast fit the register file.

        With one block the broadcast is an operand in memory of the multiply-add, on AVX-512 alone.
        """
        spare = 1 if self.blocks == 1 and target.unit.folds_broadcast else 2
        return self.sums + self.blocks + spare <= target.registers


def most_sums(target: Target) -> int:
    """The longest row of pixels in a tile of one block: at most 28, as are two rows of 14 and four of 7."""
    return min(28, target.registers - 3)


def padded_columns(columns: int, target: Target, unit: int = 1) -> int:
    """The number of columns over which sums are computed, at least `columns`.

    It has a divisor that makes a good tile; both are multiples of `unit`, as `columns` must be. Sums beyond
    `columns` are thrown away; the input is read beyond its far end for them, so that no loop carries a
    condition.
    """
    longest = most_sums(target)
    good = [d for d in divisors(columns) if d <= longest and d % unit == 0]
    if columns <= longest or max(good, default=0) >= 6:
        return columns
    candidates = [(-(-columns // t) * t, -t) for t in range(longest // 2, longest + 1) if t % unit == 0]
    return min(candidates)[0]


@dataclass(frozen=True)
class Channels:
    """Which input channels a vector of `lanes` output channels reads: `steps` x `inner`, from `start(block)`.

    A run of `inner` channels never straddles two blocks of the input. A vector reads the channels of its
    own group; one that spans several small groups reads the channels of them all, against weights that are
    zero outside the lane's own group.
    """

    steps: int
    inner: int
    lanes: int
    groups: int
    group_in: int
    group_out: int
    last: int
    """The largest start that keeps reads within the input's blocks."""

    @classmethod
    def of(cls, s: ConvShape, lanes: int) -> Channels:
        """The channels of a convolution whose input is stored in blocks of `lanes`."""
        group_in, group_out = s.ic // s.groups, s.oc // s.groups
        starts, ends = [], []
        for first in range(0, s.oc, lanes):
            starts.append(first // group_out * group_in)
            ends.append(((min(first + lanes, s.oc) - 1) // group_out + 1) * group_in)
        span = max(e - b for b, e in zip(starts, ends, strict=True))
        inner = span if span <= lanes and not any(starts) else math.gcd(lanes, span, *starts)
        stored = -(-s.ic // lanes) * lanes
        return cls(span // inner, inner, lanes, s.groups, group_in, group_out, stored - span)

    @property
    def span(self) -> int:
        """Input channels that a vector of output channels reads."""
        return self.steps * self.inner

    def own(self, block: Any) -> tuple[Any, Any]:
        """The input channels of the groups of output block `block`, a number or an expression: first and end.

        They lie within the `span` from `start(block)`, but may be fewer: the span is that of the block which
        meets the most groups, and the last blocks start early.
        """
        lane = block * self.lanes
        first = lane // self.group_out
        return first * self.group_in, ((lane + self.lanes - 1) // self.group_out + 1) * self.group_in

    def start(self, block: int) -> int:
        """The first input channel that output block `block` reads."""
        return min(block * self.lanes // self.group_out * self.group_in, self.last)

    @property
    def sharing(self) -> int:
        """How many neighbouring output blocks read the same channels."""
        if self.groups == 1:
            return -(-self.group_out // self.lanes)
        return self.group_out // self.lanes if self.group_out % self.lanes == 0 else 1


def tile_cycles(tile: Tile, terms: float, target: Target) -> float:
    """Cycles that a tile takes for each of its multiply-adds, at best 1.

    A multiply-add has a latency of 4 cycles, and a core may start two a cycle: with fewer than 8 sums they
    wait for each other. Every block needs a weight vector and every pixel a broadcast, and there are as many
    loads a cycle as multiply-adds (with AVX-512 on Zen 4 two); counter and addresses of the loop cost about
    half a cycle a step. Clearing, finishing and storing a sum costs 1.5 cycles, and entering a tile 10; all
    measured on Zen 4.
    """
    step = max(tile.sums, tile.pixels + tile.blocks, 8.0) + 0.5
    lone = LONE if tile.blocks == 1 and terms > DEPTHWISE_TERMS and target.unit.folds_broadcast else 1.0
    return lone * (step + (1.5 * tile.sums + 10) / terms) / tile.sums


LONE = 1.06
"""Time of a tile of one block, relative to that of more: each multiply-add waits for a load of its own.

Two Zen 5 threads: 728 channels at 19x19 in tiles of 19 x 1 86 % of peak, of 10 x 2 97 %; Winograd in tiles of
28 x 1 took 1.13 times as long as in 14 x 2. On Zen 4, with two loads for each multiply-add, no difference.
"""
DEPTHWISE_TERMS = 49
"""Terms up to which a sum may be a depthwise one, which broadcasts nothing."""


def imbalance(tasks: int, threads: int) -> float:
    """Time of the busiest thread, relative to perfectly even work."""
    return -(-tasks // threads) * threads / tasks


def memory_seconds(nbytes: float, target: Target) -> float:
    """Seconds to move so many bytes once, from the nearest cache that holds them all."""
    if target.gpu is not None:
        fits = nbytes <= target.gpu.l2 / 2  # the other half keeps what is read next
        return nbytes / (target.gpu.l2_bandwidth if fits else target.gpu.memory_bandwidth)
    if nbytes <= target.threads * target.l2:
        return nbytes / (target.threads * target.l2_bandwidth)
    if nbytes <= target.l3:
        return nbytes / (target.threads * target.l3_bandwidth)
    return nbytes / target.memory_bandwidth


EXPOSED = 0.15
"""Part of the shorter of arithmetic and traffic that does not hide behind the other."""


def overlapped_seconds(arithmetic: float, traffic: float, target: Target) -> float:
    """Time of a kernel whose seconds of arithmetic and of traffic mostly overlap."""
    launch = target.launch_seconds if target.threads > 1 else 0.0
    return max(arithmetic, traffic) + EXPOSED * min(arithmetic, traffic) + launch
