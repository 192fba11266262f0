"""Scale and shift moved up through relu, pooling and concatenation into the linear layers that come before.

`fold_affine.py` folds a map into the layer right before it. Networks that normalise after the activation or
after a concatenation have something in between that lets the map through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node, Value, opdef
from convc.ir.traits import Affine
from convc.ops.parts import ConcatAttrs
from convc.passes.affine import affine_of, scale_outputs
from convc.passes.base import Rule, RulePass, absorb_origin
from convc.passes.fold_affine import fold_after, obstacle, overflow, takes_bias
from convc.types import Array


@dataclass(frozen=True, eq=False)
class Map:
    """scale * x + shift by channel, arrays (C,) in float64, applied to `value` by `reader`."""

    value: Value
    reader: Node
    scale: Array
    shift: Array


Folds = list[tuple[Node, Map]]
"""The layers that take a map in, each with its part of it."""


class AffineThrough(Rule[Map]):
    """With s >= 0 on every channel:

        s relu(x) = relu(s x)                                as all that is homogeneous
        s max_pool(x) + t = max_pool(s x + t)                its padding is never a maximum
        s mean(x) + t = mean(s x + t)                        of a pool or a whole map, for any s
        s concat(x, y) + t = concat(s x + t, s y + t)        for any s, each part with its channels' factors

    Operators say themselves what passes (`OpDef.passes`). The map moves as far up as linear layers, and only
    if it disappears into those on all ways. Where a scale passes and a shift does not, as through relu, the
    shift is left where it stands.
    """

    def match(self, graph: Graph, node: Node) -> Map | None:
        affine = affine_of(graph, node)
        maker = None if affine is None else affine.x.producer
        if affine is None or maker is None or not opdef(maker.op).passes(maker.attrs):
            return None
        return Map(affine.x, node, affine.scale, affine.shift)

    def check(self, graph: Graph, node: Node, match: Map) -> str:
        if not (np.isfinite(match.scale).all() and np.isfinite(match.shift).all()):
            return "its factors are not all finite"
        folds = _folds(graph, match)
        if isinstance(folds, str) and match.shift.any() and (match.scale != 1).any():
            folds = _folds(graph, _without_shift(match))
        return folds if isinstance(folds, str) else ""

    def rewrite(self, graph: Graph, node: Node, match: Map) -> str:
        folds, left = _folds(graph, match), False
        if isinstance(folds, str):
            folds, left = _folds(graph, _without_shift(match)), True
        assert not isinstance(folds, str)
        for layer, part in folds:
            fold_after(graph, layer, part.scale, part.shift)
            absorb_origin(graph, layer, node)
        into = ", ".join(repr(layer.name) for layer, _ in folds)
        if not left:
            graph.replace_uses(node.output, match.value)
            graph.remove(node)
            return f"{node.op} folded into the weights of {into}"
        kind = node.output.type
        shape = (1, -1, *[1] * (kind.rank - 2))
        shift = graph.add_constant(f"{node.name}.shift", match.shift.astype(kind.dtype).reshape(shape))
        was = node.op
        graph.become(node, "add", [match.value, shift])
        return f"the scale of {was} folded into the weights of {into}; a sum is left"


def _without_shift(found: Map) -> Map:
    return Map(found.value, found.reader, found.scale, np.zeros_like(found.shift))


def _folds(graph: Graph, found: Map) -> Folds | str:
    """The layers that would take in the map on `value`, or why one of them cannot."""
    value, maker = found.value, found.value.producer
    if maker is None:
        return f"%{value.name} is no layer's output"
    if graph.sole_user(value) is not found.reader or found.reader.inputs.count(value) > 1:
        return f"the output of '{maker.name}' has other users"
    if maker.epilogue:
        return f"'{maker.name}' already has an epilogue"
    if opdef(maker.op).weighted:
        if not takes_bias(maker):
            return f"'{maker.name}' ({maker.op}) has no bias, and its channels are last"
        refused = obstacle(graph, maker) or overflow(graph, maker, found.scale, scale_outputs)
        return refused or [(maker, found)]
    if not opdef(maker.op).passes(maker.attrs):
        return f"'{maker.name}' ({maker.op}) does not let a map through"
    return _refusal(maker, found) or _above(graph, maker, found)


def _refusal(maker: Node, found: Map) -> str:
    """Why the map cannot move from behind `maker` to before it, or ""."""
    op, types = opdef(maker.op), [None if v is None else v.type for v in maker.operands]
    passing = op.passes(maker.attrs)
    told = f"does not pass '{maker.name}' ({maker.op})"
    if Affine.NEGATIVE not in passing and (found.scale < 0).any():
        return f"a negative factor {told}"
    if Affine.SHIFT not in passing and found.shift.any():
        return f"a shift {told}"
    if not op.per_channel(maker.attrs, types) and not isinstance(maker.attrs, ConcatAttrs):
        return f"'{maker.name}' ({maker.op}) mixes samples or channels"
    return ""


def _above(graph: Graph, maker: Node, found: Map) -> Folds | str:
    """The same question for the inputs of `maker`, each with its part of the map."""
    folds: Folds = []
    start = 0
    for value in maker.inputs:
        assert value is not None
        scale, shift = found.scale, found.shift
        if isinstance(maker.attrs, ConcatAttrs) and maker.attrs.axis % value.type.rank == 1:
            part = slice(start, start + value.type.shape[1])
            start, scale, shift = part.stop, scale[part], shift[part]
        more = _folds(graph, Map(value, maker, scale, shift))
        if isinstance(more, str):
            return more
        folds += more
    return folds


@dataclass(frozen=True)
class HoistAffine(RulePass):
    """Fold factors and summands by channel into layers further up."""

    name: ClassVar[str] = "hoist-affine"
    rules = (AffineThrough(),)
