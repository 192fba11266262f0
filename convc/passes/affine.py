"""Per-channel affine maps y = scale * x + shift: which nodes are one, and what linear layers do with them.

With W the weights of a linear layer L(x) = W x + b, in which channel o of the output has the weights W[o]:

  after:   scale * (W x + b) + shift  =  (scale * W) x + (scale * b + shift)        scale by output channel
  before:  W (scale * x + shift) + b  =  (W * scale) x + (W shift + b)              scale by input channel

A layer that pads sees zeros beyond the border also in the second form, where shift belongs there: `before`
needs shift = 0 or no padding. Everything is computed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.ir import Graph, Node, Value
from convc.ops.conv import ConvAttrs
from convc.ops.linear import GemmAttrs
from convc.ops.norm import BatchNormAttrs
from convc.types import Array


@dataclass(frozen=True)
class Affine:
    """scale * x + shift along one axis of `x`: arrays (C,) in float64."""

    x: Value
    scale: Array
    shift: Array

    @property
    def finite(self) -> bool:
        """Whether all factors are finite, as folding needs: 0 * inf would spread."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())


def affine_of(graph: Graph, node: Node, axis: int = 1) -> Affine | None:
    """The affine map along `axis` that `node` computes with constants, or None when it is none."""
    if node.epilogue or not node.output.type.is_float or node.output.type.rank < 2:
        return None
    if node.op == "batch_norm":
        return _batch_norm(graph, node) if axis % node.output.type.rank == 1 else None
    if node.op not in ("add", "sub", "mul", "div"):
        return None
    a, b = node.inputs
    assert a is not None
    assert b is not None
    left, right = graph.constant(a), graph.constant(b)
    x, array = (b, left) if left is not None else (a, right)
    if array is None or (left is not None and right is not None) or x.type.shape != node.output.type.shape:
        return None
    factor = along(array, x.type.shape, axis)
    if factor is None:
        return None
    ones, zeros = np.ones_like(factor), np.zeros_like(factor)
    if node.op == "add":
        return Affine(x, ones, factor)
    if node.op == "mul":
        return Affine(x, factor, zeros)
    if node.op == "sub":
        return Affine(x, ones, -factor) if x is a else Affine(x, -ones, factor)
    with np.errstate(divide="ignore"):
        return Affine(x, 1 / factor, zeros) if x is a else None


def _batch_norm(graph: Graph, node: Node) -> Affine | None:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, as a factor and a summand (arXiv 1502.03167)."""
    assert isinstance(node.attrs, BatchNormAttrs)
    arrays = [graph.constant(v) for v in node.inputs[1:]]
    x = node.inputs[0]
    if x is None or any(a is None for a in arrays):
        return None
    scale, bias, mean, variance = (a.astype(np.float64) for a in arrays if a is not None)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + node.attrs.epsilon)
        return Affine(x, factor, bias - mean * factor)


def along(array: Array, shape: tuple[int, ...], axis: int) -> Array | None:
    """A constant that broadcasts to `shape` and varies along `axis` alone, as (C,) in float64, or None."""
    if array.ndim > len(shape):
        return None
    full = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if full.size != full.shape[axis] or full.size not in (1, shape[axis]):
        return None
    vector: Array = np.full(shape[axis], 0.0)
    vector[:] = full.reshape(-1)
    return vector


# ---- linear layers


def scale_outputs(node: Node, w: Array, scale: Array) -> Array:
    """The weights of a linear node whose output channels are multiplied by `scale` (K,), in float64."""
    wide = w.astype(np.float64)
    if node.op == "conv":
        return np.asarray(wide * scale.reshape(-1, *[1] * (w.ndim - 1)))
    if node.op == "conv_transpose":
        assert isinstance(node.attrs, ConvAttrs)
        g = node.attrs.groups
        grouped = wide.reshape(g, w.shape[0] // g, *w.shape[1:])
        return np.asarray(grouped * scale.reshape(g, 1, -1, *[1] * (w.ndim - 2))).reshape(w.shape)
    return np.asarray(wide * (scale[:, None] if _transposed(node) else scale))


def scale_inputs(node: Node, w: Array, scale: Array) -> Array:
    """The weights of a linear node whose input channels are multiplied by `scale` (C,), in float64."""
    wide = w.astype(np.float64)
    if node.op == "conv":
        return np.asarray(wide * _by_output(node, w, scale).reshape(*w.shape[:2], *[1] * (w.ndim - 2)))
    if node.op == "conv_transpose":
        return np.asarray(wide * scale.reshape(-1, *[1] * (w.ndim - 1)))
    return np.asarray(wide * (scale if _transposed(node) else scale[:, None]))


def shift_outputs(node: Node, w: Array, shift: Array) -> Array:
    """What `shift` (C,), added to every input channel, adds to the output channels (K,), in float64."""
    wide = w.astype(np.float64)
    if node.op == "conv":
        return np.asarray((wide.reshape(*w.shape[:2], -1).sum(-1) * _by_output(node, w, shift)).sum(1))
    assert node.op == "gemm"
    return np.asarray(wide @ shift if _transposed(node) else shift @ wide)


def _by_output(node: Node, w: Array, values: Array) -> Array:
    """Values of the input channels (C,) that each output channel reads: (K, C / groups)."""
    assert isinstance(node.attrs, ConvAttrs)
    groups = node.attrs.groups
    return np.repeat(values.reshape(groups, -1), w.shape[0] // groups, axis=0)


def _transposed(node: Node) -> bool:
    return isinstance(node.attrs, GemmAttrs) and node.attrs.trans_b
