"""Kernels of low rank split into two one-dimensional ones (Jaderberg, Vedaldi and Zisserman, Speeding up
convolutional neural networks with low rank expansions, arXiv 1405.3866, section 2.1, scheme 2).

A kernel counts as of rank R when the singular values beyond the first R are rounding: what they leave out is
at most `RANK_ERROR` of the kernel in the Frobenius norm, in units of the dtype's eps. With dW left out, an
output errs by at most |dW| |x| over the inputs x that it sees, and on white noise by |dW| / |W| of its root
mean square: 5e-7 in float32, where a lowering may err by 1e-4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node
from convc.ops.conv import ConvAttrs
from convc.passes.base import Rule, RulePass, replace_constant
from convc.passes.windows import MOVED, products
from convc.types import Array

RANK_ERROR = 4
"""What a kernel may lose, in units of eps; rounding the entries of an exact product loses up to a half."""

MARGIN = 2 / 3
"""What the pair may take of the given kernel's time by count, which is not exact.

By the clock, 64 channels at 56 x 56 with 7 x 7 taps took 0.66 of it with rank 32, and 1.29 with rank 64;
128 channels with 3 x 3 taps took 0.32 with rank 24, and 0.92 with rank 88. Depthwise kernels of 7, 9 and 31
took 0.29, 0.34 and 0.41 (Zen 5, two threads, 2026-11-21).
"""


OVERSAMPLING = 8
"""Random columns beyond the rank that is looked for, with which a sample misses nothing in practice."""


@dataclass(frozen=True, eq=False)
class Split:
    """The kernel along axis `first`, applied first, and then the one along the other, both in float64."""

    first: int
    kernels: tuple[Array, Array]
    groups: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Kernel:
    """The constant kernel of a convolution; whether it splits is found out once, when that is asked."""

    graph: Graph
    node: Node

    @property
    def attrs(self) -> ConvAttrs:
        """The convolution's attributes."""
        assert isinstance(self.node.attrs, ConvAttrs)
        return self.node.attrs

    @cached_property
    def split(self) -> Split | None:
        """The pair of kernels that takes least time, if less than the given one."""
        return _split(self.graph, self.node, self.attrs)


class LowRankToPair(Rule[Kernel]):
    """w[k, c, i, j] = sum over r of a[k, r, i] b[r, c, j]  gives  conv(x, w) = conv(conv(x, b), a),

    b along one axis, a along the other, R channels in between. R is the rank of w as a matrix of rows (k, i)
    and columns (c, j), or with i and j exchanged. A depthwise w[c, i, j] = a[c, i] b[c, j] is split for each
    channel. The parts keep strides, dilations and pads of their axes; rows of zeros become zeros in between.
    """

    def match(self, graph: Graph, node: Node) -> Kernel | None:
        w = node.inputs[1] if node.op == "conv" else None
        if w is None or graph.constant(w) is None or w.type.rank != 4 or min(w.type.shape[2:]) == 1:
            return None
        assert isinstance(node.attrs, ConvAttrs)
        return Kernel(graph, node) if node.attrs.groups in (1, _channels(node)) else None

    def check(self, graph: Graph, node: Node, match: Kernel) -> str:
        if match.split is None:
            return "its kernel has no rank so low that two one-dimensional ones would take less time"
        return ""

    def rewrite(self, graph: Graph, node: Node, match: Kernel) -> str:
        split, attrs = match.split, match.attrs
        assert split is not None
        w = node.inputs[1]
        assert w is not None
        kernel, name = w.type.shape[2:], f"{node.name}.first"
        weights = graph.add_constant(f"{name}.weights", split.kernels[0].astype(w.type.dtype))
        along = _along(attrs, split.first, split.groups[0])
        first = graph.add(
            "conv", [node.inputs[0], weights], along, name=name, origin=node.origin, before=node
        )
        replace_constant(graph, node, 1, split.kernels[1])
        graph.set_attrs(node, _along(attrs, 1 - split.first, split.groups[1]))
        graph.set_inputs(node, [first.output, *node.inputs[1:]])
        between = first.output.type.shape[1]
        return f"its {kernel[0]} x {kernel[1]} kernel becomes two with {between} channels in between"


def _channels(node: Node) -> int:
    assert node.inputs[0] is not None
    return node.inputs[0].type.shape[1]


def _along(attrs: ConvAttrs, axis: int, groups: int) -> ConvAttrs:
    """The convolution's settings on one spatial axis, and none on the other."""
    here = [i == axis for i in range(2)]
    return replace(
        attrs,
        strides=tuple(s if h else 1 for s, h in zip(attrs.strides, here, strict=True)),
        dilations=tuple(d if h else 1 for d, h in zip(attrs.dilations, here, strict=True)),
        pads=tuple(p if h else (0, 0) for p, h in zip(attrs.pads, here, strict=True)),
        groups=groups,
    )


def _split(graph: Graph, node: Node, attrs: ConvAttrs) -> Split | None:
    array = graph.constant(node.inputs[1])
    assert array is not None
    if not np.isfinite(array).all():
        return None
    loss = RANK_ERROR * float(np.finfo(array.dtype).eps)
    for first in (1, 0):
        most = _highest_rank(node, attrs, first)
        if most < 1:
            continue
        turned = np.moveaxis(array, 2 + first, 3)  # (k, c, axis of the second, of the first)
        kernels = _by_channel(turned, loss) if attrs.groups > 1 else _dense(turned, most, loss)
        if kernels is not None:
            inner, outer = kernels  # (r, c, taps) and (k, r, taps)
            groups = (attrs.groups, len(outer)) if attrs.groups > 1 else (1, 1)
            return Split(first, (np.expand_dims(inner, 3 - first), np.expand_dims(outer, 2 + first)), groups)
    return None


def _highest_rank(node: Node, attrs: ConvAttrs, first: int) -> int:
    """The most channels in between with which the pair takes less time; 1 or 0 for a depthwise kernel."""
    x, w, out = node.inputs[0], node.inputs[1], node.output.type
    assert x is not None
    assert w is not None
    kernel, steps = w.type.shape[2:], [max(pair) for pair in zip(attrs.strides, attrs.dilations, strict=True)]
    rows = [out.shape[2 + i] if i == first else x.type.shape[2 + i] for i in range(2)]
    between = out.shape[0] * rows[0] * rows[1]  # pixels
    pixels = out.size // out.shape[1]
    if attrs.groups > 1:
        given = pixels * kernel[0] * kernel[1]
        return int(between * (kernel[first] + MOVED) + pixels * kernel[1 - first] < given)
    given_time = pixels * out.shape[1] * x.type.shape[1] * products(kernel, steps)
    inner = between * (x.type.shape[1] * products([kernel[first]], [steps[first]]) + MOVED)
    outer = pixels * out.shape[1] * products([kernel[1 - first]], [steps[1 - first]])
    return int(MARGIN * given_time / (inner + outer))


def _by_channel(w: Array, loss: float) -> tuple[Array, Array] | None:
    """Depthwise kernels (k, 1, i, j) as b (k, 1, j) and a (k, 1, i), if all are of rank 1."""
    u, s, vt = np.linalg.svd(w[:, 0].astype(np.float64), full_matrices=False)
    if (np.linalg.norm(s[:, 1:], axis=1) > loss * np.linalg.norm(s, axis=1)).any():
        return None
    root = np.sqrt(s[:, :1])
    return (root * vt[:, 0])[:, None], (root * u[:, :, 0])[:, None]


def _dense(w: Array, most: int, loss: float) -> tuple[Array, Array] | None:
    """Kernels (k, c, i, j) as b (r, c, j) and a (k, r, i) with r at most `most`."""
    k, c, i, j = w.shape
    if _surely_above(w, most, loss):
        return None
    matrix = w.astype(np.float64).transpose(0, 2, 1, 3).reshape(k * i, c * j)
    u, s, vt, rest = _leading(matrix, most, loss)
    # norm of what is left out before each singular value
    tails = np.sqrt(np.cumsum(s[::-1] ** 2)[::-1] + rest**2)
    rank = max(1, int((tails > loss * tails[0]).sum()))
    if rank > most:
        return None
    root = np.sqrt(s[:rank])
    outer = (u[:, :rank] * root).reshape(k, i, rank).transpose(0, 2, 1)
    return (root[:, None] * vt[:rank]).reshape(rank, c, j), outer


def _leading(matrix: Array, rank: int, loss: float) -> tuple[Array, Array, Array, float]:
    """Singular vectors and values as `svd` gives them, and the norm of what they leave out of the matrix.

    Those of its projection onto the range of a random sample, where this leaves out no more than `loss`: the
    same for a matrix of that rank, at a small part of the price (Halko, Martinsson and Tropp, Finding
    structure with randomness, arXiv 0909.4061, algorithm 5.1). Samples grow, since kernels that split are
    mostly of a far lower rank than would still pay. Else all of them.
    """
    rng = np.random.default_rng(0)
    for looked_for in _growing(rank):
        samples = rng.standard_normal((matrix.shape[1], looked_for + OVERSAMPLING))
        if 2 * samples.shape[1] >= min(matrix.shape):
            break
        basis, _ = np.linalg.qr(matrix @ samples)
        inside = basis.T @ matrix
        rest = float(np.linalg.norm(matrix - basis @ inside))
        if rest <= loss / 2 * np.linalg.norm(matrix):
            u, s, vt = np.linalg.svd(inside, full_matrices=False)
            return basis @ u, s, vt, rest
    return *np.linalg.svd(matrix, full_matrices=False), 0.0


def _growing(rank: int) -> Iterator[int]:
    """1, 4, 16 and so on, and at last `rank`."""
    tried = 1
    while tried < rank:
        yield tried
        tried *= 4
    yield rank


def _surely_above(w: Array, rank: int, loss: float) -> bool:
    """Whether some rows of the matrix alone show a higher rank, for a small part of a decomposition's price.

    No part of a matrix has a larger singular value number rank + 1 than the whole, and that much at least the
    whole would leave out. All squared singular values of the rank + 1 largest rows exceed a bound when their
    Gram matrix, less the bound on its diagonal, has a Cholesky factor.
    """
    k, c, i, j = w.shape
    w = w.astype(np.promote_types(w.dtype, np.float32), copy=False)
    if rank >= min(k * i, c * j):
        return True
    with np.errstate(over="ignore", invalid="ignore"):  # kernels whose squares overflow are left as they are
        norms = np.einsum("kcij,kcij->ki", w, w)
        rows = np.unravel_index(np.argsort(norms, axis=None)[-rank - 1 :], norms.shape)
        some = w[rows[0], :, rows[1]].reshape(rank + 1, c * j)
        gram = some @ some.T
        rounding = 32 * np.finfo(w.dtype).eps * np.trace(gram)
        try:
            np.linalg.cholesky(gram - (loss**2 * norms.sum() + rounding) * np.eye(rank + 1, dtype=w.dtype))
        except np.linalg.LinAlgError:
            return False
    return True


@dataclass(frozen=True)
class SeparateKernels(RulePass):
    """Split kernels of low rank into one-dimensional ones."""

    name: ClassVar[str] = "separate-kernels"
    by_element: ClassVar[bool] = False  # of a small weight as much may be lost as of a large one
    rules = (LowRankToPair(),)
