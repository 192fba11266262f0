"""How `gemm` stores its constant matrix and covers its output, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from convc.target import Target
from convc.tiling.registers import Tile, divisors, imbalance, overlapped_seconds, tile_cycles
from convc.tiling.storage import FLOAT32, Storage
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
        transposed = w.op == "gemm" and w.attrs.trans_a  # type: ignore[attr-defined]
        return cls(math.prod(out[:-1]), a.shape[0 if transposed else -1], out[-1])


def gemm_width(g: GemmShape, target: Target) -> int:
    """Columns of the right-hand matrix that are stored side by side."""
    most = 4 if g.m == 1 else 2
    vectors = -(-g.n // target.lanes)
    for count in range(most, 1, -1):
        if -(-vectors // count) >= 4 * target.threads:
            return count * target.lanes
    return target.lanes


def gemm_tile(g: GemmShape, target: Target) -> Tile:
    """The best tile for `gemm`: as many rows as divide `m` and fit the registers."""
    vectors = gemm_width(g, target) // target.lanes
    tiles = (Tile(1, rows, vectors) for rows in divisors(g.m))
    return max((t for t in tiles if t.fits(target)), key=lambda t: t.cols)


def gemm_seconds(g: GemmShape, target: Target, storage: Storage = FLOAT32) -> float:
    """Predicted time of `gemm`: with few rows, that of reading the constant matrix from memory."""
    width = gemm_width(g, target)
    columns = -(-g.n // width)
    tile = gemm_tile(g, target)
    even = imbalance(columns * g.m // tile.cols, target.threads)
    arithmetic = 2 * g.m * g.k * columns * width * tile_cycles(tile, g.k, target) * even / target.peak
    arithmetic *= 1 + storage.unpacking(target) / tile.cols
    traffic = storage.fetched(g.k * columns * width, target) / target.memory_bandwidth
    return overlapped_seconds(arithmetic, traffic, target)
