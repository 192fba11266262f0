"""`convc explain`: how each layer is computed, and what the alternatives would have cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from convc.cli.options import (
    Bar,
    CompileFlags,
    compile_options,
    json_option,
    records_in,
    tuning_db_option,
)
from convc.errors import OptionError
from convc.formats import is_module
from convc.naming import layers_named
from convc.runtime.manifest import LayerPlan


@click.command("explain")
@click.argument("path", type=click.Path(path_type=Path), metavar="MODULE.so|MODEL.onnx")
@click.option("--layer", metavar="NAME", help="Show only this layer.")
@click.option(
    "--measure", is_flag=True, help="Time every candidate of every layer (of a model) on this machine."
)
@compile_options
@tuning_db_option
@json_option
def command(
    path: Path,
    layer: str | None,
    measure: bool,
    flags: CompileFlags,
    tuning_db: Path | None,
    as_json: bool,
) -> None:
    """Show each layer's algorithm with the price and error of the alternatives.

    For a module the table is read from the file; for a model it is made anew, with the errors of all
    candidates.
    """
    from rich.console import Console

    from convc.report.explain import render, to_json
    from convc.runtime import manifest as manifests

    if is_module(path):
        if measure or flags.algorithms:
            raise OptionError(
                "--measure and --algo decide how a model is compiled.",
                hint="Give the MODEL.onnx, not the module.",
            )
        layers = _named(manifests.read(path).plan, layer)
    else:
        from convc.compilation import plan
        from convc.compiler import layer_plans
        from convc.report.measure import measured

        options = flags.options(all_errors=True, records=records_in(tuning_db))
        if measure and flags.target.startswith("cuda"):
            raise OptionError(
                "--measure times candidates on this machine's processors.",
                hint="Leave out --measure or --target.",
            )
        with Bar() as progress:
            compilation = plan(path, options, progress)
        layers = _named(layer_plans(compilation), layer)
        if measure:
            layers = measured(compilation, layers)
    if as_json:
        click.echo(json.dumps(to_json(layers)))
    else:
        width = None if Console().is_terminal else 180
        Console(width=width).print(render(layers, detailed=layer is not None))


def _named(layers: Sequence[LayerPlan], name: str | None) -> Sequence[LayerPlan]:
    """The layers of that name, or all."""
    return layers if name is None else layers_named(name, layers, "--layer")
