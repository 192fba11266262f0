"""`convc run`: a module on arrays from files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convc.cli.options import once, threads_option
from convc.errors import InputError, OptionError
from convc.files import destination, reason, replacing
from convc.formats import ARRAY, recognised

if TYPE_CHECKING:
    from convc.types import Array


@click.command("run")
@click.argument("module", type=click.Path(path_type=Path), metavar="MODULE.so")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input's array; one for each input."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT.npz",
    help="Where to write the outputs, by name.",
)
@threads_option("Threads to run on (default: as compiled).")
def command(module: Path, inputs: tuple[str, ...], output: Path | None, threads: int | None) -> None:
    """Run a module once; without --output, describe the results."""
    from convc.runtime import load

    if output is not None:
        destination(output)  # refused now, not after the run
    loaded = load(module, threads=threads)
    feeds: dict[str, Array] = {}
    for item in inputs:
        name, array = _read(item)
        once(feeds, name, "--input")
        feeds[name] = array
    names = [t.name for t in loaded.outputs]
    results = dict(zip(names, loaded.run(None, feeds), strict=True))
    if output is not None:
        _write(output, results)
    for name, array in results.items():
        click.echo(f"{name}: {array.dtype}{list(array.shape)}" + (f" -> {output}" if output else ""))


def _read(item: str) -> tuple[str, Array]:
    import numpy as np

    name, separator, file = item.partition("=")
    if not separator:
        raise OptionError(
            f"--input '{item}' is not NAME=FILE.npy.", hint="`convc inspect` shows the names of inputs."
        )
    what, hint = f"Cannot read '{file}' for input '{name}'", "Write it with numpy.save."
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{what}: {reason(error)}.", hint=hint) from error
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        if (found := recognised(file)) is not None and found != ARRAY:
            what = f"'{file}' for input '{name}' is {found.name}, not a NumPy array"
            raise InputError(f"{what}.", hint=hint) from error
        raise InputError(f"{what}: {error}.", hint=hint) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"'{file}' for input '{name}' holds several arrays.", hint="Save one by numpy.save.")
    return name, array


def _write(output: Path, results: dict[str, Array]) -> None:
    """Write all arrays to one .npz."""
    import numpy as np

    # As a file: to a path without this suffix NumPy adds it.
    with replacing(output) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **results)
