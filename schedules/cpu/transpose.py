"""Loop nest for the `direct` transposed convolution.

    parallel (n, block tile)                               or (first row axis, n, block tile)
      for rows, column tiles                               whole strides
        sums[cols, blocks, lanes] = 0                      in registers
        for step, taps, inner                              input channels and taps
          unroll cols, blocks:  sums += x * w              a broadcast, a vector of weights
        y = epilogue(sums)

Of `cols` neighbouring outputs every stride-th takes the same weights, so `stride * blocks` vectors of
weights are live, and stride neighbours read the same input. Threads share the blocks where that divides
evenly, so that weights stay in cache while all rows pass, else the rows.

A row's coordinate must not become the remainder of a loop joined with blocks. The weights' address then
holds the block t % 20 // 10 and the tap (t % 10 + 1) % 2, and TVM 0.27, flattening it, makes the first of
them (t + 1) % 20 // 10. Hence rows are joined as the outermost part or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cpu.direct import accumulate
from convc.target import Target
from convc.tiling.transpose import Transposed, best_tile, tiles
from convc.workload import OUTPUT, PRODUCT, Workload


@dataclass(frozen=True)
class TransposeConfig(Config):
    """Sums in registers: `cols` columns, a multiple of the stride, of `blocks` vectors of channels."""

    cols: int
    blocks: int


def default(w: Workload, target: Target) -> TransposeConfig:
    """The tile with the lowest predicted cost."""
    best = best_tile(Transposed.of(w), target)
    return TransposeConfig(best.cols, best.blocks)


def space(w: Workload, target: Target) -> Iterator[TransposeConfig]:
    """All tiles that fit the registers."""
    for found in tiles(Transposed.of(w), target):
        yield TransposeConfig(found.cols, found.blocks)


def apply(sch: Any, w: Workload, target: Target, config: TransposeConfig) -> None:
    """Tile the outputs, compute their sums inside the tile, spread rows over threads."""
    s = Transposed.of(w)
    if (config.cols, config.blocks) not in {(tile.cols, tile.blocks) for tile in tiles(s, target)}:
        raise NotApplicable(
            f"{config} needs more registers than {target.name} has, or cuts strides or columns."
        )
    product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
    n, block, *rows, column, lane = sch.get_loops(output)
    block, block_tile = sch.split(block, [None, config.blocks])
    column, column_tile = sch.split(column, [None, config.cols])
    tasks = sch.get(n).extent * sch.get(block).extent
    if int(tasks) % target.threads == 0 or not rows:
        sch.reorder(n, block, *rows, column, column_tile, block_tile, lane)
        sch.parallel(sch.fuse(n, block))
    else:
        sch.reorder(rows[0], n, block, *rows[1:], column, column_tile, block_tile, lane)
        sch.parallel(sch.fuse(rows[0], n, block))
    for loop in (column_tile, block_tile):
        sch.unroll(loop)
    sch.vectorize(lane)
    accumulate(sch, product, column, len(s.axes))
