"""Operators whose tensors share memory: results that are views of operands, or that take their place.

These are questions about shapes and layouts; whether a buffer is in fact shared, `views` decides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from convc.ir import opdef
from convc.ir.traits import Cut, Join, Reinterpret, Sharing
from convc.ops.separable import SeparableAttrs
from convc.types import PLAIN, TensorType
from convc.workload import Workload


def is_view(w: Workload) -> bool:
    """Whether the operator's tensors may share memory without a kernel's doing."""
    return is_reinterpretation(w) or bool(concatenated(w)) or bool(slices_of_whole(w))


def sharing(w: Workload) -> Sharing | None:
    """How the operator's tensors may share memory; an epilogue has results of its own."""
    return None if w.epilogue else opdef(w.op).sharing(w.attrs, w.inputs, w.outputs)


def is_reinterpretation(w: Workload) -> bool:
    """Whether the result is the input, element for element in memory."""
    source = w.inputs[0] if w.inputs else None
    if source is None or not isinstance(sharing(w), Reinterpret):
        return False
    return _row_major(source) and _row_major(w.outputs[0])


def _row_major(kind: TensorType) -> bool:
    """Whether memory order is logical order: plain, or full channel blocks of single pixels."""
    if kind.layout == PLAIN:
        return True
    return math.prod(kind.shape[2:]) == 1 and kind.shape[1] % kind.layout.block == 0


def concatenated(w: Workload) -> tuple[int, ...]:
    """Where each input begins along the axis, if the result can be made of slices in place; else ()."""
    shared = sharing(w)
    if not isinstance(shared, Join):
        return ()
    parts = [t for t in w.inputs if t is not None]
    ends = tuple(itertools.accumulate(t.shape[shared.axis] for t in parts))
    return _aligned((0, *ends[:-1]), shared.axis, parts, w.outputs[0])


def slices_of_whole(w: Workload) -> tuple[int, ...]:
    """Where each output begins along the axis, if the outputs can be views of the input; else ()."""
    shared, source = sharing(w), w.inputs[0] if w.inputs else None
    if source is None or not isinstance(shared, Cut):
        return ()
    return _aligned(shared.starts, shared.axis, w.outputs, source)


def _aligned(
    starts: tuple[int, ...], axis: int, parts: Sequence[TensorType], whole: TensorType
) -> tuple[int, ...]:
    """The starts, if all parts are stored as the whole is, and begin where one of its channel blocks does."""
    if any((part.layout, part.dtype) != (whole.layout, whole.dtype) for part in parts):
        return ()
    return () if axis == 1 and any(start % whole.layout.block for start in starts) else starts


def axis_of(w: Workload) -> int:
    """The single axis along which a concatenation, split or slice works."""
    shared = sharing(w)
    assert isinstance(shared, Join | Cut)
    return shared.axis


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
