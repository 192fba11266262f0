"""The database of trials: nothing is lost, nothing is written by halves, and only what was asked answers."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from convc.errors import ConvcError, DatabaseError, OptionError
from convc.tune import schema
from convc.tune.database import HEADER, Database, default_path
from convc.tune.trial import Machine, Outcome, Trial, Variant

HERE = Machine('{"kind":"cpu","mcpu":"znver4"}', 2)

TRIAL = Trial(
    layer="aa",
    op="conv",
    workload="conv(float32[1, 64, 56, 56]) | relu -> float32[1, 64, 56, 56]",
    variant=Variant("direct", "16,1>16", '{"oc":28,"ow":16}'),
    version=3,
    machine=HERE,
    outcome=Outcome.OK,
    seconds=0.1 + 0.2,
    low=1e-3,
    high=1.1e-3,
    runs=31,
    error=5e-324,
    predicted=1 / 3,
    message="größer als 'alles'\n\0",
    measured_at="2026-05-09T07:35:25.123456+00:00",
    session="a session",
    number=7,
)


def variant(config: int, lowering: str = "direct") -> Variant:
    return replace(TRIAL.variant, lowering=lowering, config=json.dumps({"oc": config}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "tuning.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database.open(path) as opened:
        yield opened


def stored(path: Path) -> list[Trial]:
    with Database.open(path, create=False) as database:
        return database.trials()


def fill(database: Database, *trials: Trial) -> None:
    """Add trials, numbered."""
    for number, trial in enumerate(trials):
        database.add(replace(trial, number=number))


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


# Several writers

WRITER = """
import json, sys, threading
from dataclasses import replace
from pathlib import Path
from convc.tune.database import Database
from convc.tune.trial import Trial

path, session, threads, count, trial = sys.argv[1:]
trial = Trial.from_json(json.loads(trial))

def write(thread):
    for number in range(int(count)):
        database.add(replace(trial, session=f"{session} {thread}", number=number))
        print(number, flush=True)

print("ready", flush=True)
sys.stdin.readline()
with Database.open(Path(path)) as database:
    pool = [threading.Thread(target=write, args=(n,)) for n in range(int(threads))]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
"""


def writer(path: Path, session: str, threads: int, count: int) -> subprocess.Popen[str]:
    """A process that opens the database and writes once it is sent a line."""
    trial = json.dumps(TRIAL.to_json())
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", WRITER, str(path), session, str(threads), str(count), trial],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_and_threads_write_at_once(path: Path) -> None:
    """From a file that is not there: all of them try to make it."""
    processes, threads, count = 3, 4, 25
    running = [writer(path, f"process {n}", threads, count) for n in range(processes)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
    expected = {
        (f"process {p} {t}", n) for p in range(processes) for t in range(threads) for n in range(count)
    }
    trials = stored(path)
    assert {(t.session, t.number) for t in trials} == expected
    assert len(trials) == len(expected)


def test_threads_share_an_object(database: Database) -> None:
    trials = [replace(TRIAL, number=number) for number in range(1000)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(database.add, trials))
    assert sorted(t.number for t in database.trials()) == list(range(1000))


def test_opening_waits_until_the_log_can_be_turned_on(path: Path) -> None:
    """Another process may be about to do the same, and SQLite gives up at once then."""
    Database.open(path).close()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, other.close)
    timer.start()
    with Database.open(path) as database:
        assert database._read("PRAGMA journal_mode") == [("wal",)]
    timer.join()


def test_threads_that_make_one_file_at_once(tmp_path: Path) -> None:
    workers = 8
    for turn in range(10):
        start = threading.Barrier(workers)

        def write(
            number: int, path: Path = tmp_path / f"{turn}.db", start: threading.Barrier = start
        ) -> None:
            start.wait()
            with Database.open(path) as database:
                database.add(replace(TRIAL, number=number))

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(write, range(workers)))
        assert {t.number for t in stored(tmp_path / f"{turn}.db")} == set(range(workers))


def test_what_was_added_survives_the_death_of_the_writer(path: Path) -> None:
    """Killed while it writes or, in every other turn, maybe while it opens: each row whose `add` had returned
    is there, and the file is sound.
    """
    moments = random.Random(0)
    for turn in range(10):
        process = writer(path, f"turn {turn}", 1, 1_000_000)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        first = process.stdout.readline() if turn % 2 else ""
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        returned = (first + process.stdout.read()).count("\n")
        process.communicate(timeout=60)
        with Database.open(path) as database:
            numbers = [t.number for t in database.trials(session=f"turn {turn} 0")]
            assert numbers == list(range(len(numbers)))
            assert returned <= len(numbers) <= returned + 1
            assert returned >= turn % 2
            assert database._read("PRAGMA integrity_check") == [("ok",)]


def test_a_trial_is_seen_by_others_at_once(database: Database, path: Path) -> None:
    with Database.open(path) as other:
        database.add(TRIAL)
        assert other.trials() == [TRIAL]


def test_patience_with_another_writer_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "PATIENCE", 0.05)
    with Database.open(path) as one, Database.open(path) as other, one._transaction():
        with pytest.raises(DatabaseError, match=r"tuning\.db cannot be used: database is locked"):
            other.add(TRIAL)
        assert other.trials() == []


# Merging, pruning, export and import


def test_merge_adds_what_is_missing_once(database: Database, path: Path, tmp_path: Path) -> None:
    fill(database, TRIAL, replace(TRIAL, layer="bb"))
    source = tmp_path / "other.db"
    with Database.open(source) as other:
        fill(other, TRIAL, TRIAL, replace(TRIAL, machine=replace(HERE, threads=64)))
        theirs = other.trials()
    ours = database.trials()
    assert database.merge(source) == 2
    assert database.trials() == [*ours, *theirs[1:]]
    assert database.merge(source) == 0
    assert database.merge(path) == 0
    assert len(database.trials()) == 4
    assert stored(source) == theirs


def test_merge_of_what_is_not_there(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"no tuning database .*absent\.db"):
        database.merge(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()


def pruning(database: Database) -> list[Trial]:
    """Two layers on two machines: variants of 1, 2 and 3 s, a failure, an old trial and one of version 2."""
    trials = [
        replace(TRIAL, layer=layer, machine=machine, **changes)
        for layer in ("aa", "bb")
        for machine in (HERE, replace(HERE, threads=1))
        for changes in (
            *({"variant": variant(n), "seconds": float(n)} for n in (3, 1, 2)),
            {"outcome": Outcome.CRASH, "seconds": None},
            {"measured_at": "2025-12-31T23:59:59+00:00", "variant": variant(1), "seconds": 0.5},
            {"version": 2, "variant": variant(4), "seconds": 4.0},
        )
    ]
    fill(database, *trials)
    return database.trials()


@pytest.mark.parametrize(
    ("criteria", "gone"),
    [
        ({"failed": True}, lambda t: not t.ok),
        ({"before": "2026-01-01"}, lambda t: t.measured_at < "2026"),
        ({"versions": [2]}, lambda t: t.version != 2),
        ({"versions": [2, 3]}, lambda t: False),
        ({"machine": HERE}, lambda t: t.machine == HERE),
        ({"keep": 2}, lambda t: t.seconds not in (1.0, 2.0)),
        ({"keep": 0}, lambda t: True),
        ({"keep": 2, "machine": HERE}, lambda t: t.seconds not in (1.0, 2.0) and t.machine == HERE),
        ({"failed": True, "before": "2026-01-01"}, lambda t: False),
        ({"versions": [3], "machine": HERE}, lambda t: t.version == 2 and t.machine == HERE),
    ],
)
def test_prune(criteria: dict[str, Any], gone: Any, database: Database) -> None:
    trials = pruning(database)
    remaining = [t for t in trials if not gone(t)]
    assert database.prune(**criteria, dry_run=True) == len(trials) - len(remaining)
    assert database.trials() == trials
    assert database.prune(**criteria) == len(trials) - len(remaining)
    assert database.trials() == remaining
    assert set(database.layers()) == {t.layer for t in remaining}


def test_pruning_keeps_what_best_lists_first(database: Database) -> None:
    """Equally fast variants included."""
    random.seed(2)
    fill(
        database,
        *(
            replace(TRIAL, variant=variant(random.randrange(8)), seconds=float(random.randrange(1, 4)))
            for _ in range(40)
        ),
    )
    best = database.best(HERE, ["aa"], limit=5)
    assert database.prune(keep=5) == 35
    assert database.best(HERE, ["aa"]) == best


def test_pruning_needs_a_criterion(database: Database) -> None:
    database.add(TRIAL)
    with pytest.raises(OptionError, match="Nothing says which trials"):
        database.prune()
    assert database.trials() == [TRIAL]


def exported(*trials: Trial) -> list[str]:
    """The lines of an export."""
    return [json.dumps(HEADER), *(json.dumps(t.to_json()) for t in trials)]


def test_export_and_import(database: Database, tmp_path: Path) -> None:
    fill(database, TRIAL, replace(TRIAL, outcome=Outcome.CRASH, seconds=None, error=float("inf")))
    trials = database.trials()
    file, stream = tmp_path / "records.jsonl", io.StringIO()
    assert database.export(file) == database.export(stream) == 2
    assert file.read_text(encoding="utf-8") == stream.getvalue()
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["records.jsonl"]
    assert json.loads(stream.getvalue().splitlines()[0]) == {"format": "convc tuning records", "version": 1}
    with Database.open(tmp_path / "new.db") as other:
        assert other.import_lines(file.read_bytes().splitlines()) == 2
        assert other.trials() == trials
        assert other.import_lines(stream.getvalue().splitlines()) == 0
        assert other.trials() == trials


def test_whole_numbers_are_times_too(database: Database) -> None:
    """As other programs write 1.0."""
    assert database.import_lines(exported(replace(TRIAL, seconds=1))) == 1
    assert isinstance(database.trials()[0].seconds, float)


def test_export_to_where_it_cannot_be_written(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"absent/x\.jsonl cannot be written: No such file"):
        database.export(tmp_path / "absent" / "x.jsonl")


def bad(**changes: object) -> str:
    """A trial with other values in JSON, or without those that are ...."""
    data = {**TRIAL.to_json(), **changes}
    return json.dumps({key: value for key, value in data.items() if value is not ...})


GOOD = exported(TRIAL, replace(TRIAL, number=8))
HEAD = GOOD[0]


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        ([], None, "is empty"),
        (GOOD[1:], 1, "expected the header"),
        ([HEAD.replace("1", "2"), *GOOD[1:]], 1, '"version": 1'),
        ([*GOOD, "{"], 4, "Expecting property name"),
        ([*GOOD, ""], 4, "Expecting value"),
        ([*GOOD, GOOD[1][:-1]], 4, "Expecting"),
        ([*GOOD, "[1, 2]"], 4, "expected an object"),
        ([*GOOD, bad(layer=...)], 4, "'layer'"),
        ([*GOOD, bad(variant=...)], 4, "'variant' is missing"),
        ([*GOOD, bad(colour="red")], 4, "'colour'"),
        ([*GOOD, bad(outcome="fine")], 4, "'fine'"),
        ([*GOOD, bad(seconds=None)], 4, "expected a time"),
        ([*GOOD, bad(seconds="1")], 4, "'seconds' is '1'"),
        ([*GOOD, bad(runs=1.5)], 4, "'runs' is 1.5, expected int"),
        ([*GOOD, bad(number=1 << 70)], 4, "64 bits"),
        ([*GOOD, bad(predicted=10**400)], 4, "64 bits"),
        ([*GOOD, bad(message="\ud800")], 4, "surrogates"),
        ([*GOOD, bad(machine={"target": "{}", "threads": "2"})], 4, "'threads' is '2'"),
        ([*GOOD, bad(variant=None)], 4, "mapping"),
        ([*GOOD, "[" * 100_000], 4, "recursion"),
        ([HEAD, b"\xff\xfe\xff", *GOOD[1:]], 2, "decode"),
        ([HEAD, GOOD[1], "nonsense", GOOD[2], "more of it"], 3, "Expecting value"),
    ],
)
def test_import_of_a_bad_line_writes_nothing(
    lines: list[str | bytes], line: int | None, reason: str, database: Database
) -> None:
    with pytest.raises(DatabaseError) as caught:
        database.import_lines(lines, "records.jsonl")
    message = str(caught.value)
    assert message.startswith(f"records.jsonl {f'has no record in line {line}' if line else 'is empty'}")
    assert reason in message
    assert "None of it was taken" in message
    assert not database.trials()
    assert not database.layers()


# Files that are something else


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(ConvcError) as caught:
        Database.open(path)
    assert isinstance(caught.value, DatabaseError)
    assert caught.value.hint
    for part in (str(path), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"not a database, but long enough to have a header\n" * 20, b"hello"])
def test_file_that_is_not_a_database(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    refused(path, "file is not a database", "CONVC_TUNING_DB")
    assert path.read_bytes() == content


def test_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE trials (id)")
    connection.close()
    content = path.read_bytes()
    refused(path, "of another program")
    assert path.read_bytes() == content


def test_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with Database.open(path, create=False) as database:
        database.add(TRIAL)
    assert stored(path) == [TRIAL]


def test_newer_schema(path: Path) -> None:
    with Database.open(path) as database:
        assert database._read("PRAGMA user_version") == [(1,)]
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    refused(path, "schema 9, expected at most 1", "newer convc")


def test_damaged_file(path: Path) -> None:
    with Database.open(path) as database:
        fill(database, *[TRIAL] * 500)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    with pytest.raises(DatabaseError, match=r"tuning\.db cannot be used: .*malformed"):
        stored(path)


def test_folders_and_files_in_the_way(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "tuning.db", f"{tmp_path / 'file'}: File exists")
    with pytest.raises(DatabaseError, match=r"no tuning database .*absent\.db"):
        Database.open(tmp_path / "deep" / "absent.db", create=False)
    assert not (tmp_path / "deep").exists()


@contextmanager
def nobody() -> Iterator[None]:
    """What follows is done without root's rights, for which no file is out of bounds."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_file_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tuning.db"
        with Database.open(path) as database:
            database.add(TRIAL)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        try:
            with nobody():
                refused(path, "cannot be used")
                refused(path.parent / "new.db", "unable to open")
                refused(path.parent / "new" / "new.db", "Permission denied")
        finally:
            path.parent.chmod(0o755)
        assert stored(path) == [TRIAL]
