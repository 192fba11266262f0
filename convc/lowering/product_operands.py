"""The operands of the products that layers are on a GPU: patches gathered from the input, weights packed.

Patches are `[g, chunk, m, lane]`: chunk counts runs of `lanes` channels, for each tap of the kernel; weights
are `[g, chunk, column, lane]`. Chunks, rows and columns beyond the layer's own are zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te

from convc.dtype import FLOAT64
from convc.lowering.functions import constant
from convc.ops.linear import gemm_attrs
from convc.tiling.device_gemm import GemmProblem
from convc.tiling.device_products import ConvProduct, LinearProduct
from convc.tiling.registers import unflatten
from convc.types import Array

Expr = Any
Tensor = Any
Product = ConvProduct | LinearProduct
Gather = Callable[[Expr, Expr, Expr, Expr], Expr]
"""The element of the patches at group, chunk, row and lane."""


def patches_of(product: Product, x: Tensor) -> Gather:
    """What a product's left operand is, as an expression of the input."""
    return _conv(product, x) if isinstance(product, ConvProduct) else _linear(product, x)


def packed_weights(product: Product, array: Array) -> Array:
    """A product's right operand: (groups, chunks, columns, lanes)."""
    return _pack_conv(product, array) if isinstance(product, ConvProduct) else _pack_matrix(product, array)


def _where(p: GemmProblem, chunk: Expr, m: Expr, inside: Sequence[Expr], value: Expr) -> Expr:
    """`value` inside the layer, 0 beyond."""
    conditions = [m < p.m] if p.rows > p.m else []
    if p.padded_chunks > p.chunks:
        conditions.append(chunk < p.chunks)
    conditions += inside
    return te.if_then_else(te.all(*conditions), value, constant(0, value)) if conditions else value


# ---- convolution


def _conv(product: ConvProduct, x: Tensor) -> Gather:
    s, p = product.shape, product.problem
    per_tap = p.chunks // math.prod(s.kernel)

    def gather(g: Expr, chunk: Expr, m: Expr, inner: Expr) -> Expr:
        n, *where = unflatten(m, (s.n, *s.output))
        inside, places = [], []
        axes = zip(
            where, unflatten(chunk // per_tap, s.kernel), s.strides, s.dilations, s.pads, s.input, s.output,
            s.kernel, strict=True,
        )  # fmt: skip
        for o, t, stride, dilation, (before, _), size, outputs, kernel in axes:
            place = o * stride + t * dilation - before
            places.append(place)
            if before:
                inside.append(place >= 0)
            if (outputs - 1) * stride + (kernel - 1) * dilation - before >= size:
                inside.append(place < size)
        return _where(p, chunk, m, inside, x(n, g * per_tap + chunk % per_tap, *places, inner))

    return gather


def _pack_conv(product: ConvProduct, array: Array) -> Array:
    """(K, C / groups, *kernel); zero between joined groups."""
    s, g, p, lanes = product.shape, product.grouping, product.problem, product.target.lanes
    size_in, size_out = s.ic // s.groups, s.oc // s.groups
    per_tap = p.chunks // math.prod(s.kernel)
    joined = np.zeros((g.groups, g.channels_out, per_tap * lanes, *s.kernel), array.dtype)
    for k in range(s.oc):
        group, column = divmod(k, g.channels_out)
        first = column // size_out * size_in
        joined[group, column, first : first + size_in] = array[k]
    taps = joined.reshape(g.groups, g.channels_out, per_tap, lanes, -1)
    return _padded(np.transpose(taps, (0, 4, 2, 1, 3)), p, lanes)


def _padded(ordered: Array, p: GemmProblem, lanes: int) -> Array:
    """(groups, taps, chunks of a tap, columns, lanes), filled up with zeros."""
    columns = ordered.shape[3]
    packed = np.zeros((p.groups, p.padded_chunks, p.columns, lanes), ordered.dtype)
    packed[:, : p.chunks, :columns] = ordered.reshape(p.groups, p.chunks, columns, lanes)
    return packed


# ---- fully connected layers


def _linear(product: LinearProduct, x: Tensor) -> Gather:
    p, lanes = product.problem, product.target.lanes
    rows = [int(e) for e in x.shape[:-1]]

    def gather(g: Expr, chunk: Expr, m: Expr, inner: Expr) -> Expr:
        return _where(p, chunk, m, [], x(*unflatten(m, rows), chunk * lanes + inner))

    return gather


def _pack_matrix(product: LinearProduct, array: Array) -> Array:
    """(K, N), or (N, K) where it is transposed, `alpha` multiplied in."""
    w, p, lanes = product.workload, product.problem, product.target.lanes
    rows = array if gemm_attrs(w.attrs).trans_b else array.T
    alpha = gemm_attrs(w.attrs).alpha
    if alpha != 1.0:
        rows = (rows.astype(FLOAT64) * alpha).astype(array.dtype)
    return _padded(np.moveaxis(rows.reshape(p.n, p.chunks, lanes), 0, 1)[None, None], p, lanes)
