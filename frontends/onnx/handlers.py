"""The table of handlers: one function for each ONNX operator, with the opset from which it holds.

A handler receives a `Call` (convc.frontends.onnx.call) and returns what stands for the node's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import onnx

from convc.ir import Value
from convc.types import Array

if TYPE_CHECKING:
    from convc.frontends.onnx.call import Call

Result: TypeAlias = "Array | Sequence[Value]"
Handler: TypeAlias = "Callable[[Call], Result]"

DOMAINS = ("", "ai.onnx")
"""The names of ONNX's own set of operators."""
OLDEST, NEWEST = 7, 28
"""The range of opsets whose semantics the handlers follow."""

_HANDLERS: dict[str, list[tuple[int, Handler]]] = {}
_EARLY: dict[str, Handler] = {}
"""Operators whose form before opset OLDEST differs, yet can be followed."""


def onnx_op(*op_types: str, since: int = 1) -> Callable[[Handler], Handler]:
    """Decorator: the function imports these operators from opset `since` on, until a later one takes over."""

    def record(handler: Handler) -> Handler:
        for op_type in op_types:
            _HANDLERS.setdefault(op_type, []).append((since, handler))
            _HANDLERS[op_type].sort(key=lambda entry: entry[0])
        return handler

    return record


def early_op(*op_types: str) -> Callable[[Handler], Handler]:
    """Decorator: the function imports these operators before opset OLDEST."""

    def record(handler: Handler) -> Handler:
        _EARLY.update(dict.fromkeys(op_types, handler))
        return handler

    return record


def find(op_type: str, opset: int) -> Handler | None:
    """The handler for an operator of the default domain at an opset, or None when there is none."""
    if opset < OLDEST and op_type in _EARLY:
        return _EARLY[op_type]
    fitting = [handler for since, handler in _HANDLERS.get(op_type, ()) if since <= opset]
    return fitting[-1] if fitting else None


def known_opset(op_type: str, opset: int) -> int | None:
    """The opset whose semantics an operator has at `opset`, or None when no handler follows them.

    Outside OLDEST to NEWEST an operator is as good as inside where its definition has not changed on the way.
    """
    nearest = min(max(opset, OLDEST), NEWEST)
    if nearest == opset or (0 < opset < OLDEST and op_type in _EARLY):
        return opset
    try:
        versions = {onnx.defs.get_schema(op_type, version).since_version for version in (opset, nearest)}
    except onnx.defs.SchemaError:
        return None
    return nearest if len(versions) == 1 else None


def supported() -> tuple[str, ...]:
    """The names of all ONNX operators with a handler."""
    return tuple(sorted(_HANDLERS))
