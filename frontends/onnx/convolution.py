"""Conv and ConvTranspose."""

from __future__ import annotations

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.frontends.onnx.windows import Geometry, geometry, halves
from convc.ops.common import Pads
from convc.ops.conv import ConvAttrs, ConvTransposeAttrs
from convc.types import Shape, TensorType


def _kernel(call: Call) -> Shape:
    x, w = call.input(0).type, call.input(1).type
    if w.rank != x.rank:
        call.malformed(f"weights {w.shape} and input {x.shape} have different numbers of dimensions.")
    return w.shape[2:]


@onnx_op("Conv")
def conv(call: Call) -> Result:
    """Cross-correlation over any number of spatial axes."""
    window = geometry(call, _kernel(call))
    attrs = ConvAttrs(window.strides, window.dilations, window.pads, call.integer("group", 1))
    return call.emit("conv", [call.input(0), call.input(1), call.optional(2)], attrs)


@onnx_op("ConvTranspose")
def conv_transpose(call: Call) -> Result:
    """The adjoint of Conv; padding may follow from a wanted output shape."""
    window = geometry(call, _kernel(call))
    spatial = len(window.kernel)
    extra = call.ints("output_padding", (0,) * spatial, count=spatial)
    pads = window.pads
    if call.has("output_shape") or call.text("auto_pad", "NOTSET").startswith("SAME"):
        pads, extra = _transposed_padding(call, window, extra)
    attrs = ConvTransposeAttrs(window.strides, window.dilations, pads, call.integer("group", 1), extra)
    _afford_canvas(call, window, extra)
    return call.emit("conv_transpose", [call.input(0), call.input(1), call.optional(2)], attrs)


def _afford_canvas(call: Call, window: Geometry, extra: Shape) -> None:
    """Refuse a result that is too large before padding crops it: it may be computed whole."""
    x = call.input(0).type
    canvas = (
        stride * (n - 1) + dilation * (kernel - 1) + 1 + more
        for n, kernel, stride, dilation, more in zip(
            x.shape[2:], window.kernel, window.strides, window.dilations, extra, strict=True
        )
    )
    call.afford(TensorType((x.shape[0], call.input(1).type.shape[1], *canvas), x.dtype))


def _transposed_padding(call: Call, window: Geometry, extra: Shape) -> tuple[Pads, Shape]:
    """Padding that yields `output_shape`, or the input's size times the stride under SAME_*."""
    sizes = call.input(0).type.shape[2:]
    wanted = [n * s for n, s in zip(sizes, window.strides, strict=True)]
    if call.has("output_shape"):
        stated = call.ints("output_shape")
        wanted = list(
            stated[2:] if len(stated) == len(sizes) + 2 else stated
        )  # some exporters list N and C too
    if len(wanted) != len(sizes):
        call.malformed(f"attribute output_shape = {wanted} does not fit {len(sizes)} spatial axes.")
    upper = call.text("auto_pad", "NOTSET") == "SAME_UPPER"
    pads, extended = [], []
    for axis, size in enumerate(sizes):
        span = window.dilations[axis] * (window.kernel[axis] - 1) + 1
        total = window.strides[axis] * (size - 1) + span + extra[axis] - wanted[axis]
        pads.append(halves(max(total, 0), upper=upper))
        extended.append(extra[axis] + max(-total, 0))  # a larger output than the kernels reach ends in zeros
    return tuple(pads), tuple(extended)
