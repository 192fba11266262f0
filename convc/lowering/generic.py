"""The fallback: every operator by its definition, in loops that vectorise, plain or in channel blocks.

One formula each, in the `generic_*` modules. Convolutions and matrix products are here too, as plain loop
nests, so that no supported operator lacks code; other lowerings compute those faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te

from convc.ir import opdef

# The formulas register themselves.
from convc.lowering import generic_linear as _linear
from convc.lowering import generic_norm as _norm
from convc.lowering import generic_pointwise as _pointwise
from convc.lowering import generic_pool as _pool
from convc.lowering import generic_reduce as _reduce
from convc.lowering import generic_resize as _resize
from convc.lowering import generic_shape as _shape
from convc.lowering.base import Layouts, Lowering
from convc.lowering.epilogue import finish, operand_placeholders, placeholder
from convc.lowering.formula import FORMULAS, At, Call, Operand
from convc.lowering.terms import cast
from convc.target import Target
from convc.tiling.registers import memory_seconds
from convc.types import Array
from convc.workload import OUTPUT, Workload

_FAMILIES = (_linear, _norm, _pointwise, _pool, _reduce, _resize, _shape)
_SCALAR_EFFICIENCY = 1 / 30
"""Fraction of peak at which the plain loop nests of convolutions and products run."""
_GATHERED = 3.0
"""Instructions for an element whose inputs' addresses do not follow from its neighbour's.

Nearest and linear resampling of 64 x 112 x 112 to twice the size took two Zen 5 threads 0.59 and 0.68 ms in
plain layout, 0.13 and 0.19 ms in blocks of channels.
"""


class Generic(Lowering):
    """Any operator of the IR."""

    name = "generic"
    ops = tuple(sorted(FORMULAS))

    def applies(self, w: Workload, target: Target) -> str | None:
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        if opdef(w.op).copies_layout:
            return Layouts(
                tuple(t.layout for t in w.inputs if t is not None), tuple(t.layout for t in w.outputs)
            )
        return FORMULAS[w.op].layouts(w, target)

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if _is_vector(w, index):
            padded = np.zeros(_vector_length(w), array.dtype)
            padded[: len(array)] = array
            return padded
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        operands = tuple(self._operand(w, i) for i in range(w.arity))
        steps = operand_placeholders(w)
        results = FORMULAS[w.op].formula(self._call(w, target, operands))
        outputs = [self._final(w, i, at, steps) for i, at in enumerate(results)]
        parameters = [o.tensor for o in operands if o is not None]
        return te.create_prim_func([*parameters, *steps.values(), *outputs])

    def _call(self, w: Workload, target: Target, operands: tuple[Operand | None, ...]) -> Call:
        """What the formula is given."""
        return Call(w, target, operands)

    def _operand(self, w: Workload, index: int) -> Operand | None:
        kind = w.inputs[index]
        if kind is None:
            return None
        if _is_vector(w, index):
            return Operand(te.placeholder((_vector_length(w),), kind.dtype, f"x{index}"), kind)
        return Operand(placeholder(kind, f"x{index}"), kind)

    def _final(self, w: Workload, output: int, at: At, steps: dict[int, Any]) -> Any:
        """The block that stores one output; the epilogue belongs to the first."""
        if output > 0:
            kind = w.outputs[output]
            return te.compute(kind.physical, lambda *i: cast(at(*i), kind.dtype), name=f"{OUTPUT}_{output}")
        return te.compute(w.outputs[0].physical, lambda *i: finish(at(*i), w, steps, i), name=OUTPUT)

    def cost(self, w: Workload, target: Target) -> float:
        moved = sum(t.nbytes for t in (*w.inputs, *w.outputs) if t is not None)
        cost = opdef(w.op).cost(w.attrs, w.inputs[: w.arity], w.outputs)
        flops = 2 * cost.multiply_adds / (target.peak * _SCALAR_EFFICIENCY)
        rate = target.threads * target.flops / (2 * target.lanes)  # vector instructions a second
        steps = cost.other / target.lanes + (_GATHERED * w.outputs[0].size if _gathers(w) else 0)
        return _moved_seconds(w, moved, target) + flops + steps / rate + target.launch_seconds

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        """Rounding of a sum of n terms grows as sqrt(n) (Higham, Accuracy and Stability, section 4.6)."""
        x = w.inputs[0]
        cost = opdef(w.op).cost(w.attrs, w.inputs[: w.arity], w.outputs)
        length = cost.multiply_adds / max(w.outputs[0].size, 1)
        assert x is not None
        return float(np.finfo(np.float32).eps) * (4 + math.sqrt(length))


def _moved_seconds(w: Workload, moved: int, target: Target) -> float:
    """Time to read and write tensors of `moved` bytes.

    Copies into another layout wait for memory once L3 cannot hold both: lines are read before they are
    written. 64 x 224 x 224 out of blocks of channels takes two Zen 5 threads 0.9 ms.
    """
    if opdef(w.op).copies_layout and moved > target.l3 / 2:
        return (moved + w.outputs[0].nbytes) / target.memory_bandwidth
    return memory_seconds(moved, target)


def _gathers(w: Workload) -> bool:
    """Whether neighbouring outputs read inputs that are not neighbours, so that no vectors are loaded."""
    if w.outputs[0].layout.block > 1:
        return False
    return opdef(w.op).gathers(w.attrs, w.inputs[: w.arity])


def _is_vector(w: Workload, index: int) -> bool:
    """Whether a constant input is stored as one value for each lane of the blocked output."""
    return index in opdef(w.op).channel_operands and w.constant[index]


def _vector_length(w: Workload) -> int:
    out = w.outputs[0]
    block = out.layout.block
    return -(-out.shape[1] // block) * block
