"""Loop nests for `generic`: every block on its own, the innermost axis in vectors, the outermost over threads.

A block without a reduction, after joining the trailing axes that are contiguous in all its operands:

    parallel over outer axes
      for the axes between
        for vectors:  y[0:lanes] = f(x[0:lanes])
        for the elements that fill no vector: one by one

A reduction keeps a vector of sums in a register:

    parallel over outer axes
      for vectors
        sum[0:lanes] = 0
        for the reduced axes:  sum[0:lanes] += x[0:lanes]

Loops are cut where the formula chooses: concatenation at its pieces, pooling and padding where windows meet the
border, so that inside neither a choice nor a mask is left.

Threads are used where they save more than a launch costs. Time is estimated as the greater of bytes over the
bandwidth of L3 and of operations over the vector units' rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from convc.schedules.base import Config
from convc.schedules.cpu.blocks import Nest, blocks, extent, joint_suffix, nest
from convc.target import Target
from convc.workload import Workload

Loop = Any

_IMBALANCE = 4
"""Iterations of the parallel loop for each thread: with fewer, the last ones leave threads idle."""


@dataclass(frozen=True)
class GenericConfig(Config):
    """`threads`: 1 to use them where that pays, 0 to stay on one."""

    threads: int = 1


def default(w: Workload, target: Target) -> GenericConfig:
    """Threads where they pay."""
    return GenericConfig()


def space(w: Workload, target: Target) -> Iterator[GenericConfig]:
    """With and without threads."""
    yield GenericConfig(1)
    yield GenericConfig(0)


def apply(sch: Any, w: Workload, target: Target, config: GenericConfig) -> None:
    """Schedule every block by itself."""
    threads = target.threads if config.threads else 1
    for block in blocks(sch):
        found = nest(sch, block)
        if found.points == 0 or len(sch.get_loops(block)) < len(found.spatial) or not found.spatial:
            continue
        plan = _Plan(sch, w, target, found, threads if _pays(found, target) else 1)
        if found.reduction:
            plan.reduction(block)
        else:
            plan.injective(block)


def _pays(found: Nest, target: Target) -> bool:
    """Whether sharing a block among all threads saves more than a launch costs."""
    elements = found.points * found.steps
    traffic = len({id(a) for a in found.accesses}) * found.itemsize * elements / max(found.operations, 1)
    traffic = max(traffic, 2.0 * found.itemsize * found.points)
    seconds = max(traffic / target.l3_bandwidth, elements * (1 + found.operations) / (target.flops / 4))
    return seconds * (1 - 1 / target.threads) > 1.5 * target.launch_seconds


@dataclass
class _Plan:
    """How one block is scheduled."""

    sch: Any
    w: Workload
    target: Target
    found: Nest
    threads: int

    def injective(self, block: Any) -> None:
        """Cut, join, vectorise, share."""
        loops = self.sch.get_loops(block)
        cut_axis, cuts = self._cuts()
        if cuts:
            outer = loops[:cut_axis]
            shared = self._share(outer, [extent(self.sch, x) for x in outer]) if outer else False
            for piece in _pieces(self.sch, loops[cut_axis], cuts):
                inner = [piece, *_below(self.sch, piece)]
                self._fill(inner, cut_axis, share=not shared)
            return
        self._fill(loops, 0, share=True)

    def _fill(self, loops: Sequence[Loop], offset: int, *, share: bool) -> None:
        """Join the contiguous loops among `loops`, the block's from axis `offset` on, then vectorise and share."""
        sch = self.sch
        start = max(self._joint() - offset, 0)
        outer, inner = list(loops[:start]), sch.fuse(*loops[start:]) if len(loops) - start > 1 else loops[-1]
        if not outer:
            self._flat(inner, share)
            return
        if share:
            self._share(outer, [extent(sch, x) for x in outer])
        self._vectors(inner)

    def _joint(self) -> int:
        return 0 if self.w.op == "reshape" and not self.w.epilogue else joint_suffix(self.found)

    def _flat(self, loop: Loop, share: bool) -> None:
        """One loop over everything: its vectors are shared."""
        vectors = self._vectors(loop)
        if share and vectors is not None and self.threads > 1 and extent(self.sch, vectors) >= self.threads:
            self.sch.parallel(vectors)

    def _vectors(self, loop: Loop) -> Loop | None:
        """Vectorise a loop; elements that fill no vector are left to a scalar loop. Returns the loop of vectors."""
        sch, lanes = self.sch, self.target.lanes
        count = extent(sch, loop)
        whole = count // lanes * lanes
        if whole == 0:
            return None
        if whole < count:
            loop = sch.loop_partition(loop, [whole, None])[0]
        outer, lane = sch.split(loop, [None, lanes])
        sch.vectorize(lane)
        return outer

    def _share(self, loops: Sequence[Loop], extents: Sequence[int]) -> bool:
        """Spread the leading loops over threads: as many of them as balance needs."""
        if self.threads == 1 or math.prod(extents) < 2:
            return False
        count = 1
        while count < len(loops) and math.prod(extents[:count]) < _IMBALANCE * self.threads:
            count += 1
        if math.prod(extents[:count]) < 2:
            return False
        self.sch.parallel(self.sch.fuse(*loops[:count]) if count > 1 else loops[0])
        return True

    def reduction(self, block: Any) -> None:
        """Vectors of sums over an axis that stays."""
        sch = self.sch
        loops = sch.get_loops(block)
        kept, reduced = loops[: len(self.found.spatial)], loops[len(self.found.spatial) :]
        start = joint_suffix(self.found)
        inner = sch.fuse(*kept[start:]) if len(kept) - start > 1 else kept[-1]
        outer = kept[:start]
        lanes = self.target.lanes
        if extent(sch, inner) % lanes:
            self._share([*outer, inner], [extent(sch, x) for x in (*outer, inner)])
            return
        vectors, lane = sch.split(inner, [None, lanes])
        sch.reorder(*outer, vectors, *reduced, lane)
        sch.vectorize(lane)
        sch.decompose_reduction(block, reduced[0])
        self._share([*outer, vectors], [extent(sch, x) for x in (*outer, vectors)])

    def _cuts(self) -> tuple[int, list[int]]:
        """The axis on which the formula makes choices, and the coordinates where they change."""
        return 0, []


def _below(sch: Any, loop: Loop) -> list[Loop]:
    """The loops inside a loop, down to its block."""
    (block,) = sch.get_child_blocks(loop)
    loops = sch.get_loops(block)
    position = next(i for i, x in enumerate(loops) if sch.get(x).same_as(sch.get(loop)))
    return list(loops[position + 1 :])


def _pieces(sch: Any, loop: Loop, cuts: Sequence[int]) -> list[Loop]:
    """Cut a loop at the given iterations."""
    lengths = [b - a for a, b in zip((0, *cuts), cuts, strict=False)]
    return list(sch.loop_partition(loop, [*lengths, None]))
