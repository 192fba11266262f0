"""Operands of a kernel as TE placeholders, and the epilogue that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te

from convc.lowering.elementwise import binary, unary
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

    `index` is in the output's layout. A plain operand of lower rank is met from the right, so a blocked
    output is turned back into logical coordinates for it.
    """
    if out.layout.block == 1 or kind.layout == out.layout:
        logical = _logical(index, out.layout) if kind.layout != out.layout else list(index)
    else:
        logical = _logical(index, out.layout)
    if kind.layout.block > 1:
        n, cb, *spatial, lane = logical
        single = kind.shape[1] == 1
        position = [n, 0 if single else cb, *spatial, 0 if single else lane]
        return tensor(*(0 if e == 1 and a != 1 else p for a, (e, p) in enumerate(zip(kind.physical, position, strict=True))))
    skipped = len(logical) - kind.rank
    return tensor(*(0 if e == 1 else p for e, p in zip(kind.shape, logical[skipped:], strict=True)))


def _logical(index: Sequence[Expr], layout: Layout) -> list[Expr]:
    if layout.block == 1:
        return list(index)
    n, cb, *spatial, lane = index
    return [n, cb * layout.block + lane, *spatial]


def finish(value: Expr, w: Workload, operands: dict[int, Tensor], index: Sequence[Expr]) -> Expr:
    """Apply the epilogue's steps to `value`, the operator's result at a physical `index` of output 0."""
    for step in w.epilogue:
        if step.operand is None:
            value = unary(step.op, step.attrs, value)
            continue
        kind = w.inputs[step.operand]
        assert kind is not None
        other = read_broadcast(operands[step.operand], kind, w.outputs[0], index)
        value = binary(step.op, step.attrs, *((other, value) if step.swapped else (value, other)))
    return value
