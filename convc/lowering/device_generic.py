"""The fallback on a GPU: the same formulas, and another price.

Half precision is a way of storing: operands are widened to float32 when they are read, formulas and epilogues
compute in float32, and results are rounded once, when they are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convc.dtype import DType
from convc.ir import opdef
from convc.lowering.base import Layouts, blocked_like
from convc.lowering.formula import Call, Operand, arrives_blocked
from convc.lowering.functions import widened
from convc.lowering.generic import Generic
from convc.target import Target
from convc.tiling.registers import memory_seconds
from convc.types import PLAIN, Array, TensorType
from convc.workload import Workload

_EFFICIENCY = 1 / 20
"""Part of the CUDA cores' peak at which the loop nests of convolutions and products run, their operands not
shared between threads."""
_TERM = 5e-9
"""Seconds that a thread waits for the operands of one term of a sum, when there are few threads."""
_UNCUT = 1 << 30
"""Lanes that formulas are told of, so that they leave sums whole: threads share them, and not vectors."""


class DeviceGeneric(Generic):
    """Any operator of the IR."""

    def layouts(self, w: Workload, target: Target) -> Layouts:
        """As on a CPU; a conversion of plain input, as at the start of a network, also puts it in blocks."""
        if w.op == "cast" and w.outputs[0].rank >= 3 and not arrives_blocked(w, target):
            return Layouts((PLAIN,), blocked_like(w, target, inputs=()).outputs)
        return super().layouts(w, target)

    def _call(self, w: Workload, target: Target, operands: tuple[Operand | None, ...]) -> Call:
        wide = replace(
            w,
            inputs=tuple(None if t is None else _widened(t) for t in w.inputs),
            outputs=tuple(map(_widened, w.outputs)),
        )
        read = (None if o is None else Operand(_Widened(o.tensor), _widened(o.kind)) for o in operands)
        return Call(wide, replace(target, lanes=_UNCUT), tuple(read))

    def cost(self, w: Workload, target: Target) -> float:
        moved = sum(t.nbytes for t in (*w.inputs, *w.outputs) if t is not None)
        cost = opdef(w.op).cost(w.attrs, w.inputs[: w.arity], w.outputs)
        operations = 2 * cost.multiply_adds / _EFFICIENCY + cost.other
        arithmetic = operations / target.device.float32_flops
        waiting = cost.multiply_adds / max(w.outputs[0].size, 1) * _TERM
        return max(memory_seconds(moved, target), arithmetic, waiting) + target.launch_seconds

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        return super().error_bound(w, weights) + w.outputs[0].dtype.rounding


def _widened(kind: TensorType) -> TensorType:
    return replace(kind, dtype=kind.dtype.sums)


@dataclass(frozen=True)
class _Widened:
    """A TE tensor whose elements are read in float32 at least."""

    tensor: Any

    def __call__(self, *index: Any) -> Any:
        return widened(self.tensor(*index))

    @property
    def shape(self) -> Any:
        """As stored."""
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        """Of what is read."""
        dtype = str(self.tensor.dtype)
        return DType.of(dtype).sums
