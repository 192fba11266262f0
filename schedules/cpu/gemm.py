"""Loop nest for `gemm`.

    parallel (columns, rows) over register tiles
      sums[rows, width] = 0                        in registers
      for k                                        in 24 bits: by fours, that are fetched ahead and unpacked
        unroll rows, vectors of width: sums += a[row, k] * b[column, k, vector]
      y = epilogue(sums)

Where `m` has no good divisor, rows beyond the last are computed as well, and thrown away.

With one row, each thread streams its part of `b` once, front to back, at the speed of memory: on two Zen 4
cores 7 ms for the 411 MB of VGG-16's first, which is 59 GB/s. Batches of 32 and 64 rows reach 95 % of peak.

On two Zen 5 cores 25088 x 4096 takes 8.7 to 9.7 ms, and with `b` in 24 bits 7.2 to 8.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm import tirx

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cpu.prefetch import LINE, TO_L1, before
from convc.schedules.cpu.tiles import unpack
from convc.schedules.rows import join
from convc.target import Target
from convc.tiling.gemm import GemmShape, gemm_rows, gemm_tile, gemm_tiles, gemm_width
from convc.tiling.storage import UNPACKED, Storage
from convc.workload import OUTPUT, PRODUCT, Workload

Loop = Any
Expr = Any

AHEAD = 64
"""Lines by which weights are fetched ahead.

Products of several rows, or the unpacking of 24 bits, fill a core's queues, so that its loads no longer run
ahead of them. 4096 x 4096 on two Zen 5 threads, without and with: 8 rows 1.55 and 1.28 ms, 12 rows 2.34 and
1.37, 32 rows 3.69 and 3.12; one row in 24 bits took 0.6 to 0.9 times as long. 32 lines gained less, 128 no
more. One row of float32 gained nothing.
"""


@dataclass(frozen=True)
class GemmConfig(Config):
    """Rows of a tile, and by how much the loop over k is unrolled."""

    rows: int
    unroll: int


class GemmSchedule:
    """The schedule for a matrix that is stored as `storage` says."""

    def __init__(self, storage: Storage = UNPACKED) -> None:
        self.storage = storage

    def default(self, w: Workload, target: Target) -> GemmConfig:
        """As many rows as the registers take; with few of them, k unrolled to keep loads in flight."""
        g = GemmShape.of(w)
        rows = gemm_tile(g, target).cols
        return GemmConfig(rows, max(u for u in self._unrolled(g) if u * rows <= 4 or u == self.storage.rows))

    def space(self, w: Workload, target: Target) -> Iterator[GemmConfig]:
        """All numbers of rows that divide and fit the registers, with k unrolled 1, 2, 4 or 8 times."""
        g = GemmShape.of(w)
        for tile in gemm_tiles(g, target, gemm_rows(g, target)):
            for unroll in self._unrolled(g):
                yield GemmConfig(tile.cols, unroll)

    def _unrolled(self, g: GemmShape) -> list[int]:
        """By how much k may be unrolled: by whole groups of rows that are stored together."""
        return [u for u in (1, 2, 4, 8) if u % self.storage.rows == g.k % u == 0]

    def apply(self, sch: Any, w: Workload, target: Target, config: GemmConfig) -> None:
        """Tile rows and columns, compute sums inside the tile, spread tiles over threads."""
        g = GemmShape.of(w)
        width, padded = gemm_width(g, target), gemm_rows(g, target)
        if padded % config.rows or config.unroll not in self._unrolled(g):
            raise NotApplicable(f"{config} does not divide {padded} rows and {g.k} terms.")
        product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
        if w.outputs[0].rank > 1:
            join(sch, output, 0, w.outputs[0].rank - 1)
        *rows, columns = sch.get_loops(output)
        row = rows[0] if rows else sch.add_unit_loop(columns)
        vector = gcd(g.n, target.lanes, width)
        row, row_tile = sch.split(row, [None, config.rows])
        columns, lane = sch.split(columns, [None, vector])
        columns, column_tile = sch.split(columns, [None, width // vector])
        sch.reorder(columns, row, row_tile, column_tile, lane)
        tiles = sch.fuse(columns, row)
        sch.parallel(tiles)
        sch.vectorize(lane)
        sch.compute_at(product, tiles, preserve_unit_loops=True)
        _, m, block, column, k = sch.get_loops(product)
        k, k_tile = sch.split(k, [None, config.unroll])
        column, lane = sch.split(column, [None, target.lanes])
        sch.reorder(block, k, k_tile, m, column, lane)
        for loop in (k_tile, m, column):
            sch.unroll(loop)
        sch.vectorize(lane)
        unpack(sch, k, self.storage, target.lanes)
        sch.decompose_reduction(product, k)
        if g.m > 1 or self.storage != UNPACKED:
            panel = sch.get(tiles).loop_var // (padded // config.rows)
            _prefetch(sch, panel, k, g.k // config.unroll)


def _prefetch(sch: Any, panel: Expr, k: Loop, steps: int) -> None:
    """In each of the `steps` of loop `k` through a panel of weights, fetch a step's part of it ahead."""
    stored = sch.mod["main"].params[1]
    _, rows, width = (int(e) for e in stored.shape)
    step = rows // steps
    first = sch.get(k).loop_var * step + AHEAD * LINE // width
    lines = [(first + row, lane) for row in range(step) for lane in range(0, width, LINE)]
    before(sch, k, [tirx.BufferLoad(stored, [panel, *line]) for line in lines], TO_L1)
