"""Convolution and transposed convolution over any number of spatial axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.fields import Fields, Window
from convc.ir.opdef import Attrs, Cost, OpDef, register
from convc.ops.common import Pads, must_be, per_axis, per_channel, required, same_dtype, window_output
from convc.types import Array, Shape, TensorType

PATCH_ELEMENTS = 1 << 23
"""How many elements of patches the reference makes at a time: 64 MB in float64."""


@dataclass(frozen=True)
class ConvAttrs(Attrs):
    """One entry for each spatial axis; `pads` are (before, after). The weights tell the kernel's size."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    groups: int = 1


@dataclass(frozen=True)
class ConvTransposeAttrs(ConvAttrs):
    """As ConvAttrs of the convolution whose adjoint this is; `output_pads` extends the axes' far ends."""

    output_pads: tuple[int, ...] = ()


def _check_common(attrs: ConvAttrs, x: TensorType, w: TensorType) -> int:
    """Rules that both operators share; returns the number of spatial axes."""
    same_dtype("Input and weights", x, w)
    must_be("float", x)
    spatial = x.rank - 2
    if spatial < 1 or w.rank != x.rank:
        raise TypeRuleError(
            f"Input {x.shape} and weights {w.shape} must both have rank 3 or more, batch and channels first."
        )
    for name in ("strides", "dilations", "pads"):
        per_axis(getattr(attrs, name), spatial, name)
    if min((*attrs.strides, *attrs.dilations, attrs.groups)) < 1:
        raise TypeRuleError(
            f"strides {attrs.strides}, dilations {attrs.dilations}, groups {attrs.groups} must be positive."
        )
    return spatial


def _check_bias(bias: TensorType | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise TypeRuleError(
            f"The bias has shape {bias.shape}; the {channels} output channels need ({channels},)."
        )


def _taken(attrs: ConvAttrs, tap: Sequence[int], extents: Sequence[int], first: int = 0) -> tuple[slice, ...]:
    """Where one tap of `extents` windows lies along each spatial axis, from window `first` of axis 0."""
    starts = [k * d for k, d in zip(tap, attrs.dilations, strict=True)]
    starts[0] += first * attrs.strides[0]
    return tuple(
        slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(starts, attrs.strides, extents, strict=True)
    )


def _patches(attrs: ConvAttrs, padded: Array, kernel: Shape, rows: slice, rest: Shape) -> Array:
    """What windows of some output rows see, (C, taps, rows, *rest), of a padded sample (C, *spatial)."""
    extents = (rows.stop - rows.start, *rest)
    patches = np.empty((padded.shape[0], math.prod(kernel), *extents))
    for number, tap in enumerate(np.ndindex(*kernel)):
        where = (slice(None), *_taken(attrs, tap, extents, rows.start))
        patches[:, number] = padded[where]
    return patches


@register
class Conv(OpDef[ConvAttrs]):
    """Cross-correlation, as every framework calls convolution.

    Inputs x (N, C, *spatial), weights (K, C / groups, *kernel), optional bias (K,).
    """

    name = "conv"
    attrs = ConvAttrs
    inputs = (2, 3)
    linear = True
    weighted = True
    finite = True
    ends_in_epilogue = True

    def infer(self, attrs: ConvAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = required(inputs, 0, "x"), required(inputs, 1, "weights")
        _check_common(attrs, x, w)
        out_channels, group_channels, *kernel = w.shape
        if group_channels * attrs.groups != x.shape[1] or out_channels % attrs.groups:
            raise TypeRuleError(
                f"Weights {w.shape} with groups {attrs.groups} need {group_channels * attrs.groups} input "
                f"channels and output channels divisible by {attrs.groups}; "
                f"the input {x.shape} has {x.shape[1]} channels."
            )
        _check_bias(inputs[2] if len(inputs) > 2 else None, out_channels)
        spatial = map(window_output, x.shape[2:], kernel, attrs.strides, attrs.dilations, attrs.pads)
        return (TensorType((x.shape[0], out_channels, *spatial), x.dtype),)

    def reference(self, attrs: ConvAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        (result,) = self.infer(attrs, [TensorType(x.shape), TensorType(w.shape)])
        y = np.empty(result.shape)
        padded = np.pad(x, ((0, 0), (0, 0), *attrs.pads))
        weights = w.reshape(attrs.groups, w.shape[0] // attrs.groups, -1)
        row = x.shape[1] * math.prod(w.shape[2:]) * math.prod(result.shape[3:])  # elements of patches
        step = max(1, PATCH_ELEMENTS // max(row, 1))
        for sample, first in itertools.product(range(x.shape[0]), range(0, result.shape[2], step)):
            rows = slice(first, min(first + step, result.shape[2]))
            patches = _patches(attrs, padded[sample], w.shape[2:], rows, result.shape[3:])
            product = weights @ patches.reshape(attrs.groups, weights.shape[2], -1)
            y[sample, :, rows] = product.reshape(w.shape[0], -1, *result.shape[3:])
        return (y if bias is None else y + per_channel(bias, x.ndim),)

    def cost(
        self, attrs: ConvAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        w = required(inputs, 1, "weights")
        bias = inputs[2].size if len(inputs) > 2 and inputs[2] is not None else 0
        return Cost(outputs[0].size * math.prod(w.shape[1:]), w.size + bias)

    def window(self, attrs: ConvAttrs, inputs: Sequence[TensorType | None]) -> Window | None:
        return Window(required(inputs, 1, "weights").shape[2:], attrs.strides, attrs.dilations)


@register
class ConvTranspose(OpDef[ConvTransposeAttrs]):
    """The adjoint of `conv` in its input: every input pixel scatters a kernel.

    Inputs x (N, C, *spatial), weights (C, K / groups, *kernel), optional bias (K,).
    """

    name = "conv_transpose"
    attrs = ConvTransposeAttrs
    inputs = (2, 3)
    linear = True
    weighted = True
    finite = True
    ends_in_epilogue = True

    def infer(self, attrs: ConvTransposeAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = required(inputs, 0, "x"), required(inputs, 1, "weights")
        spatial = _check_common(attrs, x, w)
        if w.shape[0] != x.shape[1] or x.shape[1] % attrs.groups:
            raise TypeRuleError(
                f"Weights {w.shape} need {w.shape[0]} input channels, divisible by groups {attrs.groups}; "
                f"the input {x.shape} has {x.shape[1]}."
            )
        channels = w.shape[1] * attrs.groups
        _check_bias(inputs[2] if len(inputs) > 2 else None, channels)
        extra = attrs.output_pads or (0,) * spatial
        per_axis(extra, spatial, "output_pads")
        out = []
        for axis in range(spatial):
            size, kernel, stride = x.shape[2 + axis], w.shape[2 + axis], attrs.strides[axis]
            full = stride * (size - 1) + attrs.dilations[axis] * (kernel - 1) + 1
            extent = full + extra[axis] - sum(attrs.pads[axis])
            if extent < 1:
                raise TypeRuleError(
                    f"pads {attrs.pads[axis]} leave nothing of spatial axis {axis} of {x.shape}."
                )
            out.append(extent)
        return (TensorType((x.shape[0], channels, *out), x.dtype),)

    def reference(self, attrs: ConvTransposeAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        (result,) = self.infer(attrs, [TensorType(x.shape), TensorType(w.shape)])
        full = [o + sum(p) for o, p in zip(result.shape[2:], attrs.pads, strict=True)]
        y = np.zeros((x.shape[0], result.shape[1], *full))
        grouped = x.reshape(x.shape[0], attrs.groups, x.shape[1] // attrs.groups, -1)
        taps = w.reshape(*grouped.shape[1:3], w.shape[1], -1)
        taps = np.ascontiguousarray(taps.transpose(3, 0, 2, 1))  # (tap, group, K / groups, C / groups)
        for weights, tap in zip(taps, np.ndindex(*w.shape[2:]), strict=True):
            where = (slice(None), slice(None), *_taken(attrs, tap, x.shape[2:]))
            y[where] += (weights @ grouped).reshape(*result.shape[:2], *x.shape[2:])
        crop = (
            slice(None),
            slice(None),
            *(slice(p[0], f - p[1]) for p, f in zip(attrs.pads, full, strict=True)),
        )
        y = y[crop]
        return (y if bias is None else y + per_channel(bias, x.ndim),)

    def cost(
        self, attrs: ConvTransposeAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        x, w = required(inputs, 0, "x"), required(inputs, 1, "weights")
        bias = inputs[2].size if len(inputs) > 2 and inputs[2] is not None else 0
        return Cost(x.size * math.prod(w.shape[1:]), w.size + bias)

    def receptive(
        self, attrs: ConvTransposeAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """An output pixel lies under at most ceil(span / stride) kernels, each centred on an input pixel."""
        result = list(operands[0][1])
        kernel = operands[1][0].shape[2:]
        for axis, (k, s, d) in enumerate(zip(kernel, attrs.strides, attrs.dilations, strict=True), 2):
            field = result[axis]
            result[axis] = field and field.upsampled(-(-(d * (k - 1) + 1) // s), Fraction(s))
        return tuple(result)
