"""Convolution of small groups: every lane of a vector multiplies a channel of its own group.

    sums[n, kb, oh, ow, v] = sum over i, kh, kw of x[n, first(kb, v) + i, ...] * w[kb, i, kh, kw, v]

`v` is a lane, i counts the channels of a group and first(kb, v) is the first channel of the lane's group.
Where groups are runs of lanes, such as 4 groups of 4 in 16 lanes, the operand is one permutation of the
input's vector, the same for all taps that see the pixel. Where a vector has two groups, such as the second 16
of groups of 24, it is a blend of two broadcasts. Either way no multiplication by zero is left.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT32
from convc.lowering.direct import Direct, close, pack_vector, refusal
from convc.lowering.epilogue import placeholder
from convc.target import Target
from convc.tiling.grouped import Groups, found, groups_of, seconds
from convc.tiling.registers import padded_columns
from convc.types import Array
from convc.workload import PRODUCT, ConvShape, Workload


class Grouped(Direct):
    """Grouped convolution in one to three dimensions whose groups are no whole vectors."""

    name = "grouped"
    ops: ClassVar[tuple[str, ...]] = ("conv",)

    def applies(self, w: Workload, target: Target) -> str | None:
        reason = refusal(w)
        if reason is not None:
            return reason
        groups = groups_of(ConvShape.of(w), target)
        return groups if isinstance(groups, str) else None

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if index != 1:
            return super().pack(w, target, index, array)
        return np.ascontiguousarray(pack_vector(array, target))

    def compute(self, w: Workload, target: Target) -> Any:
        s = ConvShape.of(w)
        kind, out = w.inputs[0], w.outputs[0]
        assert kind is not None
        groups = found(s, target)
        x = placeholder(kind, "x", self.halo(w, target))
        weights = te.placeholder((out.physical[1], groups.group_in, *s.kernel, target.lanes), out.dtype, "w")
        step = te.reduce_axis((0, groups.steps), "step")
        inner = te.reduce_axis((0, groups.inner), "inner")
        taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(s.kernel)]

        def term(n: Any, kb: Any, *rest: Any) -> Any:
            *index, lane = rest
            where = [i * a + k * d for i, k, a, d in zip(index, taps, s.strides, s.dilations, strict=True)]

            def read(block: Any, at: Any) -> Any:
                return x(n, block, *where, at)

            value = _operand(groups, read, kb, lane, step, inner)
            return te.sum(
                value * weights(kb, step * groups.inner + inner, *taps, lane), axis=[step, inner, *taps]
            )

        shape = (*out.physical[:-2], padded_columns(s.output[-1], target), target.lanes)
        product = te.compute(shape, term, name=PRODUCT)
        return close(w, [x, weights], product)

    def cost(self, w: Workload, target: Target) -> float:
        return seconds(ConvShape.of(w), target)


def _operand(groups: Groups, read: Any, kb: Any, lane: Any, step: Any, inner: Any) -> Any:
    """Channel `step * groups.inner + inner` of the group of each lane."""
    if groups.permuted:
        return read(kb, lane // groups.group_in * groups.group_in + inner)
    lanes, size = groups.lanes, groups.group_out
    lower = kb * lanes // size
    upper = tirx.min(kb * lanes + lanes - 1, groups.channels_out - 1) // size
    per_block = lanes // groups.inner

    def channel(group: Any) -> Any:
        run = group * groups.steps + step
        return read(run // per_block, run % per_block * groups.inner + inner)

    # Bound outside of the choice, so that its condition changes no address; see functions.masked.
    first, second = tirx.Var("first", FLOAT32), tirx.Var("second", FLOAT32)
    chosen = tirx.Select(kb * lanes + lane < (lower + 1) * size, first, second)
    return tirx.Let(first, channel(lower), tirx.Let(second, channel(upper), chosen))
