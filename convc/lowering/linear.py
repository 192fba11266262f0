"""Fully connected layers: a product with a constant matrix that is stored for streaming.

    sums[m, nb, v] = sum over k of a[m, k] * b[nb, k, v]

`b` (K, N) is stored as (N / width, K, width): one pass over a contiguous run makes `width` outputs of each
row. With one row the time is that of reading `b` once from memory; `alpha` is multiplied into it, and `beta`
into a constant `c`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT32, FLOAT64
from convc.lowering.base import Layouts, Lowering, Reach, other_format
from convc.lowering.direct import sum_error
from convc.lowering.epilogue import finish, operand_placeholders, placeholder
from convc.lowering.functions import constant
from convc.lowering.weights import encoded, magnitude, parameter, refusal, restored, storage_error, stored
from convc.ops.linear import GemmAttrs, gemm_attrs
from convc.target import Target
from convc.tiling.gemm import GemmShape, gemm_rows, gemm_seconds, gemm_width
from convc.tiling.registers import flatten, unflatten
from convc.tiling.storage import FLOAT24, UNPACKED, Storage
from convc.types import PLAIN, Array
from convc.workload import OUTPUT, PRODUCT, Workload


def _pack_columns(b: Array, alpha: float, width: int, storage: Storage) -> Array:
    """`alpha` times a matrix (K, N) as (N / width, K, width), zeros beyond N, in the words of its storage.

    One block of columns at a time: the weights of a fully connected layer may take half a gigabyte, which a
    float64 copy of the whole would triple.
    """
    k, n = b.shape
    packed = np.empty(*stored((-(-n // width), k, width), storage))
    for block, start in zip(packed, range(0, n, width), strict=True):
        columns = b[:, start : start + width]
        panel = np.zeros((k, width), FLOAT32)
        panel[:, : columns.shape[1]] = columns if alpha == 1.0 else columns.astype(FLOAT64) * alpha
        block[:] = encoded(panel, storage)
    return packed


class Gemm(Lowering):
    """`gemm` and `matmul` whose right-hand matrix is constant."""

    name = "gemm"
    version = 2
    ops = ("gemm", "matmul")
    storage: ClassVar[Storage] = UNPACKED

    def applies(self, w: Workload, target: Target) -> str | None:
        a, b = w.inputs[0], w.inputs[1]
        if reason := other_format(w):
            return reason
        if a is None or b is None or not w.constant[1]:
            return "the right-hand matrix must be constant, to be packed"
        if b.rank != 2:
            return f"the right-hand side must be one matrix, not of shape {b.shape}"
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return Layouts(tuple(None if t is None else PLAIN for t in w.inputs), (PLAIN,))

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        attrs = gemm_attrs(w.attrs)
        if index == 1:
            b = array.T if attrs.trans_b else array
            return _pack_columns(b, attrs.alpha, gemm_width(GemmShape.of(w), target), self.storage)
        if index == 2 and w.arity > 2:
            return np.asarray(array.astype(FLOAT64) * attrs.beta, FLOAT32, order="C")
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        g = GemmShape.of(w)
        attrs = gemm_attrs(w.attrs)
        kind, out = w.inputs[0], w.outputs[0]
        assert kind is not None
        width = gemm_width(g, target)
        a = placeholder(kind, "a")
        words, b = parameter((-(-g.n // width), g.k, width), "b", self.storage)
        k = te.reduce_axis((0, g.k), "k")
        rows, padded = kind.shape[:-1], gemm_rows(g, target)

        def term(m: Any, block: Any, lane: Any) -> Any:
            m = m if padded == g.m else tirx.min(m, g.m - 1)
            value = a(k, m) if attrs.trans_a else a(*unflatten(m, rows), k)
            return te.sum(value * b(block, k, lane), axis=k)

        product = te.compute((padded, int(b.shape[0]), width), term, name=PRODUCT)
        operands = operand_placeholders(w)
        bias_kind = w.inputs[2] if w.arity > 2 else None
        bias = None if bias_kind is None else placeholder(bias_kind, "bias")

        def value(*index: Any) -> Any:
            column = index[-1]
            total = product(flatten(index[:-1], out.shape[:-1]), column // width, column % width)
            total = restored(total, self.storage)
            if bias is not None:
                where = index[len(index) - len(bias.shape) :]
                addend = bias(*(0 if int(e) == 1 else i for e, i in zip(bias.shape, where, strict=True)))
                total = total + (addend if w.constant[2] else addend * constant(attrs.beta, addend))
            return finish(total, w, operands, index)

        result = te.compute(out.shape, value, name=OUTPUT)
        extra = [] if bias is None else [bias]
        return te.create_prim_func([a, words, *extra, *operands.values(), result])

    def cost(self, w: Workload, target: Target) -> float:
        return gemm_seconds(GemmShape.of(w), target, self.storage)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        return sum_error(GemmShape.of(w).k)


class Gemm24(Gemm):
    """The same with its matrix in 24 bits (`weights`), for few rows and matrices that caches cannot keep."""

    name = "gemm_24bit"
    exact = False
    storage = FLOAT24

    def applies(self, w: Workload, target: Target) -> str | None:
        refused = super().applies(w, target)
        if refused is not None:
            return refused
        g = GemmShape.of(w)
        if g.k % self.storage.rows:
            return f"{g.k} terms of a sum are not a multiple of {self.storage.rows}, stored together"
        return None

    def refuses_weights(self, w: Workload, weights: Sequence[Array | None]) -> str | None:
        matrix = weights[1]
        assert matrix is not None
        return refusal(_gain(w) * magnitude(matrix))

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        matrix = weights[1]
        assert matrix is not None
        return super().error_bound(w, weights) + storage_error(matrix, _gain(w))

    def reach(self, w: Workload) -> Reach:
        return Reach.WINDOW  # what stands for weights of zero is multiplied too


def _gain(w: Workload) -> float:
    """By how much stored weights exceed the matrix."""
    return abs(w.attrs.alpha) if isinstance(w.attrs, GemmAttrs) else 1.0
