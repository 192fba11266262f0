"""Depthwise convolution on a GPU, in channel blocks: a vector of channels is a vector of independent sums.

    sums[n, c, oh, ow, i] = sum over kh, kw of x[n, c, oh s + kh d - p, ow s + kw d - p, i] * w[c, kh, kw, i]

With 3 x 3 taps there are 9 multiply-adds for an element: what counts is to read each element of the input
once from memory, and few times from L1. As a matrix product (`implicit_gemm`) the same layer multiplies by a
matrix that is zero outside its diagonal, 16 channels at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT32
from convc.lowering.base import Layouts, Lowering, blocked_like
from convc.lowering.device_bias import bias_of, pack_bias, read_bias
from convc.lowering.direct import sum_error
from convc.lowering.epilogue import finish, operand_placeholders, placeholder
from convc.lowering.functions import widened
from convc.target import Target
from convc.tiling.device_depthwise import MOST_ROWS, best_column, column_seconds
from convc.tiling.registers import memory_seconds
from convc.types import Array
from convc.workload import OUTPUT, PAD, PRODUCT, ConvShape, Workload

Expr = Any


class DeviceDepthwise(Lowering):
    """`conv` in one to three dimensions, of as many groups as channels on both sides; sums in float32."""

    name = "depthwise"
    ops = ("conv",)

    def applies(self, w: Workload, target: Target) -> str | None:
        s = ConvShape.of(w)
        if not s.depthwise:
            return f"needs one output for each channel, not {s.ic} to {s.oc} channels in {s.groups} groups"
        if len(s.kernel) > 3:
            return f"takes up to 3 spatial axes, not {len(s.kernel)}"
        if any(t is not None and not c for t, c in zip(w.inputs[1 : w.arity], w.constant[1:], strict=False)):
            return "weights and bias must be constant, to be packed"
        if w.outputs[0].dtype != target.device.storage:
            return f"reads {target.device.storage}, not {w.outputs[0].dtype}"
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return blocked_like(w, target, inputs=(0,))

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        """Channels innermost, in float32: they are few, and nothing has to be widened."""
        if index == 0 or index >= w.arity:
            return super().pack(w, target, index, array)
        if index == 2:
            return pack_bias(w, target, array)
        rest = array.reshape(len(array), -1)
        lanes, blocks = target.lanes, w.outputs[0].physical[1]
        padded = np.zeros((blocks * lanes, rest.shape[1]), FLOAT32)
        padded[: len(rest)] = rest
        return np.ascontiguousarray(padded.reshape(blocks, lanes, -1).swapaxes(1, 2))

    def compute(self, w: Workload, target: Target) -> Any:
        s, lanes = ConvShape.of(w), target.lanes
        kind, out = w.inputs[0], w.outputs[0]
        assert kind is not None
        x = placeholder(kind, "x")
        weights = te.placeholder((out.physical[1], math.prod(s.kernel), lanes), FLOAT32, "w")
        covered = _covered(s)
        pad = _padded(x, s, covered)
        taps = [te.reduce_axis((0, k), f"k{axis}") for axis, k in enumerate(s.kernel)]

        def total(n: Expr, block: Expr, *rest: Expr) -> Expr:
            *where, lane = rest
            places = [
                o * stride + t * d
                for o, t, stride, d in zip(where, taps, s.strides, s.dilations, strict=True)
            ]
            tap: Expr = 0
            for t, k in zip(taps, s.kernel, strict=True):
                tap = tap * k + t
            return te.sum(pad(n, block, *places, lane) * weights(block, tap, lane), axis=taps)

        product = te.compute((s.n, out.physical[1], *covered, lanes), total, name=PRODUCT)
        bias = bias_of(w)
        operands = operand_placeholders(w)

        def value(*index: Expr) -> Expr:
            value = product(*index)
            if bias is not None:
                value = value + read_bias(bias, w, index)
            return finish(value, w, operands, index)

        result = te.compute(out.physical, value, name=OUTPUT)
        return te.create_prim_func(
            [x, weights, *([] if bias is None else [bias]), *operands.values(), result]
        )

    def cost(self, w: Workload, target: Target) -> float:
        s = ConvShape.of(w)
        moved = sum(t.nbytes for t in (w.inputs[0], w.inputs[1], w.outputs[0]) if t is not None)
        arithmetic = column_seconds(s, best_column(s, target), target)
        return max(memory_seconds(moved, target), arithmetic) + target.launch_seconds

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        return sum_error(math.prod(ConvShape.of(w).kernel)) + w.outputs[0].dtype.rounding


def _covered(s: ConvShape) -> tuple[int, ...]:
    """Outputs for which sums are defined: rows beyond the map too, so that every thread has whole columns."""
    if len(s.output) == 1:
        return s.output
    *outer, rows, columns = s.output
    return (*outer, rows + MOST_ROWS - 1, columns)


def _padded(x: Any, s: ConvShape, covered: Sequence[int]) -> Any:
    """The input within its border of zeros, widened where it is loaded: once for all its products."""
    zero = tirx.const(0, FLOAT32)
    axes = list(zip(covered, s.kernel, s.strides, s.dilations, s.pads, s.input, strict=True))
    extents = [(o - 1) * stride + (k - 1) * d + 1 for o, k, stride, d, _, _ in axes]

    def value(n: Expr, block: Expr, *rest: Expr) -> Expr:
        *where, lane = rest
        places, inside = [], []
        for place, extent, (_, _, _, _, (before, _), size) in zip(where, extents, axes, strict=True):
            place = place - before
            places.append(place)
            if before:
                inside.append(place >= 0)
            if extent - before > size:
                inside.append(place < size)
        found = widened(x(n, block, *places, lane))
        return te.if_then_else(te.all(*inside), found, zero) if inside else found

    return te.compute((s.n, int(x.shape[1]), *extents, int(x.shape[-1])), value, name=PAD)
