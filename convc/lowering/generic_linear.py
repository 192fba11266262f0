"""Convolutions and matrix products by definition, on plain tensors, for where no faster way applies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from convc.lowering.epilogue import largest
from convc.lowering.formula import At, Call, formula
from convc.lowering.functions import constant
from convc.types import Shape
from convc.workload import PAD, PRODUCT

Expr = Any


@formula("conv")
def _conv(call: Call) -> Sequence[At]:
    """The input inside a border of zeros, then one sum over channels and taps."""
    return [_with_bias(call, _sums(call, call.out.shape))]


@formula("conv_max_pool")
def _conv_max_pool(call: Call) -> Sequence[At]:
    """The sums of a whole map, of which windows keep the largest."""
    pool = call.attrs.pool
    sums = _sums(call, (*call.out.shape[:2], *(e * p for e, p in zip(call.out.shape[2:], pool, strict=True))))

    def at(n: Expr, k: Expr, *places: Expr) -> Expr:
        starts = [i * p for i, p in zip(places, pool, strict=True)]
        return largest(pool, lambda tap: sums(n, k, *(s + t for s, t in zip(starts, tap, strict=True))))

    return [_with_bias(call, at)]


def _sums(call: Call, shape: Shape) -> Any:
    """A convolution's sums of products, for outputs (N, K, *spatial)."""
    a, x, w = call.attrs, call.x, call.operand(1)
    sizes, kernel = x.kind.shape[2:], w.kind.shape[2:]
    group_in, group_out = w.kind.shape[1], w.kind.shape[0] // a.groups
    spans = [
        max((o - 1) * s + (k - 1) * d + 1, b + size)
        for o, s, k, d, (b, _), size in zip(
            shape[2:], a.strides, kernel, a.dilations, a.pads, sizes, strict=True
        )
    ]
    zero = tirx.const(0, x.kind.dtype)

    def bordered(n: Expr, c: Expr, *places: Expr) -> Expr:
        moved = [p - b for p, (b, _) in zip(places, a.pads, strict=True)]
        inside = te.all(*(te.all(m >= 0, m < size) for m, size in zip(moved, sizes, strict=True)))
        return tirx.if_then_else(inside, x(n, c, *moved), zero)

    padded = te.compute((*x.kind.shape[:2], *spans), bordered, name=PAD)
    c = te.reduce_axis((0, group_in), "c")
    taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(kernel)]

    def term(n: Expr, k: Expr, *places: Expr) -> Expr:
        spots = [p * s + t * d for p, s, t, d in zip(places, a.strides, taps, a.dilations, strict=True)]
        return te.sum(
            padded(n, te.floordiv(k, group_out) * group_in + c, *spots) * w(k, c, *taps), axis=[c, *taps]
        )

    return te.compute(shape, term, name=PRODUCT)


def _with_bias(call: Call, product: At) -> At:
    bias = call.optional(2)
    return lambda *i: product(*i) if bias is None else product(*i) + bias(i[1])


@formula("conv_transpose")
def _conv_transpose(call: Call) -> Sequence[At]:
    """Output pixel o gathers tap t from pixel (o + pad - t d) / s wherever that is whole."""
    a, x, w = call.attrs, call.x, call.operand(1)
    sizes, kernel = x.kind.shape[2:], w.kind.shape[2:]
    group_in, group_out = x.kind.shape[1] // a.groups, w.kind.shape[1]
    c = te.reduce_axis((0, group_in), "c")
    taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(kernel)]
    zero = tirx.const(0, x.kind.dtype)

    def term(n: Expr, k: Expr, *places: Expr) -> Expr:
        hits, spots = [], []
        for p, s, t, d, (b, _), size in zip(places, a.strides, taps, a.dilations, a.pads, sizes, strict=True):
            scaled = p + b - t * d
            hits += [scaled >= 0, te.floormod(scaled, s) == 0, te.floordiv(scaled, s) < size]
            spots.append(te.floordiv(scaled, s))
        source = te.floordiv(k, group_out) * group_in + c
        product = x(n, source, *spots) * w(source, te.floormod(k, group_out), *taps)
        return te.sum(tirx.if_then_else(te.all(*hits), product, zero), axis=[c, *taps])

    product = te.compute(call.out.shape, term, name=PRODUCT)
    return [_with_bias(call, product)]


@formula("gemm")
def _gemm(call: Call) -> Sequence[At]:
    """alpha * sum over k of a[i, k] b[k, j], plus beta * c."""
    g, a, b = call.attrs, call.x, call.operand(1)
    k = te.reduce_axis((0, a.kind.shape[0 if g.trans_a else 1]), "k")

    def term(i: Expr, j: Expr) -> Expr:
        return te.sum((a(k, i) if g.trans_a else a(i, k)) * (b(j, k) if g.trans_b else b(k, j)), axis=[k])

    product = te.compute(call.out.shape, term, name=PRODUCT)

    def at(i: Expr, j: Expr) -> Expr:
        value = product(i, j) * constant(g.alpha, product)
        c = call.optional(2)
        if c is None:
            return value
        places = [0 if e == 1 else v for e, v in zip(reversed(c.kind.shape), (j, i), strict=False)]
        return value + c(*reversed(places)) * constant(g.beta, product)

    return [at]


@formula("matmul")
def _matmul(call: Call) -> Sequence[At]:
    """Sum over k of a[..., i, k] b[..., k, j]; batches broadcast, vectors lose their axis."""
    a, b = call.x, call.operand(1)
    k = te.reduce_axis((0, a.kind.shape[-1]), "k")

    def term(*index: Expr) -> Expr:
        places = list(index)
        j = [places.pop()] if b.kind.rank > 1 else []
        i = [places.pop()] if a.kind.rank > 1 else []

        def batch(shape: Sequence[int]) -> list[Expr]:
            return [
                0 if e == 1 else v for e, v in zip(shape, places[len(places) - len(shape) :], strict=True)
            ]

        return te.sum(a(*batch(a.kind.shape[:-2]), *i, k) * b(*batch(b.kind.shape[:-2]), k, *j), axis=[k])

    if not call.out.rank:
        scalar = te.compute((1,), lambda _: te.sum(a(k) * b(k), axis=[k]), name=PRODUCT)
        return [lambda: scalar(0)]
    product = te.compute(call.out.shape, term, name=PRODUCT)
    return [lambda *i: product(*i)]
