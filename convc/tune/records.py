"""What the compiler takes from trials: for each layer the best of each lowering, and nothing uncertain.

Records come from a database, from its export, or from a module that was compiled with records: whatever
answered is kept in the module, so that it can be built again as it is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convc.arguments import checked_path
from convc.codegen.calibrate import machine_key
from convc.errors import DatabaseError, ModuleError
from convc.files import reading
from convc.lowering.base import Lowering
from convc.plan.select import Measured
from convc.runtime import manifest as manifests
from convc.target import Target
from convc.tune.database import Database, check, default_path, read_lines
from convc.tune.judge import winner
from convc.tune.trial import Machine, Trial
from convc.workload import Workload

ENOUGH = 50
"""Trials of a layer that are looked at, the fastest: a choice is among those that cannot be told apart."""

Source = Callable[[Machine, str], Sequence[Trial]]
"""The trials of a layer, by its key, on a machine."""


def machine_of(target: Target) -> Machine:
    """The machine that a target's times belong to: this one's processor, if it is for this machine."""
    if target.name != "host":
        return Machine.of(target)
    found = machine_key(target)
    return Machine.of(target, cpu=found["cpu"], cores=found["cores"])


@dataclass
class TunedRecords:
    """Trials as `select.Records`. `used` are those that answered, by layer, lowering and layouts.

    The winner of a layer (`judge.winner`) has its measured time. All others are given at least that: where
    times are too close to tell, the choice does not follow noise.
    """

    source: Source
    used: dict[tuple[str, str, str], Trial] = field(default_factory=dict)
    _layers: dict[tuple[Machine, str], _Layer] = field(default_factory=dict)
    _machines: dict[Target, Machine] = field(default_factory=dict)

    def find(self, lowering: Lowering, w: Workload, target: Target) -> Measured | None:
        """See `select.Records`."""
        machine = self._machines.setdefault(target, machine_of(target))
        if (machine, w.key) not in self._layers:
            self._layers[machine, w.key] = _Layer.of(self.source(machine, w.key))
        layer = self._layers[machine, w.key]
        trial = layer.best.get((lowering.name, w.layouts, lowering.version))
        if trial is None or trial.seconds is None:
            return None
        self.used[w.key, lowering.name, w.layouts] = trial
        seconds = trial.seconds if trial is layer.winner else max(trial.seconds, layer.least)
        return Measured(seconds, trial.variant.numbers)

    def answers(self) -> tuple[dict[str, Any], ...]:
        """See `select.Records`."""
        return tuple(trial.to_json() for trial in self.used.values())


@dataclass(frozen=True)
class _Layer:
    """The best trial of each lowering in each version and layouts, and of all."""

    best: dict[tuple[str, str, int], Trial]
    winner: Trial | None

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> _Layer:
        groups: dict[tuple[str, str, int], list[Trial]] = {}
        for trial in trials:
            groups.setdefault((trial.variant.lowering, trial.variant.layouts, trial.version), []).append(
                trial
            )
        best = {key: found for key, group in groups.items() if (found := winner(group))}
        return cls(best, winner(best.values()))

    @property
    def least(self) -> float:
        """Just above the winner's time."""
        assert self.winner is not None
        assert self.winner.seconds is not None
        return math.nextafter(self.winner.seconds, math.inf)


def open_records(path: str | os.PathLike[str] | None = None) -> TunedRecords:
    """The records in a database (by default the user's), in its export (`.jsonl`), or in a module (`.so`).

    Raises DatabaseError or ModuleError for a file that is none.
    """
    file = checked_path(path, "path") or default_path()
    if file.suffix == ".so":
        return TunedRecords(_listed(_embedded(file)))
    if file.suffix == ".jsonl":
        with reading(file, DatabaseError) as lines:
            return TunedRecords(_listed(read_lines(lines, f"'{file}'")))
    database = Database.open(file, create=False)
    return records_of(database)


def records_of(database: Database) -> TunedRecords:
    """The records in a database that is open."""
    known: dict[Machine, Machine] = {}

    def best(machine: Machine, layer: str) -> Sequence[Trial]:
        if machine not in known:
            known[machine] = known_as(machine, database)
        return database.best(known[machine], [layer], ENOUGH)[layer]

    return TunedRecords(best)


def known_as(machine: Machine, database: Database) -> Machine:
    """The machine under which a database has what was measured on it.

    A GPU may be known by name and driver, which a compilation for its architecture does not ask for: of those
    that fit, the one with the most trials.
    """
    rows = [row for row in database.summary() if _fits(row.machine, machine)]
    return max(rows, key=lambda row: row.trials).machine if rows else machine


def _fits(known: Machine, machine: Machine) -> bool:
    wanted, found = machine.features, known.features
    if wanted["kind"] != "cuda" or known.threads != machine.threads:
        return known == machine
    return all(found.get(name) == value for name, value in wanted.items())


def _embedded(path: Path) -> Sequence[Trial]:
    found = manifests.read(path).records
    if not found:
        raise ModuleError(
            f"'{path}' was compiled without tuning records.", hint="Give the database with --tuning-db."
        )
    try:
        trials = [Trial.from_json(record) for record in found]
        for trial in trials:
            check(trial)
    except (KeyError, TypeError, ValueError) as error:
        raise ModuleError(
            f"The tuning records of '{path}' are damaged: {error}.", hint="Compile the model again."
        ) from error
    return trials


def _listed(trials: Iterable[Trial]) -> Source:
    """Trials in memory. Of several of one variant the latest counts, as in a database."""
    layers: dict[tuple[Machine, str], dict[object, Trial]] = {}
    for trial in sorted(trials, key=lambda t: t.measured_at):
        if trial.ok:
            layers.setdefault((trial.machine, trial.layer), {})[trial.variant, trial.version] = trial

    def found(machine: Machine, layer: str) -> Sequence[Trial]:
        machines = {known for known, _ in layers if _fits(known, machine)}
        return [t for known in machines for t in layers.get((known, layer), {}).values()]

    return found
