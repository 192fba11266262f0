"""`convc tune`: measure candidates for each layer of a model, and compile it with the best."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convc.cli.options import Bar, CompileFlags, compile_options, gathered, json_option, output_of
from convc.errors import DatabaseError
from convc.files import destination, reading, replacing

if TYPE_CHECKING:
    from convc.report.tuning_view import LiveView
    from convc.tune.autotune import Tuned
    from convc.tune.progress import Status

_UNITS = {"h": 3600, "m": 60, "s": 1}


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`90`, `90s`, `5m` or `1h30m`, as seconds."""

    name = "duration"

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> float:
        match = re.fullmatch(r"(?=.)(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", value.strip())
        try:
            parts = match.groups() if match else ()
            seconds = sum(float(p) * scale for p, scale in zip(parts, _UNITS.values(), strict=False) if p)
        except ValueError:
            seconds = 0.0
        if seconds <= 0:
            self.fail(f"'{value}' is no time. Give 90s, 5m or 1h30m.", parameter, context)
        return seconds


@dataclass(frozen=True)
class TuneFlags:
    """The flags that say what is tuned, for how long, and where candidates are measured and kept."""

    time_budget: float | None
    trials: int | None
    layers: str
    seed: int
    db: Path | None
    tracker: str | None
    device_key: str | None

    @property
    def names(self) -> list[str]:
        """Those of `--layers`."""
        return [name for name in self.layers.split(",") if name]


@click.command("tune")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="OUT.so",
    help="Default: the model's name with .so.",
)  # fmt: skip
@compile_options
@click.option("--time-budget", type=Duration(), metavar="5m", help="Time that measuring may take.")
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N",
    help="Candidates to try in all, those counted that the database has of this network.",
)  # fmt: skip
@click.option("--layers", metavar="NAME,NAME", default="", help="Tune only these layers.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search.")
@click.option(
    "--db", type=click.Path(path_type=Path), metavar="FILE",
    help="Database of the trials (default: $CONVC_TUNING_DB, or a file in the user's data folder).",
)  # fmt: skip
@click.option(
    "--tracker", metavar="HOST:PORT",
    help="Measure on the boards of this TVM RPC tracker; --target says what they are.",
)  # fmt: skip
@click.option("--device-key", metavar="KEY", help="What the boards are called at the tracker.")
@click.option(
    "--export-candidates", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Write candidates, and a script that measures them, for another machine; measure nothing.",
)  # fmt: skip
@click.option(
    "--candidates", type=click.IntRange(min=2), default=16, show_default=True, metavar="N",
    help="Candidates of each layer to export.",
)  # fmt: skip
@click.option(
    "--import-measurements", type=click.Path(path_type=Path, exists=True), metavar="FILE",
    help="Take in what the script measured, and compile with it; measure nothing.",
)  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the search.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page about it.")
@click.option("--no-verify", is_flag=True, help="Do not compare the result with the float64 reference.")
@json_option
@gathered("tuning", TuneFlags)
def command(
    model: Path,
    output: Path | None,
    flags: CompileFlags,
    tuning: TuneFlags,
    export_candidates: Path | None,
    candidates: int,
    import_measurements: Path | None,
    plot: Path | None,
    html: Path | None,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Measure how each layer of a model is best computed on this machine, and compile accordingly.

    Without --time-budget and --trials it goes on until nothing promises a gain. Interrupted (Ctrl-C), it
    compiles the best so far; every trial is kept, and the same command goes on where it was. With --tracker
    it measures on boards instead, for their --target.
    """
    from convc.tune.autotune import autotune

    if export_candidates is not None:
        _export(model, flags, tuning, export_candidates, candidates)
        return
    if import_measurements is not None:
        _import(model, flags, import_measurements, tuning.db, output, no_verify)
        return
    out, start = output_of(model, output), time.perf_counter()
    for picture in filter(None, (plot, html)):
        destination(picture)  # refused now, not after the trials
    with replacing(out) as path, Bar() as progress, _view(progress) as view:
        tuned = autotune(
            model,
            flags.options(),
            time_budget=tuning.time_budget,
            trials=tuning.trials,
            layers=tuning.names,
            seed=tuning.seed,
            database=tuning.db,
            tracker=tuning.tracker,
            device_key=tuning.device_key,
            verify=not no_verify,
            progress=progress,
            watcher=view,
        )
        tuned.module.save(path)
    _draw(tuned, plot, html)
    click.echo(_json(out, tuned) if as_json else _sentence(out, tuned, time.perf_counter() - start))


def _export(model: Path, flags: CompileFlags, tuning: TuneFlags, folder: Path, count: int) -> None:
    from convc.tune.autotune import export_candidates

    with Bar() as progress:
        made = export_candidates(
            model,
            flags.options(),
            folder,
            count=count,
            layers=tuning.names,
            seed=tuning.seed,
            database=tuning.db,
            progress=progress,
        )
    for failure in made.failures:
        click.echo(f"not built: {failure}", err=True)
    click.echo(
        f"{folder}: {made.candidates} candidates of {made.layers} layers. On the machine itself, "
        f"`python {folder.name}/measure.py --out results.jsonl` measures them."
    )


def _import(
    model: Path, flags: CompileFlags, file: Path, db: Path | None, output: Path | None, no_verify: bool
) -> None:
    from convc.cli.compile import command as compile_command
    from convc.tune.database import Database

    with Database.open(db) as database, reading(file, DatabaseError) as lines:
        count = database.import_lines(lines, f"'{file}'")
        place = database.path
    click.echo(f"{place}: {count} new trials from {file}")
    context = click.get_current_context()
    context.invoke(
        compile_command,
        model=model,
        output=output,
        emit=None,
        tuning_db=place,
        no_verify=no_verify,
        as_json=False,
        **vars(flags),
    )


def _view(bar: Bar) -> LiveView:
    """The live view, which takes the bar's place while layers are measured."""
    from convc.report.tuning_view import LiveView

    class View(LiveView):
        def begin(self, status: Status) -> None:
            bar.bar.stop()
            super().begin(status)

        def end(self, status: Status) -> None:
            super().end(status)
            bar.bar.start()

    return View()


def _draw(tuned: Tuned, plot: Path | None, html: Path | None) -> None:
    if plot is not None:
        from convc.report import tuning_plot

        tuning_plot.write(plot, tuned.trials, tuned.status.layers)
    if html is not None:
        from convc.report import tuning_page

        tuning_page.write(html, tuned.trials, tuned.status.layers)


def _sentence(out: Path, tuned: Tuned, seconds: float) -> str:
    """What tuning came to."""
    status, relative = tuned.status, tuned.ratio
    end = " of the untuned time"
    if relative is not None:
        times = f"{relative.middle:.3f} ({relative.low:.3f} to {relative.high:.3f}){end}"
        end = f", measured {times if tuned.kept else f'left untuned: tuned it took {times}'}"
    count = len(tuned.withdrawn)
    withdrawn = f"; of {count} layers the best trial did not hold in the network" if count else ""
    return (
        f"{out}: {status.trials} trials of {len(status.layers)} layers, {status.failures} failed; predicted "
        f"{status.best / status.untuned:.3f}{end}{withdrawn}; {seconds:.0f} s"
    )


def _json(out: Path, tuned: Tuned) -> str:
    status, relative = tuned.status, tuned.ratio
    measured = relative and {"median": relative.middle, "low": relative.low, "high": relative.high}
    return json.dumps(
        {
            "module": str(out),
            "trials": status.trials,
            "failures": status.failures,
            "layers": len(status.layers),
            "seconds": status.elapsed,
            "predicted_ratio": status.best / status.untuned,
            "measured_ratio": measured,
            "kept": tuned.kept,
            "withdrawn": list(tuned.withdrawn),
        }
    )
