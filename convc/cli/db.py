"""`convc db`: the records of tuning."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from convc.cli.groups import Group
from convc.cli.options import json_option
from convc.errors import OptionError

if TYPE_CHECKING:
    from rich.table import Table

    from convc.tune.database import Database
    from convc.tune.trial import Machine, Trial

FILE = click.Path(path_type=Path)


@click.group("db", cls=Group)
def command() -> None:
    """List, show, merge, prune, export and import the records of tuning.

    They are in one file, $CONVC_TUNING_DB or tuning.db in the user's data folder. Any number of processes may
    write to it at once.
    """


def database_option(command: Any) -> Any:
    """`--db PATH`."""
    return click.option("--db", "path", type=FILE, metavar="PATH", help="Another database.")(command)


def machine_option(command: Any) -> Any:
    """`--machine ID`."""
    return click.option(
        "--machine", "machine_id", metavar="ID", help="Only this machine, as `list` names it."
    )(command)


@command.command("list")
@database_option
@json_option
def list_(path: Path | None, as_json: bool) -> None:
    """Show for each machine how many layers and trials are recorded."""
    with _open(path, nothing="[]" if as_json else "") as database:
        rows = database.summary()
    if as_json:
        values = [
            {
                "machine": row.machine.digest,
                "target": row.machine.features,
                "threads": row.machine.threads,
                "layers": row.layers,
                "trials": row.trials,
                "ok": row.ok,
                "last": row.last,
            }
            for row in rows
        ]
        click.echo(json.dumps(values))
        return
    if not rows:
        click.echo(f"No trials are recorded in {database.path}.", err=True)
        return
    table = _table(("machine", "target"), ("threads", "layers", "trials", "ok"), ("last",))
    for row in rows:
        numbers = (row.machine.threads, row.layers, row.trials, row.ok)
        table.add_row(row.machine.digest, _target(row.machine), *map(str, numbers), row.last)
    _print([table])


@command.command("show")
@click.argument("words", nargs=-1, required=True)
@machine_option
@click.option(
    "--top", type=click.IntRange(1), metavar="N", help="Only the N first of each layer and machine."
)
@database_option
@json_option
def show(
    words: tuple[str, ...], machine_id: str | None, top: int | None, path: Path | None, as_json: bool
) -> None:
    """Show the trials of some layers, the fastest first.

    These are the layers whose workload or key has all WORDS in it. Trials without a time come last.
    """
    with _open(path, nothing="[]" if as_json else "") as database:
        machine = None if machine_id is None else _machine(database, machine_id)
        trials = database.trials(machine, _layers(database, words))
    trials.sort(key=lambda t: (t.workload, t.layer, t.machine.digest, not t.ok, t.seconds or 0))
    groups = [list(g)[:top] for _, g in groupby(trials, key=lambda t: (t.layer, t.machine))]
    if as_json:
        click.echo(json.dumps([trial.to_json() for group in groups for trial in group]))
    else:
        _print(_trials(group) for group in groups)


@command.command("merge")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@database_option
def merge(files: tuple[Path, ...], path: Path | None) -> None:
    """Add the trials of other databases. Those that are here already are not added twice."""
    from convc.tune.database import Database

    with Database.open(path) as database:
        for file in files:
            click.echo(f"{file}: {database.merge(file)} trials added")


@command.command("prune")
@click.option("--failed", is_flag=True, help="Trials without a time.")
@click.option("--before", type=click.DateTime(), metavar="DATE", help="Trials measured earlier (UTC).")
@click.option(
    "--keep-version",
    "versions",
    type=int,
    multiple=True,
    metavar="N",
    help="Trials of other versions of a schedule; may be repeated.",
)
@click.option(
    "--keep-best",
    "keep",
    type=click.IntRange(0),
    metavar="N",
    help="Trials that are not among the N best of their layer and machine.",
)
@machine_option
@click.option("--dry-run", is_flag=True, help="Only say how many trials would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
def prune(
    failed: bool,
    before: datetime | None,
    versions: tuple[int, ...],
    keep: int | None,
    machine_id: str | None,
    dry_run: bool,
    yes: bool,
    path: Path | None,
) -> None:
    """Remove the trials to which all of the options apply."""
    with _open(path) as database:
        asked: dict[str, Any] = {
            "failed": failed,
            "before": None if before is None else before.isoformat(),
            "versions": versions or None,
            "keep": keep,
            "machine": None if machine_id is None else _machine(database, machine_id),
        }
        count = database.prune(**asked, dry_run=True)
        if dry_run:
            click.echo(f"{count} trials would be removed")
            return
        if not yes:
            _confirm(count)
        click.echo(f"{database.prune(**asked)} trials removed")


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE|-")
@database_option
def export(file: Path, path: Path | None) -> None:
    """Write all trials as lines of JSON, to a file or standard output."""
    with _open(path, nothing=None) as database:
        if str(file) == "-":
            database.export(sys.stdout)
            return
        click.echo(f"{database.export(file)} trials written to {file}")


@command.command("import")
@click.argument("file", type=click.File("rb"), metavar="FILE|-")
@database_option
def import_(file: IO[bytes], path: Path | None) -> None:
    """Add the trials of an export, all or, if a line of it is bad, none."""
    from convc.tune.database import Database

    with Database.open(path) as database:
        click.echo(f"{database.import_lines(file, file.name)} trials added")


def _open(path: Path | None, *, nothing: str | None = "") -> Database:
    """The database. One that is asked for by --db must be there.

    Before anything was tuned there is no other: that ends the command, with a note and `nothing` as its
    result, or, where that is None, with an OptionError.
    """
    from convc.tune.database import Database, default_path

    if path is None and not default_path().exists():
        note = f"No trials are recorded yet; `convc tune` will keep them in {default_path()}."
        if nothing is None:
            raise OptionError(note, hint="For another database give --db.")
        click.echo(note, err=True)
        click.echo(nothing, nl=bool(nothing))
        click.get_current_context().exit()
    return Database.open(path, create=False)


def _machine(database: Database, machine_id: str) -> Machine:
    """The machine whose digest begins so."""
    machines = [row.machine for row in database.summary()]
    found = [machine for machine in machines if machine.digest.startswith(machine_id)]
    if len(found) != 1:
        known = ", ".join(machine.digest for machine in found or machines) or "none"
        raise OptionError(
            f"--machine '{machine_id}' names {len(found)} machines, expected one.", hint=f"Recorded: {known}."
        )
    return found[0]


def _layers(database: Database, words: Iterable[str]) -> list[str]:
    """The keys of the layers that have all words in their workload or key."""
    layers = database.layers()
    found = [
        key
        for key, workload in layers.items()
        if all(word.lower() in f"{workload} {key}".lower() for word in words)
    ]
    if not found:
        raise OptionError(
            f"No layer in {database.path} has '{' '.join(words)}' in its workload or key.",
            hint="Give fewer words, for instance the operator alone." if layers else "It has no trials.",
        )
    return found


def _confirm(count: int) -> None:
    """Ask whether so many trials shall go. Raises OptionError where nobody can answer."""
    if not sys.stdin.isatty():
        raise OptionError(f"{count} trials would be removed.", hint="Add --yes to remove them.")
    click.confirm(f"Remove {count} trials?", abort=True)


def _trials(trials: list[Trial]) -> Table:
    """A table of one layer's trials on one machine."""
    first = trials[0]
    table = _table(
        ("outcome",), ("ms", "95 % interval", "predicted ms"), ("lowering", "version", "configuration")
    )
    table.title = f"{first.workload}\n{first.layer} on {first.machine.digest}"
    table.title_justify = "left"
    for t in trials:
        interval = "" if t.low is None or t.high is None else f"{_ms(t.low)} .. {_ms(t.high)}"
        config = " ".join(f"{name}={value}" for name, value in t.variant.numbers.items())
        how = "\n".join([f"{t.variant.layouts} {config}", *t.message.splitlines()[:1]])
        times = (_ms(t.seconds), interval, _ms(t.predicted))
        table.add_row(t.outcome.value, *times, t.variant.lowering, str(t.version), how)
    return table


def _table(left: Iterable[str], right: Iterable[str], more: Iterable[str]) -> Table:
    """An empty table with columns of words, of numbers and of words again."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in left:
        table.add_column(title, overflow="fold")
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    for title in more:
        table.add_column(title, overflow="fold")
    return table


def _print(tables: Iterable[Table]) -> None:
    from rich.console import Console

    width = None if Console().is_terminal else 160
    console = Console(width=width, markup=False, emoji=False, highlight=False)  # workloads have [brackets]
    for table in tables:
        console.print(table)


def _target(machine: Machine) -> str:
    """What a reader knows a machine by."""
    names = ("mcpu", "arch", "model", "name")
    return ", ".join(str(machine.features[name]) for name in names if name in machine.features)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.4f}"
