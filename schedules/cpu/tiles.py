"""Cutting an output into register tiles, as the direct schedules do."""

from __future__ import annotations

from typing import Any

from convc.tiling.registers import Tile
from convc.tiling.storage import UNPACKED, Storage
from convc.workload import WEIGHTS

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


def unpack(sch: Any, rows: Loop, storage: Storage, lanes: int) -> None:
    """Make float32 of stored weights, in registers, in each iteration of `rows` of those that it reads."""
    if storage == UNPACKED:
        return
    sch.compute_at(WEIGHTS, rows)
    *loops, lane = sch.get_loops(WEIGHTS)
    inside = next(i for i, loop in enumerate(loops) if sch.get(loop).same_as(sch.get(rows))) + 1
    vector, lane = sch.split(lane, [None, lanes])
    for loop in (*loops[inside:], vector):
        sch.unroll(loop)
    sch.vectorize(lane)
