"""`convc check`: what stands against compiling a model."""

from __future__ import annotations

from pathlib import Path

import click

from convc.cli.options import constants_option, input_shapes_option, parse_constants, parse_shapes


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@input_shapes_option
@constants_option
def command(model: Path, input_shapes: tuple[str, ...], constants: tuple[str, ...]) -> None:
    """Say whether a model can be compiled. Every unsupported node is named, with attribute and opset."""
    from convc.frontends.onnx import check

    findings = check(model, input_shapes=parse_shapes(input_shapes), constants=parse_constants(constants))
    for op, count in sorted(findings.supported.items()):
        click.echo(f"{count:5d}  {op}")
    lines = findings.lines()
    for line in lines:
        click.echo(f"unsupported: {line}")
    if lines:
        raise SystemExit(2)
    click.echo("convc can compile this model.")
