#!/usr/bin/env python3
"""How much does the median differ from one fresh process to the next?

    python benchmarks/steadiness.py --models resnet18,mobilenet_v2

`--processes` processes one after another, by themselves and with a NumPy product between the calls, whose
threads go on spinning for a while. The spread is the largest median over the smallest, less 1; the claim is
at most 0.10.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import models
import plots
import record
from options import (
    Progress,
    common,
    compile_module,
    console,
    files,
    names,
    run,
    task,
    threaded,
    titled,
    usage,
)
from rich.table import Table

from convc.errors import OptionError
from convc.report.engines import take_turn

LIMIT = 0.10


@dataclass(frozen=True)
class Steadiness:
    """The medians of all processes of one engine on one network, a product of size `product` between."""

    model: str
    engine: str
    threads: int
    product: int
    medians_ms: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells this row from others."""
        return self.model, self.engine, self.threads, self.product

    @property
    def median_ms(self) -> float:
        """The middle process."""
        return statistics.median(self.medians_ms)

    @property
    def spread(self) -> float:
        """The slowest process over the fastest, less 1."""
        return max(self.medians_ms) / min(self.medians_ms) - 1

    def to_json(self) -> dict[str, Any]:
        """The fields, the middle and the spread."""
        return {**asdict(self), "median_ms": self.median_ms, "spread": self.spread}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Steadiness:
        """From JSON."""
        known = {k: v for k, v in fields.items() if k in cls.__dataclass_fields__}
        return cls(**{**known, "medians_ms": tuple(fields["medians_ms"])})


def measure(
    model: models.Model,
    engine: str,
    threads: int,
    products: Sequence[int],
    processes: int,
    seconds: float,
    progress: Progress,
) -> list[Steadiness]:
    """A row for each size of product; the processes of all sizes take turns."""
    medians: dict[int, list[float]] = {size: [] for size in products}
    with tempfile.TemporaryDirectory(prefix="convc-") as name:
        folder = Path(name)
        ready, module = model.ready(folder, 1), folder / "module.so"
        manifest, _ = compile_module(ready, module, threads)
        path = module if engine == "convc" else ready.path
        for number in range(1, processes + 1):
            for size in products:
                job = task(engine, path, threads, folder, manifest, product=size, seconds=seconds)
                medians[size].append(1e3 * take_turn(job).median_s)
            found = "  ".join(f"product {size}: {own[-1]:.3f} ms" for size, own in medians.items())
            progress.row(f"{model.name}, {engine}, process {number}: {found}")
    return [Steadiness(model.name, engine, threads, size, tuple(own)) for size, own in medians.items()]


def summarise(rows: Sequence[Steadiness]) -> dict[str, Any]:
    """The largest spread of each engine, and whether it is within the limit."""
    engines = dict.fromkeys(row.engine for row in rows)
    worst = {e: max(row.spread for row in rows if row.engine == e) for e in engines}
    return {engine: {"worst": spread, "steady": spread <= LIMIT} for engine, spread in worst.items()}


def table(rows: Sequence[Steadiness]) -> Table:
    """A line for each row."""
    columns = ("network", "engine", "threads", "product", "processes", "least", "middle", "largest", "spread")
    made = titled("medians of processes", columns, left=("network", "engine"))
    for row in rows:
        times = (min(row.medians_ms), row.median_ms, max(row.medians_ms))
        colour = "red" if row.spread > LIMIT else "green"
        made.add_row(
            *(row.model, row.engine, str(row.threads), str(row.product or "none"), str(len(row.medians_ms))),
            *(f"{ms:.3f}" for ms in times),
            f"[{colour}]{100 * row.spread:.1f} %[/]",
        )
    return made


@click.command(help=usage(__doc__))
@files
@threaded
@click.option("--processes", type=click.IntRange(2), default=20, show_default=True)
@click.option("--seconds", type=float, default=1.0, show_default=True, help="Length of a process's runs.")
@click.option("--product", type=int, default=512, show_default=True, help="Size of the product; 0: none.")
@click.option("--engines", callback=names, default="convc", show_default=True, help="By comma.")
@common("steadiness")
def command(
    paths: tuple[Path, ...],
    threads: int,
    processes: int,
    seconds: float,
    product: int,
    engines: tuple[str, ...],
    models: tuple[str, ...],
    output: Path,
    resume: bool,
) -> None:
    """Time the processes and write the record, the plot and a table."""
    for engine in engines:
        if engine not in ("convc", "onnxruntime", "openvino"):
            raise OptionError(f"--engines names '{engine}'.", hint="Known are convc, onnxruntime, openvino.")
    settings = {"processes": processes, "seconds": seconds}
    log = record.begin("steadiness", settings, output, resume)
    rows = {row.key: row for row in map(Steadiness.of, log.rows)}
    products = tuple(dict.fromkeys((0, product)))
    jobs = [
        (model, engine)
        for model in _chosen(paths, models or (() if paths else ("resnet18",)))
        for engine in engines
        if any((model.name, engine, threads, size) not in rows for size in products)
    ]
    least = len(jobs) * processes * len(products) * (seconds + 0.5) / 60
    console.print(f"{len(jobs)} networks and engines, about {least:.0f} min and the time to compile.")
    progress = Progress(len(jobs) * processes)
    for model, engine in jobs:
        made = measure(model, engine, threads, products, processes, seconds, progress)
        rows.update({row.key: row for row in made})
        log.rows = [row.to_json() for row in rows.values()]
        log.summary = summarise(list(rows.values()))
        log.save(output)
    console.print(table(list(rows.values())))
    plots.write(plots.steadiness, log, output)


_chosen = models.chosen

if __name__ == "__main__":
    run(command)
