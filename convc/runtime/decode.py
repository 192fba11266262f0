"""From parsed JSON to dataclasses, with every value checked against the type of its field.

A type is turned into a decoder once: a function that returns the value, or raises `Mismatch` with the place,
what was found and what was expected. Whole numbers are not negative and fit into 63 bits; objects have
exactly the fields of their class; free-form values (`Any`) are nested a few levels deep at most. What a type
cannot say stands beside it in `Annotated`.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

Decoder = Callable[[Any], Any]

DEPTH = 8
"""Levels of lists and objects within a free-form value."""

_LARGEST = 2**63 - 1


class Mismatch(ValueError):
    """A value is not what the type of its field says; `path` leads to it from the outside."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(f"{path.lstrip('.')}: {problem}" if path else problem)
        self.problem = problem
        self.path = path

    def within(self, step: str) -> Mismatch:
        """The same, seen from one level further out."""
        return Mismatch(self.problem, step + self.path)


def _mismatch(value: Any, expected: str) -> Mismatch:
    shown = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return Mismatch(f"found {shown[:60]}, expected {expected}")


# ---- what stands beside a type ----


@dataclass(frozen=True)
class Within:
    """A number from `least` to `most`."""

    least: int
    most: int

    def __call__(self, value: Any) -> None:
        """Raise Mismatch for another."""
        if not self.least <= value <= self.most:
            raise _mismatch(value, f"{self.least} to {self.most}")


@dataclass(frozen=True)
class OneOf:
    """One of these words."""

    words: tuple[str, ...]

    def __call__(self, value: Any) -> None:
        """Raise Mismatch for another."""
        if value not in self.words:
            raise _mismatch(value, f"one of {', '.join(self.words)}")


@dataclass(frozen=True)
class FieldsOf:
    """An object with the fields of a dataclass, which stays an object."""

    kind: type

    def __call__(self, value: Any) -> None:
        """Raise Mismatch for another."""
        decoder(self.kind)(value)


@dataclass(frozen=True)
class Entries:
    """An object that may have more entries than these, which are `kind` where they are there."""

    names: tuple[str, ...]
    kind: Any

    def __call__(self, value: Any) -> None:
        """Raise Mismatch for another."""
        for name in self.names:
            if name in value:
                _part(decoder(self.kind), value[name], f".{name}")


# ---- decoders ----


@cache
def decoder(kind: Any) -> Decoder:
    """The decoder of a type: a dataclass, str, int, float, bool, Any, a tuple, a dict by str, `| None`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if origin is Annotated:
        return _ruled(decoder(arguments[0]), arguments[1:])
    if origin in (Union, types.UnionType) and len(arguments) == 2 and arguments[1] is type(None):
        inner = decoder(arguments[0])
        return lambda value: None if value is None else inner(value)
    if origin is tuple and arguments[1:] == (...,):
        return _items(decoder(arguments[0]))
    if origin is dict and arguments[0] is str:
        return _entries(decoder(arguments[1]))
    if is_dataclass(kind):
        return _fields(kind)
    raise TypeError(f"there is no decoder for {kind}")


def _step(name: str) -> str:
    """The step of a path to an entry, fit to be printed whatever its name is."""
    return f".{name}" if name.isidentifier() else f"[{name[:60]!r}]"


def _part(decode: Decoder, value: Any, step: str) -> Any:
    try:
        return decode(value)
    except Mismatch as error:
        raise error.within(step) from None


def _ruled(decode: Decoder, rules: tuple[Callable[[Any], None], ...]) -> Decoder:
    def decode_ruled(value: Any) -> Any:
        found = decode(value)
        for rule in rules:
            rule(found)
        return found

    return decode_ruled


def _items(decode: Decoder) -> Decoder:
    def decode_items(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _mismatch(value, "a list")
        return tuple(_part(decode, item, f"[{number}]") for number, item in enumerate(value))

    return decode_items


def _entries(decode: Decoder) -> Decoder:
    def decode_entries(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch(value, "an object")
        return {_text(key): _part(decode, item, _step(key)) for key, item in value.items()}

    return decode_entries


def _fields(kind: Any) -> Decoder:
    hints = get_type_hints(kind, include_extras=True)
    parts = {field.name: decoder(hints[field.name]) for field in fields(kind)}

    def decode_fields(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _mismatch(value, "an object")
        if value.keys() != parts.keys():
            lacking, unknown = parts.keys() - value.keys(), value.keys() - parts.keys()
            name = min(lacking or unknown)
            raise Mismatch("is missing" if lacking else "is not known", _step(name))
        return kind(**{name: _part(decode, value[name], f".{name}") for name, decode in parts.items()})

    return decode_fields


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch(value, "a text")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise Mismatch("found half a character, expected a text")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise _mismatch(value, "a whole number of at most 63 bits")
    return value


def _number(value: Any) -> float:
    if type(value) is not float and (type(value) is not int or abs(value) > _LARGEST):
        raise _mismatch(value, "a number")
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _mismatch(value, "true or false")
    return value


def _anything(value: Any, depth: int = DEPTH) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict | list | tuple) and not depth:
        raise Mismatch(f"is nested more than {DEPTH} levels deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _text(key)
            _anything(item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _anything(item, depth - 1)
    return value


_SCALARS: dict[Any, Decoder] = {str: _text, int: _whole, float: _number, bool: _truth, Any: _anything}
