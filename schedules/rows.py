"""Several axes of a block as one, so that tiles go on where an axis ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.sym import Analyzer
from tvm.tirx import IndexMap

from convc.schedules.blocks import extent
from convc.tiling.registers import flatten

Schedule = Any
Block = Any
Expr = Any


def join(sch: Schedule, block: Block, first: int, count: int) -> None:
    """Make `count` axes of a block one, from axis `first` on, which runs over their row-major positions.

    `fuse` would leave what the block reads an expression of quotients and remainders of that position, and
    TVM to find out which elements a tile reads that goes beyond the end of an axis. Here the position itself
    is read.
    """
    loops = sch.get_loops(block)
    extents = [extent(sch, loop) for loop in loops[first : first + count]]

    def place(*index: Any) -> list[Any]:
        return [*index[:first], flatten(index[first : first + count], extents), *index[first + count :]]

    rearrange(sch, block, place)


def rearrange(sch: Schedule, block: Block, place: Callable[..., Sequence[Expr]]) -> None:
    """Give a block the axes that `place` makes of the coordinates on its own, one to one."""
    ndim = len(sch.get_loops(block))
    sch.transform_block_layout(block, IndexMap.from_func(place, ndim=ndim, index_dtype="int32"))
    _simplify(sch, block)


def _simplify(sch: Schedule, block: Block) -> None:
    """Simplify the indices of all elements that a block reads."""
    old, simplify = sch.get(block), Analyzer().simplify

    def load(node: TensorLoad) -> Any:
        return tirx.BufferLoad(node.source, [simplify(i) for i in node.indices])

    def region(read: Any) -> Any:
        ranges = [Range.from_min_extent(simplify(r.min), r.extent) for r in read.region]
        return tirx.BufferRegion(read.source, ranges)

    body = tvm_ffi.structural_map(old.body, [(TensorLoad, load)], order="post")
    new = s_tir.SBlock(old.iter_vars, list(map(region, old.reads)), old.writes, old.name_hint, body)
    sch.state.replace(sch.get_sref(block), new, {old: new})
