"""Loop nest for `im2col`. Without patches:

    parallel (n, block, pixels) over register tiles          or (n, pixels, block): `blocks_last`
      sums[pixels, blocks, lanes] = 0                        in registers
      for step, inner                                        input channels
        unroll pixels, blocks: sums += x * w
      y = epilogue(sums)

and with them:

    parallel (n, run of pixels)
      patches[run, step, kh, kw, inner] = x                  stays in L2
      for block, pixels
        the product of a tile, as above, from patches

The register tile is that of `direct`, along the flattened pixels. On Zen 4 a 1x1 layer is as fast as under
`direct`, and up to 5 % faster on maps of 13 x 13; patches of a 3x3 layer cost 1 to 5 % of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cpu.direct import accumulate
from convc.schedules.rows import join
from convc.target import Target
from convc.tiling.product import (
    blocks_last,
    gathers,
    im2col_run,
    im2col_seconds,
    im2col_shape,
    im2col_tile,
    im2col_tiles,
)
from convc.tiling.registers import Tile
from convc.workload import OUTPUT, PATCHES, PRODUCT, ConvShape, Workload


@dataclass(frozen=True)
class Im2colConfig(Config):
    """Sums in registers: `pixels` x `blocks` vectors. `run`: tiles whose patches are gathered at once."""

    pixels: int
    blocks: int
    blocks_last: int
    run: int = 1


def default(w: Workload, target: Target) -> Im2colConfig:
    """The tile with the lowest predicted cost, and patches for half of L2 at most."""
    s = ConvShape.of(w)
    tile = im2col_tile(s, target)
    if gathers(s, target):
        return Im2colConfig(tile.cols, tile.blocks, 0, im2col_run(s, tile, target))
    return Im2colConfig(tile.cols, tile.blocks, int(blocks_last(im2col_shape(s), tile, target)))


def space(w: Workload, target: Target) -> Iterator[Im2colConfig]:
    """All tiles that fit the registers and use at least a third of them, in both orders."""
    s = ConvShape.of(w)
    for tile in im2col_tiles(s, target):
        if 3 * tile.sums >= target.registers or tile == im2col_tile(s, target):
            run = im2col_run(s, tile, target) if gathers(s, target) else 1
            for last in (0, 1):
                yield Im2colConfig(tile.cols, tile.blocks, last, run)


def price(w: Workload, target: Target, config: Im2colConfig) -> float:
    """Predicted seconds of the tile; see `tiling.product`."""
    return im2col_seconds(ConvShape.of(w), target, Tile(1, config.pixels, config.blocks))


def apply(sch: Any, w: Workload, target: Target, config: Im2colConfig) -> None:
    """Tile pixels and channel blocks, gather patches by runs of tiles, spread tiles or runs over threads."""
    if not Tile(1, config.pixels, config.blocks).fits(target):
        raise NotApplicable(
            f"{config} needs more than the {target.registers} vector registers of {target.name}."
        )
    product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
    join(sch, output, first=2, count=w.outputs[0].rank - 2)
    n, block, pixels, lane = sch.get_loops(output)
    block, block_tile = sch.split(block, [None, config.blocks])
    gathered = gathers(ConvShape.of(w), target)
    run, pixels, pixel_tile = sch.split(pixels, [None, config.run, config.pixels])
    tiles = (pixels, block) if config.blocks_last else (block, pixels)
    if gathered:
        sch.reorder(n, run, *tiles, pixel_tile, block_tile, lane)
        parallel, tile = sch.fuse(n, run), sch.fuse(*tiles)
    else:
        order = (run, *tiles) if config.blocks_last else (block, run, pixels)
        sch.reorder(n, *order, pixel_tile, block_tile, lane)
        parallel = tile = sch.fuse(n, *order)
    sch.parallel(parallel)
    for loop in (pixel_tile, block_tile):
        sch.unroll(loop)
    sch.vectorize(lane)
    accumulate(sch, product, tile, 1)
    if gathered:
        patches = sch.get_sblock(PATCHES)
        sch.compute_at(patches, parallel, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(patches)[-1])
