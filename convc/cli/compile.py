"""`convc compile`: an ONNX model in, a verified module out."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path

import click

from convc.cli.options import (
    Bar,
    CompileFlags,
    arrays_in,
    compile_options,
    json_option,
    output_of,
    records_in,
    tuning_db_option,
    verify_input_option,
)
from convc.errors import OptionError
from convc.files import replacing

STAGES = ("graph", "lowered", "tir", "llvm", "asm", "cuda", "ptx", "sass")


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT.so",
    help="Default: the model's name with .so.",
)
@compile_options
@click.option(
    "--emit",
    type=click.Choice(STAGES),
    help="Print this stage of the compilation instead of writing a module.",
)
@tuning_db_option
@verify_input_option
@click.option("--no-verify", is_flag=True, help="Do not compare the result with the float64 reference.")
@json_option
def command(
    model: Path,
    output: Path | None,
    flags: CompileFlags,
    emit: str | None,
    tuning_db: Path | None,
    verify_input: Path | None,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Compile an ONNX model to a native module and verify it.

    The module is compared with the float64 reference of the whole network on random input; nothing is
    written when it is too far off.
    """
    if emit and (output or as_json):
        raise OptionError("--emit prints text and writes no module.", hint="Leave out -o and --json.")
    out = output_of(model, output)
    start = time.perf_counter()
    given = arrays_in(verify_input)
    # Refuse at once, not after a minute of work, where the module could not be written.
    with nullcontext(Path()) if emit else replacing(out) as path:
        from convc.compilation import plan
        from convc.compiler import build
        from convc.report.emit import emit_text

        with Bar() as progress:
            compilation = plan(model, flags.options(records=records_in(tuning_db)), progress)
            if emit is not None:
                click.echo(emit_text(compilation, emit))
                return
            module = build(compilation, path, progress, verify=not no_verify, verify_inputs=given)
    seconds = time.perf_counter() - start
    manifest = module.manifest
    error = manifest.verification.get("error")
    if as_json:
        click.echo(
            json.dumps(
                {
                    "module": str(out),
                    "seconds": seconds,
                    "layers": len(manifest.plan),
                    "tuned": sum(plan.measured for plan in manifest.plan),
                    "verification": manifest.verification or None,
                    "workspace_bytes": manifest.workspace_bytes,
                    "weights_bytes": manifest.weights_bytes,
                }
            )
        )
        return
    checked = (
        "not verified"
        if error is None
        else f"error {error:.1e} of the largest output (limit {manifest.verification['limit']:.0e})"
    )
    tuned = sum(plan.measured for plan in manifest.plan)
    computed = sum(plan.chosen != "view" for plan in manifest.plan)
    source = f", {tuned} from records and {computed - tuned} by the model" if tuning_db else ""
    click.echo(f"{out}: {len(manifest.plan)} layers{source}, {checked}, {seconds:.1f} s")
