"""What a user may ask of the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convc.errors import OptionError
from convc.select import DEFAULT_MAX_ERROR, MEASURES, Records
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
    precision: str = "float32"
    fast_math: bool = False
    keep_denormals: bool = False
    records: Records | None = None


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
