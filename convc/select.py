"""Which algorithm computes a layer: list the candidates, price them, keep the whole table.

Nothing here looks at shapes. A lowering says whether it applies, what it would cost and how far off its
results would be; the cheapest one within the error bound wins, unless the user names another.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from convc.errors import OptionError
from convc.ir import Graph, Node
from convc.lowering.base import Lowering
from convc.lowering.registry import LOWERINGS
from convc.runtime.manifest import Candidate
from convc.target import Target
from convc.types import Array
from convc.workload import Workload

DEFAULT_MAX_ERROR = 1e-4
"""Largest error of a layer, relative to its largest output, that selection accepts."""


@dataclass(frozen=True)
class Choice:
    """The algorithm of one node, the workload in the layouts that it wants, and all candidates."""

    lowering: Lowering
    workload: Workload
    candidates: tuple[Candidate, ...]


@dataclass
class Selector:
    """Chooses lowerings for the nodes of one graph.

    `algorithms` maps layer names (or names of the nodes that a layer came from) to lowerings that the user
    insists on. `all_errors` estimates the error of every candidate, not only of those that could win.
    """

    target: Target
    max_error: float = DEFAULT_MAX_ERROR
    algorithms: Mapping[str, str] = field(default_factory=dict)
    all_errors: bool = False
    _seen: dict[Workload, list[tuple[Lowering, Workload, Candidate]]] = field(default_factory=dict)

    def check_names(self, graph: Graph) -> None:
        """Raise OptionError for an `algorithms` entry that matches no layer of the graph."""
        known = {name for node in graph.nodes for name in (node.name, *node.origin)}
        for name in self.algorithms:
            if name not in known:
                close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.3)
                hint = f"Close names: {', '.join(close)}." if close else "See `convc summary` for the names."
                raise OptionError(f"--algo names layer '{name}', which the model does not have.", hint=hint)

    def choose(self, graph: Graph, node: Node) -> Choice:
        """Price every lowering for a node and pick one. Raises OptionError when the user's pick cannot be."""
        workload = Workload.of(graph, node)
        priced = self._priced(workload)
        weights = [graph.constant(value) for value in node.inputs]
        wanted = next((self.algorithms[n] for n in (node.name, *node.origin) if n in self.algorithms), None)
        if wanted is not None:
            return self._insist(node, wanted, priced, weights)
        table, chosen = self._within_error(priced, weights)
        if chosen is None:
            raise OptionError(
                f"No lowering computes '{node.name}' within --max-error {self.max_error:g}.",
                hint=f"The least error found is {min(c.error for c in table if c.error is not None):.1e}.",
            )
        lowering, stored = priced[chosen][:2]
        return Choice(lowering, stored, tuple(table))

    def choose_workload(self, workload: Workload) -> Choice:
        """The cheapest lowering of a workload without weights, such as a copy."""
        lowering, stored, _ = self._priced(workload)[0]
        return Choice(lowering, stored, ())

    def _priced(self, workload: Workload) -> list[tuple[Lowering, Workload, Candidate]]:
        """All lowerings of the operator, cheapest first, then those that refuse."""
        if workload not in self._seen:
            entries = []
            for lowering in LOWERINGS:
                if workload.op not in lowering.ops:
                    continue
                reason = lowering.applies(workload, self.target)
                if reason is not None:
                    entries.append((lowering, workload, Candidate(lowering.name, rejected=reason)))
                    continue
                layouts = lowering.layouts(workload, self.target)
                stored = workload.stored_as(layouts.inputs, layouts.outputs)
                price = lowering.cost(stored, self.target) * 1e3
                entries.append((lowering, stored, Candidate(lowering.name, predicted_ms=price)))
            entries.sort(key=lambda e: float("inf") if e[2].predicted_ms is None else e[2].predicted_ms)
            self._seen[workload] = entries
        return self._seen[workload]

    def _within_error(
        self, priced: Sequence[tuple[Lowering, Workload, Candidate]], weights: Sequence[Array | None]
    ) -> tuple[list[Candidate], int | None]:
        table: list[Candidate] = []
        chosen = None
        for index, (lowering, stored, candidate) in enumerate(priced):
            if candidate.rejected is None and (chosen is None or self.all_errors):
                error = lowering.error_bound(stored, weights)
                candidate = replace(candidate, error=error)
                # Rounding itself is no ground for rejection: something has to compute the layer.
                if error > self.max_error and not lowering.exact:
                    candidate = replace(candidate, rejected=f"error {error:.1e} exceeds {self.max_error:g}")
                elif chosen is None:
                    chosen = index
            table.append(candidate)
        return table, chosen

    def _insist(
        self,
        node: Node,
        wanted: str,
        priced: Sequence[tuple[Lowering, Workload, Candidate]],
        weights: Sequence[Array | None],
    ) -> Choice:
        """The lowering that the user wants, whatever its price and error."""
        table: list[Candidate] = []
        chosen: Choice | None = None
        for lowering, stored, candidate in priced:
            if lowering.name == wanted and candidate.rejected is not None:
                raise OptionError(f"--algo: '{wanted}' cannot compute '{node.name}': {candidate.rejected}.")
            if candidate.rejected is None and (lowering.name == wanted or self.all_errors):
                candidate = replace(candidate, error=lowering.error_bound(stored, weights))
            if lowering.name == wanted:
                chosen = Choice(lowering, stored, ())
            table.append(candidate)
        if chosen is None:
            raise OptionError(
                f"--algo: layer '{node.name}' ({node.op}) has no lowering '{wanted}'.",
                hint=f"It has: {', '.join(c.lowering for c in table)}.",
            )
        return replace(chosen, candidates=tuple(table))
