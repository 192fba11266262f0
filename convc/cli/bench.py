"""`convc bench`: latency, beside other engines if wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from convc.cli.options import (
    Bar,
    constants_option,
    input_shapes_option,
    json_option,
    parse_constants,
    parse_shapes,
    threads_option,
)
from convc.errors import OptionError
from convc.files import Scratch
from convc.formats import is_module
from convc.types import Shape

PROFILES = 30
"""Runs that the time of each step is the median of."""


@click.command("bench")
@click.argument("path", type=click.Path(path_type=Path), metavar="MODULE.so|MODEL.onnx")
@click.option(
    "--vs", default="", metavar="ENGINES", help="Compare with these, by comma: onnxruntime,openvino."
)
@click.option("--model", type=click.Path(path_type=Path), help="The model for --vs when a module is timed.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Times that each engine has its turn.",
)
@click.option("--profile", is_flag=True, help="Show the time of each step instead, the slowest first.")
@input_shapes_option
@constants_option
@threads_option("Threads to run on (default: as compiled).")
@json_option
def command(
    path: Path,
    vs: str,
    model: Path | None,
    rounds: int,
    profile: bool,
    input_shapes: tuple[str, ...],
    constants: tuple[str, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Time a module, or a model after compiling it; each engine in its own process, in turns."""
    from convc.report import bench as benches
    from convc.runtime import manifest as manifests

    engines = [engine for engine in vs.split(",") if engine]
    for engine in engines:
        if engine not in benches.ENGINES:
            raise OptionError(f"--vs names '{engine}'.", hint=f"Known are {', '.join(benches.ENGINES)}.")
    if profile and engines:
        raise OptionError("--profile shows convc's own steps.", hint="Leave out --vs or --profile.")
    is_model = not is_module(path)
    if engines and not is_model and model is None:
        raise OptionError(
            "--vs needs the model that the other engines shall run.",
            hint="Give it with --model, or time the MODEL.onnx.",
        )
    with Scratch() as folder:
        module = path
        if is_model:
            module, model = folder / "module.so", path
            shapes, built_in = parse_shapes(input_shapes), parse_constants(constants)
            _compile(path, module, shapes, built_in, threads)
        manifest = manifests.read(module)
        count = threads or manifest.threads
        if profile:
            _profile(module, count, as_json)
            return
        figures = benches.bench(module, manifest, model, engines, threads=count, rounds=rounds)
    if as_json:
        click.echo(json.dumps(benches.to_json(figures)))
        return
    for f in figures:
        spread = f"p10 {f.p10_ms:9.3f}   p90 {f.p90_ms:9.3f}"
        line = f"{f.engine:12s} median {f.median_ms:9.3f} ms   {spread}   {1e3 / f.median_ms:8.1f}/s"
        click.echo(
            line + (f"   convc takes {1 / f.ratio:.2f} of its time, error {f.error:.0e}" if f.ratio else "")
        )


def _compile(
    model: Path, out: Path, shapes: dict[str, Shape], constants: dict[str, Any], threads: int | None
) -> None:
    from convc.compilation import plan
    from convc.compiler import build
    from convc.options import Options

    options = Options(threads=threads, input_shapes=shapes, constants=constants)
    with Bar() as progress:
        compilation = plan(model, options, progress)
        build(compilation, out, progress)


def _profile(path: Path, threads: int, as_json: bool) -> None:
    from rich.console import Console

    from convc.report.profile import profiled, render, to_json
    from convc.runtime import load
    from convc.verify import random_feeds

    module = load(path, threads=threads)
    rows = profiled(module, module.profile(random_feeds(module.inputs), repeat=PROFILES))
    if as_json:
        click.echo(json.dumps(to_json(rows)))
        return
    console = Console(width=None if Console().is_terminal else 160, markup=False, highlight=False)
    console.print(render(rows))
