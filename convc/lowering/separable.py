"""A depthwise and a 1x1 convolution in one kernel, so that what is between them never leaves a core's cache.

    hidden[n, c, h, w] = between(first(x) + bias)         of a run of rows, all channels or one block
    y                  = epilogue(second(hidden) + bias)

See `separable_kernel` for the loops and `tiling.separable` for the tiles. Joining them pays where the tensor
between is the largest around, as in MobileNet v2 (Sandler et al., arXiv 1801.04381): it has six times as many
channels as those before and after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from convc.ir import opdef
from convc.lowering.base import Layouts, Lowering, blocked_like, other_format
from convc.lowering.direct import pack_vector, pack_weights, sum_error
from convc.lowering.separable_kernel import (
    DEPTHWISE,
    DEPTHWISE_BIAS,
    POINTWISE,
    POINTWISE_BIAS,
    build,
)
from convc.ops.separable import SeparableAttrs
from convc.target import Target
from convc.tiling.registers import Channels
from convc.tiling.separable import SeparableShape, Tiling, choose, seconds
from convc.types import Array
from convc.workload import Halo, Workload


class Separable(Lowering):
    """Both convolutions of a task in turn, over a scratch tensor that stays in cache."""

    name = "separable"
    ops = ("depthwise_pointwise", "pointwise_depthwise")

    def applies(self, w: Workload, target: Target) -> str | None:
        assert isinstance(w.attrs, SeparableAttrs)
        if reason := other_format(w):
            return reason
        if not all(c for c, kind in zip(w.constant[1 : w.arity], w.inputs[1:], strict=False) if kind):
            return "weights and biases must be constant, to be packed"
        if open_ended := {name for name, _ in w.attrs.between if not opdef(name).finite}:
            return f"{min(open_ended)} between the convolutions may be infinite in lanes without a channel"
        return SeparableShape.of(w).refusal

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return blocked_like(w, target, inputs=(0,))

    def halo(self, w: Workload, target: Target) -> Halo:
        s = SeparableShape.of(w)
        return s.depthwise.pads if s.depthwise_first else ()

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if not 0 < index < w.arity:
            return super().pack(w, target, index, array)
        if index == POINTWISE:
            s = SeparableShape.of(w).pointwise
            return pack_weights(array, s, Channels.of(s, target.lanes), target)
        return pack_vector(array[:, 0] if index == DEPTHWISE else array, target)

    def compute(self, w: Workload, target: Target) -> Any:
        return self.compute_for(w, target, choose(SeparableShape.of(w), target))

    def compute_for(self, w: Workload, target: Target, config: Tiling) -> Any:
        s, lanes = SeparableShape.of(w), target.lanes
        c = Channels.of(s.pointwise, lanes)
        wide, last = -(-s.depthwise.oc // lanes), -(-s.pointwise.oc // lanes)
        packed = {
            DEPTHWISE: (wide, *s.depthwise.kernel, lanes),
            POINTWISE: (last, c.steps, 1, 1, c.inner, lanes),
            DEPTHWISE_BIAS: (wide, lanes),
            POINTWISE_BIAS: (last, lanes),
        }
        shapes = {i: kind.physical for i, kind in enumerate(w.inputs) if kind is not None}
        shapes.update({i: shape for i, shape in packed.items() if i < w.arity and i in shapes})
        if s.depthwise_first:
            n, blocks, *spatial, _ = shapes[0]
            pads = s.depthwise.pads
            enlarged = (before + e + after for e, (before, after) in zip(spatial, pads, strict=True))
            shapes[0] = (n, blocks, *enlarged, lanes)
        return build(w, s, config, target, shapes)

    def cost(self, w: Workload, target: Target) -> float:
        s = SeparableShape.of(w)
        return seconds(s, choose(s, target), target)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        s = SeparableShape.of(w)
        return sum_error(math.prod(s.depthwise.kernel)) + sum_error(s.pointwise.ic)
