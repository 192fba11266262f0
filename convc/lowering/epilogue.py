"""Operands of a kernel as TE placeholders, and the epilogue that ends it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tvm import te

from convc.ir import opdef
from convc.lowering import extremes
from convc.lowering.elementwise import elementwise
from convc.lowering.functions import constant, dtype_of, masked, widened
from convc.lowering.terms import cast
from convc.types import Layout, TensorType
from convc.workload import Halo, Workload

Expr = Any
Tensor = Any


def placeholder(kind: TensorType, name: str, halo: Halo = ()) -> Tensor:
    """A TE placeholder for a tensor as it is stored, its spatial axes enlarged by `halo`."""
    shape = list(kind.physical)
    for axis, (before, after) in enumerate(halo):
        shape[2 + axis] += before + after
    return te.placeholder(shape, kind.dtype, name)


def operand_placeholders(w: Workload) -> dict[int, Tensor]:
    """Placeholders for the epilogue's operands, by input index."""
    return {
        i: placeholder(kind, f"operand{i}")
        for i, kind in enumerate(w.inputs)
        if i >= w.arity and kind is not None
    }


def read_broadcast(tensor: Tensor, kind: TensorType, out: TensorType, index: Sequence[Expr]) -> Expr:
    """Read an operand at a physical index of the output, broadcasting by NumPy's rules.

    `index` is in the output's layout. An operand is stored in that same layout, or plain; layout assignment
    sees to it that a plain operand of a blocked output does not vary over channels.
    """
    if kind.layout.block > 1:
        one_channel = kind.shape[1] == 1  # lives in lane 0
        position = [*index[:-1], 0 if one_channel else index[-1]]
        return tensor(*(0 if e == 1 else p for e, p in zip(kind.physical, position, strict=True)))
    logical = _logical(index, out.layout)
    return tensor(
        *(0 if e == 1 else p for e, p in zip(kind.shape, logical[len(logical) - kind.rank :], strict=True))
    )


def _logical(index: Sequence[Expr], layout: Layout) -> list[Expr]:
    if layout.block == 1:
        return list(index)
    n, cb, *spatial, lane = index
    return [n, cb * layout.block + lane, *spatial]


def largest(window: Sequence[int], value: Callable[[Sequence[int]], Expr]) -> Expr:
    """The maximum of `value(tap)` over all taps of a window; a single tap is the value itself."""
    return extremes.largest([*map(value, itertools.product(*map(range, window)))])


def finish(value: Expr, w: Workload, operands: dict[int, Tensor], index: Sequence[Expr]) -> Expr:
    """Apply the epilogue's steps to `value`, the operator's result at a physical `index` of output 0.

    They are computed in the dtype of `value`, which may be wider than the output's.
    """
    wide = dtype_of(value) != w.outputs[0].dtype
    for step in w.epilogue:
        if step.operand is None:
            value = elementwise(step.op, step.attrs, value)
            continue
        kind = w.inputs[step.operand]
        assert kind is not None
        other = read_broadcast(operands[step.operand], kind, w.outputs[0], index)
        if wide:
            other = widened(other)
        value = elementwise(step.op, step.attrs, *((other, value) if step.swapped else (value, other)))
    return cast(_cleared(value, w, index), w.outputs[0].dtype) if wide else _cleared(value, w, index)


def _cleared(value: Expr, w: Workload, index: Sequence[Expr]) -> Expr:
    """`value`, or 0 in lanes beyond the channels, where the operator or a step may have made it inf or NaN.

    Consumers multiply these lanes by weights of 0, which only finite values survive.
    """
    out = w.outputs[0]
    full = out.layout.block == 1 or out.shape[1] % out.layout.block == 0
    if full or all(opdef(op).finite for op in (w.op, *(step.op for step in w.epilogue))):
        return value
    return masked(_logical(index, out.layout)[1] < out.shape[1], value, constant(0, value))
