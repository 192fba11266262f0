"""Convolution and fully connected layers on a GPU, as matrix products whose left operand is never stored.

    patches[g, k, m, i] = x[n, g C + k % C, oh s + kh d - p, ow s + kw d - p, i]      0 beyond the border
    sums[g, m, o] = sum over k, i of patches[g, k, m, i] * w[g, k, o, i]

m counts the outputs (n, oh, ow); k counts chunks of `lanes` channels, C of them for each tap (kh, kw); g
counts the products that groups of channels make (`tiling.device_gemm.grouping`). A chunk is 16 bytes: 8
channels of float16, 4 of float32. Blocks of threads gather the patches that they need in shared memory. This
is the implicit GEMM of cuDNN (Chetlur et al., 2014, section 3) on tensors in channel blocks of one chunk.

`ImplicitGemm` multiplies in float32 on the CUDA cores, `ImplicitGemmMma` on the tensor cores, with float32
sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from tvm import te

from convc.dtype import FLOAT32, TF32
from convc.lowering.base import Layouts, Lowering, blocked_like, other_format
from convc.lowering.device_bias import bias_of, pack_bias, read_bias
from convc.lowering.direct import sum_error
from convc.lowering.epilogue import finish, operand_placeholders, placeholder
from convc.lowering.functions import widened
from convc.lowering.product_operands import packed_weights, patches_of
from convc.ops.linear import gemm_attrs
from convc.target import Target
from convc.tiling.device_gemm import (
    GROUP_ROWS,
    GroupTile,
    Shapes,
    ThreadTile,
    WarpTile,
    best_tile,
    tile_seconds,
)
from convc.tiling.device_products import problem, product_of
from convc.tiling.registers import memory_seconds
from convc.types import PLAIN, Array
from convc.workload import OUTPUT, PATCHES, PRODUCT, ConvShape, Workload

Expr = Any


class ImplicitGemm(Lowering):
    """`conv` in one to three dimensions, `gemm` and `matmul` by a constant matrix, on the CUDA cores."""

    name = "implicit_gemm"
    ops: ClassVar[tuple[str, ...]] = ("conv", "gemm", "matmul")
    tiles: ClassVar[Shapes] = ThreadTile
    by_column: ClassVar[bool] = False
    """Whether weights are stored with the elements of a chunk last, rather than the columns."""

    def applies(self, w: Workload, target: Target) -> str | None:
        return other_format(w) or refusal(w, target)

    def layouts(self, w: Workload, target: Target) -> Layouts:
        if w.op == "conv":
            return blocked_like(w, target, inputs=(0,))
        return Layouts(tuple(None if t is None else PLAIN for t in w.inputs), (PLAIN,))

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if index == 1:
            packed = packed_weights(product_of(w, target), array)
            return packed if self.by_column else np.ascontiguousarray(np.swapaxes(packed, 2, 3))
        if index == 2 and w.arity > 2:
            return pack_bias(w, target, array)
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        layer, lanes = product_of(w, target), target.lanes
        p = layer.problem
        kind, out = w.inputs[0], w.outputs[0]
        assert kind is not None
        x = placeholder(kind, "x")
        panel = (p.columns, lanes) if self.by_column else (lanes, p.columns)
        weights = te.placeholder((p.groups, p.padded_chunks, *panel), kind.dtype, "w")
        shape = (p.groups, p.padded_chunks, p.rows, lanes)
        patches = te.compute(shape, patches_of(layer, x), name=PATCHES)
        chunk = te.reduce_axis((0, p.padded_chunks), "chunk")
        inner = te.reduce_axis((0, lanes), "inner")

        def term(g: Expr, m: Expr, o: Expr) -> Expr:
            left = patches(g, chunk, m, inner)
            right = weights(g, chunk, *((o, inner) if self.by_column else (inner, o)))
            return te.sum(widened(left) * widened(right), axis=[chunk, inner])

        product = te.compute((p.groups, p.rows, p.columns), term, name=PRODUCT)
        bias = bias_of(w)
        operands = operand_placeholders(w)

        def value(*index: Expr) -> Expr:
            group, row, column = layer.place(index)
            total = product(0 if group is None else group, row, column)
            if bias is not None:
                total = total + read_bias(bias, w, index)
            return finish(total, w, operands, index)

        result = te.compute(out.physical, value, name=OUTPUT)
        extra = [] if bias is None else [bias]
        return te.create_prim_func([x, weights, *extra, *operands.values(), result])

    def cost(self, w: Workload, target: Target) -> float:
        p, gpu = problem(w, target), target.device
        tile = best_tile(p, gpu, self.tiles)
        moved = sum(t.nbytes for t in (w.inputs[0], w.inputs[1], w.outputs[0]) if t is not None)
        launches = (2 if tile.split > 1 else 1) * target.launch_seconds
        return max(tile_seconds(p, tile, gpu), memory_seconds(moved, target)) + launches

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        return sum_error(_terms(w))


class ImplicitGemmMma(ImplicitGemm):
    """The same on the tensor cores, where the precision asked for lets them multiply."""

    name = "implicit_gemm_mma"
    tiles: ClassVar[Shapes] = WarpTile
    by_column = True

    def applies(self, w: Workload, target: Target) -> str | None:
        if target.device.precision == FLOAT32:
            return "tensor cores multiply tf32, float16 or bfloat16; --precision asks for float32"
        if w.inputs[0] is not None and w.inputs[0].dtype != target.device.storage:
            return f"multiplies {target.device.storage}, not {w.inputs[0].dtype}"
        return refusal(w, target)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        """Operands and result are rounded; of many products the errors are a random walk, like the sum."""
        dtype = w.outputs[0].dtype
        rounding = (TF32 if dtype == FLOAT32 else dtype).rounding
        return sum_error(_terms(w)) + 3 * rounding


class ImplicitGemmWgmma(ImplicitGemmMma):
    """The same by warpgroups, on devices that have `wgmma`."""

    name = "implicit_gemm_wgmma"
    tiles = GroupTile

    def applies(self, w: Workload, target: Target) -> str | None:
        if not target.device.warpgroup_gain:
            return f"needs wgmma, which {target.device.arch} does not have"
        refused = super().applies(w, target)
        if refused is not None:
            return refused
        p = problem(w, target)
        if p.rows % GROUP_ROWS:
            return f"a warpgroup makes {GROUP_ROWS} rows, of which there are {p.m}"
        return None


def refusal(w: Workload, target: Target) -> str | None:
    """Why the operator is no product with a constant matrix in whole chunks; None if it is."""
    x, b = w.inputs[0], w.inputs[1]
    assert x is not None
    if b is None or not w.constant[1]:
        return "weights must be constant, to be packed"
    if w.op == "conv":
        if x.rank > 5:
            return f"takes up to 3 spatial axes, not {x.rank - 2}"
        if w.arity > 2 and w.inputs[2] is not None and not w.constant[2]:
            return "the bias must be constant, to be packed"
        return None
    if x.rank < 2:
        return "the left-hand side must be a matrix, not a vector"
    if b.rank != 2:
        return f"the right-hand side must be one matrix, not of shape {b.shape}"
    if gemm_attrs(w.attrs).trans_a:
        return "the left-hand matrix must not be transposed"
    if x.shape[-1] % target.lanes:
        return f"rows of {x.shape[-1]} elements are no whole chunks of {target.lanes}"
    return None


def _terms(w: Workload) -> int:
    if w.op == "conv":
        s = ConvShape.of(w)
        return s.ic // s.groups * math.prod(s.kernel)
    x = w.inputs[0]
    assert x is not None
    return x.shape[-1]
