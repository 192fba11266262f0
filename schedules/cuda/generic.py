"""Grids for `generic`: a kernel for each block, whose tensors lie in global memory.

Without a reduction, a thread makes four channels of a tensor in channel blocks, or one element of a plain
one:

    grid, block of 256 threads over all elements
      y[i] = f(x[...])

so that the 32 threads of a warp write up to 512 bytes in a row. A reduction with many results keeps a sum in
a register of the thread that makes the result; one with few results and long sums gives each result to a
block:

    grid over results
      each of up to 256 threads sums every 256th term; the block adds the threads' sums in shared memory
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import ScheduleError

from convc.schedules.base import Config
from convc.schedules.blocks import Nest, blocks, chooses, extent, nest
from convc.schedules.cuda.pieces import FOUR, over_threads
from convc.schedules.cuda.team import share_rows
from convc.target import Target
from convc.workload import Workload

Loop = Any

WARP = 32
_SHORT = 32
"""Terms of a sum that one thread adds up by itself, however few sums there are."""


@dataclass(frozen=True)
class GenericConfig(Config):
    """Threads of a block."""

    threads: int = 256


def default(w: Workload, target: Target) -> GenericConfig:
    """Eight warps: enough to fill a multiprocessor with eight or fewer blocks, few enough to start
    quickly."""
    return GenericConfig()


def space(w: Workload, target: Target) -> Iterator[GenericConfig]:
    """From one warp for each of a multiprocessor's schedulers to the most that a block may have."""
    for threads in (128, 256, 512, 1024):
        yield GenericConfig(threads)


def apply(sch: Any, w: Workload, target: Target, config: GenericConfig) -> None:
    """Steps of rows in one kernel; else bind every block by itself."""
    if share_rows(sch, target, config.threads):
        return
    for block in blocks(sch):
        found = nest(sch, block)
        if not found.points:  # of a tensor without elements: there is nothing to launch
            continue
        if not sch.get_loops(block):
            sch.add_unit_loop(block)
        if not found.reduction:
            _elementwise(sch, block, target, config.threads)
        elif found.steps > _SHORT and found.points * WARP <= target.device.sms * target.device.threads:
            _shared_sum(sch, block, found, config.threads)
        else:
            _own_sum(sch, block, found, config.threads)


def _elementwise(sch: Any, block: Any, target: Target, threads: int) -> None:
    *outer, lane = sch.get_loops(block)
    if not outer or extent(sch, lane) != target.lanes:
        over_threads(sch, [*outer, lane], threads)
        return
    store = block
    choose = chooses(
        sch, block
    )  # CUDA has no vectors of bool: choose element by element, store them together
    if choose:
        store = sch.cache_write(block, 0, "local")
        *outer, lane = sch.get_loops(store)
    quad, lane = sch.split(lane, [None, FOUR])
    thread = over_threads(sch, [*outer, quad], threads)
    sch.vectorize(lane)
    if choose:
        sch.compute_at(block, thread, preserve_unit_loops=True)
        sch.unroll(sch.get_loops(block)[-1])


def _own_sum(sch: Any, block: Any, found: Nest, threads: int) -> None:
    """Each result in a register of one thread."""
    if len(sch.get(block).writes) == 1:
        result = sch.cache_write(block, 0, "local")
        thread = over_threads(sch, sch.get_loops(result) or [sch.add_unit_loop(result)], threads)
        sch.compute_at(block, thread, preserve_unit_loops=True)
        # Where the last block of threads is not full, TVM may fail to see which loops sum: zero stays inside.
        with suppress(ScheduleError):
            sch.decompose_reduction(block, sch.get_loops(block)[-len(found.reduction)])
        return
    loops = sch.get_loops(block)
    kept, reduced = loops[: len(found.spatial)], loops[len(found.spatial) :]
    over_threads(sch, kept or [sch.add_unit_loop(reduced[0])], threads)
    sch.decompose_reduction(block, reduced[0])


def _shared_sum(sch: Any, block: Any, found: Nest, threads: int) -> None:
    """Each result by a block, whose threads share the terms."""
    loops = sch.get_loops(block)
    kept, reduced = loops[: len(found.spatial)], loops[len(found.spatial) :]
    if len(sch.get(block).writes) > 1:
        _own_sum(sch, block, found, threads)
        return
    grid = sch.fuse(*kept) if len(kept) > 1 else kept[0] if kept else sch.add_unit_loop(reduced[0])
    terms = sch.fuse(*reduced) if len(reduced) > 1 else reduced[0]
    count = min(threads, -(-found.steps // WARP) * WARP)
    _, thread = sch.split(terms, [None, count])
    sch.bind(grid, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
