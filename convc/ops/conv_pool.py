"""A convolution and the max pooling of its result as one operator; only passes make it.

The full-size map, which would be the largest tensor around, is never stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convc.errors import TypeRuleError
from convc.ir.fields import Window
from convc.ir.opdef import Cost, OpDef, register
from convc.ops.common import per_axis, required
from convc.ops.conv import Conv, ConvAttrs
from convc.ops.pool import MaxPool, MaxPoolAttrs
from convc.types import Array, TensorType


@dataclass(frozen=True)
class ConvMaxPoolAttrs(ConvAttrs):
    """The convolution's attributes, and the extents of the window, which is its own stride, on each axis."""

    pool: tuple[int, ...] = ()

    def halves(self) -> tuple[ConvAttrs, MaxPoolAttrs]:
        """The convolution, and the pooling: windows side by side that leave out a partial last one."""
        rank = len(self.strides)
        conv = ConvAttrs(self.strides, self.dilations, self.pads, self.groups)
        return conv, MaxPoolAttrs(self.pool, self.pool, (1,) * rank, ((0, 0),) * rank)


@register
class ConvMaxPool(OpDef[ConvMaxPoolAttrs]):
    """The largest of each window of a convolution's outputs.

    Inputs x (N, C, *spatial), weights (K, C / groups, *kernel), optional bias (K,).
    """

    name = "conv_max_pool"
    attrs = ConvMaxPoolAttrs
    inputs = (2, 3)
    finite = True

    def infer(self, attrs: ConvMaxPoolAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        per_axis(attrs.pool, len(attrs.strides), "pool")
        if min(attrs.pool) < 1:
            raise TypeRuleError(f"pool {attrs.pool} must be positive.")
        conv, pool = attrs.halves()
        return MaxPool().infer(pool, Conv().infer(conv, inputs))

    def reference(self, attrs: ConvMaxPoolAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        conv, pool = attrs.halves()
        return MaxPool().reference(pool, Conv().reference(conv, inputs))

    def cost(
        self, attrs: ConvMaxPoolAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        pooled = outputs[0].size * math.prod(attrs.pool)  # outputs of the convolution that a window covers
        products = pooled * math.prod(required(inputs, 1, "weights").shape[1:])
        return Cost(products, sum(t.size for t in inputs[1:] if t is not None), pooled)

    def window(self, attrs: ConvMaxPoolAttrs, inputs: Sequence[TensorType | None]) -> Window | None:
        """The inputs that a window of outputs sees, as one window without dilation."""
        spans = tuple(
            (p - 1) * s + d * (k - 1) + 1
            for p, s, d, k in zip(
                attrs.pool,
                attrs.strides,
                attrs.dilations,
                required(inputs, 1, "weights").shape[2:],
                strict=True,
            )
        )
        strides = tuple(p * s for p, s in zip(attrs.pool, attrs.strides, strict=True))
        return Window(spans, strides, (1,) * len(spans))
