#!/usr/bin/env python3
"""Every distinct layer of the networks under every lowering that can compute it.

    python benchmarks/layers.py                              # ten networks of examples/
    python benchmarks/layers.py --models resnet50 FOLDER     # some of a folder of ONNX files

For each: time, direct-equivalent GFLOP/s, percent of peak, error against float64; and the regret, which is
what the untuned choice takes above the best measured candidate whose error was allowed. Totals weigh a layer
by how often it occurs. Peak is what `convc calibrate` measured. How a layer is timed:
convc/report/measure.py. Candidates predicted to take more than `--hopeless` times the cheapest are not
measured.

Times are cold, the caches holding what a network leaves there, and regret is judged on them. The direct forms
of convolutions are timed warm too, on the same operands again and again: what the kernel is capable of, and
what benchmarks of single layers report. `--state cold` leaves that out.
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
from layer_rows import CONVOLUTIONS, EXACT, STATES, WEAK, LayerRow, Tried, summarise, time_lost, weak
from options import Progress, common, console, files, names, report, run, threaded, titled, usage
from rich.table import Table

from convc.errors import ConvcError, OptionError

UNITS = ("ms", "GFLOP/s", "%")


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
        + (f" (warm {1e5 * row.flops / t.warm_ms / peak:.0f} %)" if t.warm_ms and row.flops else "")
        + (f" error {t.error:.0e}" if t.error else "")
        for t in timed
    ]
    loss = f"[red] regret {100 * row.regret:.0f} %[/red]" if row.regret else ""
    return f"{row.name}{loss}: {'; '.join(parts)}"


def tables(rows: Sequence[LayerRow], summary: dict[str, Any], peak: float, worst: int = 15) -> list[Table]:
    """Totals of the networks, the layers at which most time is lost, the direct forms far from peak."""
    return [_totals(summary), _lost(rows, worst), _weak(rows, peak, worst)]


def _totals(summary: dict[str, Any]) -> Table:
    columns = ("network", "layers", "chosen ms", "best ms", "regret %", "where there was a choice %")
    shares = [f"{state} {kind}" for state in STATES for kind in ("mean", "by time")]
    made = titled("totals over layers; direct forms in % of peak", (*columns, *shares), left=("network",))
    for name, t in [*summary["networks"].items(), ("all", summary["all"])]:
        forms = [t["direct_forms"][state] or {"mean": None, "by_time": None} for state in STATES]
        figures = (t["regret"], t["regret_of_choices"], *(f[k] for f in forms for k in ("mean", "by_time")))
        times = (str(t["layers"]), f"{t['chosen_ms']:.2f}", f"{t['best_ms']:.2f}")
        made.add_row(name, *times, *map(_percent, figures))
    return made


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _lost(rows: Sequence[LayerRow], worst: int) -> Table:
    columns = ("layer", "times", "chosen", "ms", "best", "ms ", "lost ms")
    made = titled("most time lost", columns, left=("layer", "chosen", "best"))
    for row in sorted(rows, key=time_lost, reverse=True)[:worst]:
        if row.best is not None and time_lost(row) > 0:
            own = (row.chosen, f"{row.chosen_ms:.3f}", row.best.lowering, f"{row.best.measured_ms:.3f}")
            made.add_row(row.name, str(sum(row.counts.values())), *own, f"{time_lost(row):.3f}")
    return made


def _weak(rows: Sequence[LayerRow], peak: float, worst: int) -> Table:
    columns = ("layer / strides", "times", "form", *(f"{state} {u}" for state in STATES for u in UNITS))
    title = f"direct forms below {100 * WEAK:.0f} % of peak, by the time that this costs"
    made = titled(title, (*columns, "config"), left=("layer / strides", "form", "config"))
    for row in weak(rows, peak)[:worst]:
        figures = []
        for state in STATES:
            form, share = row.exact(state), row.exact_share(state, peak)
            speed = ("", "") if share is None else (f"{share * peak / 1e9:.0f}", f"{100 * share:.0f}")
            figures += [f"{form.ms(state):.3f}" if form else "", *speed]
        form = row.exact("cold") or row.exact("warm")
        assert form is not None
        config = ",".join(map(str, form.config.values()))  # the record has their names
        made.add_row(row.shape, str(sum(row.counts.values())), form.lowering, *figures, config)
    return made


def peak_of_host(threads: int) -> tuple[float, bool]:
    """FLOP/s of so many threads, and whether they were measured (`convc calibrate`) or are nominal."""
    from convc.codegen import calibrate, figures
    from convc.codegen.machine import resolve
    from convc.progress import Progress as Quiet

    nominal = resolve("host", threads)
    used = calibrate.calibrated(nominal, Quiet())
    found = figures.read(calibrate.cached_at(nominal))
    if found is None or used is nominal:
        return used.peak, False
    return threads * (found.core_flops if threads == 1 else found.flops), True


def plan(model: models.Model, folder: Path, threads: int, batch: int) -> Any:
    """The compilation of a network short of machine code, with the errors of all candidates."""
    from convc import compilation
    from convc.options import Options
    from convc.progress import Progress as Quiet

    if isinstance(model, models.Example):
        options = Options(threads=threads, all_errors=True)
        return compilation.plan(model.graph(batch), options, Quiet())
    ready = model.ready(folder, batch)
    options = Options(threads=threads, input_shapes=ready.shapes, all_errors=True)
    return compilation.plan(ready.path, options, Quiet())


def distinct(compilation: Any, network: str) -> list[LayerRow]:
    """The layers that have code, each once with its count, not yet timed."""
    from convc.compiler import layer_plans
    from convc.report.measure import candidates

    nodes = {node.name: node for node in compilation.graph.nodes}
    rows: dict[tuple[str, str], LayerRow] = {}
    for layer in layer_plans(compilation):
        node = nodes[layer.name]
        if not candidates(node, layer):
            continue
        tried = tuple(Tried(c.lowering, c.predicted_ms, None, None, c.rejected) for c in layer.candidates)
        workload = str(compilation.choices[node].workload.unplaced)
        flops = _flops(node)
        made = LayerRow(f"{network}/{layer.name}", layer.op, workload, flops, layer.chosen, tried)
        row = rows.get(made.key, made)
        rows[row.key] = replace(row, counts={network: row.counts.get(network, 0) + 1})
    return list(rows.values())


def timed(compilation: Any, row: LayerRow, hopeless: float, warm: bool = True) -> LayerRow:
    """The row with its figures, or with the reason why there are none; direct forms are timed `warm` too."""
    from convc.report.measure import measure

    least = min(t.predicted_ms for t in row.tried if t.predicted_ms is not None)
    names = [
        t.lowering
        for t in row.tried
        if t.predicted_ms is not None and (t.predicted_ms <= hopeless * least or t.lowering == row.chosen)
    ]
    node = compilation.graph.node(row.name.split("/", 1)[1])
    try:
        again = EXACT if warm and row.op in CONVOLUTIONS else ()
        found = measure(compilation, node, names, errors=True, warm=again)
    except ConvcError as error:
        return replace(row, failed=str(error))
    return replace(row, tried=tuple(_with_trial(t, found) for t in row.tried))


def _with_trial(tried: Tried, found: Mapping[str, Any]) -> Tried:
    trial = found.get(tried.lowering)
    if trial is None:
        return tried
    warm = None if trial.warm_seconds is None else 1e3 * trial.warm_seconds
    error = min(trial.error, 1e9)
    return replace(tried, measured_ms=1e3 * trial.seconds, error=error, warm_ms=warm, config=trial.config)


def _flops(node: Any) -> int:
    """FLOP by the operator's definition, a multiply-add counting as 2; 0 without multiply-adds."""
    from convc.ir import opdef

    types = [None if value is None else value.type for value in node.operands]
    return 2 * opdef(node.op).cost(node.attrs, types, [value.type for value in node.outputs]).multiply_adds


@click.command(help=usage(__doc__))
@files
@threaded
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option("--hopeless", type=float, default=8.0, show_default=True)
@click.option("--state", callback=names, default="cold,warm", show_default=True, help="By comma.")
@common("layers")
@report
def command(
    paths: tuple[Path, ...],
    threads: int,
    batch: int,
    hopeless: float,
    state: tuple[str, ...],
    models: tuple[str, ...],
    output: Path,
    resume: bool,
    report: bool,
) -> None:
    """Time layers and write the record, the plot and tables."""
    # The float64 reference runs in this process; its BLAS threads would spin while a child is timed.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from tempfile import TemporaryDirectory

    if "cold" not in state or set(state) - set(STATES):
        raise OptionError(f"--state is '{','.join(state)}'.", hint="It is cold or cold,warm.")
    if report:
        log = record.load(output, "layers")
        _conclude(log, [LayerRow.of(row) for row in log.rows], output)
        return
    networks = _chosen_models(paths, models)
    peak, measured = peak_of_host(threads)
    settings: dict[str, Any] = {"threads": threads, "batch": batch, "hopeless": hopeless, "state": state}
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
                rows[row.key] = timed(compilation, row, hopeless, "warm" in state)
                progress.row(sentence(rows[row.key], peak))
                _save(log, rows.values(), output)
        _save(log, rows.values(), output)
    _conclude(log, list(rows.values()), output)


def _save(log: record.Record, rows: Iterable[LayerRow], output: Path) -> None:
    kept = list(rows)
    log.rows = [row.to_json() for row in kept]
    log.summary = summarise(kept, 1e9 * log.settings["peak_gflops"])
    log.save(output)


def _conclude(log: record.Record, rows: Sequence[LayerRow], output: Path) -> None:
    """The record with its summary, the tables and the plot."""
    _save(log, rows, output)
    console.print(*tables(rows, log.summary, 1e9 * log.settings["peak_gflops"]))
    plots.write(plots.layers, log, output)


_chosen_models = models.chosen

if __name__ == "__main__":
    run(command)
