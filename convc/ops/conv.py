"""Convolution and transposed convolution over any number of spatial axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.opdef import Attrs, Cost, OpDef, Window, register
from convc.ops.common import Pads, required, same_dtype, window_output
from convc.types import Array, TensorType


@dataclass(frozen=True)
class ConvAttrs(Attrs):
    """One entry for each spatial axis; `pads` are (before, after). The kernel's size is that of the weights."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    groups: int = 1


@dataclass(frozen=True)
class ConvTransposeAttrs(ConvAttrs):
    """As ConvAttrs of the convolution whose adjoint this is; `output_pads` extends the far end of each axis."""

    output_pads: tuple[int, ...] = ()


def _check_common(attrs: ConvAttrs, x: TensorType, w: TensorType) -> int:
    """Rules that both operators share; returns the number of spatial axes."""
    same_dtype("Input and weights", x, w)
    spatial = x.rank - 2
    if spatial < 1 or w.rank != x.rank:
        raise TypeRuleError(
            f"Input {x.shape} and weights {w.shape} must both have rank 3 or more, batch and channels first."
        )
    for name in ("strides", "dilations", "pads"):
        entries = getattr(attrs, name)
        if len(entries) != spatial:
            raise TypeRuleError(f"{name} {entries} has {len(entries)} entries for {spatial} spatial axes of {x.shape}.")
    if min((*attrs.strides, *attrs.dilations, attrs.groups)) < 1:
        raise TypeRuleError(
            f"strides {attrs.strides}, dilations {attrs.dilations} and groups {attrs.groups} must be positive."
        )
    return spatial


def _check_bias(bias: TensorType | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise TypeRuleError(f"The bias has shape {bias.shape}; the {channels} output channels need ({channels},).")


@register
class Conv(OpDef[ConvAttrs]):
    """Cross-correlation, as every framework calls convolution.

    Inputs x (N, C, *spatial), weights (K, C / groups, *kernel), optional bias (K,).
    """

    name = "conv"
    attrs = ConvAttrs
    inputs = (2, 3)

    def infer(self, attrs: ConvAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = required(inputs, 0, "x"), required(inputs, 1, "weights")
        _check_common(attrs, x, w)
        out_channels, group_channels, *kernel = w.shape
        if group_channels * attrs.groups != x.shape[1] or out_channels % attrs.groups:
            raise TypeRuleError(
                f"Weights {w.shape} with groups {attrs.groups} need {group_channels * attrs.groups} input channels "
                f"and output channels divisible by {attrs.groups}; the input {x.shape} has {x.shape[1]} channels."
            )
        _check_bias(inputs[2] if len(inputs) > 2 else None, out_channels)
        spatial = map(window_output, x.shape[2:], kernel, attrs.strides, attrs.dilations, attrs.pads)
        return (TensorType((x.shape[0], out_channels, *spatial), x.dtype),)

    def reference(self, attrs: ConvAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        kernel = w.shape[2:]
        padded = np.pad(x, ((0, 0), (0, 0), *attrs.pads))
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, attrs.dilations, strict=True)]
        axes = tuple(range(2, x.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
        thinned = (slice(None), slice(None), *(slice(None, None, s) for s in attrs.strides))
        windows = windows[(*thinned, *(slice(None, None, d) for d in attrs.dilations))]
        out = windows.shape[2 : x.ndim]
        parts = []
        for xs, ws in zip(np.split(windows, attrs.groups, 1), np.split(w, attrs.groups, 0), strict=True):
            patches = np.moveaxis(xs, 1, x.ndim - 1).reshape(-1, math.prod(ws.shape[1:]))
            parts.append((patches @ ws.reshape(ws.shape[0], -1).T).reshape(x.shape[0], *out, ws.shape[0]))
        y = np.moveaxis(np.concatenate(parts, -1), -1, 1)
        return (y if bias is None else y + bias.reshape(-1, *[1] * len(kernel)),)

    def cost(self, attrs: ConvAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
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
        out = []
        for axis in range(spatial):
            size, kernel, stride = x.shape[2 + axis], w.shape[2 + axis], attrs.strides[axis]
            extra = attrs.output_pads[axis] if attrs.output_pads else 0
            extent = stride * (size - 1) + attrs.dilations[axis] * (kernel - 1) + 1 + extra - sum(attrs.pads[axis])
            if extent < 1:
                raise TypeRuleError(f"pads {attrs.pads[axis]} leave nothing of spatial axis {axis} of {x.shape}.")
            out.append(extent)
        return (TensorType((x.shape[0], channels, *out), x.dtype),)

    def reference(self, attrs: ConvTransposeAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        (result,) = self.infer(attrs, [TensorType(x.shape), TensorType(w.shape)])
        full = [o + sum(p) for o, p in zip(result.shape[2:], attrs.pads, strict=True)]
        y = np.zeros((x.shape[0], result.shape[1], *full))
        group_in, group_out = x.shape[1] // attrs.groups, w.shape[1]
        for group, tap in itertools.product(range(attrs.groups), np.ndindex(*w.shape[2:])):
            channels = slice(group * group_in, (group + 1) * group_in)
            where = [
                slice(k * d, k * d + s * (n - 1) + 1, s)
                for k, d, s, n in zip(tap, attrs.dilations, attrs.strides, x.shape[2:], strict=True)
            ]
            target = (slice(None), slice(group * group_out, (group + 1) * group_out), *where)
            y[target] += np.einsum("nc...,ck->nk...", x[:, channels], w[(channels, slice(None), *tap)])
        crop = tuple(slice(p[0], f - p[1]) for p, f in zip(attrs.pads, full, strict=True))
        y = y[(slice(None), slice(None), *crop)]
        return (y if bias is None else y + bias.reshape(-1, *[1] * len(full)),)

    def cost(self, attrs: ConvTransposeAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        x, w = required(inputs, 0, "x"), required(inputs, 1, "weights")
        bias = inputs[2].size if len(inputs) > 2 and inputs[2] is not None else 0
        return Cost(x.size * math.prod(w.shape[1:]), w.size + bias)
