#!/usr/bin/env python3
"""Every distinct layer of the networks under every lowering that can compute it.

    python benchmarks/layers.py                              # ten networks of examples/
    python benchmarks/layers.py --models resnet50 FOLDER     # some of a folder of ONNX files

For each: time, direct-equivalent GFLOP/s, percent of peak, error against float64; and the regret, which is
what the untuned choice takes above the best measured candidate whose error was allowed. Totals weigh a layer
by how often it occurs. Peak is what `convc calibrate` measured. How a layer is timed:
convc/report/measure.py. Candidates predicted to take more than `--hopeless` times the cheapest are not
measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import models
import plots
import record
from layer_rows import LayerRow, Tried, summarise, time_lost
from options import Progress, common, console, run, usage
from rich import box
from rich.table import Table

from convc.errors import ConvcError


def sentence(row: LayerRow, peak: float) -> str:
    """A row in one line: the choice first, then the others by time."""
    if row.failed:
        return f"{row.name}: [red]{row.failed}[/red]"
    timed = sorted(
        (t for t in row.tried if t.measured_ms), key=lambda t: (t.lowering != row.chosen, t.measured_ms)
    )
    parts = [
        f"{t.lowering} {t.measured_ms:.3f} ms"
        + (f" {row.flops / (t.measured_ms or 1) / 1e6:.0f} GFLOP/s" if row.flops else "")
        + (f" {1e5 * row.flops / (t.measured_ms or 1) / peak:.0f} %" if row.flops else "")
        + (f" error {t.error:.0e}" if t.error else "")
        for t in timed
    ]
    loss = f"[red] regret {100 * row.regret:.0f} %[/red]" if row.regret else ""
    return f"{row.name}{loss}: {'; '.join(parts)}"


def tables(rows: Sequence[LayerRow], summary: dict[str, Any], worst: int = 15) -> list[Table]:
    """Totals of the networks, then the layers at which most time is lost."""
    first = Table(title="totals over layers", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("network", "layers", "chosen ms", "best ms", "regret %", "where there was a choice %"):
        first.add_column(title, justify="right" if title != "network" else "left")
    first.add_column("direct forms, % of peak (mean)", justify="right")
    for name, t in [*summary["networks"].items(), ("all", summary["all"])]:
        shares = (t["regret"], t["regret_of_choices"], t["exact_share_of_peak"])
        times = (str(t["layers"]), f"{t['chosen_ms']:.2f}", f"{t['best_ms']:.2f}")
        first.add_row(name, *times, *("" if s is None else f"{100 * s:.1f}" for s in shares))
    second = Table(title="most time lost", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("layer", "times", "chosen", "ms", "best", "ms ", "lost ms"):
        second.add_column(title, justify="right" if title.strip() in ("times", "ms", "lost ms") else "left")
    for row in sorted(rows, key=time_lost, reverse=True)[:worst]:
        if row.best is not None and time_lost(row) > 0:
            own = (row.chosen, f"{row.chosen_ms:.3f}", row.best.lowering, f"{row.best.measured_ms:.3f}")
            second.add_row(row.name, str(sum(row.counts.values())), *own, f"{time_lost(row):.3f}")
    return [first, second]


def peak_of_host(threads: int) -> tuple[float, bool]:
    """FLOP/s of so many threads, and whether they were measured (`convc calibrate`) or are nominal."""
    from convc.codegen import calibrate
    from convc.codegen.machine import resolve
    from convc.progress import Progress as Quiet

    nominal = resolve("host", threads)
    used = calibrate.calibrated(nominal, Quiet())
    found = calibrate.read(calibrate.cached_at(nominal))
    if found is None or used is nominal:
        return used.peak, False
    return threads * (found.core_flops if threads == 1 else found.flops), True


def plan(model: models.Model, folder: Path, threads: int, batch: int) -> Any:
    """The compilation of a network short of machine code, with the errors of all candidates."""
    from convc import compiler
    from convc.progress import Progress as Quiet

    if isinstance(model, models.Example):
        options = compiler.Options(threads=threads, all_errors=True)
        return compiler.plan(model.graph(batch), options, Quiet())
    ready = model.ready(folder, batch)
    options = compiler.Options(threads=threads, input_shapes=ready.shapes, all_errors=True)
    return compiler.plan(ready.path, options, Quiet())


def distinct(compilation: Any, network: str) -> list[LayerRow]:
    """The layers that have code, each once with its count, not yet timed."""
    from convc.compiler import layer_plans
    from convc.report.measure import candidates, unplaced

    nodes = {node.name: node for node in compilation.graph.nodes}
    rows: dict[tuple[str, str], LayerRow] = {}
    for layer in layer_plans(compilation):
        node = nodes[layer.name]
        if not candidates(node, layer):
            continue
        tried = tuple(Tried(c.lowering, c.predicted_ms, None, None, c.rejected) for c in layer.candidates)
        workload = str(unplaced(compilation.choices[node].workload))
        flops = _flops(node)
        made = LayerRow(f"{network}/{layer.name}", layer.op, workload, flops, layer.chosen, tried)
        row = rows.get(made.key, made)
        rows[row.key] = replace(row, counts={network: row.counts.get(network, 0) + 1})
    return list(rows.values())


def timed(compilation: Any, row: LayerRow, hopeless: float) -> LayerRow:
    """The row with its figures, or with the reason why there are none."""
    from convc.report.measure import measure

    least = min(t.predicted_ms for t in row.tried if t.predicted_ms is not None)
    names = [
        t.lowering
        for t in row.tried
        if t.predicted_ms is not None and (t.predicted_ms <= hopeless * least or t.lowering == row.chosen)
    ]
    node = compilation.graph.node(row.name.split("/", 1)[1])
    try:
        found = measure(compilation, node, names, errors=True)
    except ConvcError as error:
        return replace(row, failed=str(error))
    return replace(row, tried=tuple(_with_trial(t, found) for t in row.tried))


def _with_trial(tried: Tried, found: Mapping[str, Any]) -> Tried:
    trial = found.get(tried.lowering)
    if trial is None:
        return tried
    return replace(tried, measured_ms=1e3 * trial.seconds, error=min(trial.error, 1e9))


def _flops(node: Any) -> int:
    """FLOP by the operator's definition, a multiply-add counting as 2; 0 without multiply-adds."""
    from convc.ir import opdef

    types = [None if value is None else value.type for value in node.operands]
    return 2 * opdef(node.op).cost(node.attrs, types, [value.type for value in node.outputs]).multiply_adds


@click.command(help=usage(__doc__))
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx|FOLDER]...")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option("--hopeless", type=float, default=8.0, show_default=True)
@common("layers")
def command(
    paths: tuple[Path, ...],
    threads: int,
    batch: int,
    hopeless: float,
    models: tuple[str, ...],
    output: Path,
    resume: bool,
) -> None:
    """Time layers and write the record, the plot and tables."""
    # The float64 reference runs in this process; its BLAS threads would spin while a child is timed.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from tempfile import TemporaryDirectory

    networks = _chosen_models(paths, models)
    peak, measured = peak_of_host(threads)
    settings = {"threads": threads, "batch": batch, "hopeless": hopeless}
    settings |= {"peak_gflops": peak / 1e9, "peak_measured": measured}
    log = record.begin("layers", settings, output, resume)
    rows = {row.key: row for row in map(LayerRow.of, log.rows) if not row.failed}
    console.print(f"{len(networks)} networks; a layer takes 1 to 3 s and the time to compile its candidates.")
    for model in networks:
        with TemporaryDirectory(prefix="convc-") as folder:
            compilation = plan(model, Path(folder), threads, batch)
            here = distinct(compilation, model.name)
            progress = Progress(sum(row.key not in rows for row in here))
            console.print(f"{model.name}: {progress.total} layers that were not seen before")
            for row in here:
                if row.key in rows:
                    known = rows[row.key]
                    rows[row.key] = replace(known, counts={**known.counts, **row.counts})
                    continue
                rows[row.key] = timed(compilation, row, hopeless)
                progress.row(sentence(rows[row.key], peak))
                _save(log, rows.values(), peak, output)
        _save(log, rows.values(), peak, output)
    console.print(*tables(list(rows.values()), log.summary))
    plots.write(plots.layers, log, output)


def _save(log: record.Record, rows: Iterable[LayerRow], peak: float, output: Path) -> None:
    kept = list(rows)
    log.rows, log.summary = [row.to_json() for row in kept], summarise(kept, peak)
    log.save(output)


_chosen_models = models.chosen

if __name__ == "__main__":
    run(command)
