"""Convolution as a matrix product: output pixels times output channels, over channels and taps.

    sums[n, kb, p, v] = sum over c, tap of patches[n, p, c, tap] * w[kb, c, tap, v]

`p` counts the output's pixels in storage order, so that tiles of pixels ignore where rows end: a 7 x 7 map
is 49 pixels. A 1x1 convolution without strides needs no patches, its input being the matrix already. Others
gather them, one run of pixels at a time, into a scratch matrix that stays in cache (Chellapilla, Puri and
Simard, High performance convolutional neural networks for document processing, 2006; gathered by tiles as in
Chetlur et al., arXiv 1410.0759).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from convc.lowering.base import Layouts, Lowering
from convc.lowering.direct import (
    Direct,
    channels,
    close,
    locate,
    pack_weights,
    refusal,
    sum_error,
)
from convc.lowering.epilogue import placeholder
from convc.target import Target
from convc.tiling.product import gathers, im2col_seconds, narrow
from convc.tiling.registers import flatten, padded_columns, unflatten
from convc.types import Array
from convc.workload import PATCHES, PRODUCT, ConvShape, Halo, Workload


class Im2col(Lowering):
    """A matrix product over patches of the input; dense, or with groups that fill whole channel blocks."""

    name = "im2col"
    ops = ("conv",)

    def applies(self, w: Workload, target: Target) -> str | None:
        s = ConvShape.of(w)
        if s.groups > 1 and (s.ic // s.groups % target.lanes or s.oc // s.groups % target.lanes):
            return (
                f"each of {s.groups} groups would be a product of its own with {s.ic // s.groups} x "
                f"{s.oc // s.groups} channels, which do not fill blocks of {target.lanes}"
            )
        return refusal(w)

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return Direct().layouts(w, target)

    def halo(self, w: Workload, target: Target) -> Halo:
        return ConvShape.of(w).pads if gathers(ConvShape.of(w), target) else ()

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if index == 1:
            s = ConvShape.of(w)
            return pack_weights(array, s, channels(s, target), target)
        return Direct().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        s = ConvShape.of(w)
        kind, out = w.inputs[0], w.outputs[0]
        assert kind is not None
        x = placeholder(kind, "x", self.halo(w, target))
        c, plain = channels(s, target), narrow(s, target)
        step = te.reduce_axis((0, c.steps), "step")
        inner = te.reduce_axis((0, c.inner), "inner")
        taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(s.kernel)]
        weights = te.placeholder((out.physical[1], c.steps, *s.kernel, c.inner, target.lanes), out.dtype, "w")
        gathered = gathers(s, target)
        matrix = _patches(x, s, target, plain) if gathered else None

        def term(n: Any, kb: Any, p: Any, lane: Any) -> Any:
            block, channel = (step, 0) if plain else locate(c, kb, step, inner)
            if matrix is not None:
                value = matrix(n, p, block, *taps, channel)
            else:
                value = x(n, block, *unflatten(p, s.output), *(() if plain else (channel,)))
            return te.sum(value * weights(kb, step, *taps, inner, lane), axis=[step, *taps, inner])

        pixels = padded_columns(math.prod(s.output), target)
        product = te.compute((s.n, out.physical[1], pixels, target.lanes), term, name=PRODUCT)

        def position(index: Sequence[Any]) -> list[Any]:
            n, kb, *where, lane = index
            return [n, kb, flatten(where, s.output), lane]

        return close(w, [x, weights], lambda *index: product(*position(index)))

    def cost(self, w: Workload, target: Target) -> float:
        return im2col_seconds(ConvShape.of(w), target)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        s = ConvShape.of(w)
        return sum_error(s.ic // s.groups * math.prod(s.kernel))


def _patches(x: Any, s: ConvShape, target: Target, plain: bool) -> Any:
    """The matrix (n, pixel, block, *taps, lane) of all input elements that each output pixel sees.

    Pixels beyond the last repeat it, to fill up a tile.
    """
    pixels = math.prod(s.output)
    padded = padded_columns(pixels, target)
    lanes = () if plain else (target.lanes,)
    shape = (s.n, padded, int(x.shape[1]), *s.kernel, *(lanes or (1,)))

    def gather(n: Any, p: Any, block: Any, *rest: Any) -> Any:
        where = unflatten(p if padded == pixels else tirx.min(p, pixels - 1), s.output)
        at = [
            i * a + k * d for i, k, a, d in zip(where, rest[:-1], s.strides, s.dilations, strict=True)
        ]  # fmt: skip
        return x(n, block, *at, *rest[-1 : len(rest) - 1 + len(lanes)])

    return te.compute(shape, gather, name=PATCHES)
