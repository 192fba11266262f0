"""MaxPool, AveragePool, LpPool and their global forms."""

from __future__ import annotations

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.frontends.onnx.windows import geometry
from convc.ops.pool import AveragePoolAttrs, LpPoolAttrs, MaxPoolAttrs
from convc.ops.reduce import ReduceAttrs, ReduceLpAttrs
from convc.types import Shape

LARGEST_P = 64
"""Powers are written out as products. Beyond this they leave float32 for nearly every number."""


@onnx_op("MaxPool")
def max_pool(call: Call) -> Result:
    """The largest element under a window; padding never wins."""
    if 1 in call.used:
        call.refuse("output 1 (Indices) is used")
    w = geometry(call)
    attrs = MaxPoolAttrs(w.kernel, w.strides, w.dilations, w.pads, call.flag("ceil_mode"))
    return call.emit("max_pool", [call.input(0)], attrs)


@onnx_op("AveragePool")
def average_pool(call: Call) -> Result:
    """The mean under a window, with or without the padding."""
    w = geometry(call)
    attrs = AveragePoolAttrs(
        w.kernel, w.strides, w.dilations, w.pads, call.flag("ceil_mode"), call.flag("count_include_pad")
    )
    return call.emit("average_pool", [call.input(0)], attrs)


@onnx_op("LpPool")
def lp_pool(call: Call) -> Result:
    """The p-norm under a window."""
    w = geometry(call)
    attrs = LpPoolAttrs(w.kernel, w.strides, w.dilations, w.pads, call.flag("ceil_mode"), _exponent(call))
    return call.emit("lp_pool", [call.input(0)], attrs)


def _exponent(call: Call) -> int:
    """The p of a p-norm."""
    p = call.integer("p", 2)
    if not 0 < p <= LARGEST_P:
        call.malformed(f"attribute p = {p}; a norm's exponent is between 1 and {LARGEST_P}.")
    return p


def _spatial_axes(call: Call) -> Shape:
    rank = call.input(0).type.rank
    if rank < 3:
        call.malformed(f"the input has shape {call.input(0).type.shape}, without spatial axes.")
    return tuple(range(2, rank))


@onnx_op("GlobalAveragePool")
def global_average_pool(call: Call) -> Result:
    """The mean over all spatial axes."""
    return call.emit("reduce_mean", [call.input(0)], ReduceAttrs(_spatial_axes(call)))


@onnx_op("GlobalMaxPool")
def global_max_pool(call: Call) -> Result:
    """The maximum over all spatial axes."""
    return call.emit("reduce_max", [call.input(0)], ReduceAttrs(_spatial_axes(call)))


@onnx_op("GlobalLpPool")
def global_lp_pool(call: Call) -> Result:
    """The p-norm over all spatial axes."""
    return call.emit("reduce_lp", [call.input(0)], ReduceLpAttrs(_spatial_axes(call), p=_exponent(call)))
