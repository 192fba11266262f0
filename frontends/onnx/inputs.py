"""The types of a model's inputs: every extent gets a number, said aloud where the model leaves it open."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import onnx

from convc.dtype import DType
from convc.errors import ModelError, OptionError, UnsupportedError
from convc.frontends.onnx.limits import size_fault
from convc.frontends.onnx.tensors import dtype_name, type_text
from convc.types import Shape, TensorType

Extent: TypeAlias = "int | str"
"""A number, or the symbol of an open dimension (empty where it has none)."""

NAMELESS = frozenset(("", "?", "-1", "None"))
"""What exporters write for an open dimension without a symbol; each is one of its own."""

BATCH, SIDE = 8, 224
"""Extents that messages give as examples."""


def input_types(
    infos: Sequence[onnx.ValueInfoProto],
    given: Mapping[str, Sequence[int]],
    notice: Callable[[str], None],
) -> dict[str, TensorType]:
    """A static type for each graph input.

    Open dimensions take the extents in `given`, or those that another input gives to the same symbol;
    an open batch (dimension 0) otherwise is 1, which `notice` is told. Raises OptionError when `given` names
    no input or contradicts the model, and when a dimension other than the batch stays open; ModelError when
    an input is too large.
    """
    names = [info.name for info in infos]
    for name in given:
        if name not in names:
            raise OptionError(
                f"--input-shapes names '{name}', which is no input of the model.",
                hint=f"Its inputs are {', '.join(names) or 'none'}.",
            )
    symbols: dict[str, int] = {}
    dtypes = {info.name: input_dtype(info) for info in infos}
    stated = {info.name: _stated(info, given.get(info.name)) for info in infos}
    for name, shape in given.items():
        _bind(name, stated[name], shape, symbols)
    open_ = {name: extents for name, extents in stated.items() if name not in given}
    types = {}
    for name, extents in stated.items():
        shape = tuple(given[name]) if name in given else _closed(name, open_, symbols, notice)
        types[name] = TensorType(shape, DType.of(dtypes[name]))
        if fault := size_fault(types[name]):
            raise ModelError(f"Input '{name}' ({shown(extents)}) has {fault}.")
        if min(shape, default=1) < 1:
            raise ModelError(f"Input '{name}' has the shape {shape}; every extent must be positive.")
    return types


def input_dtype(info: onnx.ValueInfoProto) -> str:
    """The dtype of an input. Raises UnsupportedError for what is no tensor, or one of another dtype."""
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(f"Input '{info.name}' is a {kind or 'value without a type'}, not a tensor.")
    number = info.type.tensor_type.elem_type
    dtype = dtype_name(number)
    if dtype is None:
        raise UnsupportedError(f"Input '{info.name}' has data type {type_text(number)}.")
    return dtype


def stated_extents(info: onnx.ValueInfoProto) -> tuple[Extent, ...] | None:
    """The extents that the model states for an input, or None where it does not even state their number."""
    if not info.type.tensor_type.HasField("shape"):
        return None
    extents: list[Extent] = []
    for dim in info.type.tensor_type.shape.dim:
        open_ = not dim.HasField("dim_value") or dim.dim_value == -1
        symbol = "" if dim.dim_param in NAMELESS else dim.dim_param
        extents.append(symbol if open_ else dim.dim_value)
    return tuple(extents)


def shown(extents: Sequence[Extent]) -> str:
    """Extents as messages show them: `1x3xHx?`."""
    return "x".join(str(e) if e != "" else "?" for e in extents)


def _stated(info: onnx.ValueInfoProto, given: Sequence[int] | None) -> tuple[Extent, ...]:
    """The extents that the model states; all open where it does not even state their number."""
    extents = stated_extents(info)
    if extents is not None:
        return extents
    if given is None:
        raise OptionError(
            f"The model does not state the shape of input '{info.name}'.",
            hint=_typed({info.name: (1, 3, SIDE, SIDE)}),
        )
    return ("",) * len(given)


def _typed(shapes: Mapping[str, Shape]) -> str:
    """How a user would give these shapes, to the command and in Python."""
    words = [f"--input-shapes {shlex.quote(f'{name}:{shown(shape)}')}" for name, shape in shapes.items()]
    return f"Give it, for example {' '.join(words)} (in Python input_shapes={dict(shapes)})."


def _bind(name: str, stated: Sequence[Extent], given: Sequence[int], symbols: dict[str, int]) -> None:
    """Check a given shape against the model's, and note what it says of symbols."""
    if (
        min(given, default=1) < 1
        or len(given) != len(stated)
        or any(isinstance(s, int) and s != g for g, s in zip(given, stated, strict=True))
    ):
        raise OptionError(
            f"--input-shapes gives {name}:{'x'.join(map(str, given))}; the model's input '{name}' is "
            f"{shown(stated)}.",
            hint="Only named or unknown dimensions can be chosen, and every extent must be positive.",
        )
    for extent, symbol in zip(given, stated, strict=True):
        if isinstance(symbol, str) and symbol and symbols.setdefault(symbol, extent) != extent:
            raise OptionError(
                f"--input-shapes gives the dimension '{symbol}' the extents {symbols[symbol]} and {extent}."
            )


def _closed(
    name: str,
    stated: Mapping[str, Sequence[Extent]],
    symbols: dict[str, int],
    notice: Callable[[str], None],
) -> Shape:
    """The shape of an input that nobody has given: as stated, by its symbols, or with a batch of 1."""
    extents = [symbols.get(e, e) if isinstance(e, str) else e for e in stated[name]]
    for axis, extent in enumerate(extents):
        if axis and isinstance(extent, str):
            raise OptionError(
                f"Dimension {axis} of input '{name}' ({shown(stated[name])}) has no fixed extent.",
                hint=_typed(_examples(stated, symbols)),
            )
    batch, *rest = extents or [0]
    if isinstance(batch, str):
        example = shlex.quote(f"{name}:{shown((BATCH, *rest))}")
        notice(
            f"Input '{name}' has an open batch{f' ({batch})' if batch else ''}; it is taken as 1. "
            f"--input-shapes {example} would choose {BATCH}."
        )
        extents[0] = 1
        if batch:
            symbols[batch] = 1
    return tuple(int(e) for e in extents)


def _examples(stated: Mapping[str, Sequence[Extent]], symbols: Mapping[str, int]) -> dict[str, Shape]:
    """A shape for each input that has open dimensions: batches of 1, one extent for each symbol."""
    chosen = dict(symbols)
    for extents in stated.values():
        for axis, extent in enumerate(extents):
            if isinstance(extent, str) and extent:
                chosen.setdefault(extent, 1 if axis == 0 else SIDE)

    def closed(axis: int, extent: Extent) -> int:
        return extent if isinstance(extent, int) else chosen.get(extent, 1 if axis == 0 else SIDE)

    return {
        name: tuple(closed(axis, extent) for axis, extent in enumerate(extents))
        for name, extents in stated.items()
        if any(isinstance(e, str) and e not in symbols for e in extents[1:])
    }
