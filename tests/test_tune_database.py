"""The database of trials: what goes in comes out, and only what was asked answers."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from trials import HERE, TRIAL, fill, stored, variant

from convc.errors import DatabaseError
from convc.tune.database import Database, default_path
from convc.tune.trial import Machine, Outcome, Trial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "tuning.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database.open(path) as opened:
        yield opened


# What goes in comes out


def test_every_field_comes_back(database: Database, path: Path) -> None:
    defaults = [
        f.name for f in fields(Trial) if f.default is not MISSING and getattr(TRIAL, f.name) == f.default
    ]
    assert not defaults, "these would come back equal without being stored"
    database.add(TRIAL)
    assert database.trials() == [TRIAL]
    assert stored(path) == [TRIAL]


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_comes_back(outcome: Outcome, database: Database) -> None:
    trial = replace(TRIAL, outcome=outcome)
    database.add(trial)
    assert database.trials() == [trial]
    assert database.trials()[0].outcome is outcome


def test_what_is_unknown_comes_back_as_none(database: Database) -> None:
    trial = Trial("aa", "conv", "", TRIAL.variant, 1, HERE, Outcome.CRASH)
    infinite = replace(trial, number=1, error=float("inf"))
    for each in (trial, infinite):
        database.add(each)
    assert database.trials() == [trial, infinite]
    database.add(replace(trial, number=2, error=float("nan")))
    assert database.trials()[2].error is None


def test_the_file_is_where_the_environment_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVC_TUNING_DB", str(path))
    with Database.open() as database:
        database.add(TRIAL)
    assert stored(path) == [TRIAL]
    monkeypatch.delenv("CONVC_TUNING_DB")
    assert default_path().parts[-2:] == ("convc", "tuning.db")


def test_what_repeats_is_stored_once(database: Database, path: Path) -> None:
    fill(database, *[TRIAL] * 5)
    with sqlite3.connect(path) as connection:
        counts = [
            connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table in ("layers", "machines", "variants", "trials")
        ]
    assert counts == [1, 1, 1, 5]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"seconds": None}, "'seconds' is None"),
        ({"seconds": 0.0}, "'seconds' is 0.0"),
        ({"seconds": float("nan")}, "'seconds' is nan"),
        ({"seconds": float("inf")}, "'seconds' is inf"),
        ({"number": "7"}, "'number' is '7', expected int"),
        ({"layer": None}, "'layer' is None, expected str"),
        ({"version": 1 << 63}, "64 bits"),
        ({"message": "\ud800"}, "surrogates"),
        ({"variant": replace(TRIAL.variant, config="oc=28")}, "Expecting value"),
        ({"variant": replace(TRIAL.variant, config="28")}, "'28', expected an object"),
    ],
)
def test_what_would_not_come_back_is_refused(changes: dict[str, Any], part: str, database: Database) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        database.add(replace(TRIAL, **changes))
    assert not database.trials()


def test_a_trial_is_not_overwritten(database: Database) -> None:
    database.add(TRIAL)
    with pytest.raises(DatabaseError, match=r"already has a trial 7 of session 'a session' .* layer aa"):
        database.add(replace(TRIAL, seconds=1.0))
    assert database.trials() == [TRIAL]
    for other in ({"number": 8}, {"session": "b"}, {"version": 4}, {"layer": "bb"}, {"variant": variant(1)}):
        database.add(replace(TRIAL, **other))
    database.add(replace(TRIAL, machine=replace(HERE, threads=1)))
    assert len(database.trials()) == 7


# Questions


def test_trials_match_exactly_and_keep_their_order(database: Database) -> None:
    random.seed(1)
    trials = [
        replace(TRIAL, layer=layer, op=op, machine=machine, session=session, number=number)
        for number, (layer, op) in enumerate([("aa", "conv"), ("a", "conv"), ("b", "gemm")])
        for machine in (HERE, replace(HERE, threads=1), Machine('{"kind":"cpu","mcpu":"znver"}', 2))
        for session in ("s", "S")
    ]
    random.shuffle(trials)
    for trial in trials:
        database.add(trial)
    assert database.trials() == trials
    assert database.trials(HERE) == [t for t in trials if t.machine == HERE]
    assert database.trials(layers=["a", "b", "c"]) == [t for t in trials if t.layer in "ab"]
    assert database.trials(op="gemm") == [t for t in trials if t.op == "gemm"]
    assert database.trials(session="s") == [t for t in trials if t.session == "s"]
    found = database.trials(HERE, {"a"}, "conv", "S")
    assert found == [t for t in trials if (t.machine, t.layer, t.session) == (HERE, "a", "S")]
    assert len(found) == 1
    assert database.trials(layers=[]) == []
    assert database.trials(HERE, ["b"], "conv") == []


def test_any_number_of_layers_may_be_asked_for(database: Database) -> None:
    database.add(TRIAL)
    assert database.trials(layers=[str(n) for n in range(100_000)] + ["aa"]) == [TRIAL]


@pytest.mark.parametrize(
    "other", [replace(HERE, threads=1), replace(HERE, target='{"kind":"cpu","mcpu":"haswell"}')]
)
def test_another_machine_does_not_answer(other: Machine, database: Database) -> None:
    database.add(TRIAL)
    assert database.best(HERE, ["aa"]) == {"aa": [TRIAL]}
    assert database.best(other, ["aa"]) == {"aa": []}
    assert database.trials(other) == []


def test_best_is_sorted_by_time_then_by_variant(database: Database) -> None:
    times = {variant(3): 2.0, variant(2): 1.0, variant(4): 2.0, variant(5, "a"): 2.0, variant(1): 3.0}
    fill(database, *[replace(TRIAL, variant=v, seconds=s) for v, s in times.items()])
    best = database.best(HERE, ["aa", "never tried"])
    order = [variant(2), variant(5, "a"), variant(3), variant(4), variant(1)]
    assert [t.variant for t in best["aa"]] == order
    assert best["never tried"] == []
    assert [t.variant for t in database.best(HERE, ["aa"], limit=2)["aa"]] == order[:2]


def test_best_limits_each_layer_by_itself(database: Database) -> None:
    trials = [replace(TRIAL, layer=layer, variant=variant(n)) for layer in ("aa", "bb") for n in range(3)]
    fill(database, *trials)
    assert {k: len(v) for k, v in database.best(HERE, ["aa", "bb"], limit=2).items()} == {"aa": 2, "bb": 2}


def test_the_last_measurement_stands_for_all(database: Database) -> None:
    """The last by its date, whatever the order in which records came here; then the last stored."""
    last = replace(TRIAL, seconds=2.0, measured_at="2026-05-10T00:00:00+00:00")
    older = replace(TRIAL, seconds=1.0, measured_at="2026-05-09T00:00:00+00:00")
    undated = [replace(TRIAL, layer="bb", seconds=s, measured_at="") for s in (1.0, 3.0, 2.0)]
    fill(database, last, older, *undated)
    best = database.best(HERE, ["aa", "bb"])
    assert [t.seconds for t in best["aa"]] == [2.0]
    assert [t.seconds for t in best["bb"]] == [2.0]


def test_another_version_does_not_answer_for_this_one(database: Database) -> None:
    fill(database, TRIAL, replace(TRIAL, version=4, seconds=1.0))
    assert [(t.version, t.seconds) for t in database.best(HERE, ["aa"])["aa"]] == [
        (3, TRIAL.seconds),
        (4, 1.0),
    ]


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.OK])
def test_what_failed_is_never_best(outcome: Outcome, database: Database) -> None:
    fill(database, TRIAL, replace(TRIAL, variant=variant(1), seconds=1e-9, outcome=outcome))
    assert [t.variant for t in database.best(HERE, ["aa"])["aa"]] == [TRIAL.variant]


def test_lookups_use_the_index(database: Database, path: Path) -> None:
    """No table is read from end to end for some layers on a machine, so that a lookup stays fast."""
    queries: list[str] = []
    database._connection.set_trace_callback(queries.append)
    database.best(HERE, ["aa", "bb"], limit=5)
    database.trials(HERE, ["aa", "bb"])
    assert len(queries) == 2
    with sqlite3.connect(path) as connection:
        for query in queries:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
            index = r"SEARCH .*USING INDEX sqlite_autoindex_trials_1 \(layer=\? AND machine=\?\)"
            assert any(re.match(index, step) for step in plan), plan
            tables = r"SCAN (TABLE )?(trials|layers|variants|machines|t|l|v|m)\b"
            assert not [step for step in plan if re.match(tables, step)], plan


def test_summary_and_layers(database: Database) -> None:
    one = replace(HERE, threads=1)
    fill(
        database,
        replace(TRIAL, measured_at="2026-05-10"),
        replace(TRIAL, layer="bb", workload="gemm(...)", outcome=Outcome.WRONG),
        replace(TRIAL, machine=one),
    )
    rows = {row.machine: (row.layers, row.trials, row.ok, row.last) for row in database.summary()}
    assert rows == {HERE: (2, 2, 1, "2026-05-10"), one: (1, 1, 1, TRIAL.measured_at)}
    assert database.layers() == {"aa": TRIAL.workload, "bb": "gemm(...)"}
