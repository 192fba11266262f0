"""Loop nest of a copy from channel blocks into plain layout.

    parallel (n, block, run of `lanes` pixels)
      unroll the pixels of a run
        for the lanes:  y[c, pixel] = x[block, pixel, c]

Written like this, with vector loads and `lanes` scattered stores for each, LLVM finds the transposition of a
square of lanes in registers: 136 GB/s for 64 x 56 x 56 on two Zen 4 cores, against 26 GB/s with vectors along
the pixels. What fills no whole square (channels beyond the last full block, pixels beyond the last run) is
copied element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convc.schedules.blocks import below, extent

Loop = Any
Share = Callable[[Sequence[Loop]], bool]


def to_plain(sch: Any, block: Any, lanes: int, share: Share) -> None:
    """Cut channels and pixels into whole blocks and runs, and the rest; transpose where both are whole."""
    n, channel, *places = sch.get_loops(block)
    pixel = sch.fuse(*places) if len(places) > 1 else places[0]
    if share([n]):
        share = _already
    whole, *rest = _cut(sch, channel, extent(sch, channel) // lanes * lanes)
    (pixel,) = below(sch, whole)
    blocks, lane = sch.split(whole, [None, lanes])
    # TVM can reorder a joint loop as long as it is not cut.
    sch.reorder(blocks, pixel, lane)
    sch.vectorize(lane)
    pixels = extent(sch, pixel)
    run = min(lanes, pixels)
    strips = _cut(sch, pixel, pixels // run * run)
    runs, within = sch.split(strips[0], [None, run])
    sch.unroll(within)
    share([blocks, runs] if len(strips) == 1 else [blocks])
    for part in rest:
        share([part])


def _already(loops: Sequence[Loop]) -> bool:
    return False


def _cut(sch: Any, loop: Loop, whole: int) -> list[Loop]:
    """A loop cut at an iteration, unless that is its end."""
    return [loop] if whole == extent(sch, loop) else list(sch.loop_partition(loop, [whole, None]))
