"""What an import found out about a model: the operators that convc compiles, and those that it does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Findings:
    """What a model asks for: how often each operator occurs that convc compiles, and what it cannot."""

    supported: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """For (operator and opset, reason) the names of the nodes."""
    wanted: set[str] = field(default_factory=set)
    """Inputs of the model that decide what operators need when the model is compiled."""

    def refuse(self, kind: str, reason: str, node: str) -> None:
        """Note that a node of this kind is not compiled."""
        names = self.refused.setdefault((kind, reason), [])
        if node not in names:
            names.append(node)

    def lines(self) -> list[str]:
        """One line for each thing that convc cannot compile."""
        return [
            f"{kind} {'nodes' if len(nodes) > 1 else 'node'} {', '.join(map(repr, nodes))}: {reason}"
            for (kind, reason), nodes in self.refused.items()
        ]
