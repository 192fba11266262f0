"""Loop nest for `fft`: transforms in straight lines, the product in register tiles.

    parallel g                                  groups of tiles, if there are several
      [parallel] cb, t                          with one group, each stage has its parallel loop
        transform: rows, then columns
      [parallel] f
        for part, kb, t over register tiles     three products; four have the parts inside
          sums[rows, vectors, lanes] = 0        in registers
          for c
            unroll rows, vectors
              sums += spectrum * u              a broadcast, a vector of weights
      [parallel] kb, t
        inverse transform, epilogue, store

With four products a weight's real and imaginary part each meet the real and imaginary part of every row: 2
rows sums, 4 rows multiply-adds for 2 vectors of weights and 2 rows broadcasts. Three take rows sums, rows
multiply-adds for one vector of weights and rows broadcasts, three times over: a quarter less arithmetic, half
as much again to load and store. See `convc.tiling.fft.register_rows` for the registers.

On one Zen 4 core, 64 to 64 channels: 11x11 at 56x56 takes 1.34 ms and 5x5 at 56x56 0.93 ms (tiles of 24 and
12, three products), of which arithmetic alone needs 1.24 and 0.93 ms; direct convolution needs 29 and 6.1 ms
at its peak. Four products take 1.64 and 1.13 ms, but read a third less of weights: with those out of cache
either may win.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.target import Target
from convc.tiling.fft import Tiling, choose
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, MULTIPLY, OUTPUT, ConvShape, Workload


@dataclass(frozen=True)
class FftConfig(Config):
    """The product's register tile: `rows` tiles by `vectors` vectors of output channels."""

    rows: int
    vectors: int


def default(w: Workload, target: Target) -> FftConfig:
    """One vector, and the rows for which the tiling was priced."""
    return FftConfig(choose(ConvShape.of(w), target).rows, 1)


def space(w: Workload, target: Target) -> Iterator[FftConfig]:
    """All register tiles that cover a group evenly and fill at least a third of the registers."""
    s = ConvShape.of(w)
    t = choose(s, target)
    blocks = -(-s.oc // target.lanes)
    for rows in (r for r in range(1, t.group + 1) if t.group % r == 0):
        for vectors in (v for v in (1, 2, 4) if blocks % v == 0):
            config = FftConfig(rows, vectors)
            sums = rows * vectors * (1 if t.products == 3 else 2)
            if config == default(w, target) or (3 * sums >= target.registers and _fits(config, t, target)):
                yield config


def apply(sch: Any, w: Workload, target: Target, config: FftConfig) -> None:
    """Spread groups (or, with a single group, the stages) over threads; tile the product."""
    s = ConvShape.of(w)
    outer = sch.get_loops(sch.get_sblock(f"{INPUT_TRANSFORM}_rows"))
    grouped = int(sch.get(outer[0]).extent) > 1
    if grouped:
        sch.parallel(outer[0])
    else:
        sch.parallel(sch.fuse(*outer[1:3]))
    if not s.depthwise:
        if not grouped:
            inverse = sch.get_loops(sch.get_sblock(f"{INVERSE_TRANSFORM}_rows"))
            sch.parallel(sch.fuse(*inverse[1:3]))
        _multiply(sch, config, parallel=not grouped)
    _spread_over_cache_sets(sch, target.lanes, dense=not s.depthwise)
    sch.vectorize(sch.get_loops(sch.get_sblock(OUTPUT))[-1])


def _spread_over_cache_sets(sch: Any, lanes: int, *, dense: bool) -> None:
    """Make every stride between frequencies (or columns, or rows) an odd number of vectors.

    Transforms write with these strides; as powers of two they would hit the same few sets of a cache.
    """
    # f of (g, f, part, block, t, lane); column of (g, t, block, column, row, part, lane); row likewise
    axes = {f"{INPUT_TRANSFORM}_rows": 3, f"{INPUT_TRANSFORM}_ends": 1, f"{INVERSE_TRANSFORM}_ends": 3}
    if dense:
        axes["product_local"] = 1
    for name, axis in axes.items():
        sch.storage_align(sch.get_sblock(name), 0, axis, 2 * lanes, lanes)


def _fits(config: FftConfig, t: Tiling, target: Target) -> bool:
    """Whether sums, weights and a broadcast fit the registers."""
    parts = 1 if t.products == 3 else 2
    return parts * config.vectors * (config.rows + 1) + 1 <= target.registers


def _multiply(sch: Any, config: FftConfig, *, parallel: bool) -> None:
    """Register tiles; the loops over parts of complex numbers, where there are any, go innermost."""
    block = sch.get_sblock(MULTIPLY)
    loops = sch.get_loops(block)
    if len(loops) == 8:
        _, f, part, kb, t, lane, co, ci = loops
        outer, parts, terms = [f, part], [], []
    else:
        _, f, kb, t, part, lane, co, ci, term = loops
        outer, parts, terms = [f], [part], [term]
    blocks, group = (int(sch.get(loop).extent) for loop in (kb, t))
    if group % config.rows or blocks % config.vectors:
        raise NotApplicable(
            f"{config} does not divide the group of {group} tiles and {blocks} channel blocks."
        )
    store = sch.cache_write(block, 0, "local")
    kb, kb_tile = sch.split(kb, [None, config.vectors])
    t, t_tile = sch.split(t, [None, config.rows])
    sch.reorder(*outer, kb, t, co, ci, *terms, t_tile, kb_tile, *parts, lane)
    sch.reverse_compute_at(store, t)
    *stored, store_lane = sch.get_loops(store)[len(outer) + 3 :]
    for loop in (*stored, *terms, t_tile, kb_tile, *parts):
        sch.unroll(loop)
    for loop in (store_lane, lane):
        sch.vectorize(loop)
    if parallel:
        sch.parallel(f)
    sch.decompose_reduction(block, co)
