"""Which algorithms could compute a layer: list the candidates, price them, keep the whole table.

Nothing here looks at shapes. A lowering says whether it applies, what it would cost and how far off its
results would be. One that errs too much is rejected; the user may insist on one. Which of the rest is
taken is decided for the whole graph at once, in `assign`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Any, Protocol

from convc.errors import OptionError
from convc.ir import Attrs, Graph, Node, opdef
from convc.lowering.base import Lowering, Reach
from convc.lowering.registry import lowerings
from convc.naming import kin, layer_named
from convc.plan.positions import part_reader
from convc.runtime.manifest import Candidate
from convc.target import Target
from convc.tiling.registers import memory_seconds
from convc.types import PLAIN, Array, Layout, TensorType
from convc.workload import Halo, Workload, covers

DEFAULT_MAX_ERROR = 1e-4
"""Largest error of a layer, relative to its largest output, that selection accepts."""

MEASURES = ("layer", "element")
"""What errors are relative to: the largest output of a layer, or for each element the sum of its terms'
magnitudes."""


Numbers = Mapping[str, int]
"""The fields of a schedule's configuration."""


@dataclass(frozen=True)
class Measured:
    """What a tuning record says of a lowering in certain layouts: its best time, and how it was scheduled."""

    seconds: float
    config: Numbers


class Records(Protocol):
    """Times that were measured on the target, by which options are priced where there are any."""

    def find(self, lowering: Lowering, w: Workload, target: Target) -> Measured | None:
        """What was found on the target for work stored as in `w`, with this version of the lowering."""

    def answers(self) -> tuple[dict[str, Any], ...]:
        """What `find` has answered with so far, as JSON values."""


@dataclass(frozen=True)
class Choice:
    """The algorithm of one node, the workload in the layouts that it wants, and all candidates.

    `config` is its schedule's configuration from a tuning record, None for the untuned one. `reason` says
    why it is not the cheapest candidate, where it is not.
    """

    lowering: Lowering
    workload: Workload
    candidates: tuple[Candidate, ...]
    reason: str = ""
    config: Numbers | None = None


@dataclass(frozen=True)
class Option:
    """A lowering in certain layouts: its workload, the zeros that it wants around input 0, and its price.

    `seconds` is what it was measured to take, or what the model predicts in the light of what was measured
    of the layer; `predicted` is the model's alone.
    """

    lowering: Lowering
    workload: Workload
    halo: Halo
    seconds: float
    predicted: float
    measured: Measured | None = None


@dataclass(frozen=True)
class NodeOptions:
    """What can be chosen for a node, cheapest first, and the table of all candidates."""

    allowed: tuple[Option, ...]
    candidates: tuple[Candidate, ...]


@dataclass
class Selector:
    """Lists and prices the lowerings for the nodes of one graph.

    `algorithms` maps layer names (or names of the nodes that a layer came from) to lowerings that the user
    insists on. `all_errors` estimates the error of every candidate, not only of those that could win.
    `records` has times that were measured on this target. `measure` is one of MEASURES.
    """

    target: Target
    max_error: float = DEFAULT_MAX_ERROR
    algorithms: Mapping[str, str] = field(default_factory=dict)
    all_errors: bool = False
    records: Records | None = None
    measure: str = MEASURES[0]
    _own: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Names of layers with their kin: others that came from a node of that name are not meant by it."""
    _seen: dict[Workload, list[_Priced]] = field(default_factory=dict)
    _copies: dict[tuple[TensorType, Layout], Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise OptionError(
                f"Errors are not measured by '{self.measure}'.", hint=f"Give {' or '.join(MEASURES)}."
            )

    def check_names(self, graph: Graph) -> None:
        """Raise OptionError for an `algorithms` entry that names no layer of the graph, or several."""
        for name in self.algorithms:
            layer_named(name, graph.nodes, "--algo")
        self._own = {node.name: kin(node) for node in graph.nodes}

    def options(self, graph: Graph, node: Node) -> NodeOptions:
        """Price every lowering for a node.

        An option may be dearer than the cheapest and still be chosen, but by no more than it costs to copy
        all tensors of the node, which would undo any effect on the layers around. Raises OptionError when
        nothing is allowed, or the user's pick cannot be.
        """
        workload = Workload.of(graph, node)
        weights = [graph.constant(value) for value in node.inputs]
        wanted = self.insisted(node)
        if wanted is not None:
            return self._insist(node, wanted, self._priced(workload), weights)
        found = self._within_error(workload, weights, self._reach_for(graph, node, workload))
        if not found.allowed:
            least = min(c.error for c in found.candidates if c.error is not None)
            raise OptionError(
                f"No lowering computes '{node.name}' within --max-error {self.max_error:g}.",
                hint=f"The least error found is {least:.1e}.",
            )
        return found

    def insisted(self, node: Node) -> str | None:
        """The lowering that the user wants for a node, if any."""
        own = kin(node)
        names = (node.name, *(n for n in node.origin if self._own.get(n, own) == own))
        return next((self.algorithms[n] for n in names if n in self.algorithms), None)

    def every(
        self, workload: Workload, weights: Sequence[Array | None], wanted: str | None = None
    ) -> list[Option]:
        """All options that are accurate enough with these constant inputs, whatever they cost.

        The cheapest lowering comes first. With `wanted`, that one's options alone, whatever their error.
        """
        found: list[Option] = []
        for entry in self._priced(workload):
            if wanted not in (None, entry.lowering.name) or entry.refused(weights):
                continue
            error = entry.lowering.error_bound(entry.options[0].workload, weights)
            far = _too_far(entry, self._reach())
            if wanted or (not far and (entry.lowering.exact or error <= self.max_error)):
                found += entry.options
        return found

    def price(self, workload: Workload, weights: Sequence[Array | None]) -> float:
        """Predicted seconds of the cheapest lowering that is accurate enough; infinite where none is."""
        allowed = self._within_error(workload, weights, self._reach()).allowed
        return allowed[0].seconds if allowed else float("inf")

    def _reach(self) -> _Limit:
        """Up to which inputs errors may be in proportion to."""
        if self.measure == "element":
            return _Limit(Reach.TERMS, "--error-measure element")
        return _Limit(Reach.TILE)

    def _reach_for(self, graph: Graph, node: Node, w: Workload) -> _Limit:
        """The same for a node, of whose result readers may keep a part."""
        limit = self._reach()
        entries = [e for e in self._priced(w) if e.options]
        if all(e.lowering.reach(e.options[0].workload) < limit.reach for e in entries):
            return limit
        reader = None if limit.reach <= Reach.WINDOW else part_reader(graph, node)
        return limit if reader is None else _Limit(Reach.WINDOW, f"{reader} keeps a part of the positions")

    def _within_error(
        self, workload: Workload, weights: Sequence[Array | None], furthest: _Limit
    ) -> NodeOptions:
        """The options that err little enough with these constant inputs, and all candidates."""
        copies = self._copies_around(workload)
        table: list[Candidate] = []
        allowed: list[Option] = []
        for entry in self._priced(workload):
            refused = entry.refused(weights)
            if refused:
                table.append(Candidate(entry.lowering.name, rejected=refused))
                continue
            if far := _too_far(entry, furthest):
                table.append(replace(entry.candidate, rejected=far))
                continue
            candidate = entry.candidate
            limit = allowed[0].seconds + copies if allowed else float("inf")
            if entry.options[0].seconds <= limit or self.all_errors:
                error = entry.lowering.error_bound(entry.options[0].workload, weights)
                candidate = replace(candidate, error=error)
                # Rounding itself is no ground for rejection: something has to compute the layer.
                if error > self.max_error and not entry.lowering.exact:
                    candidate = replace(candidate, rejected=f"error {error:.1e} exceeds {self.max_error:g}")
                else:
                    allowed += [o for o in entry.options if o.seconds <= limit and not _worse(o, allowed)]
            table.append(candidate)
        return NodeOptions(tuple(allowed), tuple(table))

    def copy(self, kind: TensorType, layout: Layout) -> Option:
        """The cheapest way to copy a tensor into a layout (or its own, from one place to another)."""
        if (kind, layout) not in self._copies:
            w = Workload("relayout", Attrs(), (kind,), (kind.with_layout(layout),), (False,), 1)
            self._copies[kind, layout] = self._priced(w)[0].options[0]
        return self._copies[kind, layout]

    def choose_workload(self, workload: Workload) -> Choice:
        """The cheapest lowering of a workload without weights, such as a copy."""
        option = self._priced(workload)[0].options[0]
        return Choice(option.lowering, option.workload, ())

    def _copies_around(self, w: Workload) -> float:
        """Seconds to copy all computed tensors of a node."""
        read = [t for t, constant in zip(w.inputs, w.constant, strict=True) if t is not None and not constant]
        return sum(self.copy(t, PLAIN).seconds for t in (*read, *w.outputs))

    def _priced(self, workload: Workload) -> list[_Priced]:
        """All lowerings of the operator, cheapest first, then those that refuse."""
        if workload not in self._seen:
            entries = [self._price(lw, workload) for lw in lowerings(self.target) if workload.op in lw.ops]
            entries = _corrected(entries)
            entries.sort(key=lambda e: e.options[0].seconds if e.options else float("inf"))
            self._seen[workload] = entries
        return self._seen[workload]

    def _price(self, lowering: Lowering, workload: Workload) -> _Priced:
        reason = lowering.applies(workload, self.target)
        if reason is not None:
            return _Priced(lowering, (), reason)
        options: list[Option] = []
        for arrived in dict.fromkeys(_arrivals(workload, self.target)):
            layouts = lowering.layouts(arrived, self.target)
            stored = workload.stored_as(layouts.inputs, layouts.outputs)
            if any(stored == o.workload for o in options):
                continue
            predicted = self._seconds(lowering, stored)
            measured = None if self.records is None else self.records.find(lowering, stored, self.target)
            seconds = predicted if measured is None else measured.seconds
            halo = lowering.halo(stored, self.target)
            options.append(Option(lowering, stored, halo, seconds, predicted, measured))
        return _Priced(lowering, tuple(sorted(options, key=lambda o: o.seconds)))

    def _seconds(self, lowering: Lowering, w: Workload) -> float:
        """The operator's price, and the traffic of its epilogue's operands, which is the same for all."""
        own = replace(w, inputs=w.inputs[: w.arity], constant=w.constant[: w.arity], epilogue=())
        operands = sum(t.nbytes for t in w.inputs[w.arity :] if t is not None)
        return lowering.cost(own, self.target) + memory_seconds(operands, self.target)

    def _insist(
        self, node: Node, wanted: str, priced: Sequence[_Priced], weights: Sequence[Array | None]
    ) -> NodeOptions:
        """The lowering that the user wants, whatever its price and error."""
        table: list[Candidate] = []
        allowed: tuple[Option, ...] = ()
        for entry in priced:
            chosen = entry.lowering.name == wanted
            refused = entry.refused(weights)
            if chosen and refused:
                raise OptionError(f"--algo: '{wanted}' cannot compute '{node.name}': {refused}.")
            if refused:
                table.append(Candidate(entry.lowering.name, rejected=refused))
                continue
            candidate = entry.candidate
            if chosen or self.all_errors:
                error = entry.lowering.error_bound(entry.options[0].workload, weights)
                candidate = replace(candidate, error=error)
            if chosen:
                allowed = entry.options
            table.append(candidate)
        if not allowed:
            raise OptionError(
                f"--algo: layer '{node.name}' ({node.op}) has no lowering '{wanted}'.",
                hint=f"It has: {', '.join(c.lowering for c in table)}.",
            )
        return NodeOptions(allowed, tuple(table))


@dataclass(frozen=True)
class _Priced:
    """A lowering of a workload in each pattern of layouts that it knows, cheapest first, or its refusal."""

    lowering: Lowering
    options: tuple[Option, ...]
    refusal: str | None = None

    def refused(self, weights: Sequence[Array | None]) -> str | None:
        """Why it cannot compute the workload, or not with these constant inputs."""
        if self.refusal is not None:
            return self.refusal
        return self.lowering.refuses_weights(self.options[0].workload, weights)

    @cached_property
    def candidate(self) -> Candidate:
        """The row of the table, without an error, for one that is not refused."""
        measured = [o.measured.seconds for o in self.options if o.measured is not None]
        return Candidate(
            self.lowering.name,
            predicted_ms=min(o.predicted for o in self.options) * 1e3,
            measured_ms=min(measured) * 1e3 if measured else None,
        )


@dataclass(frozen=True)
class _Limit:
    """The furthest reach of errors that is allowed, and why."""

    reach: Reach
    reason: str = ""


def _too_far(entry: _Priced, limit: _Limit) -> str:
    """Why the reach of an algorithm's errors rules it out, or ""."""
    reach = entry.lowering.reach(entry.options[0].workload)
    if reach <= limit.reach:
        return ""
    whose = "tile" if reach == Reach.TILE else "window"
    return f"its error is in proportion to the largest input of a {whose} ({limit.reason})"


def _corrected(entries: Sequence[_Priced]) -> list[_Priced]:
    """Prices in the light of what was measured: what was not is as far off as its likes, one by one or all.

    A lowering's other layouts are scaled by its own error, other lowerings by that of those measured: where
    the model asks too little, it asks too little of all of a layer's candidates at first.
    """
    errors = {e.lowering.name: found for e in entries if (found := [
        o.measured.seconds / o.predicted for o in e.options if o.measured is not None and o.predicted > 0
    ])}  # fmt: skip
    if not errors:
        return list(entries)
    typical = median([error for found in errors.values() for error in found])

    def correct(entry: _Priced) -> _Priced:
        scale = median(errors.get(entry.lowering.name, [typical]))
        options = [o if o.measured else replace(o, seconds=o.predicted * scale) for o in entry.options]
        return replace(entry, options=tuple(sorted(options, key=lambda o: o.seconds)))

    return [correct(entry) for entry in entries]


def _arrivals(w: Workload, target: Target) -> tuple[Workload, ...]:
    """The workload with its computed inputs stored plain, and in channel blocks.

    A lowering may follow the layout in which its inputs arrive; these two bring out all that it can do. A
    copy's layouts are what it is asked for.
    """
    if opdef(w.op).copies_layout:
        return (w,)

    def stored(layout: Layout) -> Workload:
        layouts = [
            None if t is None or constant else layout if t.rank >= 3 else PLAIN
            for t, constant in zip(w.inputs, w.constant, strict=True)
        ]
        return w.stored_as(layouts, [t.layout for t in w.outputs])

    return stored(PLAIN), stored(Layout(target.lanes))


def _worse(option: Option, others: Sequence[Option]) -> bool:
    """Whether one of the cheaper options has the same layouts and asks for no wider border."""
    return any(o.workload == option.workload and covers(option.halo, o.halo) for o in others)
