"""Pooling with windows over the spatial axes. Global pooling is a reduction (see `reduce`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.fields import Window
from convc.ir.opdef import A, Attrs, Cost, OpDef, register
from convc.ir.traits import Affine
from convc.ops.common import Pads, array, must_be, per_axis, required, window_output
from convc.types import Array, TensorType


@dataclass(frozen=True)
class MaxPoolAttrs(Attrs):
    """One entry for each spatial axis. With `ceil_mode` a last, partial window counts too."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    ceil_mode: bool = False


@dataclass(frozen=True)
class AveragePoolAttrs(MaxPoolAttrs):
    """With `count_include_pad` the zeros of `pads` count as elements of the average."""

    count_include_pad: bool = False


@dataclass(frozen=True)
class LpPoolAttrs(MaxPoolAttrs):
    """The exponent of the norm."""

    p: int = 2


def windows(x: Array, attrs: MaxPoolAttrs, fill: float) -> Array:
    """View of x (N, C, *spatial), padded with `fill`, as (N, C, *output, *kernel)."""
    spans = [d * (k - 1) + 1 for k, d in zip(attrs.kernel, attrs.dilations, strict=True)]
    padding, counts = [(0, 0), (0, 0)], []
    for i, (size, pad) in enumerate(zip(x.shape[2:], attrs.pads, strict=True)):
        count = window_output(
            size, attrs.kernel[i], attrs.strides[i], attrs.dilations[i], pad, ceil_mode=attrs.ceil_mode
        )
        beyond = (count - 1) * attrs.strides[i] + spans[i] - size - sum(pad)  # a partial last window
        padding.append((pad[0], pad[1] + max(beyond, 0)))
        counts.append(count)
    padded = np.pad(x, padding, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, x.ndim)))
    outputs = [slice(None, (c - 1) * s + 1, s) for c, s in zip(counts, attrs.strides, strict=True)]
    where = (slice(None), slice(None), *outputs, *(slice(None, None, d) for d in attrs.dilations))
    return view[where]


def counted_taps(attrs: AveragePoolAttrs, axis: int, size: int, out: int) -> Array:
    """How many elements each of the `out` windows averages along a spatial axis of extent `size`: (out,)."""
    before, after = attrs.pads[axis]
    taps = np.arange(attrs.kernel[axis]) * attrs.dilations[axis]
    where = np.arange(out)[:, None] * attrs.strides[axis] - before + taps
    low, high = (-before, size + after) if attrs.count_include_pad else (0, size)
    return np.asarray(((where >= low) & (where < high)).sum(1))


class Pool(OpDef[A]):
    """Type rule, cost and window that the pools share."""

    kind = "float"
    finite = True
    ends_in_epilogue = True

    def infer(self, attrs: Any, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be(self.kind, x)
        if x.rank < 3:
            raise TypeRuleError(
                f"Pooling needs batch, channels and at least one spatial axis, not {x.shape}."
            )
        for name in ("kernel", "strides", "dilations", "pads"):
            per_axis(getattr(attrs, name), x.rank - 2, name)
        if min((*attrs.kernel, *attrs.strides, *attrs.dilations)) < 1:
            raise TypeRuleError(
                f"kernel {attrs.kernel}, strides {attrs.strides}, dilations {attrs.dilations} must not be 0."
            )
        out = []
        for size, k, s, d, pad in zip(
            x.shape[2:], attrs.kernel, attrs.strides, attrs.dilations, attrs.pads, strict=True
        ):
            if not 0 <= min(pad) <= max(pad) <= d * (k - 1):
                raise TypeRuleError(
                    f"pads {pad} with kernel {k} and dilation {d} would leave windows without any input; "
                    f"they must be from 0 to {d * (k - 1)}."
                )
            out.append(window_output(size, k, s, d, pad, ceil_mode=attrs.ceil_mode))
        return (TensorType((*x.shape[:2], *out), x.dtype),)

    def cost(self, attrs: Any, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=outputs[0].size * math.prod(attrs.kernel))

    def per_channel(self, attrs: Any, inputs: Sequence[TensorType | None]) -> bool:
        return True

    def window(self, attrs: Any, inputs: Sequence[TensorType | None]) -> Window | None:
        return Window(attrs.kernel, attrs.strides, attrs.dilations)

    def seams(
        self, attrs: Any, inputs: Sequence[TensorType | None], output: TensorType
    ) -> tuple[int, tuple[int, ...]]:
        """The first window that lies inside the map on the last axis, and the first behind the last such."""
        x = required(inputs, 0, "x")
        k, s, d = attrs.kernel[-1], attrs.strides[-1], attrs.dilations[-1]
        before, size = attrs.pads[-1][0], x.shape[-1]
        first = -(-before // s)
        last = (size - 1 - d * (k - 1) + before) // s
        return x.rank - 1, (first, last + 1) if last >= first else ()


def _taps(x: Array) -> tuple[int, ...]:
    """The axes of `windows` that run over the taps."""
    return tuple(range(2 + (x.ndim - 2), 2 + 2 * (x.ndim - 2)))


@register
class MaxPool(Pool[MaxPoolAttrs]):
    """The largest element of each window; padding never wins."""

    name = "max_pool"
    attrs = MaxPoolAttrs
    kind = "number"
    exact = True

    def passes(self, attrs: MaxPoolAttrs) -> Affine:
        return Affine.SCALE | Affine.SHIFT

    def identity(self, attrs: MaxPoolAttrs) -> bool:
        return set(attrs.kernel) | set(attrs.strides) == {1}

    def reference(self, attrs: MaxPoolAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        least = -math.inf if x.dtype.kind == "f" else int(np.iinfo(x.dtype).min)
        return (windows(x, attrs, least).max(_taps(x)),)


@register
class AveragePool(Pool[AveragePoolAttrs]):
    """The mean of each window over the elements of the input and, if asked for, of its padding.

    What a partial last window (`ceil_mode`) covers beyond the padding never counts, as in PyTorch.
    """

    name = "average_pool"
    attrs = AveragePoolAttrs
    linear = True

    def passes(self, attrs: AveragePoolAttrs) -> Affine:
        """No shift where zeros of the padding are averaged, too."""
        zeros = attrs.count_include_pad and (attrs.ceil_mode or any(map(any, attrs.pads)))
        return Affine.SCALE | Affine.NEGATIVE if zeros else Affine.ALL

    def identity(self, attrs: AveragePoolAttrs) -> bool:
        return set(attrs.kernel) | set(attrs.strides) == {1} and not any(map(any, attrs.pads))

    def reference(self, attrs: AveragePoolAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        sums = windows(x, attrs, 0).sum(_taps(x))
        divisor = np.ones(())
        for axis, size in enumerate(x.shape[2:]):
            divisor = np.multiply.outer(divisor, counted_taps(attrs, axis, size, sums.shape[2 + axis]))
        return (sums / divisor,)


@register
class LpPool(Pool[LpPoolAttrs]):
    """The p-norm of each window."""

    name = "lp_pool"
    attrs = LpPoolAttrs

    def passes(self, attrs: LpPoolAttrs) -> Affine:
        return Affine.SCALE

    def reference(self, attrs: LpPoolAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        return ((np.abs(windows(x, attrs, 0)) ** attrs.p).sum(_taps(x)) ** (1 / attrs.p),)
