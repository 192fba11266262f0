"""Several writers of one database of trials lose nothing, whatever becomes of them."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from trials import TRIAL, stored

from convc.errors import DatabaseError
from convc.tune import schema
from convc.tune.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "tuning.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database.open(path) as opened:
        yield opened


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
