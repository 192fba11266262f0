"""Transposed convolution on blocked tensors, as a gather: every output sums the taps that reach it.

    sums[n, kb, oh, ow, v] = sum over c, i, j of
        x[n, c, (oh + pad) div s - i, (ow + pad) div s - j] * w[kb, c, (oh + pad) mod s + s i, ..., v]

No product is made with a zero between pixels, as stretching the input would, and nothing is added to memory
twice, as scattering would. A kernel that is no multiple of the stride is extended by taps of zero, and one
that is dilated besides has them in its gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te

from convc.lowering.base import Layouts, Lowering, blocked_like
from convc.lowering.direct import close, pack_vector, refusal, sum_error
from convc.lowering.epilogue import placeholder
from convc.target import Target
from convc.tiling.transpose import Transposed, seconds
from convc.types import Array
from convc.workload import PRODUCT, Halo, Workload


class DirectTranspose(Lowering):
    """Direct transposed convolution in one to three dimensions."""

    name = "direct"
    ops = ("conv_transpose",)

    @property
    def schedule(self) -> str:
        return "transpose"

    def applies(self, w: Workload, target: Target) -> str | None:
        reason = refusal(w)
        if reason is not None:
            return reason
        s = Transposed.of(w)
        if s.groups > 1 and (s.group_in % target.lanes or s.group_out % target.lanes):
            return f"groups must fill whole blocks of {target.lanes} channels"
        if s.axes[-1].stride > target.registers:  # a tile unrolls them all
            return f"the {s.axes[-1].stride} outputs of a stride are more than {target.registers} registers"
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return blocked_like(w, target, inputs=(0,))

    def halo(self, w: Workload, target: Target) -> Halo:
        s = Transposed.of(w)
        counts = [*(axis.output for axis in s.axes[:-1]), s.columns(target)]
        return tuple(axis.reach(count) for axis, count in zip(s.axes, counts, strict=True))

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if index == 2 and w.arity > 2:
            return pack_vector(array, target)
        if index != 1:
            return super().pack(w, target, index, array)
        s, lanes = Transposed.of(w), target.lanes
        taps = [axis.stored_taps for axis in s.axes]
        blocks, steps = -(-s.oc // lanes), -(-s.group_in // lanes)
        packed = np.zeros((blocks * lanes, steps * lanes, *taps), array.dtype)
        kernel = tuple(slice(0, axis.kernel, axis.spread) for axis in s.axes)
        for group in range(s.groups):
            outputs = slice(group * s.group_out, (group + 1) * s.group_out)
            where = (outputs, slice(s.group_in), *kernel)
            packed[where] = np.moveaxis(array[group * s.group_in : (group + 1) * s.group_in], 0, 1)
        split = packed.reshape(blocks, lanes, steps, lanes, *taps)
        return np.ascontiguousarray(np.moveaxis(np.moveaxis(split, 1, -1), 2, -2))

    def compute(self, w: Workload, target: Target) -> Any:
        s, lanes = Transposed.of(w), target.lanes
        kind, out = w.inputs[0], w.outputs[0]
        assert kind is not None
        halo = self.halo(w, target)
        x = placeholder(kind, "x", halo)
        blocks, steps = out.physical[1], -(-s.group_in // lanes)
        weights = te.placeholder(
            (blocks, steps, *(a.stored_taps for a in s.axes), lanes, lanes), out.dtype, "w"
        )
        step, inner = te.reduce_axis((0, steps), "step"), te.reduce_axis((0, min(lanes, s.group_in)), "inner")
        taps = [te.reduce_axis((0, a.taps), f"k{i}") for i, a in enumerate(s.axes)]

        def term(n: Any, kb: Any, *rest: Any) -> Any:
            *places, v = rest
            axes = list(zip(s.axes, places, taps, strict=True))
            where = [a.source(o, j) + before for (a, o, j), (before, _) in zip(axes, halo, strict=True)]
            which = [a.tap(o, j) for a, o, j in axes]
            group = te.floordiv(kb, s.group_out // lanes) * steps if s.groups > 1 else 0
            value = x(n, group + step, *where, inner) * weights(kb, step, *which, inner, v)
            return te.sum(value, axis=[step, *taps, inner])

        product = te.compute((*out.physical[:-2], s.columns(target), lanes), term, name=PRODUCT)
        return close(w, [x, weights], product)

    def cost(self, w: Workload, target: Target) -> float:
        return seconds(Transposed.of(w), target)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        return sum_error(Transposed.of(w).terms)
