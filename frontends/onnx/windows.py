"""What Conv, ConvTranspose and the pools share: the kernel, strides and padding of a sliding window."""

from __future__ import annotations

from dataclasses import dataclass

from convc.frontends.onnx.call import Call
from convc.ops.common import Pads
from convc.types import Shape, TensorType


@dataclass(frozen=True)
class Geometry:
    """A sliding window, with one entry for each spatial axis."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Pads


def geometry(call: Call, kernel: Shape | None = None) -> Geometry:
    """Read the window's attributes. `kernel` is that of the weights, which kernel_shape must repeat."""
    shape = call.input(0).type.shape
    if len(shape) < 3:
        call.malformed(f"the input has shape {shape}; batch, channels and spatial axes are expected.")
    spatial = len(shape) - 2
    stated = call.ints("kernel_shape", kernel, count=spatial)
    if kernel is not None and stated != kernel:
        call.malformed(f"attribute kernel_shape = {list(stated)} contradicts the weights' {list(kernel)}.")
    strides = call.ints("strides", (1,) * spatial, count=spatial)
    dilations = call.ints("dilations", (1,) * spatial, count=spatial)
    if min(*stated, *strides, *dilations) < 1:
        call.malformed(
            f"kernel {list(stated)}, strides {list(strides)}, dilations {list(dilations)} must be positive."
        )
    window = Geometry(stated, strides, dilations, padding(call, shape[2:], stated, strides, dilations))
    padded = (n + sum(pair) for n, pair in zip(shape[2:], window.pads, strict=True))
    call.afford(TensorType((*shape[:2], *padded), call.input(0).type.dtype))
    return window


def padding(call: Call, sizes: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> Pads:
    """The padding that `pads` states, or that `auto_pad` implies for inputs of these sizes."""
    mode = call.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return explicit_pads(call, len(sizes))
    if mode == "VALID":
        return ((0, 0),) * len(sizes)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        call.malformed(f"attribute auto_pad = '{mode}' is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER.")
    totals = (
        max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    )
    return tuple(halves(total, upper=mode == "SAME_UPPER") for total in totals)


def halves(total: int, *, upper: bool) -> tuple[int, int]:
    """Split padding in two; an odd row goes to the end where `upper`, else to the start."""
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def explicit_pads(call: Call, spatial: int) -> Pads:
    """The attribute `pads`, which lists all starts, then all ends."""
    pads = call.ints("pads", (0,) * (2 * spatial), count=2 * spatial)
    if min(pads) < 0:
        call.refuse(f"attribute pads = {list(pads)} is negative")
    return tuple(zip(pads[:spatial], pads[spatial:], strict=True))
