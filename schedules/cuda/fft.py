"""Grids of `fft`: two transforms that meet in shared memory around a batched product.

    grid over (chunks, groups of 8 tiles)
      for each row of a tile, a warp each                  input_transform_rows
        its spectrum to shared memory                      a line for each thread: 8 tiles x 4 channels
      for each column, a warp each                         input_transform_columns
        V of its frequencies                               128 bytes in a row by a warp
    grid over (m tiles, n tiles, products)                 multiply: see `implicit_gemm`
    grid over (tiles, groups of 32 channels)
      for each column, a warp each                         inverse_transform_columns
        back along the column, to shared memory            M read 128 bytes in a row
      for each row, a warp each                            inverse_transform
        back along the row; y = epilogue(row + bias)

The threads of a warp do the same for 32 channels and tiles, so that nothing diverges but at the border, and
read and write shared memory without bank conflicts. Tiles of 20x20 take 56 KB of it, which leaves room for
four blocks of 16 warps; threads have 58 registers for rows and columns of 20, and 75 on the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from convc.schedules.base import NotApplicable
from convc.schedules.blocks import extent
from convc.schedules.cuda.implicit_gemm import CoreConfig, multiply_grid
from convc.schedules.cuda.winograd import store_pixels
from convc.target import Target
from convc.tiling.device_fft import WARPS, choose, problem
from convc.tiling.device_gemm import GemmProblem, tile_seconds
from convc.tiling.device_transformed import STORE, product_tile, product_tiles
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, MULTIPLY, ConvShape, Workload


def default(w: Workload, target: Target) -> CoreConfig:
    """The product's tile with the lowest predicted time."""
    return CoreConfig(**asdict(product_tile(_product(w, target), target.device)))


def space(w: Workload, target: Target) -> Iterator[CoreConfig]:
    """All tiles that fit and do not split sums."""
    for tile in product_tiles(_product(w, target), target.device):
        yield CoreConfig(**asdict(tile))


def price(w: Workload, target: Target, config: CoreConfig) -> float:
    """Predicted seconds of the product; see `tiling.device_gemm`."""
    return tile_seconds(_product(w, target), config.tile, target.device)


def apply(sch: Any, w: Workload, target: Target, config: CoreConfig) -> None:
    """Bind the three grids. Raises NotApplicable for a tile that does not fit or splits sums."""
    p = _product(w, target)
    if config.split > 1 or not config.tile.fits(p, target.device):
        raise NotApplicable(f"{config} does not fit {p} on {target.name}.")
    _bind(sch, f"{INPUT_TRANSFORM}_rows", f"{INPUT_TRANSFORM}_columns")
    multiply_grid(sch, config.tile, sch.get_sblock(MULTIPLY), sch.get_sblock(STORE))
    _bind(sch, f"{INVERSE_TRANSFORM}_columns", INVERSE_TRANSFORM)
    store_pixels(sch)


def _product(w: Workload, target: Target) -> GemmProblem:
    s = ConvShape.of(w)
    return problem(s, choose(s, target), target)


def _bind(sch: Any, *stages: str) -> None:
    """A block for each group of tiles and channels; its warps take the lines of one stage, then the next."""
    lines = [sch.get_loops(sch.get_sblock(stage))[2:5] for stage in stages]
    warps = min(WARPS, max(extent(sch, line) for line, *_ in lines))
    for line, tile, channel in lines:
        _, warp = sch.split(line, [None, warps])
        sch.bind(warp, "threadIdx.y")
        sch.bind(sch.fuse(tile, channel), "threadIdx.x")
    outer = sch.get_loops(sch.get_sblock(stages[0]))[:2]
    sch.bind(sch.fuse(*outer), "blockIdx.x")
