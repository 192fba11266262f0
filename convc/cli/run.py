"""`convc run`: a module on arrays from files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convc.cli.options import once, threads_option
from convc.errors import InputError, OptionError
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
    try:
        array = np.load(file, allow_pickle=False)
        if isinstance(array, np.ndarray):
            return name, array
        raise InputError(f"'{file}' for input '{name}' holds several arrays.", hint="Save one by numpy.save.")
    except (OSError, ValueError, EOFError) as error:
        if (found := recognised(file)) is not None and found != ARRAY:
            raise InputError(
                f"'{file}' for input '{name}' is {found.name}, not a NumPy array.",
                hint="Write the array with numpy.save.",
            ) from error
        raise InputError(
            f"Cannot read '{file}' for input '{name}': {error}.", hint="Write it with numpy.save."
        ) from error


def _write(output: Path, results: dict[str, Array]) -> None:
    """Write all arrays to one .npz that appears whole or not at all."""
    import numpy as np

    try:
        handle, temporary = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    except OSError as error:
        raise OptionError(
            f"Cannot write '{output}': {error.strerror}.", hint="Give another --output."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **results)
        os.replace(temporary, output)
    except OSError as error:
        raise OptionError(f"Cannot write '{output}': {error.strerror}.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
