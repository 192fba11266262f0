"""Whole runs by formula: where time goes, what is kept, and that nothing is lost when a run is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tuned_child
from formula_measurer import FormulaMeasurer, seconds_of
from networks import residual

from convc import compiler
from convc.compilation import plan
from convc.compiler import Options
from convc.progress import Progress as Silent
from convc.tune.database import Database
from convc.tune.judge import winner
from convc.tune.progress import Status, Watcher
from convc.tune.records import machine_of, open_records, records_of
from convc.tune.station import Result, Unusable
from convc.tune.tasks import tasks
from convc.tune.trial import Outcome, Trial, Variant
from convc.tune.tuner import Budget

TRIALS = 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "tuning.db") as opened:
        yield opened


def choices(database: Database) -> dict[str, Variant]:
    """The winner of each layer."""
    trials = database.trials()
    layers = {t.layer: [u for u in trials if u.layer == t.layer] for t in trials}
    return {key: best.variant for key, found in layers.items() if (best := winner(found))}


def measured(database: Database) -> list[tuple[str, Variant]]:
    return [(t.layer, t.variant) for t in database.trials()]


def test_the_limit_counts_what_is_known(database: Database) -> None:
    first = tuned_child.tuner(database, 20)
    first.run()
    assert len(database.trials()) == 20
    again = tuned_child.tuner(database, 20)
    again.run()
    assert len(database.trials()) == 20
    assert isinstance(again.measurer, FormulaMeasurer)
    assert again.measurer.asked == []
    more = tuned_child.tuner(database, 30)
    more.run()
    assert len(measured(database)) == len(set(measured(database))) == 30


def test_every_trial_says_how_it_came_about(database: Database) -> None:
    tuner = tuned_child.tuner(database, 40)
    tuner.run()
    by_key = {task.key: task for task in tuner.tasks}
    for trial in database.trials():
        task = by_key[trial.layer]
        candidate = next(c for c in task.candidates if c.variant == trial.variant)
        assert trial.machine == tuner.machine
        assert trial.version == candidate.lowering.version
        assert trial.predicted == candidate.predicted
        assert trial.op == task.workload.op
        assert trial.outcome in (Outcome.OK, Outcome.CRASH)
        if trial.ok:
            assert trial.seconds == pytest.approx(seconds_of(task, candidate))
            assert trial.low is not None
            assert trial.high is not None
            assert trial.low <= trial.seconds <= trial.high
    assert {t.outcome for t in database.trials()} == {Outcome.OK, Outcome.CRASH}


def test_time_goes_where_it_matters(database: Database) -> None:
    tuner = tuned_child.tuner(database, TRIALS)
    tuner.run()
    status = tuner.status()
    assert status.trials == TRIALS
    assert status.best < status.untuned
    heaviest = max(status.layers, key=lambda s: s.weight)
    lightest = min(status.layers, key=lambda s: s.weight)
    assert heaviest.trials > lightest.trials


def test_a_killed_run_loses_nothing_and_ends_like_any_other(tmp_path: Path) -> None:
    with Database.open(tmp_path / "whole.db") as undisturbed:
        tuned_child.tuner(undisturbed, TRIALS).run()
        right, all_of_it = choices(undisturbed), set(measured(undisturbed))
    random, path = np.random.default_rng(0), tmp_path / "killed.db"
    for _ in range(3):
        known = _killed(path, int(random.integers(2, 12)))
        with Database.open(path) as found:
            assert set(measured(found)) >= known
    with Database.open(path) as found:
        assert 0 < len(measured(found)) < TRIALS
        tuned_child.tuner(found, TRIALS).run()
        assert len(measured(found)) == len(set(measured(found)))
        assert set(measured(found)) == all_of_it
        assert choices(found) == right


def _killed(path: Path, after: int) -> set[tuple[str, Variant]]:
    """Kill a run after so many trials of its own; what the database held when the last was told of."""
    command = [sys.executable, tuned_child.__file__, str(path), str(TRIALS), "0.005"]
    environment = {**os.environ, "PYTHONPATH": str(Path(tuned_child.__file__).parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        for _ in range(after + 1):
            child.stdout.readline()
        with Database.open(path) as database:
            known = set(measured(database))
        child.send_signal(signal.SIGKILL)
    return known


def test_an_interrupt_ends_a_run_cleanly(database: Database) -> None:
    class Impatient(Watcher):
        ended = 0
        notices: list[str] = []

        def trial(self, trial: Trial, status: Status) -> None:
            if status.trials == 7:
                raise KeyboardInterrupt

        def notice(self, text: str) -> None:
            self.notices.append(text)

        def end(self, status: Status) -> None:
            self.ended += 1

    tuner = tuned_child.tuner(database, None)
    tuner.watcher = watcher = Impatient()
    tuner.run()
    assert watcher.ended == 1
    assert watcher.notices == ["Interrupted: what was measured is kept."]
    assert len(database.trials()) == 7


def test_a_layer_whose_untuned_choice_fails_is_left(database: Database) -> None:
    class Broken(FormulaMeasurer):
        def measure(self, task, candidates):
            if task is tuner.tasks[0]:
                raise Unusable(Result(Outcome.WRONG, message="off by 1"))
            yield from super().measure(task, candidates)

    tuner = tuned_child.tuner(database, 30)
    tuner.measurer = Broken()
    tuner.run()
    found = database.trials(layers=[tuner.tasks[0].key])
    assert [(t.variant, t.outcome) for t in found] == [(tuner.tasks[0].untuned.variant, Outcome.WRONG)]
    assert len(database.trials()) > 1


def test_the_compiler_follows_records_and_keeps_them(database: Database, tmp_path: Path) -> None:
    tuner = tuned_child.tuner(database, TRIALS)
    tuner.run()
    options = Options(threads=2, records=records_of(database))
    planned = plan(residual(), options, Silent())
    trials = database.trials()
    plans = {row.name: row for row in compiler.layer_plans(planned)}
    tuned = {n: c for n, c in planned.choices.items() if c.config is not None and plans[n.name].measured}
    assert len(tuned) >= 3
    for node, choice in tuned.items():
        row = plans[node.name]
        mine = [t for t in trials if t.layer == choice.workload.key and t.variant.lowering == row.chosen]
        best = winner(mine)
        assert best is not None
        assert row.config == dict(best.variant.numbers)
        candidate = next(c for c in row.candidates if c.lowering == row.chosen)
        assert candidate.measured_ms is not None
        assert best.seconds is not None
        assert candidate.measured_ms >= best.seconds * 1e3 * 0.999
    module = compiler.build(planned, tmp_path / "network.so", Silent(), cache=tmp_path)
    database.export(tmp_path / "records.jsonl")
    for source in ("network.so", "records.jsonl", "tuning.db"):
        records = open_records(tmp_path / source)
        again = plan(residual(), replace(options, records=records), Silent())
        assert compiler.layer_plans(again) == module.plan
        assert records.answers() == module.manifest.records
    untuned = plan(residual(), Options(threads=2), Silent())
    assert not any(plan.measured for plan in compiler.layer_plans(untuned))
    assert [p.config for p in compiler.layer_plans(untuned)] != [p.config for p in module.plan]


@pytest.mark.parametrize("other", ["threads", "version", "cpu"])
def test_records_of_others_are_no_answer(other: str, database: Database, tmp_path: Path) -> None:
    tuner = tuned_child.tuner(database, 30)
    tuner.run()
    changed = {
        "threads": lambda t: replace(t, machine=replace(t.machine, threads=3)),
        "version": lambda t: replace(t, version=t.version + 1),
        "cpu": lambda t: replace(
            t, machine=replace(t.machine, target=t.machine.target.replace("cpu=", "x="))
        ),
    }
    if other == "cpu":
        changed["cpu"] = lambda t: replace(
            t, machine=replace(t.machine, target=t.machine.target.replace('"lanes":', '"lane":'))
        )
    with Database.open(tmp_path / "other.db") as moved:
        for trial in database.trials():
            moved.add(changed[other](trial))
    planned = plan(residual(), Options(threads=2, records=open_records(tmp_path / "other.db")), Silent())
    assert not any(choice.config for choice in planned.choices.values())
    assert machine_of(planned.target) == tuner.machine
    assert tasks(planned)
    assert Budget() == Budget(None, None)
