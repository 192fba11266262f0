"""Loop nests for `generic`: each block on its own, the innermost axis in vectors, the outermost on threads.

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

Loops are cut where the formula chooses: concatenation at its pieces, pooling and padding where windows meet
the border, so that inside neither a choice nor a mask is left.

A resampled map is made by the thread that reads it, just before, so that it stays in cache.

Threads are used where they save more than a launch costs. Time is estimated as the greater of bytes over
the bandwidth of L3 and of operations over the vector units' rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from convc.ir import opdef
from convc.schedules.base import Config
from convc.schedules.blocks import Nest, below, blocks, extent, joint_suffix, nest, strided
from convc.schedules.cpu.relayout import to_plain
from convc.target import Target
from convc.types import PLAIN
from convc.workload import RESAMPLED, Workload

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
    """Schedule every block by itself, but for a resampled map that its reader needs whole."""
    threads = target.threads if config.threads else 1
    resampled = []
    for block in blocks(sch):
        if sch.get(block).name_hint.startswith(RESAMPLED):
            resampled.append(block)
        else:
            _plan(sch, block, w, target, threads)
    for block in reversed(resampled):
        if not _keep_in_cache(sch, block, w, target):
            _plan(sch, block, w, target, threads)


def _plan(sch: Any, block: Any, w: Workload, target: Target, threads: int) -> None:
    found = nest(sch, block)
    if found.points == 0 or len(sch.get_loops(block)) < len(found.spatial) or not found.spatial:
        return
    plan = _Plan(sch, w, target, found, threads if _pays(found, target) else 1)
    if found.reduction:
        plan.reduction(block)
    else:
        plan.injective(block)


def _keep_in_cache(sch: Any, block: Any, w: Workload, target: Target) -> bool:
    """Resample a map just before its reader, where that is under the output's outermost loop, over maps.

    Not where rows fill no whole vectors: TVM then lets threads share the map, since a block that was cut no
    longer says what it reads.
    """
    found, shape = nest(sch, block), w.outputs[0].physical
    if found.reduction or found.extents[-1] % target.lanes or shape[-1] % target.lanes:
        return False
    outer, *_ = sch.get_loops(blocks(sch)[-1])
    readers = (sch.get_loops(reader)[0] for reader in sch.get_consumers(block))
    whole = all(sch.get(loop).same_as(sch.get(outer)) for loop in readers)
    if not whole or extent(sch, outer) != math.prod(shape[:2]):
        return False
    sch.compute_at(block, outer, preserve_unit_loops=True)
    _Plan(sch, w, target, found, 1).fill(sch.get_loops(block)[-len(found.spatial) :])
    return True


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
        sch, loops = self.sch, self.sch.get_loops(block)
        if self.w.op == "tile":
            loops = self._repeated(loops)
            self._fill(loops, len(loops) - 1, share=True)
            return
        if opdef(self.w.op).copies_layout and _is_to_plain(self.w):
            to_plain(sch, block, self.target.lanes, self._share)
            return
        axis, cuts = cut_points(self.w)
        if not cuts or len(loops) != len(self.w.outputs[0].physical):
            self._fill(loops, max(self._joint(), 0), share=True)
            return
        shared = self._share(loops[:axis])
        for piece in _pieces(sch, loops[axis], cuts):
            # A piece does not start at 0, so it can be neither joined nor split.
            inner = below(sch, piece)
            if not shared:
                self._share([piece])
            if inner:
                self._fill(inner, max(self._joint() - axis - 1, 0), share=False)

    def fill(self, loops: Sequence[Loop]) -> None:
        """Vectors along the loops of a block that is computed where another needs it."""
        self._fill(loops, max(self._joint(), 0), share=False)

    def _repeated(self, loops: Sequence[Loop]) -> list[Loop]:
        """Split the loops of `tile` into repetitions and coordinates.

        That frees the index of remainders, which LLVM gets wrong when it vectorises several for AVX-512.
        """
        kind, a = self.w.inputs[0], cast(Any, self.w.attrs)
        assert kind is not None
        split: list[Loop] = []
        for loop, repeat, size in zip(loops, a.repeats, kind.shape, strict=True):
            split.extend([loop] if 1 in (repeat, size) else self.sch.split(loop, [repeat, size]))
        return split

    def _fill(self, loops: Sequence[Loop], start: int, *, share: bool) -> None:
        """Vectorise the contiguous loops from `start` on, join what is left, share the outer loops."""
        sch, joint = self.sch, list(loops[start:])
        first = self._vector_axis([extent(sch, loop) for loop in joint])
        inner = sch.fuse(*joint[first:]) if len(joint) - first > 1 else joint[-1]
        even = extent(sch, inner) % self.target.lanes == 0
        vectors = self._vectors(inner)
        outer = [*loops[:start], *joint[:first]]
        if vectors is not None and even:
            outer.append(vectors)
        # With a rest beside it the loop of vectors cannot be joined with those around it.
        if share and not self._share(outer) and vectors is not None and not even:
            self._share([vectors])

    def _vector_axis(self, extents: Sequence[int]) -> int:
        """The first of the loops to join before they are split into vectors: as few as make whole vectors.

        With more of them, TVM would simplify some of the coordinates and not others, and no longer see that
        together they are one contiguous range.
        """
        for first in reversed(range(len(extents))):
            if math.prod(extents[first:]) % self.target.lanes == 0:
                return first
        return 0

    def _joint(self) -> int:
        return 0 if self.w.op == "reshape" and not self.w.epilogue else joint_suffix(self.found)

    def _vectors(self, loop: Loop) -> Loop | None:
        """Vectorise a loop, with a scalar loop for the rest. Returns the loop of vectors, if any."""
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

    def _share(self, loops: Sequence[Loop]) -> bool:
        """Spread the leading loops over threads: as many of them as balance needs."""
        extents = [extent(self.sch, loop) for loop in loops]
        if self.threads == 1 or math.prod(extents) < self.threads:
            return False
        count = 1
        while count < len(loops) and math.prod(extents[:count]) < _IMBALANCE * self.threads:
            count += 1
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
        if extent(sch, inner) % lanes or strided(self.found):
            self._share([*outer, inner])
            return
        vectors, lane = sch.split(inner, [None, lanes])
        sch.reorder(*outer, vectors, *reduced, lane)
        sch.vectorize(lane)
        self._share([*outer, vectors])
        sch.decompose_reduction(block, reduced[0])


def _is_to_plain(w: Workload) -> bool:
    x, y = w.inputs[0], w.outputs[0]
    return x is not None and x.layout.block > 1 and y.layout == PLAIN and y.shape[1] >= x.layout.block


def cut_points(w: Workload) -> tuple[int, list[int]]:
    """The axis of the output on which the formula makes choices, and the coordinates where they change."""
    axis, seams = opdef(w.op).seams(w.attrs, w.inputs[: w.arity], w.outputs[0])
    return axis, _inside(seams, w.outputs[0].physical[axis]) if seams else []


def _inside(coordinates: Iterable[int], size: int) -> list[int]:
    """Those that lie inside an axis, in order and once each."""
    return sorted({c for c in coordinates if 0 < c < size})


def _pieces(sch: Any, loop: Loop, cuts: Sequence[int]) -> list[Loop]:
    """Cut a loop at the given iterations."""
    lengths = [b - a for a, b in zip((0, *cuts), cuts, strict=False)]
    return list(sch.loop_partition(loop, [*lengths, None]))
