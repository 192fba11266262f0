"""Normalisations at inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.fields import Fields
from convc.ir.opdef import Attrs, Cost, OpDef, register
from convc.ops.common import (
    array,
    must_be,
    must_broadcast_to,
    per_channel,
    positive_axis,
    required,
    same_dtype,
)
from convc.types import Array, Shape, TensorType


@dataclass(frozen=True)
class BatchNormAttrs(Attrs):
    """Added to the variance."""

    epsilon: float = 1e-5


@dataclass(frozen=True)
class InstanceNormAttrs(Attrs):
    """Added to the variance."""

    epsilon: float = 1e-5


@dataclass(frozen=True)
class GroupNormAttrs(Attrs):
    """Number of channel groups that share statistics; `epsilon` is added to the variance."""

    groups: int
    epsilon: float = 1e-5


@dataclass(frozen=True)
class LayerNormAttrs(Attrs):
    """First of the normalised axes; `epsilon` is added to the variance."""

    axis: int = -1
    epsilon: float = 1e-5


@dataclass(frozen=True)
class LrnAttrs(Attrs):
    """x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ** beta."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0


def _per_channel_types(inputs: Sequence[TensorType | None], names: Sequence[str], rank: int) -> TensorType:
    """Check x and its vectors of length C; returns the type of x without its layout."""
    x = required(inputs, 0, "x")
    must_be("float", x)
    if x.rank < rank:
        raise TypeRuleError(f"The input {x.shape} has rank {x.rank}; at least {rank} is needed.")
    for index, name in enumerate(names, 1):
        vector = required(inputs, index, name)
        same_dtype(f"Input and {name}", x, vector)
        if vector.shape != (x.shape[1],):
            raise TypeRuleError(
                f"{name} has shape {vector.shape}; the input {x.shape} needs ({x.shape[1]},)."
            )
    return TensorType(x.shape, x.dtype)


def _normalise(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Zero mean, unit variance over `axes`."""
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon))


@register
class BatchNorm(OpDef[BatchNormAttrs]):
    """(x - mean) / sqrt(var + epsilon) * scale + bias for each channel, with stored statistics."""

    name = "batch_norm"
    attrs = BatchNormAttrs
    finite = True
    channel_operands = (1, 2, 3, 4)
    statistics = (3, 4)
    inputs = (5, 5)

    def infer(self, attrs: BatchNormAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return (_per_channel_types(inputs, ("scale", "bias", "mean", "variance"), 2),)

    def reference(self, attrs: BatchNormAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        scale, bias, mean, variance = (per_channel(array(inputs, i), x.ndim) for i in range(1, 5))
        return ((x - mean) / np.sqrt(variance + attrs.epsilon) * scale + bias,)

    def cost(
        self, attrs: BatchNormAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(parameters=2 * outputs[0].shape[1], other=2 * outputs[0].size)

    def receptive(
        self, attrs: BatchNormAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """What the statistics see is not counted."""
        return operands[0][1]

    def per_channel(self, attrs: BatchNormAttrs, inputs: Sequence[TensorType | None]) -> bool:
        return True


@register
class InstanceNorm(OpDef[InstanceNormAttrs]):
    """Each channel of each sample normalised by its own mean and variance (arXiv 1607.08022)."""

    name = "instance_norm"
    attrs = InstanceNormAttrs
    finite = True
    ends_in_epilogue = True
    inputs = (3, 3)

    def infer(self, attrs: InstanceNormAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return (_per_channel_types(inputs, ("scale", "bias"), 3),)

    def reference(self, attrs: InstanceNormAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        scale, bias = (per_channel(array(inputs, i), x.ndim) for i in (1, 2))
        return (_normalise(x, tuple(range(2, x.ndim)), attrs.epsilon) * scale + bias,)

    def cost(
        self, attrs: InstanceNormAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(parameters=2 * outputs[0].shape[1], other=4 * outputs[0].size)

    def receptive(
        self, attrs: InstanceNormAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """What the statistics see is not counted."""
        return operands[0][1]

    def per_channel(self, attrs: InstanceNormAttrs, inputs: Sequence[TensorType | None]) -> bool:
        return True


@register
class GroupNorm(OpDef[GroupNormAttrs]):
    """Groups of channels of each sample normalised together (Wu and He, arXiv 1803.08494)."""

    name = "group_norm"
    attrs = GroupNormAttrs
    finite = True
    ends_in_epilogue = True
    inputs = (3, 3)

    def infer(self, attrs: GroupNormAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        result = _per_channel_types(inputs, ("scale", "bias"), 2)
        if attrs.groups < 1 or result.shape[1] % attrs.groups:
            raise TypeRuleError(f"{result.shape[1]} channels do not divide into {attrs.groups} groups.")
        return (result,)

    def reference(self, attrs: GroupNormAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        scale, bias = (per_channel(array(inputs, i), x.ndim) for i in (1, 2))
        grouped = x.reshape(x.shape[0], attrs.groups, -1)
        return (_normalise(grouped, (2,), attrs.epsilon).reshape(x.shape) * scale + bias,)

    def cost(
        self, attrs: GroupNormAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(parameters=2 * outputs[0].shape[1], other=4 * outputs[0].size)

    def receptive(
        self, attrs: GroupNormAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """What the statistics see is not counted."""
        return operands[0][1]


@register
class LayerNorm(OpDef[LayerNormAttrs]):
    """All axes from `axis` on normalised together; scale and bias broadcast over them (arXiv 1607.06450)."""

    name = "layer_norm"
    attrs = LayerNormAttrs
    finite = True
    ends_in_epilogue = True
    inputs = (2, 3)

    def infer(self, attrs: LayerNormAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be("float", x)
        normalised = x.shape[positive_axis(attrs.axis, x.rank) :]
        for name, kind in zip(("scale", "bias"), inputs[1:], strict=False):
            if kind is None and name == "bias":
                continue
            found = required([kind], 0, name)
            same_dtype(f"Input and {name}", x, found)
            must_broadcast_to(normalised, name, found.shape)
        return (TensorType(x.shape, x.dtype),)

    def reference(self, attrs: LayerNormAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, scale, bias = (*inputs, None)[:3]
        assert x is not None
        assert scale is not None
        y = _normalise(x, tuple(range(attrs.axis % x.ndim, x.ndim)), attrs.epsilon) * scale
        return (y if bias is None else y + bias,)

    def cost(
        self, attrs: LayerNormAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(parameters=sum(t.size for t in inputs[1:] if t is not None), other=4 * outputs[0].size)

    def receptive(
        self, attrs: LayerNormAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """What the statistics see is not counted."""
        return operands[0][1]


@register
class Lrn(OpDef[LrnAttrs]):
    """Local response normalisation across channels (Krizhevsky et al., NIPS 2012, section 3.3)."""

    name = "lrn"
    attrs = LrnAttrs
    finite = True

    def infer(self, attrs: LrnAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        if attrs.size < 1:
            raise TypeRuleError(f"size {attrs.size} must be positive.")
        return (_per_channel_types(inputs, (), 2),)

    def reference(self, attrs: LrnAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        around = [(0, 0), ((attrs.size - 1) // 2, attrs.size // 2), *[(0, 0)] * (x.ndim - 2)]
        squares = np.lib.stride_tricks.sliding_window_view(np.pad(x**2, around), attrs.size, axis=1)
        return (x / (attrs.bias + attrs.alpha / attrs.size * squares.sum(-1)) ** attrs.beta,)

    def cost(
        self, attrs: LrnAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(other=outputs[0].size * (attrs.size + 2))

    def receptive(self, attrs: LrnAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape) -> Fields:
        """What the statistics see is not counted."""
        return operands[0][1]
