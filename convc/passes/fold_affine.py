"""Batch normalisation, and factors and summands by channel, folded into the linear layers beside them.

`affine.py` has the algebra. A layer always gets weights of its own, so that another layer which shares them
keeps the old ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node, Value, opdef
from convc.ops.conv import ConvAttrs
from convc.ops.linear import GemmAttrs
from convc.passes.affine import Affine, affine_of, scale_inputs, scale_outputs, shift_outputs
from convc.passes.base import Rule, RulePass, absorb_origin, drop_unused, replace_constant
from convc.types import Array


def takes_bias(layer: Node) -> bool:
    """Whether a linear layer has a bias (K,), for the channels on axis 1 of its result; a matmul has none."""
    return opdef(layer.op).inputs[1] > 2


def obstacle(graph: Graph, node: Node) -> str:
    """Why the weights and bias of a linear node cannot be changed, or ""."""
    weights, bias = node.inputs[1], node.inputs[2] if node.arity > 2 else None
    if graph.constant(weights) is None:
        return f"the weights of '{node.name}' are computed at run time"
    if bias is not None and graph.constant(bias) is None:
        return f"the bias of '{node.name}' is computed at run time"
    if isinstance(node.attrs, GemmAttrs) and (node.attrs.alpha, node.attrs.beta) != (1.0, 1.0):
        return f"'{node.name}' has alpha {node.attrs.alpha} and beta {node.attrs.beta}"
    return ""


def overflow(graph: Graph, node: Node, scale: Array, scaled: Callable[[Node, Array, Array], Array]) -> str:
    """Why finite weights of a linear node cannot be multiplied by `scale`, or "": infinity times 0 is NaN."""
    w = graph.constant(node.inputs[1])
    assert w is not None
    largest = float(np.finfo(w.dtype).max)
    if np.abs(scale).max(initial=0) * np.abs(w).max(initial=0) <= largest or not np.isfinite(w).all():
        return ""
    worst = np.abs(scaled(node, w, scale)).max()
    return (
        f"a weight of '{node.name}' would be {worst:.1e}, more than {w.dtype} has" if worst > largest else ""
    )


def set_bias(graph: Graph, node: Node, scale: Array | None, shift: Array) -> None:
    """bias <- scale * bias + shift, arrays (K,) in float64; makes a bias where one is needed and missing."""
    bias = node.inputs[2] if node.arity > 2 else None
    old = graph.constant(bias)
    if old is not None:
        wide = old.astype(np.float64)
        replace_constant(graph, node, 2, (wide if scale is None else wide * scale) + shift)
    elif shift.any():
        kind = node.output.type
        new = graph.add_constant(f"{node.name}.bias", np.ascontiguousarray(shift, kind.dtype))
        assert not node.epilogue  # its operands would have to move
        graph.set_inputs(node, [*node.inputs[:2], new], 3)


def fold_after(graph: Graph, layer: Node, scale: Array, shift: Array) -> None:
    """Let a linear layer compute scale * layer(x) + shift, with arrays (K,) in float64."""
    if (scale != 1).any():
        w = graph.constant(layer.inputs[1])
        assert w is not None
        replace_constant(graph, layer, 1, scale_outputs(layer, w, scale))
    if takes_bias(layer):
        set_bias(graph, layer, scale, shift)


class AffineAfter(Rule[tuple[Affine, Node]]):
    """scale * (W x + b) + shift = (scale * W) x + (scale * b + shift), channel by output channel.

    Holds for every linear layer with constant weights, whatever it pads: the border's zeros are multiplied
    by weights, and the bias reaches every output.
    """

    def match(self, graph: Graph, node: Node) -> tuple[Affine, Node] | None:
        for axis in (1, -1):
            affine = affine_of(graph, node, axis)
            layer = None if affine is None else affine.x.producer
            if affine is None or layer is None or not opdef(layer.op).weighted:
                continue
            if not takes_bias(layer) and (axis == 1 or affine.shift.any() or not _plain_weights(layer)):
                continue  # it takes no bias, and its channels are last
            if takes_bias(layer) and axis != 1:
                continue
            return affine, layer
        return None

    def check(self, graph: Graph, node: Node, match: tuple[Affine, Node]) -> str:
        affine, layer = match
        if graph.sole_user(affine.x) is not node:
            return f"the output of '{layer.name}' has other users"
        if layer.epilogue:
            return f"'{layer.name}' already has an epilogue"
        if not affine.finite:
            return "its factors are not all finite"
        return obstacle(graph, layer) or overflow(graph, layer, affine.scale, scale_outputs)

    def rewrite(self, graph: Graph, node: Node, match: tuple[Affine, Node]) -> str:
        affine, layer = match
        fold_after(graph, layer, affine.scale, affine.shift)
        graph.replace_uses(node.output, layer.output)
        absorb_origin(graph, layer, node)
        graph.remove(node)
        return f"{node.op} folded into the weights of '{layer.name}' before it"


class AffineBefore(Rule[tuple[Affine, list[Node]]]):
    """W (scale * x + shift) + b = (W * scale) x + (W shift + b), channel by input channel.

    All readers must be linear layers, so that the map disappears. Where shift is not 0 a layer must not pad:
    its border is 0 after the map and would have to be -shift / scale before it. A transposed convolution
    reads fewer taps near the border, and so takes in a scale only. A flattening between the map and a fully
    connected layer repeats each channel's factors for its pixels.
    """

    def match(self, graph: Graph, node: Node) -> tuple[Affine, list[Node]] | None:
        users = graph.users(node.output)
        if not users or graph.is_output(node.output):
            return None
        layers = [_through_flatten(graph, user) for user in users]
        if not all(opdef(layer.op).weighted for layer in layers):
            return None
        rows = {not takes_bias(layer) for layer in layers}
        affine = affine_of(graph, node, -1 if rows == {True} else 1)
        return None if affine is None or len(rows) > 1 else (affine, layers)

    def check(self, graph: Graph, node: Node, match: tuple[Affine, list[Node]]) -> str:
        affine, layers = match
        if not affine.finite:
            return "its factors are not all finite"
        for layer, user in zip(layers, graph.users(node.output), strict=True):
            if reason := _refuses_input(graph, layer, user, node.output, affine):
                return reason
            if reason := overflow(graph, layer, _repeated(affine.scale, layer, user), scale_inputs):
                return reason
        return ""

    def rewrite(self, graph: Graph, node: Node, match: tuple[Affine, list[Node]]) -> str:
        affine, layers = match
        users = graph.users(node.output)
        for layer, user in zip(layers, users, strict=True):
            w = graph.constant(layer.inputs[1])
            assert w is not None
            scale, shift = (_repeated(v, layer, user) for v in (affine.scale, affine.shift))
            if shift.any():
                set_bias(graph, layer, None, shift_outputs(layer, w, shift))
            if (scale != 1).any():
                replace_constant(graph, layer, 1, scale_inputs(layer, w, scale))
            absorb_origin(graph, layer, node)
        graph.replace_uses(node.output, affine.x)
        drop_unused(graph, node)
        return f"{node.op} folded into the weights of {', '.join(repr(x.name) for x in layers)} after it"


def _repeated(factors: Array, layer: Node, user: Node) -> Array:
    """Factors for each input of `layer`: for each pixel of a channel where `user` flattens them."""
    return factors if user is layer else np.repeat(factors, user.output.type.shape[1] // len(factors))


def _plain_weights(layer: Node) -> bool:
    return layer.inputs[1] is not None and layer.inputs[1].type.rank == 2


def _through_flatten(graph: Graph, user: Node) -> Node:
    """The fully connected layer behind a flattening (N, C, ...) -> (N, C * ...), or the reader itself."""
    if user.op != "reshape" or user.epilogue or user.inputs[0] is None:
        return user
    before, after = user.inputs[0].type.shape, user.output.type.shape
    layer = graph.sole_user(user.output)
    flattens = len(before) > 2 and len(after) == 2 and before[0] == after[0]
    return layer if flattens and layer is not None and layer.op == "gemm" else user


def _refuses_input(graph: Graph, layer: Node, user: Node, x: Value, affine: Affine) -> str:
    """Why `layer`, which reads the map's output `x` directly or through `user`, cannot take the map in."""
    read = x if user is layer else user.output
    if layer.inputs[0] is not read or read in layer.inputs[1:]:
        return f"'{layer.name}' reads it as weights, bias or operand"
    if reason := obstacle(graph, layer):
        return reason
    if isinstance(layer.attrs, GemmAttrs) and layer.attrs.trans_a:
        return f"'{layer.name}' reads it transposed"
    if layer.op == "matmul" and not _plain_weights(layer):
        return f"'{layer.name}' multiplies by a batch of matrices"
    if not affine.shift.any():
        return ""
    if layer.epilogue and layer.arity < 3:
        return f"'{layer.name}' has an epilogue and no bias to take the shift"
    if layer.op in ("conv_transpose", "matmul"):
        return f"'{layer.name}' ({layer.op}) can take in a scale, but not a shift"
    if isinstance(layer.attrs, ConvAttrs) and any(map(any, layer.attrs.pads)):
        return f"'{layer.name}' pads by {layer.attrs.pads}, and the map has a shift: the border would change"
    return ""


@dataclass(frozen=True)
class FoldAffine(RulePass):
    """Fold batch normalisation and constant factors and summands by channel into linear layers."""

    name: ClassVar[str] = "fold-affine"
    rules = (AffineAfter(), AffineBefore())
