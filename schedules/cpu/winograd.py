"""Schedule of Winograd convolutions: groups of tiles that stay in a core's L2 cache.

A group is a rectangle of tiles. Its input is transformed; then, for one panel of output channels after the
other, it is multiplied with the weights frequency by frequency, transformed back, finished and stored:

    parallel group                                      not phased: threads take different groups
      for c, tile                                       phased: parallel (c, row of tiles)
        V[*, *, c, tile] = B^T d B                      A * A vectors, straight-line code in registers
      for panel                                         phased: parallel
        for i, j, k_outer
          for t_outer
            sums[t_tile, k_tile] = 0                    in registers
            for c: sums += V[i, j, c, t] * U[k, i, j, c]    one broadcast each, k_tile vectors of weights
            M[i, j, k, t] = sums
        for k, tile
          y = epilogue(A^T M A + bias)                  m * m vectors, straight-line code in registers

Registers: t_tile * k_tile sums, k_tile vectors of weights, and one for the broadcast unless it is an
operand in memory (`fits_registers`): 14 x 2, 28 x 1, 7 x 3 or 6 x 4 of the 32 of AVX-512, 13 x 1, 6 x 2 or
4 x 3 of the 16 of AVX2; with U in 24 bits, unpacked four rows at a time, 7 x 2 or 8 x 2. A core that starts
two multiply-adds a cycle also reads two operands a cycle, so that 28 x 1, with 29 reads for 28 products, is
bound by its reads and 14 x 2 is not (Zen 5: 64 channels at 56x56 in 0.154 ms against 0.175). V of a group
takes A * A * C * tiles * 4 bytes, M of a panel A * A * tiles * k_panel vectors; `tiling.winograd.seconds`
weighs them against L2, with the traffic of U (once for each group) and the balance between threads.

A group may run over the edge of the map: tiles there repeat the last one, and only stores are conditional.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tvm import tirx

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cpu.prefetch import LINE, SEVERAL, TO_L1, TO_L2, before, spread
from convc.schedules.cpu.tiles import unpack
from convc.target import Target
from convc.tiling.registers import flatten, unflatten
from convc.tiling.storage import UNPACKED, Storage
from convc.tiling.winograd import (
    OVERRUN,
    Group,
    best_group,
    fits_registers,
    groups,
    phases,
    seconds,
    tile_counts,
    tile_outputs,
    tile_sizes,
    whole_phases,
)
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, MULTIPLY, OUTPUT, ConvShape, Workload

Loop = Any

ODD_LINES = (32, 16)
"""Strides of 16 modulo 32 elements of 4 bytes: an odd number of lines of 64 bytes."""


@dataclass(frozen=True)
class WinogradConfig(Group, Config):
    """The group of tiles that is computed at a time, as integers."""


class WinogradSchedule:
    """The schedule for tiles of `m` outputs on each axis."""

    def __init__(self, m: int, storage: Storage = UNPACKED) -> None:
        self.m = m
        self.storage = storage

    def default(self, w: Workload, target: Target) -> WinogradConfig:
        """The group with the least predicted time."""
        return WinogradConfig(**asdict(best_group(ConvShape.of(w), self.m, target, self.storage)[1]))

    def space(self, w: Workload, target: Target) -> Iterator[WinogradConfig]:
        """Groups predicted to take at most twice the time of the best, which comes first."""
        s = ConvShape.of(w)
        least = best_group(s, self.m, target, self.storage)[0]
        found = groups(s, self.m, target, self.storage)
        priced = sorted(
            ((seconds(s, self.m, g, target, self.storage), g) for g in found), key=lambda entry: entry[0]
        )
        for price, group in priced:
            if price > 2 * least:
                break
            yield WinogradConfig(**asdict(group))

    def price(self, w: Workload, target: Target, config: WinogradConfig) -> float:
        """Predicted seconds of the group; see `tiling.winograd`."""
        return seconds(ConvShape.of(w), self.m, config, target, self.storage)

    def apply(self, sch: Any, w: Workload, target: Target, config: WinogradConfig) -> None:
        """Put all stages under the loop over groups, then each in registers. Raises NotApplicable."""
        s = ConvShape.of(w)
        _check(s, self.m, target, config, self.storage)
        rank = len(s.kernel)
        outer, panel, tiles = _group_loops(sch, s, self.m, config)

        last = [d for d, r in enumerate(s.kernel) if r > 1][:-1]
        inverse = [*(f"{INVERSE_TRANSFORM}_{d}" for d in last), INVERSE_TRANSFORM]
        forward = [*(f"{INPUT_TRANSFORM}_{d}" for d in last), INPUT_TRANSFORM]
        for name in reversed(inverse):
            sch.compute_at(name, tiles[-1], preserve_unit_loops=True)
            _straight_line(sch, name, rank)
        for name, loop in ((MULTIPLY, panel), (INPUT_TRANSFORM, outer[-1])):
            sch.compute_at(name, loop, preserve_unit_loops=True)
            # An odd number of cache lines between frequencies: the lines of a tile fall into different sets.
            sch.storage_align(name, 0, rank - 1, *ODD_LINES)

        pieces, tile_loops, reduction = _product_loops(sch, rank, config, self.storage)
        *transform, tile = _transform_loops(sch, rank, forward)
        counts = [int(sch.get(loop).extent) for loop in outer]
        group, row = sch.fuse(*outer), sch.fuse(*transform)
        for loop in (row, panel) if config.phased else (group,):
            sch.parallel(loop)
        # last, because two blocks then write the sums and nothing can be moved any more
        sch.decompose_reduction(MULTIPLY, reduction)
        _prefetch_weights(sch, panel, pieces, tile_loops, reduction, config.k_tile)
        if set(phases(s)) == {1} and s.input_bytes > target.l2:
            _prefetch_input(sch, s, self.m, config, group, counts, row, tile)


def _check(s: ConvShape, m: int, target: Target, config: WinogradConfig, storage: Storage) -> None:
    """Raise NotApplicable for a group that cannot be made."""
    blocks = -(-s.oc // target.lanes)
    if blocks % config.k_tile:
        raise NotApplicable(
            f"{blocks} blocks of output channels are not a multiple of k_tile {config.k_tile}."
        )
    if blocks % config.k_panel or config.k_panel % config.k_tile:
        raise NotApplicable(
            f"A panel of {config.k_panel} blocks must be a multiple of k_tile {config.k_tile} and divide the"
            f" {blocks} blocks of output channels."
        )
    for name in ("images", "rows", "cols"):
        whole, part = getattr(config, name), getattr(config, f"t_{name}")
        if whole % part:
            raise NotApplicable(
                f"{whole} {name} of a group are not a multiple of the register tile's {part}."
            )
    if s.n % config.images:
        raise NotApplicable(f"{s.n} images are not a multiple of the {config.images} of a group.")
    counts = (1, *tile_counts(s, m))[-2:]
    if not whole_phases(s, config):
        raise NotApplicable(
            f"A group of {config.rows} x {config.cols} tiles does not share them evenly among the interleaved"
            f" maps, {phases(s)} on the axes."
        )
    if any(-count % part > OVERRUN for count, part in zip(counts, (config.rows, config.cols), strict=True)):
        raise NotApplicable(
            f"A group of {config.rows} x {config.cols} reaches more than {OVERRUN} tiles over the edge."
        )
    if not fits_registers(config.t_tile, config.k_tile, target, storage):
        raise NotApplicable(
            f"{config.t_tile} tiles x {config.k_tile} vectors do not fit {target.registers} vector registers."
        )


def _group_loops(
    sch: Any, s: ConvShape, m: int, config: WinogradConfig
) -> tuple[list[Loop], Loop, list[Loop]]:
    """Split the output's loops; returns those over groups, over panels, and over the tiles of a group."""
    n, k, *spatial, lane = sch.get_loops(OUTPUT)
    n_outer, n = sch.split(n, [None, config.images])
    outer: list[Loop] = [n_outer]
    tiles: list[Loop] = []
    inner: list[Loop] = []
    group = (config.rows, config.cols)[-len(spatial) :]
    stored = (outputs // p for outputs, p in zip(tile_outputs(s, m), s.window, strict=True))  # of a tile
    for loop, count, pixels, d in zip(spatial, group, stored, phases(s), strict=True):
        start, tile, pixel, phase = sch.split(loop, [None, count // d, pixels, d])
        outer.append(start)
        tiles += [tile, phase]
        inner.append(pixel)
    panel, k = sch.split(k, [None, config.k_panel])
    sch.reorder(*outer, panel, k, n, *tiles, *inner, lane)
    for loop in inner:
        sch.unroll(loop)
    sch.vectorize(lane)
    return outer, panel, tiles


def _product_loops(
    sch: Any, rank: int, config: WinogradConfig, storage: Storage
) -> tuple[list[Loop], list[Loop], Loop]:
    """Sums of a register tile over all input channels; returns the loops around that sum.

    They are those over panels of weights, those over register tiles, and the reduction's over blocks.
    """
    store = sch.cache_write(MULTIPLY, 0, "global")
    *loops, lane, co, ci = sch.get_loops(MULTIPLY)
    frequencies, kb, t = loops[-2 * rank - 2 : -rank - 2], loops[-rank - 2], loops[-rank - 1 :]
    register = (config.t_images, *(config.t_rows, config.t_cols)[-rank:])
    outer, inner = zip(*(sch.split(a, [None, b]) for a, b in zip(t, register, strict=True)), strict=True)
    k_outer, k = sch.split(kb, [None, config.k_tile])
    ci, row = sch.split(ci, [None, storage.rows])
    # channels inside tiles: the other way round LLVM keeps all broadcasts alive and spills
    sch.reorder(*frequencies, k_outer, *outer, co, ci, row, *inner, k, lane)
    sch.reverse_compute_at(store, outer[-1], preserve_unit_loops=True)
    *copied, store_lane = sch.get_loops(store)
    for loop in (row, *inner, k, *copied[-rank - 2 :]):
        sch.unroll(loop)
    for loop in (lane, store_lane):
        sch.vectorize(loop)
    unpack(sch, ci, storage, int(sch.get(lane).extent))
    return [*frequencies, k_outer], list(outer), co


def _prefetch_weights(
    sch: Any, panel: Loop, pieces: list[Loop], tile_loops: list[Loop], reduction: Loop, k_tile: int
) -> None:
    """While the weights of a frequency are used, fetch those that follow, some in each step of the sum.

    They are used by all register tiles of a group but read from memory for the first.
    """
    u = sch.mod["main"].params[1]
    *_, rows, lanes = (int(e) for e in u.shape)  # of weights, or of words that hold them
    outer = [sch.get(loop) for loop in (panel, *pieces)]
    extents = [int(f.extent) for f in outer]
    following = unflatten(flatten([f.loop_var for f in outer], extents) + 1, extents)
    first = (following[0] * extents[-1] + following[-1]) * k_tile
    per_line = max(1, LINE // lanes)  # rows of one vector in a cache line
    visits = [sch.get(loop) for loop in (*tile_loops, reduction)]
    passes = math.prod(int(f.extent) for f in visits[:-1])

    def load(line: Any) -> list[Any]:
        where = [*following[1:-1], line * per_line, 0]
        return [tirx.BufferLoad(u, [first + k, *where]) for k in range(k_tile)]

    spread(
        sch,
        reduction,
        slot=flatten([f.loop_var for f in visits], [f.extent for f in visits]),
        slots=passes * int(visits[-1].extent),
        lines=-(-rows // per_line),
        load=load,
        level=TO_L1 if passes >= SEVERAL else TO_L2,
    )


AHEAD = 4
"""Tiles by which input is fetched before it is transformed.

The rows of a tile are streams that hardware follows late and not across pages. 64 channels at 224x224, then
pooled, on two Zen 5 threads: 2.97 ms without, 2.86 with 1, 2.74 with 2, 2.72 with 4. Input that a core's L2
holds is near enough: 128 channels at 28x28 took 1 % longer.
"""


def _prefetch_input(
    sch: Any,
    s: ConvShape,
    m: int,
    config: WinogradConfig,
    group: Loop,
    counts: list[int],
    row: Loop,
    tile: Loop,
) -> None:
    """While a tile is transformed, fetch the columns that the one `AHEAD` of it does not share with others.

    `group` runs over groups, `counts` of them on each axis, `row` over rows of a group's tiles in all blocks
    of channels, `tile` over a row. Behind the end of a row it fetches what nobody may need.
    """
    x = sch.mod["main"].params[0]
    extents = (config.images, *(config.rows, config.cols)[-len(s.kernel) :])
    outer = unflatten(sch.get(group).loop_var, counts)
    block, *inner = unflatten(sch.get(row).loop_var, [int(x.shape[1]), *extents[:-1]])
    inner.append(sch.get(tile).loop_var + AHEAD)
    image, *tiles = (o * extent + i for o, extent, i in zip(outer, extents, inner, strict=True))
    steps = [outputs * stride for outputs, stride in zip(tile_outputs(s, m), s.strides, strict=True)]
    *rows, columns = tile_sizes(s, m)
    new = range(max(0, columns - steps[-1]), columns, max(1, LINE // int(x.shape[-1])))
    lines = itertools.product(*map(range, rows), new)
    places = ([t * step + i for t, step, i in zip(tiles, steps, line, strict=True)] for line in lines)
    before(sch, tile, [tirx.BufferLoad(x, [image, block, *place, 0]) for place in places], TO_L1)


def _transform_loops(sch: Any, rank: int, stages: list[str]) -> list[Loop]:
    """A tile at a time through all stages of the input transform; returns the loops around a tile."""
    *loops, lane = sch.get_loops(stages[-1])
    frequencies, position = loops[-2 * rank - 2 : -rank - 2], loops[-rank - 2 :]
    sch.reorder(*position, *frequencies, lane)
    for loop in frequencies:
        sch.unroll(loop)
    sch.vectorize(lane)
    for name in stages[:-1]:
        sch.compute_at(name, position[-1], preserve_unit_loops=True)
        _straight_line(sch, name, rank)
    return list(position)


def _straight_line(sch: Any, name: str, rank: int) -> None:
    """Unroll the stage's loops within a tile: its values become registers."""
    *loops, lane = sch.get_loops(name)
    for loop in loops[-rank:]:
        sch.unroll(loop)
    sch.vectorize(lane)
