"""How `gemm` stores its constant matrix and covers its output, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from convc.ops.linear import gemm_attrs
from convc.target import Target
from convc.tiling.registers import (
    Tile,
    divisors,
    imbalance,
    most_sums,
    overlapped_seconds,
    tile_cycles,
)
from convc.tiling.storage import UNPACKED, Storage
from convc.workload import Workload


@dataclass(frozen=True)
class GemmShape:
    """A product of matrices m x k and k x n."""

    m: int
    k: int
    n: int

    @classmethod
    def of(cls, w: Workload) -> GemmShape:
        """Read a `gemm` workload, or a `matmul` workload whose right-hand side is one matrix."""
        out = w.outputs[0].shape
        a = w.inputs[0]
        assert a is not None
        return cls(math.prod(out[:-1]), a.shape[0 if gemm_attrs(w.attrs).trans_a else -1], out[-1])


def gemm_width(g: GemmShape, target: Target) -> int:
    """Columns of the right-hand matrix that are stored side by side."""
    most = 4 if g.m == 1 else 2
    vectors = -(-g.n // target.lanes)
    for count in range(most, 1, -1):
        if -(-vectors // count) >= 4 * target.threads:
            return count * target.lanes
    return target.lanes


PADDING_SAVES = 0.95
"""Rows are added where tiles then take less than this part of the time: those that repeat the last row need
an address of their own."""


def gemm_rows(g: GemmShape, target: Target) -> int:
    """The rows over which sums are made, at least `m`: 198 for the 197 tokens of a transformer.

    A prime number of rows has no tiles but those of one row, whose sums wait for each other. Sums of rows
    beyond the last, which they repeat, are thrown away.
    """
    more = range(g.m + 1, g.m + most_sums(target))
    best = min(more, key=lambda rows: _cycles(g, rows, target))
    return best if _cycles(g, best, target) < PADDING_SAVES * _cycles(g, g.m, target) else g.m


def gemm_tiles(g: GemmShape, target: Target, rows: int) -> list[Tile]:
    """The tiles by which `rows` rows can be covered."""
    vectors = gemm_width(g, target) // target.lanes
    tiles = (Tile(1, count, vectors) for count in divisors(rows))
    return [tile for tile in tiles if tile.fits(target)]


def gemm_tile(g: GemmShape, target: Target) -> Tile:
    """The tile in which `gemm` takes the least time: of those that divide the rows, the largest that fits."""
    return max(gemm_tiles(g, target, gemm_rows(g, target)), key=lambda t: t.cols)


def _cycles(g: GemmShape, rows: int, target: Target) -> float:
    """Cycles of the best tile for so many rows, relative to a multiply-add of one vector."""
    return rows * min(tile_cycles(t, g.k, target) for t in gemm_tiles(g, target, rows))


def gemm_seconds(g: GemmShape, target: Target, storage: Storage = UNPACKED) -> float:
    """Predicted time of `gemm`: with few rows, that of reading the constant matrix from memory."""
    width, rows = gemm_width(g, target), gemm_rows(g, target)
    columns = -(-g.n // width)
    tile = gemm_tile(g, target)
    even = imbalance(columns * rows // tile.cols, target.threads)
    arithmetic = 2 * rows * g.k * columns * width * tile_cycles(tile, g.k, target) * even / target.peak
    arithmetic *= 1 + storage.unpacking(target) / tile.cols
    traffic = storage.fetched(g.k * columns * width, target) / target.memory_bandwidth
    return overlapped_seconds(arithmetic, traffic, target)
