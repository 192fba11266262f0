"""Convolution by its definition, on blocked tensors: every multiplication done, none prepared.

    sums[n, kb, oh, ow, v] = sum over c, kh, kw of x[n, c, oh*s + kh*d, ow*s + kw*d] * w[kb, c, kh, kw, v]

`v` is a lane: a vector holds as many output channels, and each multiply-add takes one broadcast input
element and one weight vector. The input's border of zeros is part of its buffer (`halo`), so that no loop
has a condition. Input with very few channels is read in plain layout, since padding 3 channels to 16 would
multiply the work by 5. A depthwise convolution has no sum over channels and multiplies vector by vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from tvm import te, tirx

from convc.lowering.base import Layouts, Lowering, blocked_like, other_format
from convc.lowering.epilogue import finish, largest, operand_placeholders, placeholder
from convc.target import Target
from convc.tiling.product import by_channel, direct_seconds, direct_tiles, narrow, sum_blocks, sum_columns
from convc.tiling.registers import Channels
from convc.types import PLAIN, Array, Layout
from convc.workload import OUTPUT, PRODUCT, ConvShape, Halo, Workload

EPS = float(np.finfo(np.float32).eps)


class Direct(Lowering):
    """Direct convolution in one to three dimensions, with strides, dilations and groups."""

    name = "direct"
    ops: ClassVar[tuple[str, ...]] = ("conv", "conv_max_pool")

    def applies(self, w: Workload, target: Target) -> str | None:
        s = ConvShape.of(w)
        if any(p > 1 for p in s.pool[:-2]):
            return f"it pools the last two axes, not {s.pool}"
        if s.pool and not direct_tiles(s, target):
            return f"windows of {'x'.join(map(str, s.pool))} outputs do not fit {target.registers} registers"
        return refusal(w)

    def layouts(self, w: Workload, target: Target) -> Layouts:
        blocked = blocked_like(w, target, inputs=(0,))
        if narrow(ConvShape.of(w), target):
            return Layouts((PLAIN, *blocked.inputs[1:]), blocked.outputs)
        return blocked

    def halo(self, w: Workload, target: Target) -> Halo:
        s = ConvShape.of(w)
        *others, (before, after) = s.pads
        span = s.dilations[-1] * (s.kernel[-1] - 1) + 1
        reach = (sum_columns(s, target) - 1) * s.strides[-1] + span
        return (*others, (before, max(after, reach - before - s.input[-1])))

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        s = ConvShape.of(w)
        if index == 1:
            if by_channel(s):
                return pack_vector(array[:, 0], target)
            return pack_weights(array, s, channels(s, target), target, sum_blocks(s, target))
        if index == 2 and w.arity > 2:
            return pack_vector(array, target)
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        s = ConvShape.of(w)
        kind, out = w.inputs[0], w.outputs[0]
        assert kind is not None
        x = placeholder(kind, "x", self.halo(w, target))
        blocks, lanes = sum_blocks(s, target), target.lanes
        taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(s.kernel)]
        shape = (s.n, blocks, *s.output[:-1], sum_columns(s, target), lanes)

        def pixel(index: Sequence[Any]) -> list[Any]:
            return [i * a + k * d for i, k, a, d in zip(index, taps, s.strides, s.dilations, strict=True)]

        if by_channel(s):
            weights = te.placeholder((blocks, *s.kernel, lanes), out.dtype, "w")

            def term(n: Any, kb: Any, *rest: Any) -> Any:
                value = x(n, kb, *pixel(rest[:-1]), rest[-1]) * weights(kb, *taps, rest[-1])
                return te.sum(value, axis=taps)
        else:
            c = channels(s, target)
            step = te.reduce_axis((0, c.steps), "step")
            inner = te.reduce_axis((0, c.inner), "inner")
            weights = te.placeholder((blocks, c.steps, *s.kernel, c.inner, lanes), out.dtype, "w")

            def term(n: Any, kb: Any, *rest: Any) -> Any:
                where = pixel(rest[:-1])
                if narrow(s, target):
                    value = x(n, step, *where)
                else:
                    block, lane = locate(c, kb, step, inner)
                    value = x(n, block, *where, lane)
                return te.sum(value * weights(kb, step, *taps, inner, rest[-1]), axis=[step, *taps, inner])

        product = te.compute(shape, term, name=PRODUCT)

        def total(n: Any, kb: Any, *rest: Any) -> Any:
            first = [i * p for i, p in zip(rest, s.window, strict=False)]
            return largest(
                s.window,
                lambda tap: product(n, kb, *(f + t for f, t in zip(first, tap, strict=True)), rest[-1]),
            )

        return close(w, [x, weights], total)

    def cost(self, w: Workload, target: Target) -> float:
        return direct_seconds(ConvShape.of(w), target)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        s = ConvShape.of(w)
        return sum_error(s.ic // s.groups * math.prod(s.kernel))


def refusal(w: Workload) -> str | None:
    """Why no kernel with packed weights can compute this convolution; None if one can."""
    if reason := other_format(w):
        return reason
    if len(w.outputs[0].shape) > 5:
        return f"takes up to 3 spatial axes, not {w.outputs[0].rank - 2}"
    if not w.constant[1]:
        return "weights must be constant, to be packed"
    if w.arity > 2 and w.inputs[2] is not None and not w.constant[2]:
        return "the bias must be constant, to be packed"
    return None


def sum_error(terms: int) -> float:
    """Likely relative error of a float32 sum of `terms` products, relative to the largest such sum.

    Rounding errors of a running sum behave as a random walk: each of the `terms` additions errs by at most
    eps/2 of a partial sum, which grows as the square root of its length where signs are mixed, so the total
    is of the order eps/2 * sqrt(terms) / 2 of the final sum; 4 covers the largest of many outputs (Higham
    and Mary, A new approach to probabilistic rounding error analysis, 2019, theorem 2.4).
    """
    return EPS * (2.0 + math.sqrt(terms))


def channels(s: ConvShape, target: Target) -> Channels:
    """The channels that each output vector reads."""
    if narrow(s, target):
        return Channels(s.ic, 1, target.lanes, 1, s.ic, s.oc, 0)
    return Channels.of(s, target.lanes)


def locate(c: Channels, block: Any, step: Any, inner: Any) -> tuple[Any, Any]:
    """Where input channel `start(block) + step * c.inner + inner` is stored: its block and its lane."""
    if c.lanes % c.inner:  # a single run, from the start of the only block
        return 0, inner
    unit: Any = step
    if c.groups > 1:
        if c.group_out % c.lanes == 0:
            first = block // (c.group_out // c.lanes) * (c.group_in // c.inner)
        elif c.lanes % c.group_out == 0:
            first = block * (c.lanes // c.group_out * c.group_in // c.inner)
        else:
            first = block * c.lanes // c.group_out * c.group_in // c.inner
        unit = step + tirx.min(first, c.last // c.inner)
    if c.lanes == c.inner:
        return unit, inner
    per_block = c.lanes // c.inner
    return unit // per_block, unit % per_block * c.inner + inner


def pack_vector(array: Array, target: Target) -> Array:
    """(K, ...) as (K / lanes, ..., lanes), with zeros beyond K."""
    packed: Array = Layout(target.lanes).pack(array[None])[0]
    return packed


def pack_weights(array: Array, s: ConvShape, c: Channels, target: Target, blocks: int | None = None) -> Array:
    """(K, C / groups, *kernel) as (K / lanes, steps, *kernel, inner, lanes), zero where nothing is read.

    `blocks` is their number, if more than K channels fill.
    """
    lanes = target.lanes
    blocks = blocks or -(-s.oc // lanes)
    packed = np.zeros((blocks, lanes, c.span, *s.kernel), array.dtype)
    for block in range(blocks):
        for k in range(block * lanes, min(block * lanes + lanes, s.oc)):
            first = k // c.group_out * c.group_in - c.start(block)
            packed[block, k - block * lanes, first : first + c.group_in] = array[k]
    split = packed.reshape(blocks, lanes, c.steps, c.inner, *s.kernel)
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(split, 1, -1), 2, -2))


def close(w: Workload, inputs: list[Any], total: Any) -> Any:
    """Add bias and epilogue and make the function; `total` gives the sum at an index of the output."""
    out = w.outputs[0]
    operands = operand_placeholders(w)
    bias = None
    if w.arity > 2 and w.inputs[2] is not None:
        bias = te.placeholder((out.physical[1], out.layout.block), out.dtype, "bias")

    def value(*index: Any) -> Any:
        found = total(*index)
        if bias is not None:
            found = found + bias(index[1], index[-1])
        return finish(found, w, operands, index)

    result = te.compute(out.physical, value, name=OUTPUT)
    extra = [] if bias is None else [bias]
    return te.create_prim_func([*inputs, *extra, *operands.values(), result])
