"""FFT convolution on CPUs: transforms in straight lines, the product in register tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.target import Target
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, MULTIPLY, OUTPUT, ConvShape, Workload


@dataclass(frozen=True)
class FftConfig(Config):
    """Rows (tiles) and columns (vectors of output channels) of the product's register tile."""

    rows: int = 0
    vectors: int = 1


def default(w: Workload, target: Target) -> FftConfig:
    return FftConfig()


def space(w: Workload, target: Target) -> Iterator[FftConfig]:
    yield default(w, target)


def apply(sch: Any, w: Workload, target: Target, config: FftConfig) -> None:
    depthwise = ConvShape.of(w).depthwise
    outer = sch.get_loops(sch.get_sblock(f"{INPUT_TRANSFORM}_rows"))
    grouped = int(sch.get(outer[0]).extent) > 1
    if not depthwise:
        _multiply(sch, config, parallel=not grouped)
    _output(sch)
    if grouped:
        sch.parallel(outer[0])
        return
    sch.parallel(sch.fuse(*outer[1:3]))
    if not depthwise:
        inverse = sch.get_loops(sch.get_sblock(f"{INVERSE_TRANSFORM}_rows"))
        sch.parallel(sch.fuse(*inverse[1:3]))


def _multiply(sch: Any, config: FftConfig, *, parallel: bool) -> None:
    block = sch.get_sblock(MULTIPLY)
    loops = sch.get_loops(block)
    if len(loops) == 8:  # g, f, p, kb, t, lane, co, ci
        g, f, p, kb, t, lane, co, ci = loops
        middle, tail, outer = [], [], [f, p]
    else:
        g, f, kb, t, p, lane, co, ci, q = loops
        middle, tail, outer = [p], [q], [f]
    group = int(sch.get(t).extent)
    rows = config.rows or max(d for d in range(1, 29 // (1 + len(middle))) if group % d == 0)
    vectors = config.vectors
    store = sch.cache_write(block, 0, "local")
    kb_outer, kb = sch.split(kb, [None, vectors])
    t_outer, t = sch.split(t, [None, rows])
    sch.reorder(*outer, kb_outer, t_outer, co, ci, *tail, t, kb, *middle, lane)
    sch.reverse_compute_at(store, t_outer)
    *_, store_lane = sch.get_loops(store)
    for loop in (*sch.get_loops(store)[len(outer) + 3 : -1], *tail, t, kb, *middle):
        sch.unroll(loop)
    sch.vectorize(store_lane)
    sch.vectorize(lane)
    if parallel:
        sch.parallel(outer[0])
    sch.decompose_reduction(block, co)


def _output(sch: Any) -> None:
    sch.vectorize(sch.get_loops(sch.get_sblock(OUTPUT))[-1])
