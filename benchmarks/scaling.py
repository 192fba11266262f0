#!/usr/bin/env python3
"""Does the cost grow as the work grows? ResNet-18 over image sizes and over batch sizes.

    python benchmarks/scaling.py --threads 2,1

Work is counted in multiply-adds, which grow a little faster than pixels where a map's extent is rounded up.
The time for a unit of work is compared with the median over all points but the smallest of each line, whose
fixed costs show: 1 means linear growth; the claim is 0.85 to 1.15. Each point is timed in
`--rounds` fresh processes.
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
from options import Progress, common, compile_module, console, numbers, run, task, usage
from rich import box
from rich.table import Table

from convc.report.engines import spread_ms, take_turn
from convc.report.summary import summary, totals

SIZES = "112,160,224,320,448,640,896"
BATCHES = "1,2,4,8,16,32"
LIMIT = 0.15


@dataclass(frozen=True)
class Point:
    """One size or batch: its time, and its time for a unit of work relative to the line's median."""

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

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What tells this point from others."""
        return self.axis, self.size, self.batch, self.threads


def related(points: Sequence[Point]) -> list[Point]:
    """The points with `relative` set, line by line (a line: one axis, one number of threads)."""
    found = []
    for axis, threads in dict.fromkeys((p.axis, p.threads) for p in points):
        line = sorted(
            (p for p in points if (p.axis, p.threads) == (axis, threads)), key=lambda p: p.multiply_adds
        )
        cost = [p.median_ms / p.multiply_adds for p in line]
        middle = statistics.median(cost[1:] or cost)
        found += [replace(p, relative=c / middle) for p, c in zip(line, cost, strict=True)]
    return found


def summarise(points: Sequence[Point]) -> dict[str, Any]:
    """For each line: the least and the largest relative cost past the smallest point."""
    found = {}
    for axis, threads in dict.fromkeys((p.axis, p.threads) for p in points):
        line = sorted(
            (p for p in points if (p.axis, p.threads) == (axis, threads)), key=lambda p: p.multiply_adds
        )
        past = [p.relative for p in line[1:]]
        if past:
            found[f"{axis}, threads {threads}"] = {
                "least": min(past),
                "largest": max(past),
                "linear": min(past) >= 1 - LIMIT and max(past) <= 1 + LIMIT,
            }
    return found


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
    return Point(axis, size, batch, threads, work, p50, p10, p90, sum(len(t.times_s) for t in turns))


def table(points: Sequence[Point]) -> Table:
    """All points, the deviation in red where it is too large."""
    made = Table(title="cost against work", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in (
        "axis",
        "size",
        "batch",
        "threads",
        "ms",
        "p10 to p90",
        "G multiply-adds",
        "ns / M",
        "relative",
    ):
        made.add_column(title, justify="right" if title != "axis" else "left")
    for p in points:
        colour = "red" if abs(p.relative - 1) > LIMIT else "green"
        made.add_row(
            *(p.axis, str(p.size), str(p.batch), str(p.threads), f"{p.median_ms:.2f}"),
            *(f"{p.p10_ms:.2f} to {p.p90_ms:.2f}", f"{p.multiply_adds / 1e9:.2f}"),
            *(f"{1e12 * p.median_ms / p.multiply_adds:.0f}", f"[{colour}]{p.relative:.3f}[/]"),
        )
    return made


@click.command(help=usage(__doc__))
@click.option("--threads", callback=numbers, default="2", show_default=True, help="By comma.")
@click.option("--sizes", callback=numbers, default=SIZES, show_default=True, help="Image sizes, at batch 1.")
@click.option("--batches", callback=numbers, default=BATCHES, show_default=True, help="Batch sizes, at 224.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@common("scaling")
def command(
    threads: tuple[int, ...],
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    rounds: int,
    models: tuple[str, ...],
    output: Path,
    resume: bool,
) -> None:
    """Time the points and write the record, the plot and a table."""
    (model,) = _chosen((), models or ("resnet18",))
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
        shown = related(list(points.values()))
        log.rows, log.summary = [asdict(p) for p in shown], summarise(shown)
        log.save(output)
    console.print(table(related(list(points.values()))))
    for name, figure in log.summary.items():
        console.print(f"{name}: {figure['least']:.3f} to {figure['largest']:.3f} of linear")
    plots.write(plots.scaling, log, output)


def _chosen(paths: Sequence[Path], names: Sequence[str]) -> list[models.Example]:
    return [model for model in models.chosen(paths, names) if isinstance(model, models.Example)]


if __name__ == "__main__":
    run(command)
