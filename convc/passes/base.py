"""What a pass is, what it reports, and the driver of rewrite rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from convc.ir import Graph, Node
from convc.types import Array


@dataclass(frozen=True)
class Change:
    """One thing that a pass did to a node, or, with `refused`, the reason why it left the node alone."""

    node: str
    text: str
    origin: tuple[str, ...] = ()
    refused: bool = False

    def __str__(self) -> str:
        origin = f" (from {', '.join(self.origin)})" if self.origin and self.origin != (self.node,) else ""
        return f"{self.node}{origin}: {'left alone: ' if self.refused else ''}{self.text}"


@dataclass
class Changes:
    """What a pass did, in order, and what it refused. True when the graph was changed."""

    made: list[Change] = field(default_factory=list)
    refused: list[Change] = field(default_factory=list)

    def did(self, node: Node, text: str) -> None:
        """Record a change to `node`."""
        self.made.append(Change(node.name, text, node.origin))

    def refuse(self, node: Node, reason: str) -> None:
        """Record why `node` was left alone."""
        self.refused.append(Change(node.name, reason, node.origin, refused=True))

    def __bool__(self) -> bool:
        return bool(self.made)

    def __iter__(self) -> Iterator[Change]:
        return iter([*self.made, *self.refused])

    def __str__(self) -> str:
        return "\n".join(map(str, self))


@dataclass(frozen=True)
class Pass(ABC):
    """A transformation of a graph, in place. Options are the fields of the (frozen) subclass."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: Graph) -> Changes:
        """Transform `graph`; it computes the same function afterwards, up to rounding."""


M = TypeVar("M")


class Rule(ABC, Generic[M]):
    """A local rewrite. The docstring of a rule states the algebra that makes it right.

    `match` recognises the pattern around a node and returns what it found; `check` says what speaks against
    rewriting it, as a sentence without a full stop, or "" when nothing does; `rewrite` does it and says what
    it did.
    """

    @abstractmethod
    def match(self, graph: Graph, node: Node) -> M | None:
        """The parts of the pattern that `node` is the root of, or None."""

    def check(self, graph: Graph, node: Node, match: M) -> str:
        """Why the pattern must be left alone, or ""."""
        return ""

    @abstractmethod
    def rewrite(self, graph: Graph, node: Node, match: M) -> str:
        """Rewrite the pattern, and say what was done."""


@dataclass(frozen=True)
class RulePass(Pass):
    """A pass that applies rewrite rules until none applies."""

    rules: ClassVar[Sequence[Rule[Any]]]

    def run(self, graph: Graph) -> Changes:
        """Sweep over the nodes until a sweep changes nothing; refusals are those of the last sweep."""
        changes = Changes()
        while self._sweep(graph, changes):
            changes.refused.clear()
        return changes

    def _sweep(self, graph: Graph, changes: Changes) -> bool:
        changed = False
        for node in graph.nodes:
            for rule in self.rules:
                if node not in graph:
                    break
                match = rule.match(graph, node)
                if match is None:
                    continue
                if reason := rule.check(graph, node, match):
                    changes.refuse(node, reason)
                    continue
                before = node.name, node.origin
                text = rule.rewrite(graph, node, match)
                changes.made.append(Change(before[0], text, before[1]))
                changed = True
        return changed


# ---- steps that several passes take


def absorb_origin(graph: Graph, node: Node, *others: Node) -> None:
    """Let `node` stand for the imported nodes of `others` too."""
    graph.set_origin(node, [*node.origin, *(name for other in others for name in other.origin)])


def replace_constant(graph: Graph, node: Node, index: int, array: Array) -> None:
    """Give `node` its own version of constant input `index`; other readers keep the old one.

    `array` is cast to the old constant's dtype. The name stays with the new constant when nobody else reads
    the old one.
    """
    old = node.inputs[index]
    assert old is not None
    inputs = list(node.inputs)
    graph.set_inputs(node, [*inputs[:index], None, *inputs[index + 1 :]])
    if not graph.users(old) and not graph.is_output(old):
        graph.remove_constant(old)
    new = graph.add_constant(old.name, np.ascontiguousarray(array, old.type.dtype))
    graph.set_inputs(node, [*inputs[:index], new, *inputs[index + 1 :]])


def drop_unused(graph: Graph, node: Node) -> None:
    """Remove a node whose outputs have lost their last reader; leave it when some have one."""
    if not any(graph.users(v) or graph.is_output(v) for v in node.outputs):
        graph.remove(node)
