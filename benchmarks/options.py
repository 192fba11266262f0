"""What the benchmarks' commands share: options, compiling in a process of its own, progress, errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import record
from ready import Ready
from rich import box
from rich.console import Console
from rich.table import Table

from convc.errors import CompileError, ConvcError
from convc.report.engines import Task
from convc.runtime import manifest as manifests
from convc.runtime.manifest import Manifest
from convc.verify import random_feeds

console = Console(width=None if Console().is_terminal else 160, highlight=False)


def numbers(context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """Callback of an option: positive integers by comma, such as `1,2`."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"'{text}' is not a list of positive numbers such as 1,2.", context, option)
    return found


def names(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    """Callback of an option: words by comma."""
    return tuple(part for part in text.split(",") if part)


def usage(text: str | None) -> str:
    """A script's docstring as its help: its indented examples keep their lines (click's mark for that)."""
    return (text or "").replace("\n\n    ", "\n\n\b\n    ")


def common(benchmark: str) -> Callable[[Any], Any]:
    """`--models`, `--output` and `--resume`."""

    def add(command: Any) -> Any:
        for option in (
            click.option(
                "--models", callback=names, default="", metavar="NAMES", help="Only these, by comma."
            ),
            click.option(
                "--output",
                type=click.Path(path_type=Path, dir_okay=False),
                default=lambda: record.folder() / f"{benchmark}.json",
                help=f"The record; a plot is written beside it. [default: results/CPU/{benchmark}.json]",
            ),
            click.option("--resume", is_flag=True, help="Keep the rows that the record already has."),
        ):
            command = option(command)
        return command

    return add


files = click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx|FOLDER]...")
threaded = click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
report = click.option(
    "--report", is_flag=True, help="Measure nothing: judge, print and draw the record that is there again."
)


def titled(title: str, columns: Sequence[str], left: Sequence[str]) -> Table:
    """An empty table with its columns, those in `left` aligned left and the others, figures, right."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="left" if column in left else "right")
    return made


def run(command: click.Command) -> None:
    """Run a command; errors with a cause that the user can act on are one line and exit status 2."""
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except (click.ClickException, ConvcError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"error: {text}", err=True)
        sys.exit(2)


@dataclass
class Progress:
    """Tells after each row how far the run is, from the time that the rows so far took."""

    total: int
    done: int = 0
    begin: float = field(default_factory=time.monotonic)

    def row(self, text: str) -> None:
        """One more row is complete."""
        self.done += 1
        left = (time.monotonic() - self.begin) / self.done * (self.total - self.done)
        remaining = f", about {left / 60:.0f} min left" if self.done < self.total else ""
        console.print(f"[dim]\\[{self.done}/{self.total}{remaining}][/dim] {text}", soft_wrap=True)


def compile_module(
    ready: Ready, out: Path, threads: int, arguments: Sequence[str] = (), cold: bool = False
) -> tuple[Manifest, float]:
    """`convc compile` in a process of its own, as users do; the manifest and the seconds it took.

    `cold` gives it an empty cache of kernels. Raises CompileError with the command's own message.
    """
    code = "from convc.cli import main; main()"
    shapes = [
        part
        for name, shape in ready.shapes.items()
        for part in ("--input-shapes", f"{name}:{'x'.join(map(str, shape))}")
    ]
    command = ["compile", str(ready.path.resolve()), "-o", str(out), "--threads", str(threads), *shapes]
    environment = {**os.environ, "CONVC_CACHE": str(out.parent / "cache")} if cold else None
    start = time.perf_counter()
    # From the folder of the result: Python puts the working folder first, where it must not find `convc/`.
    done = subprocess.run(
        [sys.executable, "-c", code, *command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=out.parent,
        env=environment,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise CompileError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return manifests.read(out), seconds


def task(engine: str, path: Path, threads: int, folder: Path, manifest: Manifest, **options: Any) -> Task:
    """A turn on random inputs, which are written to `folder` when they are not there."""
    feeds = folder / "feeds.npz"
    if not feeds.exists():
        np.savez(feeds, allow_pickle=False, **random_feeds(manifest.inputs))
    return Task(engine, str(path), threads, str(feeds), str(folder / f"{engine}.npz"), **options)
