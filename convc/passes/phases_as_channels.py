"""Transposed convolution whose outputs become channels: one dense convolution, whose channels interleave.

Along an axis of stride s, outputs s q + b (b < s, counted with the padding) read the same inputs and differ
in their taps alone (Shi et al., arXiv 1609.07009). So b is a channel: with S phases over all axes, K channels
are S K of a convolution of stride 1 with kernels s times shorter, extended by taps of zero to whole strides.
The inverse of a short-time Fourier transform, 1,026 channels to 1 with 1,024 taps and stride 256, makes 256
channels with 4 taps.

The gather (`lowering.transpose`) makes the same products, where channels fill vectors and the outputs of one
stride fit the registers. Few channels leave most of a vector idle there and fill it here; long strides make
it unroll far more outputs than there are registers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from convc.ir import Attrs, Graph, Node, Value
from convc.ops.conv import ConvAttrs, ConvTransposeAttrs
from convc.ops.parts import SliceAttrs
from convc.ops.shape import DepthSpaceAttrs, ReshapeAttrs, TransposeAttrs
from convc.passes.base import Rule, RulePass
from convc.passes.fold_affine import obstacle
from convc.passes.windows import MOVED, keep_windows
from convc.types import Array

BLOCK = 16
"""Channels that the gather makes together; the widest channel block of any target."""
LONGEST_STRIDE = 7
"""Outputs along the last axis whose sums and weights the gather can keep in 16 registers, beside two more."""


@dataclass(frozen=True)
class Axis:
    """One spatial axis: `count` positions of the convolution, each `stride` outputs; `skip` of them too many.

    `pad` is that of the convolution; None where the windows do not begin and end at the border.
    """

    stride: int
    dilation: int
    taps: int
    count: int
    skip: int
    pad: tuple[int, int] | None

    @classmethod
    def of(cls, size: int, output: int, kernel: int, stride: int, dilation: int, before: int) -> Axis:
        """Of outputs o that receive tap k from input (o + before - k * dilation) / stride, if whole."""
        taps = -(-(dilation * (kernel - 1) + 1) // stride)
        first, last = before // stride, (output - 1 + before) // stride
        count = last - first + 1
        pad = keep_windows(size, count, taps, 1, taps - 1 - first)
        return cls(stride, dilation, taps, count, before - first * stride, pad)


Axes = tuple[Axis, ...]


class PhasesToChannels(Rule[Axes]):
    """Output o of a transposed convolution is the sum over j of x[q - j] w[s j + b], where q = (o + p) div s
    and b = (o + p) mod s: channel b of a convolution with the taps in reverse.
    """

    def match(self, graph: Graph, node: Node) -> Axes | None:
        if node.op != "conv_transpose":
            return None
        x, w, attrs = node.inputs[0], node.inputs[1], node.attrs
        assert isinstance(attrs, ConvTransposeAttrs)
        assert x is not None
        assert w is not None
        if max(attrs.strides) == 1:
            return None
        extents = zip(x.type.shape[2:], node.output.type.shape[2:], w.type.shape[2:], strict=True)
        settings = zip(attrs.strides, attrs.dilations, attrs.pads, strict=True)
        return tuple(
            Axis.of(*extent, s, d, before)
            for extent, (s, d, (before, _)) in zip(extents, settings, strict=True)
        )

    def check(self, graph: Graph, node: Node, match: Axes) -> str:
        if reason := obstacle(graph, node):
            return reason
        if any(axis.pad is None for axis in match):
            return "part of the input reaches no output"
        attrs, channels = node.attrs, node.output.type.shape[1]
        assert isinstance(attrs, ConvTransposeAttrs)
        if attrs.strides[-1] > LONGEST_STRIDE or attrs.groups > 1:
            return ""
        x = node.inputs[0]
        assert x is not None
        products = x.type.shape[1] * math.prod(axis.taps for axis in match)
        saved = products * (_filling(channels) - _filling(channels * _phases(match)))
        if saved <= MOVED:
            return f"the time of {saved:.0f} multiply-adds, once saved, would go into a copy ({MOVED})"
        return ""

    def rewrite(self, graph: Graph, node: Node, match: Axes) -> str:
        """The convolution takes the epilogue up to the first operand; the rest follows in an own node."""
        operands = [step.operand is not None for step in node.epilogue]
        kept = operands.index(True) if any(operands) else len(operands)
        conv = _convolution(graph, node, match, kept)
        result = _interleaved(graph, node, match, conv.output)
        if kept < len(operands):
            result = _rest(graph, node, kept, result)
        graph.replace_uses(node.output, result)
        graph.remove(node)
        graph.rename(conv, node.name)
        taps = "x".join(str(axis.taps) for axis in match)
        return f"becomes a convolution with {taps} taps, of whose channels {_phases(match)} are neighbours"


def _phases(axes: Axes) -> int:
    return math.prod(axis.stride for axis in axes)


def _filling(channels: int) -> float:
    """Lanes in use for each channel."""
    return -(-channels // BLOCK) * BLOCK / channels


def _convolution(graph: Graph, node: Node, axes: Axes, kept: int) -> Node:
    """All phases, as channels: those of an output channel side by side."""
    attrs, ones = node.attrs, (1,) * len(axes)
    w = graph.constant(node.inputs[1])
    assert isinstance(attrs, ConvTransposeAttrs)
    assert w is not None
    inputs = [node.inputs[0], graph.add_constant(f"{node.name}.weights", _weights(w, attrs.groups, axes))]
    for value in node.inputs[2 : node.arity]:
        bias = graph.constant(value)
        if bias is not None:
            value = graph.add_constant(f"{node.name}.bias", np.repeat(bias, _phases(axes)))
        inputs.append(value)
    pads = tuple(axis.pad or (0, 0) for axis in axes)
    return graph.add(
        "conv", inputs, ConvAttrs(ones, ones, pads, attrs.groups),
        name=node.name, origin=node.origin, epilogue=node.epilogue[:kept], before=node,
    )  # fmt: skip


def _weights(w: Array, groups: int, axes: Axes) -> Array:
    """Weights (C, K / groups, *kernel) as (K * phases, C / groups, *taps)."""
    c, k, *kernel = w.shape
    whole = np.zeros((c, k, *(axis.taps * axis.stride for axis in axes)), w.dtype)
    places = [
        slice(0, axis.dilation * (extent - 1) + 1, axis.dilation)
        for axis, extent in zip(axes, kernel, strict=True)
    ]
    where = (slice(None), slice(None), *places)
    whole[where] = w
    rank = len(axes)
    split = whole.reshape(groups, c // groups, k, *(e for axis in axes for e in (axis.taps, axis.stride)))
    taps, phases = range(3, 3 + 2 * rank, 2), range(4, 4 + 2 * rank, 2)
    ordered = np.flip(split, tuple(taps)).transpose(0, 2, *phases, 1, *taps)
    return np.ascontiguousarray(
        ordered.reshape(groups * k * _phases(axes), c // groups, *(axis.taps for axis in axes))
    )


def _interleaved(graph: Graph, node: Node, axes: Axes, value: Value) -> Value:
    """Channels (N, K * phases, *counts) as neighbours (N, K, *outputs)."""
    name, strides = f"{node.name}.interleave", [axis.stride for axis in axes]

    def then(op: str, value: Value, attrs: Attrs) -> Value:
        return graph.add(op, [value], attrs, name=name, before=node).output

    n, k, *extents = node.output.type.shape
    counts = [axis.count for axis in axes]
    if len(axes) == 2 and strides[0] == strides[1]:
        value = then("depth_to_space", value, DepthSpaceAttrs(strides[0], "CRD"))
    else:
        rank = len(axes)
        apart = then("reshape", value, ReshapeAttrs((n, k, *strides, *counts)))
        order = [place for axis in range(rank) for place in (2 + rank + axis, 2 + axis)]
        turned = then("transpose", apart, TransposeAttrs((0, 1, *order)))
        whole = (axis.count * axis.stride for axis in axes)
        value = then("reshape", turned, ReshapeAttrs((n, k, *whole)))
    if list(value.type.shape[2:]) == extents:
        return value
    starts = (0, 0, *(axis.skip for axis in axes))
    stops = tuple(s + e for s, e in zip(starts, node.output.type.shape, strict=True))
    return then("slice", value, SliceAttrs(starts, stops, (1,) * len(starts)))


def _rest(graph: Graph, node: Node, kept: int, value: Value) -> Value:
    """The steps of the epilogue from number `kept` on, whose operands have the shape of the whole result."""
    first, *steps = node.epilogue[kept:]
    operands: list[Value | None] = [
        node.inputs[step.operand] for step in (first, *steps) if step.operand is not None
    ]
    inputs: Sequence[Value | None] = (
        [operands[0], value, *operands[1:]] if first.swapped else [value, *operands]
    )
    assert first.operand is not None
    shift = first.operand - 1
    moved = [s if s.operand is None else replace(s, operand=s.operand - shift) for s in steps]
    added = graph.add(
        first.op, inputs, first.attrs,
        name=f"{node.name}.{first.op}", epilogue=moved, arity=2, before=node,
    )  # fmt: skip
    return added.output


@dataclass(frozen=True)
class PhasesAsChannels(RulePass):
    """Compute transposed convolutions into few channels, and those of long strides, as dense ones."""

    name: ClassVar[str] = "phases-as-channels"
    rules = (PhasesToChannels(),)
