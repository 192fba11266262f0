"""Sibling pointwise convolutions become one whose output is split: Inception's and GoogLeNet's reductions.

The pieces of a split along channels are views as long as they begin at a channel block, so that the merged
kernel reads the input once and the split costs nothing. What that saves is a launch, and the poor tiles of a
sibling with few channels. Where all have many, nothing is gained: measured on Zen 5 with two threads,
2026-11-21, 128 + 128 channels of 768 at 17 x 17 took 287 us apart and 286 together. And where the number of
blocks has no divisor that a register tile could have, it is lost: 96 + 16 channels of 192 at 28 x 28, 7
blocks, took 78 us apart and 95 together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node, opdef
from convc.ops.conv import ConvAttrs
from convc.ops.parts import SplitAttrs
from convc.passes.base import Rule, RulePass, absorb_origin
from convc.types import Array

FEW = 2
"""Channel blocks up to which a register tile shares each input among too few sums; tiles have 2 or 3."""


@dataclass(frozen=True)
class SiblingsToSplit(Rule[list[Node]]):
    """f(W1 x + b1), f(W2 x + b2) = split(f([W1; W2] x + [b1; b2])): rows of a matrix are independent.

    Holds for equal strides and equal elementwise f. Left out are siblings whose result would have to be
    copied out of the merged one: those that a concatenation reads (they are written into its result), those
    that the graph returns, and channels that do not fill blocks, of which one fits, last. A border of zeros
    around the merged tensor would stand between the pixels of readers that need none, so that siblings are
    merged only where all have padded readers or none has.
    """

    block: int = 16
    """Channels that pieces begin at multiples of; a multiple of every CPU target's channel block."""

    def match(self, graph: Graph, node: Node) -> list[Node] | None:
        if not _pointwise(node):
            return None
        x = node.inputs[0]
        assert x is not None
        found = {n for n in graph.users(x) if _pointwise(n) and _alike(graph, n, node)}
        siblings = [n for n in graph.nodes if n in found] if len(found) > 1 else []
        return siblings if siblings and siblings[0] is node else None

    def check(self, graph: Graph, node: Node, match: list[Node]) -> str:
        parts = self._mergeable(graph, match)
        if len(parts) > 1:
            return self._no_gain([n.output.type.shape[1] for n in parts])
        reasons = [f"'{n.name}' {reason}" for n in match if (reason := _obstacle(graph, n))]
        return "; ".join(reasons) or f"the channels of its siblings do not fill blocks of {self.block}"

    def rewrite(self, graph: Graph, node: Node, match: list[Node]) -> str:
        parts = self._mergeable(graph, match)
        first = parts[0]
        kind = first.output.type
        inputs = [first.inputs[0], graph.add_constant(f"{first.name}.weights", _joined(graph, parts, 1))]
        if any(len(n.inputs) > 2 and n.inputs[2] is not None for n in parts):
            inputs.append(
                graph.add_constant(f"{first.name}.bias", _joined(graph, parts, 2).astype(kind.dtype))
            )
        merged = graph.add(
            "conv", inputs, first.attrs, origin=first.origin, epilogue=first.epilogue, before=match[0]
        )
        absorb_origin(graph, merged, *parts)
        sizes = tuple(n.output.type.shape[1] for n in parts)
        split = graph.add("split", [merged.output], SplitAttrs(1, sizes), before=match[0])
        for part, piece in zip(parts, split.outputs, strict=True):
            graph.replace_uses(part.output, piece)
            graph.remove(part)
        graph.rename(merged, first.name)
        graph.rename(split, f"{first.name}.split")
        others = ", ".join(repr(n.name) for n in parts[1:])
        return f"merged with {others}: {' + '.join(map(str, sizes))} channels"

    def _no_gain(self, channels: Sequence[int]) -> str:
        """Why merging siblings of so many channels takes no less time, or ""."""
        blocks = -(-sum(channels) // self.block)
        if min(channels) > FEW * self.block:
            return f"all of its siblings, with {min(channels)} channels or more, fill register tiles"
        if blocks % 2 and blocks % 3:
            return (
                f"{sum(channels)} channels are {blocks} blocks, which register tiles of 2 or 3 do not divide"
            )
        return ""

    def _mergeable(self, graph: Graph, siblings: Sequence[Node]) -> list[Node]:
        """The siblings to merge, in order; the first with channels that fill no blocks comes last."""
        free = [n for n in siblings if not _obstacle(graph, n)]
        ragged = [n for n in free if n.output.type.shape[1] % self.block]
        return [n for n in free if n not in ragged] + ragged[:1]


def _pointwise(node: Node) -> bool:
    """Whether this is a dense convolution of single pixels."""
    if node.op != "conv" or node.inputs[1] is None:
        return False
    assert isinstance(node.attrs, ConvAttrs)
    padded = any(map(any, node.attrs.pads))
    return math.prod(node.inputs[1].type.shape[2:]) == 1 and node.attrs.groups == 1 and not padded


def _alike(graph: Graph, a: Node, b: Node) -> bool:
    """Whether two pointwise convolutions do the same to the same input but for weights and bias."""
    assert isinstance(a.attrs, ConvAttrs)
    assert isinstance(b.attrs, ConvAttrs)
    same = (a.inputs[0], a.attrs.strides, a.epilogue) == (b.inputs[0], b.attrs.strides, b.epilogue)
    return same and _padded_reader(graph, a) == _padded_reader(graph, b)


def _padded_reader(graph: Graph, node: Node) -> bool:
    """Whether a convolution that reads the node's output wants zeros around it."""
    attrs = [user.attrs for user in graph.users(node.output)]
    return any(isinstance(a, ConvAttrs) and any(map(any, a.pads)) for a in attrs)


def _obstacle(graph: Graph, node: Node) -> str:
    """Why a pointwise convolution is not merged with any sibling, or ""."""
    constants = [v for v in node.inputs[1 : node.arity] if v is not None]
    if any(graph.constant(v) is None for v in constants):
        return "has weights or a bias that are computed at run time"
    if any(step.operand is not None for step in node.epilogue):
        return "has operands in its epilogue"
    movers = [user.op for user in graph.users(node.output) if opdef(user.op).rearranges]
    if movers or graph.is_output(node.output):
        return f"is read by {movers[0]}" if movers else "is returned"
    return ""


def _joined(graph: Graph, parts: Sequence[Node], index: int) -> Array:
    """The weights (K, C, 1, ...) or biases (K,) of all parts, zeros where one has no bias."""
    arrays = []
    for part in parts:
        array = graph.constant(part.inputs[index]) if index < part.arity else None
        arrays.append(np.zeros(part.output.type.shape[1]) if array is None else array)
    return np.concatenate(arrays)


@dataclass(frozen=True)
class MergeSiblings(RulePass):
    """Merge pointwise convolutions on one input into one and a split."""

    name: ClassVar[str] = "merge-siblings"
    rules = (SiblingsToSplit(),)
