"""What a user may ask of the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convc import arguments
from convc.dtype import FLOAT32
from convc.errors import OptionError
from convc.plan.select import DEFAULT_MAX_ERROR, MEASURES, Records
from convc.target import Target
from convc.types import Shape


@dataclass(frozen=True)
class Options:
    """`convc.compile` documents each."""

    target: str = "host"
    threads: int | None = None
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    algorithms: Mapping[str, str] = field(default_factory=dict)
    max_error: float = DEFAULT_MAX_ERROR
    error_measure: str = MEASURES[0]
    all_errors: bool = False
    precision: str = FLOAT32
    fast_math: bool = False
    keep_denormals: bool = False
    records: Records | None = None

    def __post_init__(self) -> None:
        checked = {
            "target": arguments.checked_text(self.target, "target", '"host"'),
            "threads": arguments.checked_threads(self.threads),
            "algorithms": arguments.checked_algorithms(self.algorithms),
            "max_error": arguments.checked_number(self.max_error, "max_error", "1e-4"),
            "precision": arguments.checked_text(self.precision, "precision", '"float16"'),
        }
        for name, value in checked.items():  # NumPy's numbers have become Python's
            object.__setattr__(self, name, value)
        if self.records is not None and not hasattr(self.records, "answers"):
            raise OptionError(f"records={self.records!r} has none.", hint="Give convc.open_records(path).")


def keeps_denormals(options: Options, target: Target) -> bool:
    """Whether kernels compute with denormal numbers: on a CPU if they are to, on a GPU unless they need not.

    Raises OptionError where both are asked for.
    """
    if target.gpu is None:
        return options.keep_denormals
    if options.fast_math and options.keep_denormals:
        raise OptionError(
            "--keep-denormals contradicts --fast-math, which has GPUs flush them.", hint="Leave one out."
        )
    return not options.fast_math
