"""Elementwise operators, batch normalisation and other formulas without neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from convc.lowering.base import Layouts, blocked_like
from convc.lowering.elementwise import elementwise
from convc.lowering.epilogue import read_broadcast
from convc.lowering.formula import At, Call, follow, formula, logical, plain, relaid
from convc.lowering.functions import constant
from convc.ops.elementwise import elementwise_names
from convc.target import Target
from convc.types import Layout, TensorType
from convc.workload import Workload

Expr = Any


@formula(*elementwise_names(1), layouts=follow)
def _unary(call: Call) -> Sequence[At]:
    """y[i] = f(x[i])."""
    return [lambda *i: elementwise(call.w.op, call.attrs, relaid(call, i))]


def _broadcast(w: Workload, target: Target) -> Layouts:
    """Blocked when an operand with all channels is, and none of lower rank varies over channels."""
    rank, own = w.outputs[0].rank, range(w.arity)
    if rank < 3:
        return plain(w, target)
    channels = w.outputs[0].shape[1]
    full = {i for i in own if _full(w.inputs[i], rank) and _shape(w, i)[1] == channels}
    single = {i for i in own if i not in full and not _varies_over_channels(w.inputs[i], rank)}
    arrived = any(_layout(w, i) == Layout(target.lanes) for i in full)
    if not arrived or len(full) + len(single) < w.arity:
        return plain(w, target)
    blocked = blocked_like(w, target, inputs=sorted(full))
    kept = tuple(_layout(w, i) if i in single else layout for i, layout in enumerate(blocked.inputs))
    return Layouts(kept, blocked.outputs)


def _full(kind: TensorType | None, rank: int) -> bool:
    return kind is not None and kind.rank == rank


def _shape(w: Workload, index: int) -> Sequence[int]:
    kind = w.inputs[index]
    assert kind is not None
    return kind.shape


def _layout(w: Workload, index: int) -> Layout:
    kind = w.inputs[index]
    assert kind is not None
    return kind.layout


def _varies_over_channels(kind: TensorType | None, rank: int) -> bool:
    return kind is not None and kind.rank >= rank - 1 and kind.shape[1 - rank] != 1


def _read(call: Call, operand: int, index: Sequence[Expr]) -> Expr:
    found = call.operand(operand)
    return read_broadcast(found.tensor, found.kind, call.out, index)


@formula(*elementwise_names(2), *elementwise_names(3), layouts=_broadcast)
def _several(call: Call) -> Sequence[At]:
    """y[i] = f(a[i], b[i], ...), all broadcast."""
    return [lambda *i: elementwise(call.w.op, call.attrs, *(_read(call, k, i) for k in range(call.w.arity)))]


@formula("batch_norm", layouts=follow)
def _batch_norm(call: Call) -> Sequence[At]:
    """(x - mean) / sqrt(var + epsilon) * scale + bias; the loops hoist what depends on the channel alone."""

    def at(*index: Expr) -> Expr:
        channel = logical(index, call.out.layout)[1]
        scale, bias, mean, variance = (per_channel(call, i, channel) for i in range(1, 5))
        factor = scale / tirx.sqrt(variance + constant(call.attrs.epsilon, variance))
        return call.x(*index) * factor + (bias - mean * factor)

    return [at]


def per_channel(call: Call, operand: int, channel: Expr) -> Expr:
    """A vector's entry for a channel. Lanes beyond the last channel read the last entry, or its padding."""
    vector = call.operand(operand)
    stored, channels = int(vector.tensor.shape[0]), call.out.physical[1] * call.out.layout.block
    return vector(channel if stored >= channels else te.min(channel, stored - 1))
