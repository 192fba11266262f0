"""Upsample and Resize in their successive forms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from convc.frontends.onnx.call import Call, shortest
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.ops.resize import COORDINATES, MODES, NEAREST_MODES, ResizeAttrs
from convc.types import Shape


@onnx_op("Upsample")
def upsample_by_attribute(call: Call) -> Result:
    """Scales as an attribute."""
    return _legacy(call, call.reals("scales"))


@onnx_op("Upsample", since=9)
@onnx_op("Resize", since=10)
def upsample(call: Call) -> Result:
    """Scales as an input; asymmetric coordinates."""
    return _legacy(call, _floats(call, 1, "scales"))


def _legacy(call: Call, scales: Sequence[float]) -> Result:
    """Before opset 11 nothing but scales is stated, and each engine rounds as it did: down when it
    enlarges, up when it shrinks (onnxruntime, upsamplebase.h, ResizeNearestMode::SIMPLE).
    """
    mode = call.text("mode", "nearest")
    shrinks = any(s < 1 for s in scales)
    if mode == "nearest" and shrinks and any(s > 1 for s in scales):
        call.refuse(f"scales {list(scales)} enlarge one axis and shrink another")
    return _emit(
        call,
        _scaled(call, scales),
        scales,
        mode="linear" if mode == "bilinear" else mode,
        coordinates="asymmetric",
        nearest_mode="ceil" if shrinks else "floor",
    )


@onnx_op("Resize", since=11)
def resize(call: Call) -> Result:
    """Scales or sizes, for all axes or (from opset 18 on) for some; coordinates as stated."""
    shape = call.input(0).type.shape
    axes = call.axes(call.ints("axes", tuple(range(len(shape)))), len(shape))
    sizes = call.constant_ints(3, "sizes")
    scales = [1.0] * len(shape)
    if sizes:
        target = list(shape)
        if len(sizes) != len(axes):
            call.malformed(f"sizes {list(sizes)} do not fit axes {list(axes)} of the input {shape}.")
        for axis, size, scale in zip(axes, sizes, _ratios(call, shape, axes, sizes), strict=True):
            keep = call.text("keep_aspect_ratio_policy", "stretch") != "stretch"
            target[axis] = math.floor(shape[axis] * scale + 0.5) if keep else size
            scales[axis] = scale
    else:
        stated = _floats(call, 2, "scales")
        if len(stated) != len(axes):
            call.malformed(f"scales {list(stated)} do not fit axes {list(axes)} of the input {shape}.")
        for axis, scale in zip(axes, stated, strict=True):
            scales[axis] = scale
        target = list(_scaled(call, scales))
    return _emit(
        call,
        tuple(target),
        scales,
        mode=call.text("mode", "nearest"),
        coordinates=call.text("coordinate_transformation_mode", "half_pixel"),
        nearest_mode=call.text("nearest_mode", "round_prefer_floor"),
    )


def _floats(call: Call, index: int, what: str) -> tuple[float, ...]:
    """Scales as their authors wrote them: 0.7 and not 0.69999999, which would round positions elsewhere."""
    array = call.constant(index, what)
    if array is None or array.dtype.kind != "f" or array.ndim > 1:
        call.malformed(f"input {index} ({what}) is missing, or no vector of floating-point numbers.")
    return tuple(shortest(number) for number in array.reshape(-1))


def _scaled(call: Call, scales: Sequence[float]) -> Shape:
    """floor(extent * scale), in float32 as other engines compute it."""
    shape = call.input(0).type.shape
    if len(scales) != len(shape) or not all(0 < s < math.inf for s in scales):
        call.malformed(f"scales {list(scales)} do not fit the input {shape}.")
    return tuple(int(np.float32(n) * np.float32(s)) for n, s in zip(shape, scales, strict=True))


def _ratios(call: Call, shape: Shape, axes: Shape, sizes: Shape) -> list[float]:
    """The scale of each resized axis; one for all where the aspect ratio is kept."""
    if min(shape) < 1 or min(sizes) < 1:
        call.malformed(f"the input {shape} cannot be resized to {list(sizes)}.")
    ratios = [size / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return ratios
    if policy not in ("not_larger", "not_smaller"):
        call.malformed(f"attribute keep_aspect_ratio_policy = '{policy}' is unknown.")
    return [min(ratios) if policy == "not_larger" else max(ratios)] * len(ratios)


def _emit(
    call: Call, target: Shape, scales: Sequence[float], *, mode: str, coordinates: str, nearest_mode: str
) -> Result:
    for name, found, known in (
        ("mode", mode, MODES),
        ("coordinate_transformation_mode", coordinates, COORDINATES),
        ("nearest_mode", nearest_mode, NEAREST_MODES),
    ):
        if found not in known:
            call.refuse(f"attribute {name} = '{found}'")
    attrs = ResizeAttrs(
        target,
        tuple(scales),
        mode,
        coordinates,
        nearest_mode,
        call.real("cubic_coeff_a", -0.75),
        call.flag("exclude_outside"),
        call.flag("antialias"),
    )
    return call.emit("resize", [call.input(0)], attrs)
