"""A depthwise and a pointwise (1x1) convolution as one operator; only passes make them.

The tensor between the two never leaves a core's cache. `depthwise_pointwise` is the separable convolution of
MobileNet v1 (Howard et al., arXiv 1704.04861), `pointwise_depthwise` the expanding half of the inverted
residual of MobileNet v2 (Sandler et al., arXiv 1801.04381).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from convc.errors import TypeRuleError
from convc.ir.fields import Window
from convc.ir.opdef import Attrs, Cost, OpDef, opdef, register
from convc.ops.common import Pads, array, required
from convc.ops.conv import Conv, ConvAttrs
from convc.types import Array, TensorType

Unary = tuple[str, tuple[float, ...]]


@dataclass(frozen=True)
class SeparableAttrs(Attrs):
    """The depthwise convolution's window, and what happens to the first convolution's result.

    `between` lists unary operators with their attributes in order: (("clip", (0.0, 6.0)),).
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    between: tuple[Unary, ...] = ()

    def depthwise(self, channels: int) -> ConvAttrs:
        """The depthwise convolution of so many channels."""
        return ConvAttrs(self.strides, self.dilations, self.pads, channels)

    def pointwise(self) -> ConvAttrs:
        """The 1x1 convolution."""
        rank = len(self.strides)
        return ConvAttrs((1,) * rank, (1,) * rank, ((0, 0),) * rank)


class Separable(OpDef[SeparableAttrs]):
    """Inputs x (N, C, *spatial), depthwise weights (D, 1, *kernel), pointwise weights (K, C, 1, ...), and two
    optional biases in the same order."""

    attrs = SeparableAttrs
    inputs = (3, 5)
    finite = True
    depthwise_first: ClassVar[bool]

    def halves(
        self, attrs: SeparableAttrs, channels: int
    ) -> tuple[tuple[ConvAttrs, int, int], tuple[ConvAttrs, int, int]]:
        """Attributes, index of the weights and index of the bias of the first convolution and the second."""
        both = (attrs.depthwise(channels), 1, 3), (attrs.pointwise(), 2, 4)
        return both if self.depthwise_first else both[::-1]

    def infer(self, attrs: SeparableAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        running = required(inputs, 0, "x")
        weights = required(inputs, 1, "depthwise weights"), required(inputs, 2, "pointwise weights")
        if math.prod(weights[1].shape[2:]) != 1:
            raise TypeRuleError(f"Pointwise weights {weights[1].shape} have a kernel larger than one pixel.")
        for name, _ in attrs.between:
            if opdef(name).inputs != (1, 1) or not opdef(name).elementwise:
                raise TypeRuleError(
                    f"'{name}' between the convolutions is no elementwise operator of one input."
                )
        for half, w, b in self.halves(attrs, weights[0].shape[0]):
            bias = inputs[b] if b < len(inputs) else None
            (running,) = Conv().infer(half, [running, inputs[w], bias])
        return (running,)

    def reference(self, attrs: SeparableAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        first, second = (
            (half, [array(inputs, w), inputs[b] if b < len(inputs) else None])
            for half, w, b in self.halves(attrs, array(inputs, 1).shape[0])
        )
        (running,) = Conv().reference(first[0], [inputs[0], *first[1]])
        for name, arguments in attrs.between:
            (running,) = opdef(name).reference(opdef(name).attrs(*arguments), [running])
        return Conv().reference(second[0], [running, *second[1]])

    def cost(
        self, attrs: SeparableAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        x, depthwise, pointwise = (required(inputs, i, "operand") for i in range(3))
        pixels = outputs[0].size // outputs[0].shape[1]
        wide = pixels if self.depthwise_first else x.size // x.shape[1]  # pixels of the 1x1 convolution
        products = pixels * depthwise.size + wide * pointwise.size
        parameters = sum(t.size for t in inputs[1:] if t is not None)
        return Cost(products, parameters, wide * len(attrs.between) * depthwise.shape[0])

    def window(self, attrs: SeparableAttrs, inputs: Sequence[TensorType | None]) -> Window | None:
        return Window(required(inputs, 1, "weights").shape[2:], attrs.strides, attrs.dilations)


@register
class DepthwisePointwise(Separable):
    """A depthwise convolution, then a 1x1 convolution."""

    name = "depthwise_pointwise"
    depthwise_first = True


@register
class PointwiseDepthwise(Separable):
    """A 1x1 convolution, then a depthwise convolution."""

    name = "pointwise_depthwise"
    depthwise_first = False
