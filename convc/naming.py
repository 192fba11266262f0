"""Finding layers by the names that users have for them, wherever a flag or an argument names one.

A layer is called by its own name, by that of a node of the imported model that it came from, or by the module
whose weights it reads: `conv1` for the reader of `conv1.weight`, whatever the exporter called the node.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from convc.errors import OptionError


class Named(Protocol):
    """A node of a graph, or a layer of a module's plan."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def origin(self) -> tuple[str, ...]: ...


L = TypeVar("L", bound=Named)


def module_of(weight: str) -> str:
    """The module that an array belongs to by its name: `layer1.0.conv1` for `layer1.0.conv1.weight`.

    Empty where the name does not tell.
    """
    found = re.fullmatch(r"(.+)\.\w+|(.+)_(?:weight|bias|gamma|beta)", weight)
    return (found[1] or found[2]) if found else ""


def layers_named(name: str, layers: Iterable[L], flag: str) -> list[L]:
    """The layers of that name: the one that has it itself, with its kin, else all that came from one with it.

    Raises OptionError, which names close names, where there are none.
    """
    known = list(layers)
    own = [layer for layer in known if layer.name == name]
    meant = {kin(layer) for layer in own}
    found = [x for x in known if x in own or (name in x.origin and (not own or kin(x) in meant))]
    if found:
        return found
    close = close_names(name, [n for layer in known for n in (layer.name, *layer.origin)])
    raise OptionError(
        f"{flag}: no layer is named '{name}'.",
        hint=f"Close names: {', '.join(close)}." if close else "See `convc summary` for the names.",
    )


def layer_named(name: str, layers: Iterable[L], flag: str) -> list[L]:
    """The same, but layers that came from different nodes of the model are too many to mean one of them.

    Several that came from the same node do what it did together.
    """
    found = layers_named(name, layers, flag)
    if len({source(layer) for layer in found}) > 1:
        raise OptionError(
            f"{flag}: '{name}' may be any of {len(found)} layers.",
            hint=f"Give one of these names: {', '.join(layer.name for layer in found)}.",
        )
    return found


def source(layer: Named) -> str:
    """The node of the model that a layer came from first, or the layer itself."""
    return layer.origin[0] if layer.origin else layer.name


def kin(layer: Named) -> tuple[str, str]:
    """What layers have in common that do in parts what one node of the model did: it, and the operator."""
    return source(layer), layer.op


def close_names(name: str, known: Sequence[str], most: int = 3) -> list[str]:
    """Names that may have been meant: those that end or begin with it as a part, then those spelt alike."""
    whole = re.compile(rf"(^|\W){re.escape(name)}($|\W)")
    parts = [n for n in known if name and whole.search(n)]
    return list(dict.fromkeys([*parts, *difflib.get_close_matches(name, known, n=most, cutoff=0.3)]))[:most]
