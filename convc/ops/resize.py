"""Resampling: every axis is multiplied by a matrix of weights, which ONNX defines at Resize-19."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.fields import Field, Fields
from convc.ir.opdef import Attrs, Cost, OpDef, register
from convc.ir.traits import Affine
from convc.ops.common import array, must_be, per_axis, required
from convc.types import Array, Shape, TensorType

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
)  # fmt: skip
NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class ResizeAttrs(Attrs):
    """The result's shape, and the scale of every axis (which need not be the quotient of the extents)."""

    shape: tuple[int, ...]
    scales: tuple[float, ...]
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


def source_positions(attrs: ResizeAttrs, axis: int, size: int) -> Array:
    """Where each output element along `axis` lies among the `size` input elements: (output,) in float64."""
    out, scale = attrs.shape[axis], attrs.scales[axis]
    x = np.arange(out, dtype=np.float64)
    if attrs.coordinates == "asymmetric":
        return np.asarray(x / scale)
    if attrs.coordinates == "align_corners":
        return np.asarray(x * (size - 1) / (out - 1) if out > 1 else 0 * x)
    if attrs.coordinates == "pytorch_half_pixel" and out == 1:
        return 0 * x
    if attrs.coordinates == "half_pixel_symmetric":
        adjustment = out / (scale * size)  # the centre stays put where scale * size is no integer
        return np.asarray(size / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5)
    return np.asarray((x + 0.5) / scale - 0.5)


def nearest_indices(attrs: ResizeAttrs, axis: int, size: int) -> Array:
    """The input element that each output element along `axis` copies: (output,) integers."""
    x = source_positions(attrs, axis, size)
    rounded = {
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
        "floor": np.floor(x),
        "ceil": np.ceil(x),
    }[attrs.nearest_mode]
    return np.clip(rounded, 0, size - 1).astype(np.int64)


def _kernel(attrs: ResizeAttrs, distance: Array) -> Array:
    """Weight of an input element at a distance: a hat, or Keys' cubic (IEEE ASSP 29(6), 1981, equation 4)."""
    d = np.abs(distance)
    if attrs.mode == "linear":
        return np.asarray(np.maximum(1 - d, 0))
    a = attrs.cubic_coeff
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0)))


def resize_matrix(attrs: ResizeAttrs, axis: int, size: int) -> Array:
    """The weights along one axis, (output, size) in float64; each row sums to 1.

    With `antialias` the kernel is stretched by the scale when shrinking. Taps beyond the border repeat the
    edge, or with `exclude_outside` fall away and the others are scaled up.
    """
    out = attrs.shape[axis]
    matrix = np.zeros((out, size))
    if attrs.mode == "nearest":
        matrix[np.arange(out), nearest_indices(attrs, axis, size)] = 1
        return matrix
    shrink = min(attrs.scales[axis], 1.0) if attrs.antialias else 1.0
    reach = math.ceil((2 if attrs.mode == "cubic" else 1) / shrink)
    positions = source_positions(attrs, axis, size)
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    weights = _kernel(attrs, (positions[:, None] - taps) * shrink)
    if attrs.exclude_outside:
        weights = np.where((taps >= 0) & (taps < size), weights, 0)
    np.add.at(matrix, (np.arange(out)[:, None], np.clip(taps, 0, size - 1)), weights)
    return np.asarray(matrix / matrix.sum(1, keepdims=True))


@register
class Resize(OpDef[ResizeAttrs]):
    """Upsampling and downsampling of any axes."""

    name = "resize"
    attrs = ResizeAttrs
    finite = True
    ends_in_epilogue = True

    def infer(self, attrs: ResizeAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be("any" if attrs.mode == "nearest" else "float", x)
        per_axis(attrs.shape, x.rank, "shape")
        per_axis(attrs.scales, x.rank, "scales")
        for what, found, known in (
            ("mode", attrs.mode, MODES),
            ("coordinates", attrs.coordinates, COORDINATES),
            ("nearest_mode", attrs.nearest_mode, NEAREST_MODES),
        ):
            if found not in known:
                raise TypeRuleError(f"{what} '{found}' is unknown; use one of {', '.join(known)}.")
        if min(attrs.shape, default=1) < 1 or min(attrs.scales, default=1) <= 0 or not x.size:
            raise TypeRuleError(f"{x.shape} cannot be resized to {attrs.shape} by {attrs.scales}.")
        return (TensorType(attrs.shape, x.dtype),)

    def reference(self, attrs: ResizeAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        y = array(inputs, 0)
        for axis, size in enumerate(y.shape):
            if attrs.mode == "nearest":
                y = np.take(y, nearest_indices(attrs, axis, size), axis)
            elif (attrs.shape[axis], attrs.scales[axis]) != (size, 1.0):
                y = np.moveaxis(np.tensordot(y, resize_matrix(attrs, axis, size), (axis, 1)), -1, axis)
        return (y,)

    def cost(
        self, attrs: ResizeAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        x = required(inputs, 0, "x")
        taps = {"nearest": 1, "linear": 2, "cubic": 4}[attrs.mode]
        resized = sum(1 for a, b in zip(x.shape, attrs.shape, strict=True) if a != b)
        return Cost(other=outputs[0].size * taps**resized)

    def passes(self, attrs: ResizeAttrs) -> Affine:
        """All: the weights of a pixel sum to 1."""
        return Affine.ALL

    def per_channel(self, attrs: ResizeAttrs, inputs: Sequence[TensorType | None]) -> bool:
        return attrs.shape[:2] == required(inputs, 0, "x").shape[:2] and attrs.scales[:2] == (1.0, 1.0)

    def gathers(self, attrs: ResizeAttrs, inputs: Sequence[TensorType | None]) -> bool:
        return True

    def receptive(
        self, attrs: ResizeAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """A kernel of so many taps, stretched where it has to smooth; the jump is divided by the scale."""
        taps = {"nearest": 1, "linear": 2, "cubic": 4}[attrs.mode]
        result: list[Field | None] = []
        for field, scale in zip(operands[0][1], attrs.scales, strict=True):
            factor = Fraction(scale).limit_denominator(10_000)
            if field is None or factor == 1:
                result.append(field)
                continue
            stretch = 1 / factor if attrs.antialias and factor < 1 else Fraction(1)
            result.append(field.upsampled(math.ceil(taps * stretch), factor))
        return tuple(result)
