"""The `convc` command: verbs, and how errors reach the user."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

import click

import convc
from convc.cli.groups import Group
from convc.errors import ConvcError

VERBS = {
    "compile": "Compile an ONNX model to a native module and verify it.",
    "run": "Run a module on .npy files.",
    "verify": "Compare a module with the float64 reference of a model.",
    "explain": "Show how each layer is computed, and what the alternatives would cost.",
    "summary": "Print the layer table: shapes, parameters, multiply-adds, receptive fields.",
    "check": "Say whether a model can be compiled, naming all that stands against it.",
    "inspect": "Show what a module file says of itself.",
    "bench": "Time a module, beside other engines if wanted.",
    "calibrate": "Measure this machine's speed, which decides how layers are computed.",
    "tune": "Measure how each layer is best computed on this machine, and compile accordingly.",
    "db": "List, show, merge, prune, export and import tuning records.",
}


class _Verbs(Group):
    """Loads a verb's file when it is used: `convc run` must not wait for the compiler to load."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command = importlib.import_module(f"convc.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def _show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"convc, version {convc.__version__}")
        context.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Compile convolutional networks to native modules that are verified, fast and explained.

    Every error is one line on standard error and exit status 2.
    """


def _leave_interrupted() -> None:
    """Exit with status 130, not waiting for kernels that LLVM is still making: it hears of no interrupt."""
    from convc.codegen.together import any_abandoned

    if any_abandoned():  # the end of the interpreter would pull the libraries away under them
        atexit._run_exitfuncs()  # temporary folders
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(130)
    sys.exit(130)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    try:
        status = cli.main(arguments, prog_name="convc", standalone_mode=False)
        if status:  # that of a context's exit; commands return nothing
            sys.exit(status)
    except click.Abort:
        _leave_interrupted()
    except (click.ClickException, ConvcError) as error:
        if os.environ.get("CONVC_DEBUG"):
            raise
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"convc: error: {' '.join(text.split())}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder taken away
        if os.environ.get("CONVC_DEBUG"):
            raise
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"convc: error: {place}{error.strerror or error}", err=True)
        sys.exit(2)
