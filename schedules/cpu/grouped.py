"""Loop nest for `grouped`.

    parallel (n, block, oh, ow) over register tiles
      sums[rows, cols, blocks, lanes] = 0                      in registers
      for step; unroll inner                                   channels of a group
        for kd, kh                                             rows of taps
          unroll blocks, rows, cols, kw
            sums += operand(x) * w                             a channel of each lane's group, its weights
      y = epilogue(sums)

`inner` is unrolled because a permutation must be a constant; where operands are blended it stays a loop. kw
is innermost: as the pixels pass, each operand is made once and serves up to kw neighbouring sums, while the
weights of a row of taps stay in registers. The loop over rows of taps around it keeps LLVM from loading all
the input first and spilling it.

AVX-512, 3x3: 28 sums, 3 vectors of weights, one operand. On one Zen 5 core with a peak of 232 GFLOP/s, groups
of 4 and 8 channels (ResNeXt-50 32x4d) run at 222 GFLOP/s, of 24 (RegNet) at 205; with stride 2, where an
operand serves half as many sums, at 150.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cpu.tiles import tiled
from convc.target import Target
from convc.tiling.grouped import found, spare_registers, tile_of, tiles
from convc.tiling.registers import Tile
from convc.workload import OUTPUT, PRODUCT, ConvShape, Workload


@dataclass(frozen=True)
class GroupedConfig(Config):
    """Sums in registers: `rows` x `cols` pixels of `blocks` vectors."""

    rows: int
    cols: int
    blocks: int


def default(w: Workload, target: Target) -> GroupedConfig:
    """The tile with the lowest predicted cost."""
    tile = tile_of(ConvShape.of(w), target)
    return GroupedConfig(tile.rows, tile.cols, tile.blocks)


def space(w: Workload, target: Target) -> Iterator[GroupedConfig]:
    """All tiles that fit the registers and use at least a third of them."""
    s = ConvShape.of(w)
    for tile in tiles(s, target):
        if 3 * tile.sums >= target.registers or tile == tile_of(s, target):
            yield GroupedConfig(tile.rows, tile.cols, tile.blocks)


def apply(sch: Any, w: Workload, target: Target, config: GroupedConfig) -> None:
    """Tile the outputs, compute their sums inside the tile, spread the tiles over threads."""
    s = ConvShape.of(w)
    tile = Tile(config.rows, config.cols, config.blocks)
    if tile.sums + spare_registers(s) > target.registers:
        raise NotApplicable(
            f"{config} needs more than the {target.registers} vector registers of {target.name}."
        )
    product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
    outside, inside, lane = tiled(sch, output, tile)
    sch.reorder(*outside, *inside, lane)
    tiles = sch.fuse(*outside)
    sch.parallel(tiles)
    for loop in inside:
        sch.unroll(loop)
    sch.vectorize(lane)
    _accumulate(sch, product, tiles, len(s.output), unroll_inner=found(s, target).permuted)


def _accumulate(sch: Any, product: Any, tiles: Any, spatial: int, *, unroll_inner: bool) -> None:
    """Compute a tile's sums under loop `tiles`."""
    count = len(sch.get_loops(product))
    sch.compute_at(product, tiles, preserve_unit_loops=True)
    loops = sch.get_loops(product)[-count:]
    n, block, *pixels, lane = loops[: spatial + 3]
    step, inner, *rows, kw = loops[spatial + 3 :]
    sch.reorder(step, inner, *rows, n, block, *pixels, kw, lane)
    for loop in (block, *pixels, kw, *([inner] if unroll_inner else [])):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.decompose_reduction(product, step)
