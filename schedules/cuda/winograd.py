"""Grids of `winograd2` and `winograd4`: two transforms in registers around a batched product.

    grid over (chunks, tiles), 128 threads each            input_transform
      a tile's 16 or 36 inputs of up to 4 channels         loads of 4 to 16 bytes; zeros beyond the border
      V[f] = (B^T d B)[f]                                  512 bytes in a row by a warp
    grid over (m tiles, n tiles, frequencies)              multiply: see `implicit_gemm`
      sums += V U                                          both copied asynchronously, 16 bytes each
      M = sums                                             32 bytes in a row by two threads at once
    grid over (tiles, channel blocks), 128 threads each    inverse_transform
      M of a tile                                          512 bytes in a row by a warp
      y = epilogue(A^T M A + bias)                         4 pixels in a row by a thread

A thread of the input transform holds a tile of A x A inputs of `input_lanes` channels: 64 values for F(2, 3)
and 4 channels, 72 for F(4, 3) and 2; 58 and 80 registers on sm_90. The inverse transform needs 64 and 143 for
4 channels. All loads of a tile are independent and come first, so that each warp has 8 KB underway: two warps
cover the latency of L2 (600 cycles at 24 bytes a cycle and multiprocessor).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from convc.schedules.base import NotApplicable
from convc.schedules.blocks import chooses
from convc.schedules.cuda.implicit_gemm import CoreConfig, multiply_grid
from convc.schedules.cuda.pieces import over_threads
from convc.target import Target
from convc.tiling.device_gemm import tile_seconds
from convc.tiling.device_transformed import STORE, product_tile, product_tiles
from convc.tiling.device_winograd import problem
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, MULTIPLY, OUTPUT, ConvShape, Workload

THREADS = 128
"""Of a block that transforms: tiles are few, and small blocks spread them over more multiprocessors."""


class WinogradSchedule:
    """The schedule for tiles of `m` outputs on each axis. Its configuration is the product's tile."""

    def __init__(self, m: int) -> None:
        self.m = m

    def default(self, w: Workload, target: Target) -> CoreConfig:
        """The tile with the lowest predicted time."""
        p = problem(ConvShape.of(w), self.m, target)
        return CoreConfig(**asdict(product_tile(p, target.device)))

    def space(self, w: Workload, target: Target) -> Iterator[CoreConfig]:
        """All tiles that fit and do not split sums."""
        p = problem(ConvShape.of(w), self.m, target)
        for tile in product_tiles(p, target.device):
            yield CoreConfig(**asdict(tile))

    def price(self, w: Workload, target: Target, config: CoreConfig) -> float:
        """Predicted seconds of the product; see `tiling.device_gemm`."""
        return tile_seconds(problem(ConvShape.of(w), self.m, target), config.tile, target.device)

    def apply(self, sch: Any, w: Workload, target: Target, config: CoreConfig) -> None:
        """Bind the three grids. Raises NotApplicable for a tile that does not fit or splits sums."""
        p = problem(ConvShape.of(w), self.m, target)
        if config.split > 1 or not config.tile.fits(p, target.device):
            raise NotApplicable(f"{config} does not fit {p} on {target.name}.")
        over_threads(sch, sch.get_loops(sch.get_sblock(INPUT_TRANSFORM)), THREADS)
        multiply_grid(sch, config.tile, sch.get_sblock(MULTIPLY), sch.get_sblock(STORE))
        over_threads(sch, sch.get_loops(sch.get_sblock(INVERSE_TRANSFORM)), THREADS)
        store_pixels(sch)


def store_pixels(sch: Any) -> None:
    """Unroll a thread's stores of its pixels, several channels at once."""
    output = sch.get_sblock(OUTPUT)
    *_, row, column, lane = sch.get_loops(output)
    for loop in (row, column):
        sch.unroll(loop)
    if chooses(sch, output):  # CUDA has no vectors of bool
        sch.unroll(lane)
    else:
        sch.vectorize(lane)


winograd2, winograd4 = WinogradSchedule(2), WinogradSchedule(4)
