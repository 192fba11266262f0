"""The types of a model's inputs: every extent gets a number, said aloud where the model leaves it open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import onnx

from convc.errors import ModelError, OptionError, UnsupportedError
from convc.frontends.onnx.tensors import dtype_name, type_text
from convc.types import Shape, TensorType

Extent: TypeAlias = "int | str"
"""A number, or the symbol of an open dimension (empty where it has none)."""


def input_types(
    infos: Sequence[onnx.ValueInfoProto],
    given: Mapping[str, tuple[int, ...]],
    notice: Callable[[str], None],
) -> dict[str, TensorType]:
    """A static type for each graph input.

    Open dimensions take the extents in `given`, or those that another input gives to the same symbol;
    an open batch (dimension 0) otherwise is 1, which `notice` is told. Raises OptionError when `given` names
    no input or contradicts the model, and when a dimension other than the batch stays open.
    """
    names = [info.name for info in infos]
    for name in given:
        if name not in names:
            raise OptionError(
                f"--input-shapes names '{name}', which is no input of the model.",
                hint=f"Its inputs are {', '.join(names) or 'none'}.",
            )
    symbols: dict[str, int] = {}
    stated = {info.name: _stated(info, given.get(info.name)) for info in infos}
    for info in infos:
        if info.name in given:
            _bind(info.name, stated[info.name], given[info.name], symbols)
    types = {}
    for info in infos:
        shape = _closed(info.name, stated[info.name], given.get(info.name), symbols, notice)
        if min(shape, default=1) < 1:
            raise ModelError(f"Input '{info.name}' has the shape {shape}; every extent must be positive.")
        types[info.name] = TensorType(shape, _dtype(info))
    return types


def _dtype(info: onnx.ValueInfoProto) -> str:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(f"Input '{info.name}' is a {kind or 'value without a type'}, not a tensor.")
    number = info.type.tensor_type.elem_type
    dtype = dtype_name(number)
    if dtype is None:
        raise UnsupportedError(f"Input '{info.name}' has data type {type_text(number)}.")
    return dtype


def _stated(info: onnx.ValueInfoProto, given: tuple[int, ...] | None) -> tuple[Extent, ...]:
    """The extents that the model states; all open where it does not even state their number."""
    if not info.type.tensor_type.HasField("shape"):
        if given is None and info.type.WhichOneof("value") == "tensor_type":
            raise OptionError(
                f"The model does not state the shape of input '{info.name}'.",
                hint=f"Give it: --input-shapes {info.name}:1x3x224x224.",
            )
        return ("",) * len(given or ())
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param for d in info.type.tensor_type.shape.dim
    )


def _shown(extents: Sequence[Extent]) -> str:
    return "x".join(str(e) if e != "" else "?" for e in extents)


def _bind(name: str, stated: Sequence[Extent], given: Shape, symbols: dict[str, int]) -> None:
    """Check a given shape against the model's, and note what it says of symbols."""
    fits = len(given) == len(stated) and all(
        (g > 0 and s in (g, "")) or isinstance(s, str) for g, s in zip(given, stated, strict=True)
    )
    if not fits or min(given, default=1) < 1:
        raise OptionError(
            f"--input-shapes gives {name}:{_shown(given)}; the model's input '{name}' is {_shown(stated)}.",
            hint="Only named or unknown dimensions can be chosen, and every extent must be positive.",
        )
    for extent, symbol in zip(given, stated, strict=True):
        if isinstance(symbol, str) and symbol and symbols.setdefault(symbol, extent) != extent:
            raise OptionError(
                f"--input-shapes gives the dimension '{symbol}' the extents {symbols[symbol]} and {extent}."
            )


def _closed(
    name: str,
    stated: Sequence[Extent],
    given: Shape | None,
    symbols: dict[str, int],
    notice: Callable[[str], None],
) -> Shape:
    if given is not None:
        return given
    shape: list[int] = []
    for axis, extent in enumerate(stated):
        if isinstance(extent, int):
            shape.append(extent)
        elif extent and extent in symbols:
            shape.append(symbols[extent])
        elif axis == 0:
            notice(
                f"Input '{name}' has an open batch{f' ({extent})' if extent else ''}; it is taken as 1. "
                f"--input-shapes {name}:{_shown((8, *stated[1:]))} would choose 8."
            )
            shape.append(1)
            if extent:
                symbols[extent] = 1
        else:
            example = _shown(
                [e if isinstance(e, int) else 1 if i == 0 else 224 for i, e in enumerate(stated)]
            )
            raise OptionError(
                f"Dimension {axis} of input '{name}' ({_shown(stated)}) has no fixed extent.",
                hint=f"Give one, for example --input-shapes {name}:{example}.",
            )
    return tuple(shape)
