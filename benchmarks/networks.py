#!/usr/bin/env python3
"""Whole networks: convc beside onnxruntime, OpenVINO and, where installed, PyTorch.

    python benchmarks/networks.py                                      # ten networks of examples/
    python benchmarks/networks.py --threads 2,1 --batch 1,8 FOLDER     # a folder of ONNX files

Each engine runs in a process of its own, in turns, `--rounds` times: three runs to warm up, then runs for two
seconds, at least 8 and at most 400. A ratio is convc's median over that of the faster of onnxruntime and
OpenVINO in the same round; the median over the rounds is reported. Inputs are drawn; the error is relative to
the largest output of onnxruntime. Memory is the most that an engine's process held, the engine's libraries
included, less what Python with NumPy held before.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import models
import plots
import record
from options import Progress, common, compile_module, console, files, names, numbers, run, task, titled, usage
from rich.table import Table

from convc.errors import ConvcError, OptionError
from convc.report.engines import Rounds, error_between, in_turns, ratio, spread_ms

PEERS = ("onnxruntime", "openvino")
"""Those that a ratio is against."""

NEEDS = {"onnxruntime": ("onnxruntime",), "openvino": ("openvino",), "pytorch": ("torch", "onnx2torch")}
LOADERS = {"pytorch": str(Path(__file__).with_name("torch_loader.py"))}


@dataclass(frozen=True)
class EngineFigures:
    """One engine on one network. Times in ms over all runs of all rounds; `first_s` is the first run's."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    load_s: float
    first_s: float
    memory_mb: float


@dataclass(frozen=True)
class Row:
    """One network at one number of threads and batch size; `failed` says why there are no figures."""

    model: str
    threads: int
    batch: int
    engines: dict[str, EngineFigures] = field(default_factory=dict)
    ratio: float | None = None
    error: float | None = None
    compile_s: float | None = None
    activations_mb: float | None = None
    module_mb: float | None = None
    failed: str = ""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Row:
        """From JSON."""
        return cls(**{**fields, "engines": {k: EngineFigures(**v) for k, v in fields["engines"].items()}})

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells this row from others."""
        return self.model, self.threads, self.batch


def figures(turns: Rounds) -> dict[str, EngineFigures]:
    """The figures of each engine from its turns."""
    found = {}
    for engine, own in turns.items():
        p10, p50, p90 = spread_ms(own)
        found[engine] = EngineFigures(
            p50,
            p10,
            p90,
            sum(len(turn.times_s) for turn in own),
            statistics.median(turn.load_s for turn in own),
            statistics.median(turn.first_s for turn in own),
            max(turn.peak_bytes - turn.baseline_bytes for turn in own) / 1e6,
        )
    return found


def measure(
    model: models.Model,
    threads: int,
    batch: int,
    engines: Sequence[str],
    rounds: int,
    seconds: float = 2.0,
    arguments: Sequence[str] = (),
    cold: bool = False,
) -> Row:
    """Compile a network and time it. What fails is told in the row."""
    with tempfile.TemporaryDirectory(prefix="convc-") as name:
        folder = Path(name)
        try:
            ready = model.ready(folder, batch)
            module = folder / "module.so"
            manifest, compile_s = compile_module(ready, module, threads, arguments, cold)
            tasks = [
                task(
                    engine,
                    module if engine == "convc" else ready.path,
                    threads,
                    folder,
                    manifest,
                    seconds=seconds,
                    loader=LOADERS.get(engine, ""),
                )
                for engine in engines
            ]
            turns = in_turns(tasks, rounds)
        except ConvcError as error:
            return Row(model.name, threads, batch, failed=str(error))
        peers = [engine for engine in PEERS if engine in engines]
        return Row(
            model.name,
            threads,
            batch,
            figures(turns),
            ratio(turns, "convc", peers) if peers else None,
            _finite(error_between(folder / "convc.npz", folder / f"{peers[0]}.npz")) if peers else None,
            compile_s,
            manifest.workspace_bytes / 1e6,
            module.stat().st_size / 1e6,
        )


def _finite(error: float) -> float | None:
    """JSON knows no infinity: results that do not compare at all are 1e9 off."""
    return min(error, 1e9)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """For each number of threads and batch size: geometric mean of the ratios, the worst, the failures."""
    found = {}
    for threads, batch in dict.fromkeys((row.threads, row.batch) for row in rows):
        here = [row for row in rows if (row.threads, row.batch) == (threads, batch)]
        ratios = {row.model: row.ratio for row in here if row.ratio is not None}
        if not ratios:
            continue
        worst = max(ratios, key=lambda name: ratios[name])
        found[f"threads {threads}, batch {batch}"] = {
            "geometric_mean": math.exp(statistics.fmean(math.log(r) for r in ratios.values())),
            "networks": len(ratios),
            "worst": {worst: ratios[worst]},
            "slower": sorted(name for name, r in ratios.items() if r > 1),
            "wrong": sorted(row.model for row in here if row.error is not None and row.error > 1e-4),
            "failed": sorted(row.model for row in here if row.failed),
        }
    return found


def sentence(row: Row) -> str:
    """A row in one line."""
    head = f"{row.model:18s} {row.threads} threads, batch {row.batch}: "
    if row.failed:
        return f"{head}[red]{row.failed}[/red]"
    times = "  ".join(f"{engine} {f.median_ms:.2f} ms" for engine, f in row.engines.items())
    return f"{head}{times}" + ("" if row.ratio is None else f"  ratio {row.ratio:.3f}  error {row.error:.0e}")


def tables(rows: Sequence[Row]) -> list[Table]:
    """Times, a table for each number of threads and batch size; then memory and the times until a result."""
    engines = list(dict.fromkeys(engine for row in rows for engine in row.engines))
    made = []
    for threads, batch in dict.fromkeys((row.threads, row.batch) for row in rows):
        title = f"threads {threads}, batch {batch}: ms a call"
        columns = ("network", *engines, "convc p10 to p90", "ratio", "error")
        made.append(titled(title, columns, left=("network",)))
        for row in rows:
            if (row.threads, row.batch) != (threads, batch):
                continue
            if row.failed:
                made[-1].add_row(row.model, "[red]failed[/red]")
                continue
            own = row.engines["convc"]
            made[-1].add_row(
                row.model,
                *(f"{row.engines[e].median_ms:.2f}" if e in row.engines else "" for e in engines),
                f"{own.p10_ms:.2f} to {own.p90_ms:.2f}",
                "" if row.ratio is None else f"[{'red' if row.ratio > 1 else 'green'}]{row.ratio:.3f}[/]",
                "" if row.error is None else f"{row.error:.0e}",
            )
    made.append(
        titled(
            "MB held at most | s to load and run once",
            (
                *("network", "threads", "batch", *(f"{e} MB" for e in engines), "planned activations"),
                *("module file", *(f"{e} s" for e in engines), "compile s"),
            ),
            left=("network",),
        )
    )
    for row in rows:
        if row.failed:
            continue
        each = [row.engines.get(e) for e in engines]
        made[-1].add_row(
            *(row.model, str(row.threads), str(row.batch)),
            *("" if f is None else f"{f.memory_mb:.0f}" for f in each),
            *(f"{row.activations_mb:.1f}", f"{row.module_mb:.0f}"),
            *("" if f is None else f"{f.load_s + f.first_s:.2f}" for f in each),
            f"{row.compile_s:.0f}",
        )
    return made


def available(wanted: Sequence[str]) -> list[str]:
    """convc and the engines that are wanted (all, if none are) and installed; others are told of."""
    engines = ["convc"]
    for engine in wanted or NEEDS:
        if engine == "convc":
            continue
        if engine not in NEEDS:
            raise OptionError(f"--engines names '{engine}'.", hint=f"Known are convc, {', '.join(NEEDS)}.")
        missing = [package for package in NEEDS[engine] if find_spec(package) is None]
        if missing:
            console.print(f"Without {engine}: {' and '.join(missing)} not installed.", style="yellow")
        else:
            engines.append(engine)
    return engines


@click.command(help=usage(__doc__))
@files
@click.option(
    "--threads", callback=numbers, default="2", show_default=True, help="Numbers of threads, by comma."
)
@click.option("--batch", callback=numbers, default="1", show_default=True, help="Batch sizes, by comma.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of each engine.")
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Length of a turn.")
@click.option("--engines", callback=names, default="", help="Beside convc, by comma; default all installed.")
@click.option("--compile-args", default="", help="More arguments for `convc compile`.")
@click.option("--cold", is_flag=True, help="Compile with an empty cache of kernels.")
@common("networks")
def command(
    paths: tuple[Path, ...],
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    rounds: int,
    seconds: float,
    engines: tuple[str, ...],
    compile_args: str,
    cold: bool,
    models: tuple[str, ...],
    output: Path,
    resume: bool,
) -> None:
    """Time networks and write the record, the plot and a table."""
    everyone = available(engines)
    settings = {"rounds": rounds, "seconds": seconds, "compile_args": compile_args, "cold": cold}
    log = record.begin("networks", settings, output, resume)
    rows = {row.key: row for row in map(Row.of, log.rows) if not row.failed}
    jobs = [
        (model, t, b)
        for t in threads
        for b in batch
        for model in _chosen(paths, models)
        if (model.name, t, b) not in rows
    ]
    least = len(jobs) * len(everyone) * rounds * (seconds + 1) / 60
    console.print(f"{len(jobs)} rows, at least {least:.0f} min and the time to compile.")
    progress = Progress(len(jobs))
    for model, t, b in jobs:
        row = measure(model, t, b, everyone, rounds, seconds, compile_args.split(), cold)
        rows[row.key] = row
        progress.row(sentence(row))
        log.rows, log.summary = [asdict(r) for r in rows.values()], summarise(list(rows.values()))
        log.save(output)
    console.print(*tables(list(rows.values())))
    for name, figure in log.summary.items():
        console.print(f"{name}: geometric mean {figure['geometric_mean']:.3f} over {figure['networks']}")
    plots.write(plots.networks, log, output)


_chosen = models.chosen

if __name__ == "__main__":
    run(command)
