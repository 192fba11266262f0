"""What the grids of matrix products share: rows of results, tiles in shared memory."""

from __future__ import annotations

import math
from typing import Any

from convc.schedules.blocks import extent
from convc.schedules.cuda.fragments import CHUNK, SHARED, WARP
from convc.schedules.rows import rearrange
from convc.target import Target
from convc.tiling.device_products import product_of
from convc.workload import Workload

Loop = Any
Block = Any


def by_row(sch: Any, output: Block, w: Workload, target: Target) -> tuple[Loop, Loop, Loop]:
    """Make the loops of an output those of the product that it is made from: group, row, column."""
    product = product_of(w, target)

    def place(*index: Any) -> list[Any]:
        return [i for i in product.place(index) if i is not None]

    rearrange(sch, output, place)
    loops = sch.get_loops(output)
    if len(loops) == 2:
        loops = [sch.add_unit_loop(loops[0]), *loops]
    group, row, column = loops
    return group, row, column


def gathered(sch: Any, product: Block, name: str, iteration: Loop) -> Block:
    """Compute a stage into shared memory in each iteration."""
    block = sch.get_sblock(name)
    sch.set_scope(block, 0, SHARED)  # first, so that all threads' parts are computed and not only one's own
    sch.compute_at(block, iteration, preserve_unit_loops=True)
    return block


def copy_to_shared(sch: Any, block: Block, threads: int, *, rows: int = 1) -> None:
    """Spread the chunks of a tile over the block's threads, 16 bytes each; threadIdx.y has `rows` of them."""
    *_, outer, middle, inner = sch.get_loops(block)
    lanes = CHUNK // (2 if str(sch.get(block).writes[0].source.dtype).endswith("16") else 4)
    if extent(sch, inner) > lanes:
        vectors, inner = sch.split(inner, [None, lanes])
        copies = sch.fuse(outer, middle, vectors)
    else:
        copies = sch.fuse(outer, middle)
    _, row, thread = sch.split(copies, [None, rows, threads // rows])
    if rows > 1:
        sch.bind(row, "threadIdx.y")
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(inner)


def run_ahead(sch: Any, iteration: Loop, stages: int) -> None:
    """Let the copies of both operands run ahead of the product by `stages - 1` iterations, asynchronously."""
    if stages > 1:
        sch.annotate(iteration, "software_pipeline_stage", [0, 0, stages - 1])
        sch.annotate(iteration, "software_pipeline_order", [0, 1, 2])
        sch.annotate(iteration, "software_pipeline_async_stages", [0])


def split_sums(
    sch: Any, product: Block, output: Block, parts: int, w: Workload, target: Target, scope: str
) -> tuple[Block, tuple[Loop, Loop, Loop]]:
    """Cut the sums of a product into `parts` along k, each stored by itself, and add them in a second kernel.

    Returns the block that sums, whose results are in `scope`, and the loops (parts and groups, row, column)
    of the one that stores them. Parts are stored in the output's channel blocks, so that threads of the
    second kernel read 16 bytes and more in a row.
    """
    part, _ = sch.split(sch.get_loops(product)[3], [parts, None])
    partial = sch.rfactor(part, 0)
    store = sch.cache_write(partial, 0, scope)
    lanes = target.lanes
    sch.transform_layout(store, ("write", 0), lambda s, g, m, n: (s, g, n // lanes, m, n % lanes))
    _add_parts(sch, product, by_row(sch, output, w, target), target)
    s, g, m, n = sch.get_loops(store)
    return partial, (sch.fuse(s, g), m, n)


def _add_parts(sch: Any, product: Block, results: tuple[Loop, Loop, Loop], target: Target) -> None:
    """Add the parts of each result in registers, a chunk of channels of one row by each thread."""
    group, row, column = results
    whole = extent(sch, column) % target.lanes == 0
    block, lane = sch.split(column, [None, target.lanes if whole else 1])
    sch.reorder(group, block, row, lane)
    count = math.prod(extent(sch, loop) for loop in (group, block, row))
    # Without a rest: under a condition TVM would no longer see that each result is summed by itself.
    even = max(d for d in range(1, min(2 * THREADS, count) + 1) if count % d == 0)
    thread = over_threads(sch, [group, block, row], even, exact=True)
    sch.compute_at(product, thread, preserve_unit_loops=True)
    sch.set_scope(product, 0, "local")
    part, *_, lanes = sch.get_loops(product)[-4:]  # rfactor has put the sum's loop first
    if whole:
        for loop in (lane, lanes):
            quads, four = sch.split(loop, [None, FOUR])
            sch.unroll(quads)
            sch.vectorize(four)
    sch.decompose_reduction(product, part)


FOUR = 4
"""Values that a thread handles as one vector: 16 bytes of float32, the widest that CUDA has."""
THREADS = 128
"""Of a block that adds parts: sums that are split are few, and small blocks spread them further."""


def over_threads(sch: Any, loops: list[Loop], threads: int, *, exact: bool = False) -> Loop:
    """Spread all iterations of some loops over the grid; returns the loop over a block's threads.

    Blocks have whole warps, unless `exact`: then as many threads as are asked for.
    """
    total = math.prod(extent(sch, loop) for loop in loops)
    fused = sch.fuse(*loops) if len(loops) > 1 else loops[0]
    count = threads if exact else min(threads, -(-total // WARP) * WARP)
    grid, thread = sch.split(fused, [None, count])
    sch.bind(grid, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return thread
