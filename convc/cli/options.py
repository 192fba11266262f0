"""Options that several verbs share, and what their texts mean."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import progress as rich_progress
from rich.console import Console

from convc.errors import InputError, OptionError
from convc.progress import Progress
from convc.types import Array, Shape

if TYPE_CHECKING:
    from convc.options import Options
    from convc.plan.select import Records

Decorator = Callable[[Any], Any]


def threads_option(help: str) -> Decorator:
    """`--threads N`."""
    return click.option("--threads", type=click.IntRange(1, 256), default=None, metavar="N", help=help)


def tuning_db_option(command: Any) -> Any:
    """`--tuning-db FILE`; the command receives it as `tuning_db`."""
    return click.option(
        "--tuning-db", type=click.Path(path_type=Path), metavar="FILE",
        help="Use the times in a tuning database, its export (.jsonl) or a tuned module (.so).",
    )(command)  # fmt: skip


def records_in(path: Path | None) -> Records | None:
    """What `--tuning-db` names. Raises ConvcError for a file that holds no records."""
    if path is None:
        return None
    from convc.tune.records import open_records

    return open_records(path)


def verify_input_option(command: Any) -> Any:
    """`--verify-input FILE.npz`; the command receives it as `verify_input`."""
    return click.option(
        "--verify-input", type=click.Path(path_type=Path), metavar="FILE.npz",
        help="Compare on these arrays, by input name; inputs that it lacks are drawn.",
    )(command)  # fmt: skip


def arrays_in(path: Path | None) -> dict[str, Array]:
    """The arrays of an `.npz` file. Raises InputError where it is none."""
    if path is None:
        return {}
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"--verify-input: cannot read '{path}': {error}.",
            hint="Write it with numpy.savez(path, NAME=array).",
        ) from error


def json_option(command: Any) -> Any:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@dataclass(frozen=True)
class CompileFlags:
    """The flags that decide how a model is compiled, as they were typed."""

    target: str
    input_shapes: tuple[str, ...]
    constants: tuple[str, ...]
    threads: int | None
    algorithms: tuple[str, ...]
    max_error: float
    error_measure: str
    precision: str
    fast_math: bool
    keep_denormals: bool

    def options(self, **more: Any) -> Options:
        """What the compiler is asked for. Raises OptionError for flags that do not parse."""
        from convc.options import Options

        parsed = {
            "input_shapes": parse_shapes(self.input_shapes),
            "constants": parse_constants(self.constants),
            "algorithms": parse_algorithms(self.algorithms),
        }
        return Options(**{**vars(self), **parsed}, **more)


def gathered(name: str, kind: Any) -> Decorator:
    """The options that are fields of a dataclass `kind`; the command receives one of these as `name`."""

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def calls(**arguments: Any) -> Any:
            own = {field.name: arguments.pop(field.name) for field in fields(kind)}
            return command(**{name: kind(**own)}, **arguments)

        return calls

    return decorate


def compile_options(command: Any) -> Any:
    """What decides how a model is compiled; the command receives it as `flags`."""
    decorated: Any = gathered("flags", CompileFlags)(command)
    for option in reversed(
        [
            click.option(
                "--target",
                default="host",
                metavar="TARGET",
                help="`host`, a CPU's name (`haswell`), TRIPLE:CPU, or a GPU: `cuda:sm_90`, `cuda`.",
            ),
            input_shapes_option,
            constants_option,
            threads_option("Threads that the module runs on (default: all processors)."),
            click.option(
                "--algo", "algorithms", multiple=True, metavar="LAYER=LOWERING",
                help="Compute a layer by this algorithm; may be repeated.",
            ),
            click.option(
                "--max-error", type=click.FloatRange(min=0, min_open=True), default=1e-4, show_default=True,
                help="Largest error that an algorithm may have, relative to its layer's largest output, for "
                "inputs of one size; with others a tile's is in proportion to its own largest input.",
            ),
            click.option(
                "--error-measure", type=click.Choice(["layer", "element"]), default="layer",
                show_default=True,
                help="`element`: each element's error must be in proportion to its own terms, as those of "
                "Winograd, FFT and 24-bit weights are not.",
            ),
            click.option(
                "--precision", default="float32", show_default=True, metavar="DTYPE",
                help="Of a GPU's products: float32, tf32, float16 or bfloat16.",
            ),
            click.option(
                "--fast-math", is_flag=True, help="Let CUDA approximate divisions, roots and exponentials."
            ),
            click.option(
                "--keep-denormals", is_flag=True,
                help="Compute with numbers below 1.2e-38, which CPUs take for zero otherwise: slow.",
            ),
        ]
    ):  # fmt: skip
        decorated = option(decorated)
    return decorated


def input_shapes_option(command: Any) -> Any:
    """`--input-shapes NAME:1x3x224x224`, repeatable."""
    return click.option(
        "--input-shapes", multiple=True, metavar="NAME:1x3x224x224",
        help="Shape of an input whose dimensions are symbolic; may be repeated. Unset, a batch is 1.",
    )(command)  # fmt: skip


def constants_option(command: Any) -> Any:
    """`--constant NAME=VALUE`, repeatable; the command receives them as `constants`."""
    return click.option(
        "--constant", "constants", multiple=True, metavar="NAME=VALUE",
        help="Build an input in: a number, numbers with commas, true, false or a .npy file; repeatable.",
    )(command)  # fmt: skip


def parse_constants(items: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts as a mapping to numbers, lists and arrays. Raises OptionError."""
    found = {}
    for item in items:
        name, separator, text = item.partition("=")
        if not separator or not name or not text:
            raise OptionError(
                f"--constant '{item}' is not NAME=VALUE.", hint="For instance --constant rate=16000."
            )
        found[name] = _stored(text) if text.endswith(".npy") else _numbers(item, text)
    return found


def _stored(path: str) -> Any:
    """The array in a .npy file."""
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise OptionError(f"--constant: '{path}' cannot be read: {error}") from error


def _numbers(item: str, text: str) -> Any:
    """`16000`, `0.5`, `true` or `1,2,3`."""
    words = {"true": True, "false": False}
    numbers: list[Any] = []
    for word in text.split(","):
        for kind in (words.__getitem__, int, float):
            with suppress(KeyError, ValueError):
                numbers.append(kind(word.strip().lower()))
                break
        else:
            raise OptionError(
                f"--constant '{item}': '{word}' is no number.",
                hint="Give a number, numbers with commas, true, false, or a .npy file.",
            )
    return numbers if "," in text else numbers[0]


def output_of(model: Path, output: Path | None) -> Path:
    """Where a model's module goes. Raises OptionError where that is the model itself."""
    out = output or Path(f"{model.stem}.so")
    if out.exists() and model.exists() and out.samefile(model):
        raise OptionError(f"-o names the model itself, '{out}'.", hint="Give another file for the module.")
    return out


def once(found: Mapping[str, Any], name: str, flag: str) -> None:
    """Raise OptionError where a flag was given for this name already."""
    if name in found:
        raise OptionError(f"{flag} is given twice for '{name}'.", hint="Give it once.")


def parse_shapes(items: Sequence[str]) -> dict[str, Shape]:
    """`NAME:1x3x224x224` texts as a mapping. Raises OptionError."""
    shapes: dict[str, Shape] = {}
    for item in items:
        name, separator, text = item.rpartition(":")
        try:
            shape = tuple(int(extent) for extent in text.split("x"))
        except ValueError:
            shape = ()
        if not separator or not name or not shape or min(shape) < 1:
            raise OptionError(
                f"--input-shapes '{item}' is not NAME:1x3x224x224.", hint="Extents are positive numbers."
            )
        once(shapes, name, "--input-shapes")
        shapes[name] = shape
    return shapes


def parse_algorithms(items: Sequence[str]) -> dict[str, str]:
    """`LAYER=LOWERING` texts as a mapping. Raises OptionError."""
    found: dict[str, str] = {}
    for item in items:
        layer, separator, lowering = item.rpartition("=")
        if not separator or not layer or not lowering:
            raise OptionError(
                f"--algo '{item}' is not LAYER=LOWERING.", hint="For instance --algo conv1=winograd4."
            )
        once(found, layer, "--algo")
        found[layer] = lowering
    return found


class Bar(Progress):
    """Progress of a compilation, drawn on standard error where that is a terminal, else told in lines."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = rich_progress.Progress(
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def notice(self, text: str) -> None:
        """Something the user should know."""
        self.console.print(text, style="yellow", highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int = 1) -> Iterator[Callable[[], None]]:
        """A stage of `total` parts."""
        task = self.bar.add_task(name, total=total)
        yield lambda: self.bar.advance(task)
        self.bar.update(task, completed=total)
