"""Grid of `gemv`: groups of threads that share the sums of a few outputs.

    grid over outputs / (groups rows): groups x warps x lanes
      sums[m][rows] = 0                                   in registers
      for each step, of `ahead` chunks:
        for each chunk:                                   written out, so that loads run ahead
          w[rows][16 bytes]                               a warp reads 512 bytes in a row
          x[m][16 bytes]                                  the same for all outputs: from L1
          sums += x * w
      sums of a warp's lanes added                        by shuffles, into shared memory
      y = epilogue(sums of the group's warps added)       an output to each thread

Registers: `rows` x `ahead` <= 8 loads of 4, m x `rows` sums, m chunks of x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cuda.pieces import by_row
from convc.target import Target
from convc.tiling.device_gemv import GemvProblem, GemvTile, best_tile, tile_seconds, tiles
from convc.workload import OUTPUT, PATCHES, PRODUCT, WEIGHTS, Workload

Loop = Any
Block = Any


@dataclass(frozen=True)
class GemvConfig(Config):
    """See `tiling.device_gemv.GemvTile`."""

    rows: int
    threads: int
    ahead: int

    @property
    def tile(self) -> GemvTile:
        """The same as a tile."""
        return GemvTile(**asdict(self))


def default(w: Workload, target: Target) -> GemvConfig:
    """The tile with the lowest predicted time."""
    return GemvConfig(**asdict(best_tile(GemvProblem.of(w, target), target.device)))


def space(w: Workload, target: Target) -> Iterator[GemvConfig]:
    """All tiles that fit."""
    for tile in tiles(GemvProblem.of(w, target)):
        yield GemvConfig(**asdict(tile))


def price(w: Workload, target: Target, config: GemvConfig) -> float:
    """Predicted seconds of the tile; see `tiling.device_gemv`."""
    return tile_seconds(GemvProblem.of(w, target), config.tile, target.device)


def apply(sch: Any, w: Workload, target: Target, config: GemvConfig) -> None:
    """Cut sums among threads, keep each thread's in registers, add them."""
    p, tile = GemvProblem.of(w, target), config.tile
    if not tile.fits(p):
        raise NotApplicable(f"{config} does not fit {p}.")
    product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
    chunk = sch.get_loops(product)[2]
    warp = sch.split(chunk, [None, tile.ahead, tile.warps, tile.lanes])[2]
    by_warp = sch.rfactor(warp, 0)
    partial = sch.rfactor(sch.get_loops(by_warp)[5], 0)
    unit, m, n = _by_row(sch, output, w, target)
    grid, group, row = sch.split(n, [None, tile.outputs, tile.rows])
    sch.reorder(unit, grid, group, m, row)
    sch.bind(sch.fuse(unit, grid), "blockIdx.x")
    sch.bind(group, "threadIdx.z")
    sch.compute_at(product, group, preserve_unit_loops=True)
    _add(sch, by_warp, group)
    _multiply(sch, p, partial, group)
    # Not sooner: sums would be defined for as many outputs as there are threads.
    _, warp, finish = sch.split(sch.fuse(m, row), [None, tile.warps, tile.lanes])
    sch.bind(warp, "threadIdx.y")
    sch.bind(finish, "threadIdx.x")
    sch.compute_at(product, finish, preserve_unit_loops=True)
    sch.set_scope(product, 0, "local")


def _by_row(sch: Any, output: Block, w: Workload, target: Target) -> tuple[Loop, Loop, Loop]:
    """The loops of the output: one iteration, rows, columns; a vector is a row."""
    if len(w.outputs[0].shape) > 1:
        return by_row(sch, output, w, target)
    (n,) = sch.get_loops(output)
    row = sch.add_unit_loop(n)
    return sch.add_unit_loop(row), row, n


def _add(sch: Any, by_warp: Block, group: Loop) -> None:
    """Add the sums of each warp's lanes. Any thread may finish any result: they meet in shared memory."""
    sch.compute_at(by_warp, group, preserve_unit_loops=True)  # first, so that a group adds its own sums alone
    sch.set_scope(by_warp, 0, "shared")
    lane, warp, m, row = sch.get_loops(by_warp)[-4:]
    sch.reorder(warp, m, row, lane)
    sch.bind(warp, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")


def _multiply(sch: Any, p: GemvProblem, partial: Block, group: Loop) -> None:
    """Make the sums of each thread, loads of weights first."""
    sch.compute_at(partial, group, preserve_unit_loops=True)
    sch.set_scope(partial, 0, "local")
    lane, warp, m, row, step, ahead, inner = sch.get_loops(partial)[-7:]
    sch.reorder(warp, lane, step, ahead, inner, m, row)
    sch.bind(warp, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")
    for name, vectors in ((WEIGHTS, True), (PATCHES, p.aligned)):
        block = sch.get_sblock(name)
        sch.set_scope(block, 0, "local")
        sch.compute_at(block, ahead, preserve_unit_loops=True)
        *loops, inside = sch.get_loops(block)[-3:]
        for loop in loops:
            sch.unroll(loop)
        (sch.vectorize if vectors else sch.unroll)(inside)
    zero = sch.decompose_reduction(partial, step)
    for loop in (ahead, inner, m, row, *sch.get_loops(zero)[-2:]):
        sch.unroll(loop)
