"""The tables of a tuning database, the SQL that asks them, and how the file is opened."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convc.errors import DatabaseError
from convc.tune.trial import Machine

PATIENCE = 60.0
"""Seconds for which a writer waits for the others."""

VERSION = 1

APPLICATION = int.from_bytes(b"cnvt", "big")
"""Marks our files among all that are SQLite's."""

HINT = "Name a file and a folder that you may write, with --db or $CONVC_TUNING_DB."

# The constraint of `trials` makes an index that also answers for a layer, and for a layer on a machine.
TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS layers (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, op TEXT NOT NULL, workload TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS machines (
    id INTEGER PRIMARY KEY, target TEXT NOT NULL, threads INTEGER NOT NULL, UNIQUE (target, threads));
CREATE TABLE IF NOT EXISTS variants (
    id INTEGER PRIMARY KEY, lowering TEXT NOT NULL, layouts TEXT NOT NULL, config TEXT NOT NULL,
    UNIQUE (lowering, layouts, config));
CREATE TABLE IF NOT EXISTS trials (
    id INTEGER PRIMARY KEY,
    layer INTEGER NOT NULL REFERENCES layers,
    variant INTEGER NOT NULL REFERENCES variants,
    machine INTEGER NOT NULL REFERENCES machines,
    version INTEGER NOT NULL, outcome TEXT NOT NULL, seconds REAL, low REAL, high REAL, runs INTEGER NOT NULL,
    error REAL, predicted REAL, message TEXT NOT NULL, measured_at TEXT NOT NULL, session TEXT NOT NULL,
    number INTEGER NOT NULL,
    UNIQUE (layer, machine, variant, version, session, number));
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""

ADD_LAYER = "INSERT INTO layers (key, op, workload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
ADD_VARIANT = "INSERT INTO variants (lowering, layouts, config) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
ADD_MACHINE = "INSERT INTO machines (target, threads) VALUES (?, ?) ON CONFLICT DO NOTHING"
ADD_TRIAL = """
INSERT INTO trials (layer, variant, machine, version, outcome, seconds, low, high, runs, error, predicted,
                    message, measured_at, session, number)
VALUES ((SELECT id FROM layers WHERE key = ?),
        (SELECT id FROM variants WHERE lowering = ? AND layouts = ? AND config = ?),
        (SELECT id FROM machines WHERE target = ? AND threads = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (layer, machine, variant, version, session, number) DO NOTHING
"""

# The columns are the fields of a Trial, in their order.
TRIALS = """
SELECT l.key, l.op, l.workload, v.lowering, v.layouts, v.config, t.version, m.target, m.threads, t.outcome,
       t.seconds, t.low, t.high, t.runs, t.error, t.predicted, t.message, t.measured_at, t.session, t.number
FROM trials t JOIN layers l ON l.id = t.layer JOIN variants v ON v.id = t.variant
              JOIN machines m ON m.id = t.machine
"""
AS_STORED = "ORDER BY t.id"
FASTEST_FIRST = "ORDER BY seconds, lowering, layouts, config, version"

SUMMARY = """
SELECT m.target, m.threads, COUNT(DISTINCT t.layer), COUNT(*), SUM(t.outcome = 'ok'), MAX(t.measured_at)
FROM trials t JOIN machines m ON m.id = t.machine GROUP BY m.id ORDER BY m.target, m.threads
"""

# Of the trials that `where` leaves, the last one of each variant and version; of these, the `keep` fastest of
# each layer and machine.
BEST = f"""
WITH measured AS (
    SELECT id, layer, machine, variant, version, seconds, ROW_NUMBER() OVER (
        PARTITION BY layer, machine, variant, version ORDER BY measured_at DESC, id DESC) AS age
    FROM trials {{where}}),
ranked AS (
    SELECT measured.id, ROW_NUMBER() OVER (PARTITION BY layer, machine {FASTEST_FIRST}) AS place
    FROM measured JOIN variants ON variants.id = variant WHERE age = 1)
SELECT id FROM ranked WHERE place <= :keep
"""

_TERMS = {
    "ok": "outcome = 'ok'",
    "failed": "outcome <> 'ok'",
    "machine": "machine = (SELECT id FROM machines WHERE target = :target AND threads = :threads)",
    "layers": "layer IN (SELECT id FROM layers WHERE key IN (SELECT value FROM json_each(:layers)))",
    "op": "layer IN (SELECT id FROM layers WHERE op = :op)",
    "session": "session = :session",
    "before": "measured_at < :before",
    "versions": "version NOT IN (SELECT value FROM json_each(:versions))",
    "keep": "id NOT IN (" + BEST.format(where="WHERE outcome = 'ok'") + ")",
}


def where(**asked: Any) -> tuple[str, dict[str, Any]]:
    """The terms of what is asked (None: nothing), joined by AND, and the values of their parameters."""
    given = {name: value for name, value in asked.items() if value is not None}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Machine):
            values.update(asdict(value))
        else:
            values[name] = value if isinstance(value, str | int) else json.dumps(list(value))
    terms = " AND ".join(_TERMS[name] for name in given)
    return terms and f"WHERE {terms}", values


def connect(path: Path) -> sqlite3.Connection:
    """Open the database, an empty one if there is no file. Raises DatabaseError."""
    with explained(path), ExitStack() as failing:
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        failing.callback(connection.close)
        _prepare(connection, path)
        failing.pop_all()
        return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors as ours, with the file's name."""
    try:
        yield
    except sqlite3.Error as error:
        raise DatabaseError(f"The tuning database {path} cannot be used: {error}.", hint=HINT) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check whose file it is, make the tables where there are none, and turn the write-ahead log on."""
    ((application, version, tables),) = connection.execute(
        "SELECT application_id, user_version, (SELECT COUNT(*) FROM sqlite_master) "
        "FROM pragma_application_id, pragma_user_version"
    )  # in one query, for another process may be making the tables
    if application != APPLICATION and (application or tables):
        raise DatabaseError(f"{path} is a database of another program.", hint=HINT)
    if version > VERSION:
        raise DatabaseError(
            f"{path} has schema {version}, expected at most {VERSION}: a newer convc made it.",
            hint=f"Update convc. {HINT}",
        )
    if not version:
        connection.executescript(TABLES)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -32768")  # KiB: each page of a large file is read but once
    _log_ahead(connection)


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on. SQLite does not wait for other processes here, so we do."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
