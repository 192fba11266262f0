"""`convc summary`: the layer table."""

from __future__ import annotations

from pathlib import Path

import click

from convc.cli.options import (
    constants_option,
    input_shapes_option,
    json_option,
    parse_constants,
    parse_shapes,
)


@click.command("summary")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@input_shapes_option
@constants_option
@json_option
def command(model: Path, input_shapes: tuple[str, ...], constants: tuple[str, ...], as_json: bool) -> None:
    """Print each layer's output shape, parameters, multiply-adds, receptive field and stride."""
    import json

    from rich.console import Console

    from convc.frontends.onnx import read
    from convc.report.summary import render, summary, to_json

    graph = read(
        model,
        input_shapes=parse_shapes(input_shapes),
        constants=parse_constants(constants),
        notice=lambda text: click.echo(text, err=True),
    )
    rows = summary(graph)
    if as_json:
        click.echo(json.dumps(to_json(rows)))
    else:
        Console(width=None if Console().is_terminal else 160).print(render(rows, title=graph.name))
