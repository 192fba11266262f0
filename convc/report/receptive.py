"""Receptive fields through a whole graph.

Along each spatial axis a value has a receptive field (how many input pixels reach one of its pixels) and a
jump (how many input pixels lie between two neighbours). A window of k taps, d apart, with stride s gives

    field' = field + d * (k - 1) * jump        jump' = jump * s

and where branches meet, the largest field counts (Araujo, Norris, Sim: Computing Receptive Fields of
Convolutional Neural Networks, Distill 2019, sections 2 and 4; exact where the branches are aligned). A
transposed convolution and a resize divide the jump; their fields can come out fractional, an average over
the positions of a pixel in its cell, and are rounded up. Reductions see the whole axis. Means and variances
that a normalisation takes over the image are not counted, and nothing is cut off at the image's border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from convc.ir.graph import Graph, Node, Value
from convc.ir.opdef import opdef
from convc.types import Shape


@dataclass(frozen=True)
class Field:
    """Receptive field and jump along one axis, in input pixels."""

    size: Fraction = Fraction(1)
    jump: Fraction = Fraction(1)

    def window(self, kernel: int, stride: int = 1, dilation: int = 1) -> Field:
        """The field after a sliding window."""
        return Field(self.size + dilation * (kernel - 1) * self.jump, self.jump * stride)

    def upsampled(self, taps: int, factor: Fraction) -> Field:
        """The field when a pixel is made from `taps` neighbours, and `factor` times as many come out."""
        return Field(self.size + (taps - 1) * self.jump, self.jump / factor)


Fields = tuple[Field | None, ...]
"""One entry for each axis of a value: None for batch, channels and whatever is no image axis."""


def receptive_fields(graph: Graph) -> dict[Value, Fields]:
    """The fields of every value. Each input's own pixels have field and jump 1, from axis 2 on."""
    known: dict[Value, Fields] = {v: (None,) * v.type.rank for v in graph.constants}
    for value in graph.inputs:
        known[value] = tuple(Field() if axis >= 2 else None for axis in range(value.type.rank))
    for node in graph.nodes:
        own = _rule(node, [(v, known[v]) for v in node.operands if v is not None])
        for index, value in enumerate(node.outputs):
            joined = [(value.type.shape, own)]
            if index == 0:  # operands of the epilogue, such as the other branch of a residual sum
                joined += [(v.type.shape, known[v]) for v in node.inputs[node.arity :] if v is not None]
            known[value] = _merge(joined, value.type.shape)
    return known


def _merge(parts: Sequence[tuple[Shape, Fields]], shape: Shape) -> Fields:
    """Branches that meet in a value of shape `shape`, their axes aligned at the end as in broadcasting."""
    result: list[Field | None] = []
    for axis in range(-len(shape), 0):
        aligned = [(s[axis], f[axis]) for s, f in parts if len(s) >= -axis]
        fields = [(extent, field) for extent, field in aligned if field is not None]
        if not fields:
            result.append(None)
            continue
        size = max(field.size for _, field in fields)
        # what is broadcast along the axis (a gate for each channel) has no jump to contribute
        jump = max(fields, key=lambda pair: (pair[0] == shape[axis], pair[1].jump))[1].jump
        result.append(Field(size, jump))
    return tuple(result)


def _rule(node: Node, operands: Sequence[tuple[Value, Fields]]) -> Fields:
    """The fields of a node's outputs, without its epilogue."""
    if not operands:
        return (None,) * node.output.type.rank
    attrs: Any = node.attrs
    value, x = operands[0]
    shape, out = value.type.shape, node.output.type.shape
    types = [None if v is None else v.type for v in node.operands]
    window = opdef(node.op).window(node.attrs, types)
    if window is not None:
        taps = zip(window.kernel, window.strides, window.dilations, strict=True)
        return (*x[:2], *(f and f.window(k, s, d) for f, (k, s, d) in zip(x[2:], taps, strict=True)))
    if node.op == "conv_transpose":
        return _transposed(x, operands[1][0].type.shape[2:], attrs)
    if node.op == "resize":
        return _resized(x, attrs)
    if node.op == "depth_to_space":
        return (*x[:2], *(f and f.upsampled(1, Fraction(attrs.block)) for f in x[2:]))
    if node.op == "space_to_depth":
        return (*x[:2], *(f and f.window(attrs.block, attrs.block) for f in x[2:]))
    if node.op.startswith("reduce_") or node.op in ("argmax", "argmin", "softmax", "log_softmax"):
        return _reduced(x, shape, attrs)
    if node.op == "transpose":
        return tuple(x[axis] for axis in attrs.perm)
    if node.op == "slice":
        steps = [abs(step) for step in attrs.steps]
        return tuple(f and Field(f.size, f.jump * step) for f, step in zip(x, steps, strict=True))
    if node.op == "reshape":
        kept = 0
        while kept < min(len(shape), len(out)) and shape[-1 - kept] == out[-1 - kept]:
            kept += 1
        return (*[None] * (len(out) - kept), *x[len(x) - kept :])
    if node.op == "gather":
        axis = attrs.axis % len(x)
        return (*x[:axis], *[None] * operands[1][0].type.rank, *x[axis + 1 :])
    if node.op in ("gemm", "matmul"):
        return (None,) * len(out)
    return _merge([(v.type.shape, f) for v, f in operands], out)


def _transposed(x: Fields, kernel: Sequence[int], attrs: Any) -> Fields:
    """An output pixel lies under at most ceil(span / stride) kernels, each centred on an input pixel."""
    result = list(x)
    for axis, (k, s, d) in enumerate(zip(kernel, attrs.strides, attrs.dilations, strict=True), 2):
        field = x[axis]
        result[axis] = field and field.upsampled(-(-(d * (k - 1) + 1) // s), Fraction(s))
    return tuple(result)


def _resized(x: Fields, attrs: Any) -> Fields:
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[attrs.mode]
    result: list[Field | None] = []
    for field, scale in zip(x, attrs.scales, strict=True):
        factor = Fraction(scale).limit_denominator(10_000)
        if field is None or factor == 1:
            result.append(field)
            continue
        stretch = 1 / factor if attrs.antialias and factor < 1 else Fraction(1)
        result.append(field.upsampled(math.ceil(taps * stretch), factor))
    return tuple(result)


def _reduced(x: Fields, shape: Shape, attrs: Any) -> Fields:
    """A reduced axis is seen whole; without `keepdims` it is gone."""
    axes = attrs.axes if hasattr(attrs, "axes") else (attrs.axis,)
    gone = {axis % len(x) for axis in axes}
    seen = [f and f.window(shape[axis]) if axis in gone else f for axis, f in enumerate(x)]
    kept = getattr(attrs, "keepdims", True)
    return tuple(f for axis, f in enumerate(seen) if kept or axis not in gone)
