"""Cutting an output into register tiles, as the direct schedules do."""

from __future__ import annotations

from typing import Any

from convc.tiling.registers import Tile

Loop = Any


def tiled(sch: Any, output: Any, tile: Tile) -> tuple[list[Loop], list[Loop], Loop]:
    """The loops over tiles (n, block, outer axes, oh, ow), those within one (block, oh, ow), and the lanes.

    `output` has loops (n, block, *spatial, lane). A map of one axis gets an oh of one row.
    """
    n, block, *outer, ow, lane = sch.get_loops(output)
    oh = outer.pop() if outer else sch.add_unit_loop(ow)
    block, block_tile = sch.split(block, [None, tile.blocks])
    oh, oh_tile = sch.split(oh, [None, tile.rows])
    ow, ow_tile = sch.split(ow, [None, tile.cols])
    return [n, block, *outer, oh, ow], [block_tile, oh_tile, ow_tile], lane
