"""Activations that exporters spell out become one operator again, which an epilogue can take in.

A convolution whose output is read twice, as in x * sigmoid(x), has no epilogue; followed by swish(x) it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node, Value
from convc.ops.unary import ClipAttrs, HardSigmoidAttrs
from convc.passes.base import Rule, RulePass, absorb_origin, drop_unused


@dataclass(frozen=True)
class Found:
    """The input of an activation, its operator, and the nodes that spelled it out, readers first."""

    x: Value
    op: str
    parts: tuple[Node, ...]


class SpelledActivation(Rule[Found]):
    """swish(x) = x * sigmoid(x); hard_swish(x) = x * hard_sigmoid(x; 1/6, 1/2) = x * clip(x + 3, 0, 6) / 6;
    mish(x) = x * tanh(softplus(x)); gelu(x) = x * (1 + erf(x / sqrt 2)) * 1/2.

    Factors may stand on either side; constants may be off by the rounding of float32. A quotient by a gate is
    none of these, and neither is a product to which a constant of more axes has given its rank.
    """

    def match(self, graph: Graph, node: Node) -> Found | None:
        if node.op not in ("mul", "div") or node.epilogue or not node.output.type.is_float:
            return None
        found = _halved_or_sixth(graph, node) or (_product(graph, node) if node.op == "mul" else None)
        return found if found is not None and found.x.type == node.output.type else None

    def rewrite(self, graph: Graph, node: Node, match: Found) -> str:
        graph.become(node, match.op, [match.x])
        absorb_origin(graph, node, *match.parts)
        for part in match.parts:
            drop_unused(graph, part)
        return f"{len(match.parts) + 1} nodes recognised as {match.op}"


def _product(graph: Graph, node: Node) -> Found | None:
    """x * gate(x)."""
    for x, gate in _factors(node):
        maker = gate.producer
        if maker is None or maker.epilogue:
            continue
        if maker.op == "sigmoid" and maker.inputs[0] is x:
            return Found(x, "swish", (maker,))
        gate_attrs = maker.attrs if maker.inputs[0] is x else None
        slope = gate_attrs.alpha if isinstance(gate_attrs, HardSigmoidAttrs) and gate_attrs.beta == 0.5 else 0
        if _close(slope, 1 / 6):
            return Found(x, "hard_swish", (maker,))
        if maker.op == "tanh" and (inner := _maker(maker.inputs[0], "softplus")) and inner.inputs[0] is x:
            return Found(x, "mish", (maker, inner))
    return None


def _halved_or_sixth(graph: Graph, node: Node) -> Found | None:
    """(x * gate(x)) * constant, in either order of the two products, and with the constant as a divisor."""
    constant, product = _scaled(graph, node)
    if product is None or product.op != "mul" or product.epilogue:
        return None
    for x, gate in _factors(product):
        if _close(constant, 1 / 6) and (clip := _maker(gate, "clip")) and clip.attrs == ClipAttrs(0.0, 6.0):
            shift = _maker(clip.inputs[0], "add")
            if shift and (x, 3.0) in _terms(graph, shift):
                return Found(x, "hard_swish", (product, clip, shift))
        if _close(constant, 0.5) and (plus := _maker(gate, "add")):
            for value, one in _terms(graph, plus):
                erf = _maker(value, "erf")
                inner = _maker(erf.inputs[0], "mul", "div") if erf and one == 1.0 else None
                if erf and inner and _argument(graph, inner) is x:
                    return Found(x, "gelu", (product, plus, erf, inner))
    return None


def _argument(graph: Graph, node: Node) -> Value | None:
    """The x of x / sqrt 2."""
    for a, b in _factors(node):
        factor = _scalar(graph, b)
        if factor is not None and _close(factor if node.op == "mul" else 1 / factor, math.sqrt(0.5)):
            return a
        if node.op == "div":
            break
    return None


def _scaled(graph: Graph, node: Node) -> tuple[float, Node | None]:
    """The constant and the maker of the other factor of node = constant * other."""
    for a, b in _factors(node):
        factor = _scalar(graph, b)
        if factor:
            return (factor if node.op == "mul" else 1 / factor), a.producer
        if node.op == "div":
            break
    return 0.0, None


def _terms(graph: Graph, node: Node) -> list[tuple[Value, float | None]]:
    """The two ways to see a sum as a value and a constant."""
    return [(a, _scalar(graph, b)) for a, b in _factors(node)]


def _factors(node: Node) -> Iterator[tuple[Value, Value]]:
    a, b = node.inputs
    assert a is not None
    assert b is not None
    yield a, b
    yield b, a


def _maker(value: Value | None, *ops: str) -> Node | None:
    maker = None if value is None else value.producer
    return maker if maker is not None and maker.op in ops and not maker.epilogue else None


def _scalar(graph: Graph, value: Value | None) -> float | None:
    array = graph.constant(value)
    return None if array is None or array.size != 1 else float(array.reshape(-1)[0])


def _close(found: float, wanted: float) -> bool:
    return abs(found - wanted) <= 4 * float(np.finfo(np.float32).eps) * wanted


@dataclass(frozen=True)
class RecogniseActivations(RulePass):
    """Find swish, hard_swish, mish and gelu where they are spelled out."""

    name: ClassVar[str] = "recognise-activations"
    rules = (SpelledActivation(),)
