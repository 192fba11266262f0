#!/usr/bin/env python3
"""Does the cost grow as the work grows? ResNet-18 over image sizes and over batch sizes.

    python benchmarks/scaling.py --threads 2,1

Work is counted in multiply-adds, which grow a little faster than pixels where a map's extent is rounded up.
Each point is timed in `--rounds` fresh processes. Two figures judge a line of points:

`relative` is the time for a unit of work over its median past the smallest point: 1 everywhere would be time
proportional to work. It cannot be at small work, since all weights are read whatever the work is.

`deviation` is the time over that of the straight line time = a + b * work, fitted so that relative deviations
count. a is what remains without work: above all reading the weights, so it is told as bytes a second too. The
claim is that every point past the smallest lies within 15 % of its line.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import models
import plots
import record
from line import Line
from options import Progress, common, compile_module, console, numbers, report, run, task, titled, usage
from rich.table import Table

from convc.errors import OptionError
from convc.report.engines import spread_ms, take_turn
from convc.report.summary import summary, totals

SIZES = "112,160,224,320,448,640,896"
BATCHES = "1,2,4,8,16,32"
LIMIT = 0.15


@dataclass(frozen=True)
class Point:
    """One size or batch: its time, and how it compares with the other points of its line.

    `relative` is to time proportional to work, `deviation` to the fitted line (None for too few points).
    `weights_bytes` is what the module stores of weights, 0 in records from before it was noted.
    """

    axis: str
    size: int
    batch: int
    threads: int
    multiply_adds: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    relative: float = 1.0
    deviation: float | None = None
    weights_bytes: int = 0

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What tells this point from others."""
        return self.axis, self.size, self.batch, self.threads


def lines(points: Sequence[Point]) -> list[list[Point]]:
    """The points of each axis and number of threads, by their work."""
    kinds = dict.fromkeys((p.axis, p.threads) for p in points)
    members = [[p for p in points if (p.axis, p.threads) == kind] for kind in kinds]
    return [sorted(line, key=lambda p: p.multiply_adds) for line in members]


def fitted(line: Sequence[Point]) -> Line | None:
    """The straight line through the points."""
    return Line.fit([p.multiply_adds for p in line], [p.median_ms for p in line])


def related(points: Sequence[Point]) -> list[Point]:
    """The points with `relative` and `deviation` set, line by line."""
    found = []
    for line in lines(points):
        cost = [p.median_ms / p.multiply_adds for p in line]
        middle = statistics.median(cost[1:] or cost)
        straight = fitted(line)
        found += [
            replace(
                p,
                relative=c / middle,
                deviation=None if straight is None else p.median_ms / straight.at(p.multiply_adds),
            )
            for p, c in zip(line, cost, strict=True)
        ]
    return found


def summarise(points: Sequence[Point], parameter_bytes: int) -> dict[str, Any]:
    """For each line: both figures past the smallest point, and what the fitted line says.

    `parameter_bytes` stands for the weights that are read where a record does not say what its modules store.
    """
    found = {}
    for line in lines(points):
        past = [p.relative for p in line[1:]]
        if not past:
            continue
        figures: dict[str, Any] = {"least": min(past), "largest": max(past), "linear": _within(past)}
        straight = fitted(line)
        if straight is not None:
            deviations = [p.median_ms / straight.at(p.multiply_adds) for p in line]
            weights = statistics.median(p.weights_bytes or parameter_bytes for p in line)
            figures["line"] = {
                **asdict(straight),
                "least": min(deviations[1:]),
                "largest": max(deviations[1:]),
                "smallest_point": deviations[0],
                "straight": _within(deviations[1:]),
                "weights_mb": weights / 1e6,
                "gb_per_s": weights / straight.constant_ms / 1e6 if straight.constant_ms > 0 else None,
            }
        found[f"{line[0].axis}, threads {line[0].threads}"] = figures
    return found


def _within(ratios: Sequence[float]) -> bool:
    return min(ratios) >= 1 - LIMIT and max(ratios) <= 1 + LIMIT


def sentences(summary: dict[str, Any]) -> list[str]:
    """What the summary says of each line, in words."""
    said = []
    for name, figures in summary.items():
        said.append(f"{name}: {figures['least']:.3f} to {figures['largest']:.3f} of proportional")
        if "line" not in figures:
            continue
        line = figures["line"]
        rate = line["gb_per_s"]
        meaning = (
            f"the first part is reading {line['weights_mb']:.0f} MB of weights at {rate:.0f} GB/s"
            if rate
            else "no constant part: time grows faster than work"
        )
        said.append(
            f"  {line['constant_ms']:.2f} ms + {line['ms_per_giga']:.3f} ms for 1e9 multiply-adds; {meaning}"
        )
        said.append(
            f"  {line['least']:.3f} to {line['largest']:.3f} of this line past the smallest point,"
            f" {line['smallest_point']:.3f} there"
        )
    return said


def measure(model: models.Example, axis: str, size: int, batch: int, threads: int, rounds: int) -> Point:
    """Compile for this shape and time it, in `rounds` processes."""
    with tempfile.TemporaryDirectory(prefix="convc-") as name:
        folder = Path(name)
        module = folder / "module.so"
        # Verified at 224; at the largest sizes the float64 reference would take minutes.
        arguments = ["--no-verify"] if size * size * batch > 4 * 224 * 224 else []
        manifest, _ = compile_module(model.ready(folder, batch, size=size), module, threads, arguments)
        work = totals(summary(model.graph(batch, size=size, seed=None)))["multiply_adds"]
        job = task("convc", module, threads, folder, manifest)
        turns = [take_turn(job) for _ in range(rounds)]
    p10, p50, p90 = spread_ms(turns)
    runs = sum(len(t.times_s) for t in turns)
    weights = manifest.weights_bytes
    return Point(axis, size, batch, threads, work, p50, p10, p90, runs, weights_bytes=weights)


def table(points: Sequence[Point]) -> Table:
    """All points, the deviations in red where they are too large."""
    titles = ("axis", "size", "batch", "threads", "ms", "p10 to p90", "G multiply-adds", "ns / M")
    made = titled("cost against work", (*titles, "of proportional", "of the line"), left=("axis",))
    for p in points:
        made.add_row(
            *(p.axis, str(p.size), str(p.batch), str(p.threads), f"{p.median_ms:.2f}"),
            *(f"{p.p10_ms:.2f} to {p.p90_ms:.2f}", f"{p.multiply_adds / 1e9:.2f}"),
            *(f"{1e12 * p.median_ms / p.multiply_adds:.0f}", _coloured(p.relative), _coloured(p.deviation)),
        )
    return made


def _coloured(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"[{'green' if _within([ratio]) else 'red'}]{ratio:.3f}[/]"


@click.command(help=usage(__doc__))
@click.option("--threads", callback=numbers, default="2", show_default=True, help="By comma.")
@click.option("--sizes", callback=numbers, default=SIZES, show_default=True, help="Image sizes, at batch 1.")
@click.option("--batches", callback=numbers, default=BATCHES, show_default=True, help="Batch sizes, at 224.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@common("scaling")
@report
def command(
    threads: tuple[int, ...],
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    rounds: int,
    models: tuple[str, ...],
    output: Path,
    resume: bool,
    report: bool,
) -> None:
    """Time the points and write the record, the plot and a table."""
    if report:
        log = record.load(output, "scaling")
        _conclude(log, [Point(**row) for row in log.rows], _chosen(log.settings["model"]), output)
        return
    model = _chosen(*(models or ("resnet18",)))
    log = record.begin("scaling", {"model": model.name, "rounds": rounds}, output, resume)
    points = {p.key: p for p in (Point(**row) for row in log.rows)}
    jobs = [("size", size, 1, t) for t in threads for size in sizes]
    jobs += [("batch", 224, batch, t) for t in threads for batch in batches]
    jobs = [job for job in jobs if job not in points]
    console.print(
        f"{len(jobs)} points, at least {len(jobs) * rounds * 3 / 60:.0f} min and the time to compile."
    )
    progress = Progress(len(jobs))
    for job in jobs:
        points[job] = measure(model, *job, rounds)
        point = points[job]
        progress.row(
            f"size {point.size}, batch {point.batch}, threads {point.threads}: {point.median_ms:.2f} ms"
        )
        _save(log, list(points.values()), model, output)
    _conclude(log, list(points.values()), model, output)


def _save(log: record.Record, points: Sequence[Point], model: models.Example, output: Path) -> list[Point]:
    shown = related(points)
    parameters = totals(summary(model.graph(1, seed=None)))["parameters"]
    log.rows, log.summary = [asdict(p) for p in shown], summarise(shown, 4 * parameters)
    log.save(output)
    return shown


def _conclude(log: record.Record, points: Sequence[Point], model: models.Example, output: Path) -> None:
    """The record with its summary, the plot, the table and what they say."""
    console.print(table(_save(log, points, model, output)))
    for sentence in sentences(log.summary):
        console.print(sentence)
    plots.write(plots.scaling, log, output)


def _chosen(*names: str) -> models.Example:
    """The network. Raises OptionError for more than one, and for a file, whose size is fixed."""
    if len(names) > 1:
        raise OptionError(f"--models names {len(names)} networks; one is measured at a time.")
    (found,) = models.chosen((), names)
    if not isinstance(found, models.Example):
        raise OptionError(
            f"--models names '{found.name}', whose size is fixed.", hint="Name a page of examples/."
        )
    return found


if __name__ == "__main__":
    run(command)
