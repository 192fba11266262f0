"""Fully connected layers of few rows on a GPU: every weight is read once, by one thread.

    rows[m, k, i] = x[m, k lanes + i]                                     0 beyond the row
    sums[m, n] = sum over k, i of rows[m, k, i] * w[n, k, i]

k counts chunks of 16 bytes. Weights are stored by output, each row filled up to whole chunks for the threads
that share its sum; `alpha` is multiplied into them, `beta` into a constant bias. Operands are widened to
float32, so that the sums are those of float32 whatever is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT64
from convc.lowering.base import Layouts, Lowering
from convc.lowering.device_bias import bias_of, pack_bias, read_bias
from convc.lowering.direct import sum_error
from convc.lowering.epilogue import finish, operand_placeholders, placeholder
from convc.lowering.functions import widened
from convc.ops.linear import gemm_attrs
from convc.target import Target
from convc.tiling.device_gemv import MOST_ROWS, GemvProblem, best_tile, tile_seconds
from convc.tiling.registers import flatten, memory_seconds, unflatten
from convc.types import PLAIN, Array
from convc.workload import OUTPUT, PATCHES, PRODUCT, WEIGHTS, Workload

Expr = Any

TILE = 64
"""Multiple up to which sums are defined, so that the last threads have whole tiles of outputs."""


class DeviceGemv(Lowering):
    """`gemm` and `matmul` of up to 16 rows by a constant matrix."""

    name = "gemv"
    ops = ("gemm", "matmul")

    def applies(self, w: Workload, target: Target) -> str | None:
        a, b = w.inputs[0], w.inputs[1]
        assert a is not None
        if b is None or not w.constant[1]:
            return "weights must be constant, to be packed"
        if b.rank != 2 or a.rank < 1:
            return f"the right-hand side must be one matrix, not of shape {b.shape}"
        if gemm_attrs(w.attrs).trans_a:
            return "the left-hand matrix must not be transposed"
        if a.dtype != target.device.storage:
            return f"reads {target.device.storage}, not {a.dtype}"
        rows = a.size // max(a.shape[-1], 1)
        return None if rows <= MOST_ROWS else f"reads weights for up to {MOST_ROWS} rows, not {rows}"

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return Layouts(tuple(None if t is None else PLAIN for t in w.inputs), (PLAIN,))

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if index == 1:
            return _pack(w, target, array)
        if index == 2 and w.arity > 2:
            return pack_bias(w, target, array)
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        p, out = GemvProblem.of(w, target), w.outputs[0]
        kind = w.inputs[0]
        assert kind is not None
        x = placeholder(kind, "x")
        weights = te.placeholder((p.n, p.padded_chunks, p.lanes), kind.dtype, "w")
        rows = te.compute((p.m, p.padded_chunks, p.lanes), _gather(x, p), name=PATCHES)
        outputs = -(-p.n // TILE) * TILE
        columns = te.compute(
            (outputs, *weights.shape[1:]),
            lambda n, chunk, inner: weights(te.min(n, p.n - 1), chunk, inner),
            name=WEIGHTS,
        )
        chunk, inner = te.reduce_axis((0, p.padded_chunks), "chunk"), te.reduce_axis((0, p.lanes), "inner")

        def term(m: Expr, n: Expr) -> Expr:
            left, right = rows(m, chunk, inner), columns(n, chunk, inner)
            return te.sum(widened(left) * widened(right), axis=[chunk, inner])

        product = te.compute((p.m, outputs), term, name=PRODUCT)
        bias = bias_of(w)
        operands = operand_placeholders(w)

        def value(*index: Expr) -> Expr:
            total = product(flatten(index[:-1], out.shape[:-1]), index[-1])
            if bias is not None:
                total = total + read_bias(bias, w, index)
            return finish(total, w, operands, index)

        result = te.compute(out.physical, value, name=OUTPUT)
        extra = [] if bias is None else [bias]
        return te.create_prim_func([x, weights, *extra, *operands.values(), result])

    def cost(self, w: Workload, target: Target) -> float:
        p, gpu = GemvProblem.of(w, target), target.device
        moved = sum(t.nbytes for t in (w.inputs[0], w.inputs[1], w.outputs[0]) if t is not None)
        busy = tile_seconds(p, best_tile(p, gpu), gpu)
        return max(busy, memory_seconds(moved, target)) + target.launch_seconds

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        kind = w.inputs[0]
        assert kind is not None
        return sum_error(kind.shape[-1]) + w.outputs[0].dtype.rounding


def _gather(x: Any, p: GemvProblem) -> Any:
    """Element `inner` of a chunk of a row of x, 0 beyond its end."""
    shape = [int(e) for e in x.shape]
    zero = tirx.const(0, str(x.dtype))

    def element(m: Expr, chunk: Expr, inner: Expr) -> Expr:
        value = x(*unflatten(m, shape[:-1]), chunk * p.lanes + inner)
        if not p.aligned:
            return te.if_then_else(chunk * p.lanes + inner < p.k, value, zero)
        return te.if_then_else(chunk < p.chunks, value, zero) if p.padded_chunks > p.chunks else value

    return element


def _pack(w: Workload, target: Target, array: Array) -> Array:
    """(K, N), or (N, K) where it is transposed, as (N, chunks, lanes)."""
    p = GemvProblem.of(w, target)
    rows = array if gemm_attrs(w.attrs).trans_b else array.T
    packed = np.zeros((p.n, p.padded_chunks * p.lanes), array.dtype)
    alpha = gemm_attrs(w.attrs).alpha
    packed[:, : p.k] = rows if alpha == 1.0 else rows.astype(FLOAT64) * alpha
    return packed.reshape(p.n, p.padded_chunks, p.lanes)
