"""Does what a trial found hold in the network? Where it does not, the record is corrected.

A trial imitates what the layers around do to the caches (see `trial_module`), and the machine may have been
busier when it was made. So the tuned network and the untuned one run in turns, step by step. A layer that
takes longer tuned than untuned gets a new trial of the same variant, with the time that it takes in place: of
a variant's trials the last one counts. Another candidate is then the layer's best, and must hold as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from convc.codegen.link import configuration
from convc.compiler import Compilation
from convc.ir import Node
from convc.runtime import manifest as manifests
from convc.tune.database import Database
from convc.tune.judge import Interval, ratio
from convc.tune.records import machine_of
from convc.tune.tasks import canonical
from convc.tune.trial import Outcome, Trial, Variant
from convc.tune.worker import Worker
from convc.types import Array

ROUNDS, MOST_ROUNDS = 20, 100
"""Runs of each network in a comparison: so many, again and again until it is clear."""
COMPARISON_SECONDS = 300.0


@dataclass(frozen=True)
class Profile:
    """Seconds of a module's steps: a row for each run, a column for each of `steps`, which name layers."""

    steps: tuple[str, ...]
    seconds: Array

    def of(self, layers: Collection[str]) -> list[float]:
        """Seconds of these layers together in each run."""
        chosen = [name in layers for name in self.steps]
        return [float(s) for s in self.seconds[:, chosen].sum(axis=1)]

    @property
    def whole(self) -> list[float]:
        """Seconds of each run."""
        return [float(s) for s in self.seconds.sum(axis=1)]


@dataclass(frozen=True)
class Comparison:
    """Two modules of one network that ran in turns."""

    tuned: Profile
    untuned: Profile

    @property
    def whole(self) -> Interval:
        """How many times as long as the untuned network the tuned one takes."""
        return ratio(self.tuned.whole, self.untuned.whole)

    def of(self, layers: Collection[str]) -> Interval:
        """The same of these layers together."""
        return ratio(self.tuned.of(layers), self.untuned.of(layers))


def compare(tuned: Path, untuned: Path) -> Comparison:
    """Run two modules in turns in a process of their own, until it is clear which is faster."""
    steps = [manifests.read(path).steps for path in (tuned, untuned)]
    runs: tuple[list[list[float]], ...] = ([], [])
    with Worker("convc.tune.runner:Networks", {"OPENBLAS_NUM_THREADS": "1"}) as worker:
        while True:
            found = worker.ask("profile", [tuned, untuned], ROUNDS, timeout=COMPARISON_SECONDS)
            for rows, more in zip(runs, found, strict=True):
                rows += more
            made = Comparison(*(Profile(s, np.array(rows)) for s, rows in zip(steps, runs, strict=True)))
            if not made.whole.low <= 1.0 <= made.whole.high or len(runs[0]) >= MOST_ROUNDS:
                return made


def corrections(
    tuned: Compilation, untuned: Compilation, found: Comparison, database: Database
) -> list[Trial]:
    """New trials of the variants in the tuned network that take longer in place than the untuned choice.

    Layers of equal work that are computed alike are judged together. A variant that no trial was made of, and
    that was chosen for the sake of other layers, gets one as well; a layer whose untuned choice was never
    measured does not.
    """
    session, made = uuid.uuid4().hex[:12], list[Trial]()
    machine, usual = machine_of(tuned.target), _variants(untuned)
    for (key, variant), nodes in _groups(tuned).items():
        names = [node.name for node in nodes]
        choice, before = tuned.choices[nodes[0]], usual.get(names[0])
        anchor = next((t.seconds for t in database.best(machine, [key])[key] if t.variant == before), None)
        if variant == before or anchor is None or (relative := found.of(names)).low <= 1.0:
            continue
        times = relative.scaled(anchor)
        made.append(
            Trial(
                layer=key,
                op=choice.workload.op,
                workload=str(choice.workload.unplaced),
                variant=variant,
                version=choice.lowering.version,
                machine=machine,
                outcome=Outcome.OK,
                seconds=times.middle,
                low=times.low,
                high=times.high,
                runs=len(found.tuned.seconds),
                message="in the network",
                measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                session=session,
                number=len(made) + 1,
            )
        )
    return made


def _groups(compilation: Compilation) -> dict[tuple[str, Variant], list[Node]]:
    """The layers that do the same work in the same way, by the work's key and the variant."""
    nodes: dict[tuple[str, Variant], list[Node]] = {}
    variants = _variants(compilation)
    for node, choice in compilation.choices.items():
        nodes.setdefault((choice.workload.key, variants[node.name]), []).append(node)
    return nodes


def _variants(compilation: Compilation) -> dict[str, Variant]:
    """How each layer is computed, by its name."""
    return {
        node.name: Variant(
            choice.lowering.name,
            choice.workload.layouts,
            canonical(configuration(choice, compilation.target)),
        )
        for node, choice in compilation.choices.items()
    }
