"""`convc verify`: a module against a model."""

from __future__ import annotations

from pathlib import Path

import click

from convc.cli.options import arrays_in, json_option, threads_option, verify_input_option


@click.command("verify")
@click.argument("module", type=click.Path(path_type=Path), metavar="MODULE.so")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    required=True,
    metavar="MODEL.onnx",
    help="The model to compare with.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the random input.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest error allowed, relative to the largest output (default: 1e-3, and what rounding explains).",
)
@verify_input_option
@threads_option("Threads to run on (default: as compiled).")
@json_option
def command(
    module: Path,
    against: Path,
    seed: int,
    tolerance: float | None,
    verify_input: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare a module with the float64 reference of a model, on random input or a given one."""
    import json

    from convc.runtime import load
    from convc.verify import TOLERANCE, verify_against

    loaded, given = load(module, threads=threads), arrays_in(verify_input)
    errors = verify_against(loaded, against, seed=seed, tolerance=tolerance, given=given)
    limit = TOLERANCE if tolerance is None else tolerance
    if as_json:
        click.echo(json.dumps({"errors": errors, "tolerance": limit}))
        return
    for name, error in errors.items():
        click.echo(f"{name}: error {error:.1e} of the largest output (limit {limit:.0e})")
