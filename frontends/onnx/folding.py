"""Evaluation of operators whose inputs are all constants, at import.

Models compute shapes, and now and then reshape weights, with ordinary nodes. Evaluating these at once lets
Reshape, Slice, Pad or Resize find their arguments, which must be constant. Integers keep their dtype
throughout; floating-point numbers are rounded to their own dtype after each operator, as an engine would.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convc.errors import TypeRuleError
from convc.ir import Attrs, opdef
from convc.types import Array, TensorType

_MOVING = frozenset(
    (
        "reshape", "transpose", "concat", "split", "slice", "expand", "tile", "pad", "gather",
        "identity", "dropout", "depth_to_space", "space_to_depth",
    )
)  # fmt: skip
"""Operators that move elements and compute none: they need no float64, and reshape need not copy weights."""


_FREE = frozenset(("reshape", "identity", "dropout"))
"""Operators whose result shares their input's memory."""


def work_of(op: str, attrs: Attrs, inputs: Sequence[TensorType | None], results: Sequence[TensorType]) -> int:
    """What evaluating an operator takes: bytes that are read and written, and products."""
    if op in _FREE:
        return 0
    moved = sum(t.nbytes for t in (*inputs, *results) if t is not None)
    return moved + opdef(op).cost(attrs, inputs, results).multiply_adds


def evaluate_constant(
    op: str, attrs: Attrs, inputs: Sequence[Array | None], results: Sequence[TensorType]
) -> list[Array]:
    """The outputs of `op` on constants, which have the types `results`. Raises TypeRuleError."""
    definition = opdef(op)
    arguments = [
        a if a is None or op in _MOVING or a.dtype.kind != "f" else a.astype(np.float64) for a in inputs
    ]
    try:
        with np.errstate(all="ignore"):  # an overflow or a quotient by 0 is of the model's own making
            arrays = definition.reference(attrs, arguments)
    except (ValueError, IndexError) as error:  # what only values show, such as an index beyond the end
        raise TypeRuleError(f"The constants do not fit {op}: {error}.") from error
    for array, kind in zip(arrays, results, strict=True):
        if tuple(array.shape) != kind.shape:
            raise TypeRuleError(
                f"The reference of {op} gives shape {array.shape}; the type rule says {kind}."
            )
    return [
        np.ascontiguousarray(a.astype(t.dtype, copy=False)).reshape(t.shape)
        for a, t in zip(arrays, results, strict=True)
    ]
