"""The builder's layers with windows and no weights: pooling, local normalisation; kinds of padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from convc.errors import TypeRuleError
from convc.frontends.builder_core import Ints, NetworkBase, Padding, Tensor, located
from convc.ir.attributes import integer, is_integer
from convc.ops.common import Pads
from convc.ops.norm import LrnAttrs
from convc.ops.pool import AveragePoolAttrs, LpPoolAttrs, MaxPoolAttrs
from convc.ops.reduce import ReduceAttrs


def per_axis(value: Ints, axes: int, what: str) -> tuple[int, ...]:
    """One integer for each spatial axis. Raises TypeRuleError when `value` is not that."""
    entries = entries_of(value, axes)
    if len(entries) != axes or not all(map(is_integer, entries)):
        raise TypeRuleError(
            f"{what} {value!r} must be an integer or {axes} of them, one for each spatial axis."
        )
    return tuple(map(int, entries))


def entries_of(value: Any, count: int) -> tuple[Any, ...]:
    """A sequence's entries, or so many times what is none."""
    single = isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0
    return (value,) * count if single else tuple(value)


def explicit_pads(value: Padding, axes: int) -> Pads:
    """Pairs (before, after) for each axis from any form of padding but "same"."""
    if isinstance(value, str) and value == "valid":
        return ((0, 0),) * axes
    entries = () if isinstance(value, str) else entries_of(value, axes)
    pairs = [(n, n) if is_integer(n) else entries_of(n, 1) for n in entries]
    whole = all(len(pair) == 2 and all(map(is_integer, pair)) for pair in pairs)
    if len(pairs) != axes or not whole:
        raise TypeRuleError(
            f'padding {value!r} must be an integer, "same", "valid", or {axes} integers or pairs of them.'
        )
    return tuple((int(pair[0]), int(pair[1])) for pair in pairs)


def window_pads(
    value: Padding,
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Pads:
    """Padding of a sliding window over the spatial extents `shape`.

    "same" gives ceil(extent / stride) outputs, an odd row going to the far end (TensorFlow's rule, ONNX's
    SAME_UPPER).
    """
    if not isinstance(value, str) or value != "same":
        pads = explicit_pads(value, len(shape))
        if min(min(pair) for pair in pads) < 0:
            raise TypeRuleError(f"padding {value!r} must not be negative.")
        return pads
    pairs = []
    for n, k, s, d in zip(shape, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def spatial(x: Tensor) -> tuple[int, ...]:
    """The spatial extents of x (N, C, *spatial). Raises TypeRuleError when there are none."""
    if x.rank < 3:
        raise TypeRuleError(
            f"The input {x.shape} has no spatial axes: (batch, channels, extent, ...) is needed."
        )
    return x.shape[2:]


def positive(**numbers: int | tuple[int, ...]) -> None:
    """Check that all are integers, given by their names, of at least 1. Raises TypeRuleError otherwise."""
    for what, value in numbers.items():
        if min(integer(n, what) for n in entries_of(value, 1)) < 1:
            raise TypeRuleError(f"{what} {value} must be positive.")


class WindowLayers(NetworkBase):
    """Layers that look at windows and have no parameters."""

    @located
    def max_pool(
        self,
        x: Tensor,
        kernel: Ints,
        *,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        name: str = "",
    ) -> Tensor:
        """Largest element of each window. The stride is by default the kernel: windows side by side."""
        attrs = MaxPoolAttrs(*_window(x, kernel, stride, padding, dilation), ceil_mode)
        return self._add("max_pool", [x], attrs, name)[0]

    @located
    def average_pool(
        self,
        x: Tensor,
        kernel: Ints,
        *,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
        name: str = "",
    ) -> Tensor:
        """Mean of each window; padding counts in the divisor only with `count_include_pad`."""
        window = _window(x, kernel, stride, padding, dilation)
        attrs = AveragePoolAttrs(*window, ceil_mode, count_include_pad)
        return self._add("average_pool", [x], attrs, name)[0]

    @located
    def lp_pool(
        self,
        x: Tensor,
        kernel: Ints,
        *,
        p: int = 2,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        name: str = "",
    ) -> Tensor:
        """p-norm of each window."""
        attrs = LpPoolAttrs(*_window(x, kernel, stride, padding, dilation), ceil_mode, p)
        return self._add("lp_pool", [x], attrs, name)[0]

    @located
    def global_average_pool(self, x: Tensor, *, name: str = "") -> Tensor:
        """Mean over the spatial axes: (N, C, 1, ...)."""
        return self._global("reduce_mean", x, name, "global_average_pool")

    @located
    def global_max_pool(self, x: Tensor, *, name: str = "") -> Tensor:
        """Largest element over the spatial axes: (N, C, 1, ...)."""
        return self._global("reduce_max", x, name, "global_max_pool")

    def _global(self, op: str, x: Tensor, name: str, kind: str) -> Tensor:
        axes = tuple(range(2, 2 + len(spatial(x))))
        return self._add(op, [x], ReduceAttrs(axes, keepdims=True), name, kind=kind)[0]

    @located
    def lrn(
        self,
        x: Tensor,
        size: int,
        *,
        alpha: float = 1e-4,
        beta: float = 0.75,
        bias: float = 1.0,
        name: str = "",
    ) -> Tensor:
        """Cross-channel normalisation (Krizhevsky et al., 2012, section 3.3), alpha being divided by `size`.

        That is Caffe's and ONNX's definition: the paper's alpha is `alpha / size` here.
        """
        return self._add("lrn", [x], LrnAttrs(size, alpha, beta, bias), name)[0]


def _window(
    x: Tensor, kernel: Ints, stride: Ints | None, padding: Padding, dilation: Ints
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Pads]:
    """Kernel, strides, dilations and pads of a pooling layer."""
    extents = spatial(x)
    axes = len(extents)
    size, dilations = per_axis(kernel, axes, "kernel"), per_axis(dilation, axes, "dilation")
    strides = size if stride is None else per_axis(stride, axes, "stride")
    positive(kernel=size, stride=strides, dilation=dilations)
    return size, strides, dilations, window_pads(padding, extents, size, strides, dilations)
