"""What users give to the functions of Python, checked before any work: each error names the argument."""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convc.errors import OptionError

MOST_THREADS = 256


def checked_threads(given: Any) -> int | None:
    """A number of threads, or None for the default."""
    if given is None or (_is_integer(given) and 1 <= given <= MOST_THREADS):
        return None if given is None else int(given)
    raise OptionError(f"threads={given!r} is not a number of threads.", hint=f"Give 1 to {MOST_THREADS}.")


def checked_count(given: Any, name: str, example: str) -> int:
    """An integer of at least 1."""
    if not _is_integer(given) or given < 1:
        raise OptionError(f"{name}={given!r} is not a positive integer.", hint=f"For instance {example}.")
    return int(given)


def checked_number(given: Any, name: str, example: str) -> float:
    """A number above 0; infinity is one."""
    number = float(given) if isinstance(given, numbers.Real) and not isinstance(given, bool) else 0.0
    if not number > 0:
        raise OptionError(f"{name}={given!r} is not a number above 0.", hint=f"For instance {example}.")
    return number


def checked_text(given: Any, name: str, example: str) -> str:
    """A string."""
    if not isinstance(given, str):
        raise OptionError(f"{name}={given!r} is not a string.", hint=f"For instance {example}.")
    return given


def checked_algorithms(given: Any) -> dict[str, str]:
    """Lowerings by the names of layers."""
    if isinstance(given, Mapping) and all(isinstance(s, str) for item in given.items() for s in item):
        return dict(given)
    raise OptionError(
        f"algorithms={given!r} is not an algorithm for each name of a layer.",
        hint='For instance algorithms={"conv1": "direct"}.',
    )


def checked_path(given: Any, name: str) -> Path | None:
    """A path, or None for the default."""
    if given is None or isinstance(given, str | os.PathLike):
        return None if given is None else Path(given)
    raise OptionError(f"{name}={given!r} is not a path.", hint="Give a string or a pathlib.Path.")


def _is_integer(given: Any) -> bool:
    return isinstance(given, numbers.Integral) and not isinstance(given, bool)
