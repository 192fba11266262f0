"""Operators whose tensors share memory: results that are views of operands, or that take their place.

These are questions about shapes and layouts; whether a buffer is in fact shared, `views` decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from convc.ir import opdef
from convc.ops.separable import SeparableAttrs
from convc.ops.shape import ConcatAttrs, SliceAttrs, SplitAttrs
from convc.types import PLAIN, TensorType
from convc.workload import Workload


def is_view(w: Workload) -> bool:
    """Whether the operator's tensors may share memory without a kernel's doing."""
    return is_reinterpretation(w) or bool(concatenated(w)) or bool(slices_of_whole(w))


def is_reinterpretation(w: Workload) -> bool:
    """Whether the result is the input, element for element in memory."""
    source = w.inputs[0] if w.inputs else None
    if source is None or w.epilogue or w.op not in ("reshape", "relayout"):
        return False
    return _row_major(source) and _row_major(w.outputs[0])


def _row_major(kind: TensorType) -> bool:
    """Whether memory order is logical order: plain, or full channel blocks of single pixels."""
    if kind.layout == PLAIN:
        return True
    return math.prod(kind.shape[2:]) == 1 and kind.shape[1] % kind.layout.block == 0


def concatenated(w: Workload) -> tuple[int, ...]:
    """Where each input begins along the axis, if the result can be made of slices in place; else ()."""
    if w.op != "concat" or w.epilogue:
        return ()
    return _starts(w, [t for t in w.inputs if t is not None], w.outputs[0])


def slices_of_whole(w: Workload) -> tuple[int, ...]:
    """Where each output begins along the axis, if the outputs can be views of the input; else ()."""
    source = w.inputs[0] if w.inputs else None
    if source is None or w.epilogue:
        return ()
    if isinstance(w.attrs, SplitAttrs):
        return _starts(w, w.outputs, source)
    if isinstance(w.attrs, SliceAttrs):
        cut = _cut(w)
        if len(cut) != 1 or any(step != 1 for step in w.attrs.steps):
            return ()
        start = w.attrs.starts[cut[0]]
        aligned = cut[0] != 1 or start % source.layout.block == 0
        return (start,) if aligned and w.outputs[0].layout == source.layout else ()
    return ()


def _starts(w: Workload, parts: Sequence[TensorType], whole: TensorType) -> tuple[int, ...]:
    axis, block = axis_of(w), whole.layout.block
    starts, position = [], 0
    for part in parts:
        if part.layout != whole.layout or part.dtype != whole.dtype:
            return ()
        if axis == 1 and position % block:
            return ()
        starts.append(position)
        position += part.shape[axis]
    return tuple(starts)


def axis_of(w: Workload) -> int:
    """The single axis along which a concatenation, split or slice works."""
    if isinstance(w.attrs, SliceAttrs):
        return next(iter(_cut(w)), 0)
    assert isinstance(w.attrs, ConcatAttrs | SplitAttrs)
    return w.attrs.axis % w.outputs[0].rank


def _cut(w: Workload) -> list[int]:
    """The axes along which a slice leaves something out."""
    source = w.inputs[0]
    assert source is not None
    return [a for a, (x, y) in enumerate(zip(source.shape, w.outputs[0].shape, strict=True)) if x != y]


def overwritable(w: Workload) -> tuple[int, ...]:
    """Inputs in whose place the result may be written: read at the element that is stored next, only there.

    That holds for operands of epilogues, which are read in the block that stores the result, once for each
    element, and for those of elementwise operators. Separable convolutions compute some pixels twice, in
    tiles that overlap: the second time they would find the result in place of the operand.
    """
    if isinstance(w.attrs, SeparableAttrs):
        return ()
    first = 0 if opdef(w.op).elementwise else w.arity
    alike = range(first, len(w.inputs)) if len(w.outputs) == 1 else ()
    return tuple(i for i in alike if w.inputs[i] == w.outputs[0] and not w.constant[i])
