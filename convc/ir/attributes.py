"""Attributes as users write them, brought to the types that operators declare: `bias=2` for a float.

What is written to files has these types too, so that a number of another type would make a file that no one
reads.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.opdef import Attrs

A = TypeVar("A", bound=Attrs)


def declared(attrs: A) -> A:
    """The same attributes with each value in its field's type: Python's and NumPy's numbers, any sequences.

    Raises TypeRuleError where a value is none of that type, a float for an integer for instance.
    """
    kind: Any = type(attrs)  # a class is hashable, whatever the types of dataclasses say
    kinds = _kinds(kind)
    return replace(attrs, **{name: _value(kind, getattr(attrs, name), name) for name, kind in kinds.items()})


def integer(value: Any, what: str) -> int:
    """Python's or NumPy's integer as Python's. Raises TypeRuleError for anything else."""
    if is_integer(value):
        return int(value)
    raise TypeRuleError(f"{what}={value!r} must be an integer{_instead(_scalar(value))}.")


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether that is Python's or NumPy's integer."""
    found = _scalar(value)
    return isinstance(found, numbers.Integral) and not isinstance(found, bool)


def number(value: Any, what: str) -> float:
    """Python's or NumPy's real number as a float. Raises TypeRuleError for anything else."""
    found = _scalar(value)
    if isinstance(found, numbers.Real) and not isinstance(found, bool):
        try:
            return float(found)
        except OverflowError:
            raise TypeRuleError(f"{what}={value!r} is beyond the range of a float.") from None
    raise TypeRuleError(f"{what}={value!r} must be a number{_instead(found)}.")


@functools.cache
def _kinds(attrs: type[Attrs]) -> dict[str, Any]:
    return get_type_hints(attrs)


def _value(kind: Any, value: Any, what: str) -> Any:
    if get_origin(kind) is tuple:
        return _entries(get_args(kind), value, what)
    if kind is float:
        return number(value, what)
    if kind is int:
        return integer(value, what)
    found = _scalar(value)
    if kind is bool and found in (0, 1) and isinstance(found, numbers.Integral):
        return bool(found)
    if not isinstance(found, kind):
        raise TypeRuleError(f"{what}={value!r} must be a {kind.__name__}, not {type(value).__name__}.")
    return found


def _entries(kinds: tuple[Any, ...], value: Any, what: str) -> tuple[Any, ...]:
    """`kinds` are those of a tuple's entries; `...` says that there may be any number of the first."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeRuleError(f"{what}={value!r} must be a sequence, not {type(value).__name__}.")
    values = tuple(value)
    each = kinds[:1] * len(values) if kinds[-1] is Ellipsis else kinds
    if len(each) != len(values):
        raise TypeRuleError(f"{what}={value!r} must have {len(each)} entries, not {len(values)}.")
    return tuple(_value(kind, entry, what) for kind, entry in zip(each, values, strict=True))


def _scalar(value: Any) -> Any:
    """NumPy's numbers, arrays of no dimension too, as Python's."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value


def _instead(found: Any) -> str:
    """What to write, where the number meant can be guessed; else what was found."""
    if isinstance(found, float) and found.is_integer():
        return f": write {int(found)}"
    return f", not {type(found).__name__}"
