"""Grid of `implicit_gemm`: products in float32 on the CUDA cores.

    grid over (m tiles, n tiles, products): m / rows x n / columns threads
      sums[rows][columns] = 0                              in registers
      for each iteration, copies running stages - 1 ahead:
        patches[chunks][m][4] = x                          asynchronous copies; zeros beyond the border
        weights[chunks][4][n] = w
        for each chunk:
          its 4 elements of each of the thread's rows      16 bytes a read
          for each element:
            the thread's columns                           16 bytes a read
            sums += patches * weights
      y = epilogue(sums)                                   four columns at once

A thread of 8 x 8 holds 64 sums, 32 elements of patches and 8 or 16 of weights, some 110 registers with
addresses, so that 256 threads with 128 x 128 results leave room for a second block. For 256 multiply-adds it
reads 16 times from shared memory. A warp has two groups of rows, whose reads take two cycles because they lie
in the same banks, and 16 groups of columns, whose reads are 256 bytes in a row, columns being interleaved for
it, and take two: 32 cycles of shared memory for 64 of the multiplying units.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cuda.fragments import SHARED
from convc.schedules.cuda.pieces import FOUR, by_row, copy_to_shared, gathered, run_ahead, split_sums
from convc.target import Target
from convc.tiling.device_gemm import ThreadTile, best_tile, tile_seconds, tiles
from convc.tiling.device_products import problem
from convc.workload import OUTPUT, PATCHES, PRODUCT, Workload

Loop = Any
Block = Any


@dataclass(frozen=True)
class CoreConfig(Config):
    """See `tiling.device_gemm.ThreadTile`."""

    m: int
    n: int
    chunks: int
    stages: int
    split: int
    rows: int
    columns: int

    @property
    def tile(self) -> ThreadTile:
        """The same as a tile."""
        return ThreadTile(**asdict(self))


def default(w: Workload, target: Target) -> CoreConfig:
    """The tile with the lowest predicted time."""
    return CoreConfig(**asdict(best_tile(problem(w, target), target.device, ThreadTile)))


def space(w: Workload, target: Target) -> Iterator[CoreConfig]:
    """All tiles that fit."""
    for tile in tiles(problem(w, target), target.device, ThreadTile):
        yield CoreConfig(**asdict(tile))


def price(w: Workload, target: Target, config: CoreConfig) -> float:
    """Predicted seconds of the tile; see `tiling.device_gemm`."""
    return tile_seconds(problem(w, target), config.tile, target.device)


def apply(sch: Any, w: Workload, target: Target, config: CoreConfig) -> None:
    """Tile, stage in shared memory, sum in registers."""
    p, tile = problem(w, target), config.tile
    if not tile.fits(p, target.device):
        raise NotApplicable(f"{config} does not fit {p} on {target.name}.")
    product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
    if tile.split > 1:
        product, store = split_sums(sch, product, output, tile.split, w, target, "local")
        thread = _tile_output(sch, tile, *store, even=True)
    else:
        out = w.outputs[0]
        sch.set_scope(product, 0, "local")
        even = out.layout.block > 1 or out.shape[-1] % tile.n == 0
        thread = _tile_output(sch, tile, *by_row(sch, output, w, target), even=even)
    _interleave(sch, tile, _multiply(sch, tile, product, thread))


def _tile_output(sch: Any, tile: ThreadTile, g: Loop, m: Loop, n: Loop, *, even: bool) -> Loop:
    """Bind loops over results; returns the loop over threads. `even`: four columns can be stored at once."""
    m_block, m_thread, row = sch.split(m, [None, tile.m // tile.rows, tile.rows])
    n_block, n_thread, column, four = sch.split(n, [None, tile.n // tile.columns, tile.columns // FOUR, FOUR])
    sch.reorder(m_block, n_block, g, m_thread, n_thread, row, column, four)
    for loop, axis in ((m_block, "x"), (n_block, "y"), (g, "z")):
        sch.bind(loop, f"blockIdx.{axis}")
    thread = sch.fuse(m_thread, n_thread)
    sch.bind(thread, "threadIdx.x")
    sch.unroll(row)
    sch.unroll(column)
    if even:
        sch.vectorize(four)
    return thread


def multiply_grid(sch: Any, tile: ThreadTile, product: Block, store: Block) -> None:
    """The grid of products whose left operand is stored in chunks; `store` writes their rows as they are."""
    sch.set_scope(product, 0, "local")
    thread = _tile_output(sch, tile, *sch.get_loops(store), even=True)
    weights = _multiply(sch, tile, product, thread, gathers=False)
    _interleave(sch, tile, weights)


def _multiply(sch: Any, tile: ThreadTile, product: Block, thread: Loop, *, gathers: bool = True) -> Block:
    """Make the sums of each thread, with operands from shared memory. Returns the block that copies weights.

    `gathers` says that a stage computes the left operand, which is read from memory otherwise.
    """
    sch.compute_at(product, thread, preserve_unit_loops=True)
    rows, columns, chunks, inner = sch.get_loops(product)[-4:]
    iteration, chunk = sch.split(chunks, [None, tile.chunks])
    sch.reorder(iteration, chunk, inner, rows, columns)
    patches = gathered(sch, product, PATCHES, iteration) if gathers else _staged(sch, product, 0, iteration)
    weights = _staged(sch, product, 1, iteration)
    for block in (patches, weights):
        copy_to_shared(sch, block, tile.threads)
    left, right = sch.cache_read(product, 0, "local"), sch.cache_read(product, 1, "local")
    sch.compute_at(left, chunk, preserve_unit_loops=True)
    sch.compute_at(right, inner, preserve_unit_loops=True)
    for block in (left, right):
        *_, row, vector = sch.get_loops(block)
        quads, vector = sch.split(vector, [None, FOUR])
        for loop in (row, quads):
            sch.unroll(loop)
        sch.vectorize(vector)
    sch.decompose_reduction(product, iteration)
    for loop in (inner, rows, columns):
        sch.unroll(loop)
    run_ahead(sch, iteration, tile.stages)
    return weights


def _interleave(sch: Any, tile: ThreadTile, weights: Block) -> None:
    """Store the first four columns of each thread side by side, then the next four of each.

    Eight threads that read 16 bytes each then read 128 in a row; eight columns apart they would meet in the
    same banks in pairs.
    """
    n, own = tile.n, tile.columns
    sch.transform_layout(
        weights, ("write", 0), lambda g, c, i, o: (g, c, i, o // n, o % own // FOUR, o % n // own, o % FOUR)
    )


def _staged(sch: Any, product: Block, operand: int, iteration: Loop) -> Block:
    """Copy an operand to shared memory in each iteration."""
    block = sch.cache_read(product, operand, SHARED)
    sch.compute_at(block, iteration, preserve_unit_loops=True)
    return block
