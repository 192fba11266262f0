"""What there is to tune in a network: its distinct layers, and for each all candidates.

A candidate is a lowering in certain layouts with one configuration of its schedule. The first one is the
untuned choice; the others follow by predicted time. Layers are distinct by the work that they do: nodes of
equal workload are one task that counts as often as there are such nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

from convc.codegen.link import configuration
from convc.compilation import Compilation
from convc.ir import Node
from convc.lowering.base import Lowering
from convc.plan.aliases import is_view
from convc.plan.select import Choice, Option, Selector
from convc.schedules.base import Config
from convc.schedules.registry import schedules
from convc.target import Target
from convc.tune.trial import Variant
from convc.types import Array
from convc.workload import Halo, Workload

SLOWEST = 3.0
"""Lowerings whose price exceeds the cheapest one's by this factor are not tried: no model errs that much."""


@dataclass(frozen=True)
class Candidate:
    """One way to compute a layer; `predicted` is in seconds, `halo` the zeros around input 0."""

    lowering: Lowering
    workload: Workload
    halo: Halo
    config: Config
    predicted: float

    @cached_property
    def variant(self) -> Variant:
        """Its name in records."""
        return Variant(self.lowering.name, self.workload.layouts, canonical(self.config))


@dataclass(frozen=True)
class Task:
    """A distinct layer: the work, an example of its weights, and how often the network has it.

    `weights` has an array for each constant input, None for the others. `candidates[0]` is untuned.
    """

    name: str
    key: str
    workload: Workload
    weights: tuple[Array | None, ...]
    count: int
    candidates: tuple[Candidate, ...]

    @property
    def untuned(self) -> Candidate:
        """What the compiler chooses without records."""
        return self.candidates[0]


def canonical(config: Config) -> str:
    """A configuration as JSON with sorted keys."""
    return json.dumps(asdict(config), sort_keys=True, separators=(",", ":"))


def tasks(compilation: Compilation) -> list[Task]:
    """The distinct layers of an untuned compilation that have several candidates; the dearest come first."""
    options = compilation.options
    selector = Selector(
        compilation.target, options.max_error, options.algorithms, measure=options.error_measure
    )
    selector.check_names(compilation.graph)
    computed = {step.node for step in compilation.program.steps}
    nodes: dict[str, list[Node]] = {}
    for node in compilation.layers:
        work = compilation.choices[node].workload
        if node in computed and not is_view(work):
            nodes.setdefault(work.key, []).append(node)
    found = [_task(compilation, selector, same) for same in nodes.values()]
    found = [task for task in found if len(task.candidates) > 1]
    return sorted(found, key=lambda task: -task.count * task.untuned.predicted)


def _task(compilation: Compilation, selector: Selector, nodes: list[Node]) -> Task:
    graph, node = compilation.graph, nodes[0]
    choice = compilation.choices[node]
    work = choice.workload.unplaced
    weights = tuple(graph.constant(value) for value in node.inputs)
    wanted = selector.insisted(node)
    options = _options(selector.every(work, weights, wanted), choice)
    found = [c for option in options for c in _candidates(option, compilation.target)]
    untuned = (choice.lowering.name, choice.workload, configuration(choice, compilation.target))
    found.sort(key=lambda c: ((c.lowering.name, c.workload, c.config) != untuned, c.predicted))
    return Task(node.name, work.key, work, weights, len(nodes), tuple(found))


def _options(options: list[Option], choice: Choice) -> list[Option]:
    """One option of each lowering: in the layouts of the joint choice where it knows them, else its best."""
    if not options:
        return []
    kept: dict[str, Option] = {}
    for option in options:
        other = kept.get(option.lowering.name)
        if other is None or option.workload.layouts == choice.workload.layouts:
            kept[option.lowering.name] = option
    least = min(option.seconds for option in kept.values())
    chosen = choice.lowering.name
    return [o for o in kept.values() if o.seconds <= SLOWEST * least or o.lowering.name == chosen]


def _candidates(option: Option, target: Target) -> Iterator[Candidate]:
    """An option under each configuration of its schedule, the default one first.

    A schedule's own prices are scaled to the lowering's, which counts more than the schedule's product.
    """
    schedule = schedules(target)[option.lowering.schedule]
    work, default = option.workload, schedule.default(option.workload, target)
    price = getattr(schedule, "price", lambda work, target, config: 1.0)
    usual = price(work, target, default)
    for config in dict.fromkeys((default, *schedule.space(work, target))):
        ratio = price(work, target, config) / usual
        yield Candidate(option.lowering, work, option.halo, config, option.seconds * ratio)
