"""The database of trials: one SQLite file to which any number of processes and threads write at once.

A trial is a row, written as measured in a transaction of its own. SQLite's write-ahead log makes it survive
the process from the moment `add` returns, `kill -9` included; a power failure may take the last rows, never
the file. A layer, machine or variant is stored once, however many trials speak of it.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, get_type_hints

import platformdirs

from convc.errors import DatabaseError, OptionError
from convc.files import explained, kind_of, replacing
from convc.tune import schema
from convc.tune.trial import HEADER, Machine, Outcome, Trial, Variant

_EXPORT_HINT = "None of it was taken; give a file that `convc db export` wrote."

_KINDS = {
    part: {name: kind | int if kind == float | None else kind for name, kind in get_type_hints(part).items()}
    for part in (Trial, Variant, Machine)
}
"""The types of the fields; a whole number is a float too."""


@dataclass(frozen=True)
class Summary:
    """What is known of one machine: numbers of layers and trials, and when the last trial was."""

    machine: Machine
    layers: int
    trials: int
    ok: int
    last: str


def default_path() -> Path:
    """`$CONVC_TUNING_DB`, or a file in the user's data folder."""
    named = os.environ.get("CONVC_TUNING_DB")
    return Path(named or Path(platformdirs.user_data_dir("convc", appauthor=False)) / "tuning.db")


class Database:
    """Trials in a file. Threads may share an object; a forked process opens its own.

    Every method raises DatabaseError when SQLite cannot do its work: a damaged file, a full disk.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path | None = None, *, create: bool = True) -> Database:
        """The database at `path` (default: see `default_path`), made with its folder if absent and `create`.

        Raises DatabaseError for a file that is no tuning database, is of a newer convc, or may not be used.
        """
        place = default_path() if path is None else path
        with explained(f"The tuning database {place} cannot be opened", DatabaseError, schema.HINT):
            there = place.exists()
            kind = kind_of(place.stat().st_mode) if there else ""
            if kind:
                raise DatabaseError(f"{place} is {kind}, expected a tuning database.", hint=schema.HINT)
            if not create and not there:
                raise DatabaseError(
                    f"There is no tuning database {place}; tuning makes one.", hint=schema.HINT
                )
            place.parent.mkdir(parents=True, exist_ok=True)
        return cls(place, schema.connect(place))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, trial: Trial) -> None:
        """Store a trial, for good when this returns. NaN becomes None, since SQLite has no NaN.

        Raises ValueError for a trial that `check` refuses, and DatabaseError when there is one of the same
        layer, variant, version, machine, session and number.
        """
        check(trial)
        if not self._insert([trial]):
            raise DatabaseError(
                f"{self.path} already has a trial {trial.number} of session '{trial.session}' for this "
                f"variant of layer {trial.layer}.",
                hint="Number the trials of a session.",
            )

    def trials(
        self,
        machine: Machine | None = None,
        layers: Collection[str] | None = None,
        op: str | None = None,
        session: str | None = None,
    ) -> list[Trial]:
        """The trials to which all that is given applies exactly, in the order in which they were stored."""
        where, values = schema.where(machine=machine, layers=layers, op=op, session=session)
        return [_trial(row) for row in self._read(f"{schema.TRIALS} {where} {schema.AS_STORED}", values)]

    def best(
        self, machine: Machine, layers: Collection[str], limit: int = sys.maxsize
    ) -> dict[str, list[Trial]]:
        """For each layer at most `limit` `OK` trials on a machine, the fastest first, then by variant.

        Of several trials of a variant in one version only the last to be measured is listed: it stands for
        them all.
        """
        where, values = schema.where(ok=True, machine=machine, layers=layers)
        chosen = schema.BEST.format(where=where)
        query = f"{schema.TRIALS} WHERE t.id IN ({chosen}) {schema.FASTEST_FIRST}"
        found: dict[str, list[Trial]] = {layer: [] for layer in layers}
        for row in self._read(query, {**values, "keep": limit}):
            trial = _trial(row)
            found[trial.layer].append(trial)
        return found

    def examples(self, machine: Machine, other_than: Collection[str]) -> Iterator[tuple[str, Variant]]:
        """The workload in words and the best variant of each layer other than these.

        On this machine or, where nothing is known of it, on those of its kind.
        """
        layers = [key for key in self.layers() if key not in other_than]
        found = self.best(machine, layers, 1)
        if not any(found.values()):
            others = [row.machine for row in self.summary()]
            kind = machine.features.get("kind")
            for other in (m for m in others if m.features.get("kind") == kind):
                for key, trials in self.best(other, layers, 1).items():
                    found[key] += trials
        for trials in found.values():
            yield from ((trial.workload, trial.variant) for trial in trials)

    def layers(self) -> dict[str, str]:
        """The workload in words of each layer, by its key."""
        return dict(self._read("SELECT key, workload FROM layers ORDER BY id"))

    def summary(self) -> list[Summary]:
        """A row for each machine."""
        rows = self._read(schema.SUMMARY)
        return [Summary(Machine(target, threads), *rest) for target, threads, *rest in rows]

    def merge(self, other: Path) -> int:
        """Add what another database has and this one lacks; returns the number of trials added."""
        with Database.open(other, create=False) as source:
            trials = source.trials()
        return self._insert(trials)

    def prune(
        self,
        *,
        failed: bool = False,
        before: str | None = None,
        versions: Collection[int] | None = None,
        keep: int | None = None,
        machine: Machine | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove the trials to which all that is given applies; returns how many (`dry_run`: would be).

        Args:
            failed: those without a time.
            before: those measured before this date, in UTC and ISO 8601.
            versions: those of other versions than these.
            keep: those that are not among the first that `best` lists for their layer, as many as this.
            machine: those of this machine.

        Raises OptionError when nothing is given.
        """
        where, values = schema.where(
            failed=failed or None, before=before, versions=versions, keep=keep, machine=machine
        )
        if not where:
            raise OptionError("Nothing says which trials to prune.", hint="Give at least one criterion.")
        if dry_run:
            return int(self._read(f"SELECT COUNT(*) FROM trials {where}", values)[0][0])
        with self._transaction() as connection:
            removed = connection.execute(f"DELETE FROM trials {where}", values).rowcount
            for noun in ("layer", "variant", "machine"):
                connection.execute(f"DELETE FROM {noun}s WHERE id NOT IN (SELECT {noun} FROM trials)")
        return removed

    def export(self, to: Path | TextIO) -> int:
        """Write all trials as lines of JSON after a header; returns their number. A file appears whole.

        Raises FileError when the file cannot be written.
        """
        trials = self.trials()
        values = [HEADER, *(trial.to_json() for trial in trials)]
        lines = (json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n" for value in values)
        if not isinstance(to, Path):
            to.writelines(lines)
            return len(trials)
        with replacing(to) as whole, whole.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        return len(trials)

    def import_lines(self, lines: Iterable[str | bytes], source: str = "The input") -> int:
        """Add the trials of an export that are not here yet; returns their number.

        Raises DatabaseError, before anything is written, at the first line that is not as `export` writes
        it; `source` names the lines in the message.
        """
        return self._insert(list(read_lines(lines, source)))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection for one thread alone; what it writes is there as a whole or, after errors, not."""
        with self._lock, schema.explained(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    def _read(self, query: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        with self._lock, schema.explained(self.path):
            return self._connection.execute(query, values or {}).fetchall()

    def _insert(self, trials: Iterable[Trial]) -> int:
        """Store the trials that are not here yet, all or none; returns their number."""
        added = 0
        with self._transaction() as connection:
            for t in trials:
                variant = (t.variant.lowering, t.variant.layouts, t.variant.config)
                machine = (t.machine.target, t.machine.threads)
                connection.execute(schema.ADD_LAYER, (t.layer, t.op, t.workload))
                connection.execute(schema.ADD_VARIANT, variant)
                connection.execute(schema.ADD_MACHINE, machine)
                what = (t.layer, *variant, *machine, t.version, t.outcome.value)
                times = (t.seconds, t.low, t.high, t.runs, t.error, t.predicted)
                origin = (t.message, t.measured_at, t.session, t.number)
                added += connection.execute(schema.ADD_TRIAL, (*what, *times, *origin)).rowcount
        return added


def check(trial: Trial) -> None:
    """Raise ValueError for what a database cannot give back equal, and for an `OK` without a time."""
    for part in (trial, trial.variant, trial.machine):
        for name, kind in _KINDS[type(part)].items():
            value = getattr(part, name)
            if not isinstance(value, kind):
                raise ValueError(f"'{name}' is {value!r}, expected {getattr(kind, '__name__', kind)}")
            if isinstance(value, str):
                value.encode()  # raises for a lone surrogate
            if isinstance(value, int) and abs(value) >> 63:
                raise ValueError(f"'{name}' is {value}, expected at most 64 bits")
    for text in (trial.variant.config, trial.machine.target):
        if not isinstance(json.loads(text), dict):
            raise ValueError(f"found '{text}', expected an object in JSON")
    if trial.ok and not 0 < (trial.seconds or 0) < math.inf:
        raise ValueError(f"'outcome' is ok and 'seconds' is {trial.seconds}, expected a time")


def read_lines(lines: Iterable[str | bytes], source: str) -> Iterator[Trial]:
    """The trials of an export, each of them checked.

    Raises DatabaseError with `source` and the line's number at the first line that `export` would not write.
    """
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise ValueError("expected an object")
            if number > 1:
                trial = Trial.from_json(data)
                check(trial)
                yield trial
            elif data != HEADER:
                raise ValueError(f"expected the header {json.dumps(HEADER)}")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise DatabaseError(
                f"{source} has no record in line {number}: {reason}.", hint=_EXPORT_HINT
            ) from error
    if not number:
        raise DatabaseError(f"{source} is empty, expected a header.", hint=_EXPORT_HINT)


def _trial(row: tuple[Any, ...]) -> Trial:
    """A row of `schema.TRIALS`."""
    layer, op, workload, lowering, layouts, config, version, target, threads, outcome, *rest = row
    variant, machine = Variant(lowering, layouts, config), Machine(target, threads)
    return Trial(layer, op, workload, variant, version, machine, Outcome(outcome), *rest)
