"""`convc compile`: an ONNX model in, a verified module out."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from convc.cli.options import (
    Bar,
    CompileFlags,
    compile_options,
    json_option,
    output_of,
    records_in,
    tuning_db_option,
)
from convc.errors import OptionError

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
@click.option("--no-verify", is_flag=True, help="Do not compare the result with the float64 reference.")
@json_option
def command(
    model: Path,
    output: Path | None,
    flags: CompileFlags,
    emit: str | None,
    tuning_db: Path | None,
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
    # Refuse at once, not after a minute of work, where the module could not be written.
    with nullcontext(Path()) if emit else scratch(out) as folder:
        from convc import compiler
        from convc.report.emit import emit_text

        with Bar() as progress:
            compilation = compiler.plan(model, flags.options(records=records_in(tuning_db)), progress)
            if emit is not None:
                click.echo(emit_text(compilation, emit))
                return
            module = compiler.build(compilation, folder / "module.so", progress, verify=not no_verify)
            os.replace(folder / "module.so", out)
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


@contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """A folder beside the module to be. Raises OptionError where nothing can be written."""
    if not out.parent.is_dir():
        raise OptionError(
            f"Cannot write '{out}': there is no folder '{out.parent}'.", hint="Make it, or give another -o."
        )
    if out.is_dir():
        raise OptionError(f"Cannot write '{out}': it is a folder.", hint="Give a file with -o.")
    try:
        folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=".convc-")
    except OSError as error:
        raise OptionError(f"Cannot write '{out}': {error.strerror}.", hint="Give another -o.") from error
    with folder as name:
        yield Path(name)
