"""Reductions and what follows them in one kernel: a block of threads, or a warp, for each row.

Softmax, normalisations and means come as several blocks, each of which reads what the others made of its row:

    grid over rows
      top[row] = max over the row                  by each thread of every T-th term, then by shuffles
      total[row] = sum over the row of f(x, top)   the same
      y[row, ...] = g(x, top, total)               each thread every T-th element

Results between the steps lie in shared memory. As kernels of their own the steps would take 2 us each,
whatever their size. A row is read once for each step, after the first from L1 or L2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx

from convc.schedules.blocks import Nest, blocks, nest
from convc.target import Target

Loop = Any
Block = Any

WARP = 32
_FEW = 8
"""Results of a row that its threads make one after the other, each by all of them."""
_SHORT = 16
"""Terms that are too few for a warp."""
_EACH = 8
"""Terms that each thread of a block should have at least."""
_MOST_THREADS = 1024
_LONG = 512
"""Turns of a block's threads over a row up to which a device need not be full: some 20 us."""
_MOST_SHARED = 40 << 10


@dataclass(frozen=True)
class _Step:
    """A block: what it computes for a row. `row` spatial variables count the rows."""

    block: Block
    nest: Nest
    row: int

    @property
    def results(self) -> int:
        return math.prod(self.nest.extents[self.row :])

    @property
    def shared(self) -> bool:
        """Whether all threads work on one result."""
        return bool(self.nest.reduction) and self.results <= _FEW

    def turns(self, threads: int) -> int:
        """How often a thread of the row's block takes an element or a term."""
        if self.shared:
            return self.results * -(-self.nest.steps // threads)
        return -(-self.results // threads) * self.nest.steps


def share_rows(sch: Any, target: Target, threads: int) -> bool:
    """Schedule all blocks as one kernel; False where they are not steps of rows, or few rows are too long."""
    steps = _steps(sch)
    if not steps or not any(s.shared and s.nest.steps >= _SHORT for s in steps):
        return False
    last = steps[-1]
    rows = math.prod(last.nest.extents[: last.row])
    full = rows >= target.device.sms
    most = max(s.nest.steps if s.shared else s.results for s in steps)
    count = min(threads if full else _MOST_THREADS, max(WARP, _power_of_two(most // _EACH)))
    if not full and sum(s.turns(count) for s in steps) > _LONG:
        return False
    if sum(s.nest.itemsize * s.results for s in steps[:-1]) > _MOST_SHARED:
        return False
    _bind(sch, steps, count)
    return True


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _bind(sch: Any, steps: list[_Step], threads: int) -> None:
    *producers, last = steps
    loops = sch.get_loops(last.block)
    rows = loops[: last.row] or [sch.add_unit_loop(loops[0] if loops else last.block)]
    grid = sch.fuse(*rows) if len(rows) > 1 else rows[0]
    sch.bind(grid, "blockIdx.x")
    for step in reversed(producers):
        sch.compute_at(step.block, grid, preserve_unit_loops=True)
        sch.set_scope(step.block, 0, "shared")
    for step in steps:
        inner = sch.get_loops(step.block)[1:]
        kept, reduced = _parted(sch, step, inner)
        chosen = reduced if step.shared else kept
        fused = sch.fuse(*chosen) if len(chosen) > 1 else chosen[0]
        _, thread = sch.split(fused, [None, threads])
        sch.bind(thread, "threadIdx.x")


def _parted(sch: Any, step: _Step, inner: list[Loop]) -> tuple[list[Loop], list[Loop]]:
    """A block's loops inside the grid: those over results, at least one, and those over terms."""
    terms = len(step.nest.reduction)
    kept, reduced = inner[: len(inner) - terms], inner[len(inner) - terms :]
    return kept or [sch.add_unit_loop(reduced[0] if reduced else step.block)], reduced


# ---- which variables count rows


def _steps(sch: Any) -> list[_Step]:
    """The blocks, with as many of their first variables as all of them share; [] if they are no steps."""
    found = [(block, nest(sch, block)) for block in blocks(sch)]
    written = [region.source for block, _ in found for region in sch.get(block).writes]
    results = sum(any(b.same_as(p) for p in sch.mod["main"].params) for b in written)
    if len(found) < 2 or len(written) > len(found) or results > 1:
        return []
    made = written[:-1]
    for row in range(min(len(n.spatial) for _, n in found), -1, -1):
        alike = all(n.extents[:row] == found[-1][1].extents[:row] for _, n in found)
        if alike and all(_reads_own_row(sch, block, n, made, row) for block, n in found):
            steps = [_Step(block, n, row) for block, n in found]
            return steps if all(map(_in_order, steps)) else []
    return []


def _reads_own_row(sch: Any, block: Block, found: Nest, made: list[Any], row: int) -> bool:
    """Whether a block reads other blocks' results of its own row alone."""
    for region in sch.get(block).reads:
        if not any(region.source.same_as(buffer) for buffer in made):
            continue
        if len(region.region) < row:
            return False
        for place, variable in zip(region.region[:row], found.spatial, strict=False):
            if not place.min.same_as(variable):
                return False
    return True


def _in_order(step: _Step) -> bool:
    """Whether the threads of a row that read one after the other read elements beside each other."""
    rows = step.nest.spatial[: step.row]
    wide = (a for a in step.nest.accesses if step.shared and a.indices and len(a.indices) > step.row)
    return not any(_depends(a.indices[-1], variable) for a in wide for variable in rows)


def _depends(expression: Any, variable: Any) -> bool:
    found = False

    def visit(node: Any) -> None:
        nonlocal found
        found = found or node.same_as(variable)

    tvm_ffi.structural_walk(expression, [(tirx.Var, visit)])
    return found
