"""Databases of trials as files: merged, pruned, exported, imported, damaged."""

from __future__ import annotations

import io
import json
import os
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trials import HERE, TRIAL, fill, stored, variant

from convc.errors import ConvcError, DatabaseError, FileError, OptionError
from convc.tune.database import HEADER, Database
from convc.tune.trial import Outcome, Trial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "tuning.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database.open(path) as opened:
        yield opened


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
    with pytest.raises(FileError, match=r"Cannot write '.*absent/x\.jsonl': there is no folder '.*absent'"):
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
    refused(tmp_path / "file" / "tuning.db", f"'{tmp_path / 'file'}': File exists")
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
