"""What every layer of the builder rests on: tensors, names, scopes, errors that point at the user's line."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import EllipsisType
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike

import convc.ops  # noqa: F401  fills the registry of operators
from convc.dtype import DType
from convc.errors import ConvcError, GraphError, TypeRuleError
from convc.frontends.weights import Parameter, Weights, fit
from convc.ir.attributes import declared
from convc.ir.graph import Graph, Value
from convc.ir.opdef import Attrs, opdef
from convc.types import Array, Shape, TensorType

F = TypeVar("F", bound=Callable[..., Any])
Ints = int | Sequence[int]
Padding = int | str | Sequence[int | tuple[int, int]]
"""One number for every side, one for each axis, a pair (before, after) for each axis, "same" or "valid"."""

_OWN_MODULES = "convc.frontends.builder"
_ENDS = ("input", "constant", "output")
_GENERIC = ("apply", "unary", "binary")  # the first argument of these is the operator


def _user_line() -> str:
    """FILE:LINE of the innermost call from outside the builder: the line that the user wrote."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OWN_MODULES):
        frame = frame.f_back
    path = frame.f_code.co_filename
    below = os.path.relpath(path) if os.path.isabs(path) else path
    return f"{path if below.startswith('..') else below}:{frame.f_lineno}"


def located(method: F) -> F:
    """Make a layer's errors begin with the user's file and line and the name of the layer."""

    tensors = _tensors_of(method)

    @functools.wraps(method)
    def wrapper(self: NetworkBase, *args: Any, **kwargs: Any) -> Any:
        try:
            for place, name in tensors:
                _check_tensor(args[place] if place < len(args) else kwargs.get(name, MISSING))
            return method(self, *args, **kwargs)
        except ConvcError as error:
            if getattr(error, "located", False):
                raise
            where = f"{_user_line()}: {self._label(method.__name__, args, kwargs)}: "
            pointed = type(error)(where + error.message, hint=error.hint)
            pointed.located = True  # type: ignore[attr-defined]
            raise pointed from None

    return cast(F, wrapper)


MISSING = object()


def _tensors_of(method: Callable[..., Any]) -> list[tuple[int, str]]:
    """Position (without `self`) and name of each parameter that must be a Tensor."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return [(place, p.name) for place, p in enumerate(parameters) if p.annotation == "Tensor"]


def _check_tensor(given: Any) -> None:
    if given is not MISSING and not isinstance(given, Tensor):  # what is missing Python tells by itself
        raise TypeRuleError(
            f"A Tensor of this network is needed, not an object of {type(given).__name__}.",
            hint="net.input(name, shape) and the layers return Tensors; net.constant(array) makes one.",
        )


class Tensor:
    """A value of a network under construction. Arithmetic and slicing add layers; `shape` is known at once.

    `x + y`, `x - y`, `x * y`, `x / y` and `-x` take tensors, arrays and numbers; `x[:, :3, ::2]` slices.
    """

    __slots__ = ("network", "value")
    __array_ufunc__ = None  # so that `array + tensor` is left to Tensor.__radd__

    def __init__(self, network: NetworkBase, value: Value) -> None:
        self.network = network
        self.value = value

    @property
    def shape(self) -> Shape:
        """Logical shape, batch first, then channels."""
        return self.value.type.shape

    @property
    def dtype(self) -> str:
        """Element type, such as `float32`."""
        return self.value.type.dtype

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def channels(self) -> int:
        """Extent of axis 1."""
        return self.shape[1]

    @property
    def name(self) -> str:
        """The value's name in the graph: for a layer's output, the layer's."""
        return self.value.name

    def __repr__(self) -> str:
        return f"<Tensor {self.value!r}>"

    def __add__(self, other: Operand) -> Tensor:
        return self.network.binary("add", self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return self.network.binary("add", other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return self.network.binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return self.network.binary("sub", other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return self.network.binary("mul", self, other)

    def __rmul__(self, other: Operand) -> Tensor:
        return self.network.binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Tensor:
        return self.network.binary("div", self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self.network.binary("div", other, self)

    def __neg__(self) -> Tensor:
        return self.network.unary("neg", self)

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Tensor:
        return self.network.slice(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        raise TypeError("A Tensor is not iterable; use net.split(x, parts, axis).")


Operand = Tensor | Array | float
Index = slice | int | EllipsisType
"""One entry of a slice: a slice, an integer (which drops the axis) or an ellipsis."""


class NetworkBase:
    """Inputs, outputs, names and the one way in which layers enter the graph."""

    def __init__(
        self, name: str = "network", *, seed: int | None = 0, weights: Mapping[str, Array] | None = None
    ) -> None:
        self._graph = Graph(name)
        self._weights = Weights(seed, weights)
        self._scopes: list[str] = []
        self._outputs: list[tuple[Value, str]] = []
        self._taken: set[str] = set()

    # ---- ends and names

    @located
    def input(self, name: str, shape: Sequence[int], dtype: DTypeLike = "float32") -> Tensor:
        """An input of the network, of a fixed shape: batch, channels, then the spatial axes."""
        if not isinstance(name, str):
            raise TypeRuleError(f"The name {name!r} must be a string.", hint="It comes before the shape.")
        extents = tuple(shape) if isinstance(shape, Iterable) else (shape,)
        if not all(isinstance(n, (int, np.integer)) and n > 0 for n in extents):
            raise TypeRuleError(f"The shape {extents} must consist of positive integers.")
        return Tensor(self, self._graph.add_input(name, TensorType(tuple(map(int, extents)), _known(dtype))))

    @located
    def constant(self, array: Array | float, *, name: str = "constant", dtype: DTypeLike = "") -> Tensor:
        """A constant tensor, in the array's dtype or another. Python's floats become float32."""
        found = np.asarray(array)
        kept = _known(dtype or ("float32" if isinstance(array, float) else found.dtype))
        return Tensor(
            self, self._graph.add_constant(self._prefixed(name), np.asarray(found, kept, order="C"))
        )

    @located
    def output(self, x: Tensor, name: str = "") -> Tensor:
        """Make a tensor an output of the network, under `name` or the tensor's own. Call again for more."""
        (value,) = self._values([x])
        assert value is not None
        if any(known == (name or x.name) for _, known in self._outputs):
            raise GraphError(f"Two outputs are named '{name or x.name}'.", hint="Give each its own name.")
        self._outputs.append((value, name or x.name))
        return x

    @property
    def graph(self) -> Graph:
        """The finished graph. Raises GraphError when nothing is an output or given weights were left over."""
        if not self._outputs:
            raise GraphError(f"Network '{self._graph.name}' has no output.", hint="Call net.output(x).")
        unused = self._weights.unused()
        if unused:
            raise GraphError(
                f"Network '{self._graph.name}' has no layer for {len(unused)} of the given arrays: "
                f"{', '.join(unused[:8])}.",
                hint="Layers take the array LAYER.weight, LAYER.bias and so on.",
            )
        self._graph.set_outputs([value for value, _ in self._outputs], [name for _, name in self._outputs])
        return self._graph

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Within the `with` block, names of layers begin with `name` and a dot. Scopes nest."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def _prefixed(self, name: str) -> str:
        return ".".join((*self._scopes, name))

    def _name(self, kind: str, name: str, *, check: bool = True) -> str:
        """A layer's full name: the one given, or its kind with the first free number, in the scope."""
        if name:
            full = self._prefixed(name)
            if check and full in self._taken:
                raise GraphError(f"Two layers are named '{full}'.", hint="Give each layer its own name.")
            return full
        number = 1
        while self._prefixed(f"{kind}{number}") in self._taken:
            number += 1
        return self._prefixed(f"{kind}{number}")

    def _label(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """How an error names the layer that a call would have made."""
        if method in _ENDS:
            return method
        kind = str(args[0]) if method in _GENERIC and args else method
        return f"{kind} '{self._name(kind, kwargs.get('name', ''), check=False)}'"

    # ---- adding layers

    @located
    def apply(self, op: str, *operands: Operand | None, name: str = "", **attributes: Any) -> Tensor:
        """Any operator by its name, with its attributes as in `docs/ops.md`; its first output.

        Raises GraphError for an unknown operator and TypeRuleError for attributes that it does not have.
        """
        try:
            attrs = opdef(op).attrs(**attributes)
        except TypeError as error:
            raise TypeRuleError(f"{error}.") from None
        return self._add(op, operands, attrs, name)[0]

    def _add(
        self,
        op: str,
        operands: Sequence[Operand | None],
        attrs: Attrs | None = None,
        name: str = "",
        parameters: Sequence[Parameter | None] = (),
        kind: str = "",
    ) -> tuple[Tensor, ...]:
        """Append a layer: its operands, then its parameters, of which None is an absent one.

        Types are checked before any weight is drawn, and a layer that does not fit leaves no trace.
        """
        definition = opdef(op)
        attrs = declared(definition.attrs() if attrs is None else attrs)
        full = self._name(kind or op, name)
        dtype = next((x.dtype for x in operands if isinstance(x, Tensor)), "float32")
        types = [x.value.type if isinstance(x, Tensor) else _type_of(x, dtype) for x in operands]
        types += [None if p is None else TensorType(p.shape, DType.of(dtype)) for p in parameters]
        definition.infer(attrs, types)
        arrays = [None if p is None else (p.part, self._weights.take(full, p, dtype)) for p in parameters]
        values = self._values(operands, full, dtype)
        for entry in arrays:
            values.append(None if entry is None else self._graph.add_constant(f"{full}.{entry[0]}", entry[1]))
        while values and values[-1] is None:
            values.pop()
        node = self._graph.add(op, values, attrs, name=full)
        self._taken.add(full)
        return tuple(Tensor(self, value) for value in node.outputs)

    def _values(
        self, operands: Sequence[Operand | None], layer: str = "", dtype: str = ""
    ) -> list[Value | None]:
        """The graph's values for operands; arrays and numbers become constants of `dtype`."""
        values: list[Value | None] = []
        for x in operands:
            if isinstance(x, Tensor):
                if x.network is not self:
                    raise GraphError(f"Tensor '{x.name}' belongs to the network '{x.network._graph.name}'.")
                values.append(x.value)
            elif x is None:
                values.append(None)
            else:
                array = fit(f"{layer}.constant", np.asarray(x), np.shape(x), dtype)
                values.append(self._graph.add_constant(f"{layer}.constant", array))
        return values

    # ---- the operators behind a tensor's arithmetic

    @located
    def unary(self, op: str, x: Tensor, *, name: str = "", **attributes: Any) -> Tensor:
        """An elementwise operator of one operand: `exp`, `log`, `sqrt`, `abs`, `erf` and the others."""
        return self.apply(op, x, name=name, **attributes)

    @located
    def binary(self, op: str, a: Operand, b: Operand, *, name: str = "", **attributes: Any) -> Tensor:
        """An elementwise operator of two operands, which broadcast: `add`, `max`, `pow` and others."""
        return self.apply(op, a, b, name=name, **attributes)

    @located
    def slice(self, x: Tensor, index: Index | tuple[Index, ...], *, name: str = "") -> Tensor:
        """What `x[index]` gives in NumPy, for slices, integers (which drop their axis) and one ellipsis."""
        entries = list(index) if isinstance(index, tuple) else [index]
        missing = x.rank - sum(entry is not Ellipsis for entry in entries)
        if missing < 0 or entries.count(Ellipsis) > 1:
            raise TypeRuleError(f"The index {index} does not fit the shape {x.shape}.")
        at = entries.index(Ellipsis) if Ellipsis in entries else len(entries)
        entries[at : at + 1] = [slice(None)] * missing
        ranges = []
        for axis, (entry, extent) in enumerate(zip(entries, x.shape, strict=True)):
            if isinstance(entry, slice):
                ranges.append(entry.indices(extent))
            elif isinstance(entry, (int, np.integer)) and -extent <= entry < extent:
                ranges.append((int(entry) % extent, int(entry) % extent + 1, 1))
            else:
                raise TypeRuleError(f"Index {entry} does not fit axis {axis} of the shape {x.shape}.")
        starts, stops, steps = zip(*ranges, strict=True)
        part = self.apply("slice", x, name=name, starts=starts, stops=stops, steps=steps)
        kept = [n for n, entry in zip(part.shape, entries, strict=True) if isinstance(entry, slice)]
        return part if len(kept) == x.rank else self.apply("reshape", part, shape=tuple(kept))


def _known(dtype: DTypeLike) -> DType:
    """The format that is given by its name, or as NumPy's. Raises TypeRuleError for an unknown one."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", str(dtype)))
    return DType.stored(str(name))


def _type_of(operand: Array | float | None, dtype: str) -> TensorType | None:
    return None if operand is None else TensorType(tuple(np.shape(operand)), DType.of(dtype))
