"""A random ONNX graph that grows node by node.

Each node is run by onnxruntime as soon as it is drawn: what onnxruntime refuses, or what is not finite, too
large or of too great values, is `Illegal`, and drawn again. So every graph is legal, and tame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from convc.types import Array

EXTENTS = (1, 2, 3, 5, 7, 13, 17, 31, 33, 63, 64, 65, 197)
CHANNELS = (1, 3, 5, 8, 17, 33)
BATCHES = (1, 2, 3, 4, 5)
LARGEST = 12_000
"""Elements of a tensor."""
MAGNITUDE = 8.0
"""Of any float, but for results that are not used further."""
OPSET = 21

ROUNDING = 2.0**-20
"""Error of an operator, relative to its largest result: some roundings of float32."""
SUMMED = 2.0**-15
"""The same of sums, and of quotients by a deviation."""
APPROXIMATE = 1e-4
"""The same where the compiler may take an algorithm that is less exact: its default `max_error`."""


class Illegal(Exception):
    """A node that cannot be; another is drawn."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, what it holds, and whether no rounding has touched that."""

    name: str
    array: Array
    exact: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        return tuple(self.array.shape)

    @property
    def rank(self) -> int:
        """How many axes it has."""
        return self.array.ndim

    @property
    def is_float(self) -> bool:
        """Whether it holds float32."""
        return self.array.dtype == np.float32


@dataclass(frozen=True)
class Step:
    """One node as a model of its own, and the error of its results."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    error: float


@dataclass
class Drawing:
    """A graph that grows."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    # ---- draws

    def pick(self, *choices: Any) -> Any:
        """One of them."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability: float) -> bool:
        """True so often."""
        return bool(self.rng.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high, endpoint=True))

    def numbers(self, *shape: int, scale: float = 1.0) -> Array:
        """Normal float32 numbers."""
        return np.asarray(scale * self.rng.standard_normal(shape), np.float32)

    def shape(self, rank: int, largest: int = LARGEST // 4) -> tuple[int, ...]:
        """Awkward extents that make no more than so many elements."""
        shape = [1] * rank
        for axis in self.rng.permutation(rank):
            room = largest // int(np.prod(shape))
            shape[axis] = self.pick(*[e for e in EXTENTS if e <= max(room, 1)])
        return tuple(shape)

    def map_shape(self, spatial: int) -> tuple[int, ...]:
        """Batch, channels and spatial extents of a map."""
        n, c = self.pick(*BATCHES), self.pick(*CHANNELS)
        return (n, c, *self.shape(spatial, max(1, LARGEST // 3 // (n * c))))

    # ---- values

    def input(self, array: Array) -> Value:
        """A new input of the graph."""
        value = Value(f"x{len(self.inputs)}", array, exact=True)
        self.inputs[value.name] = array
        self.values.append(value)
        return value

    def weight(self, array: Array) -> Value:
        """A constant."""
        value = Value(f"w{len(self.weights)}", array, exact=True)
        self.weights[value.name] = array
        return value

    def given(self, array: Array) -> Value:
        """A constant, or an input: operands that a kernel may have packed, or not."""
        return self.weight(array) if self.chance(0.7) else self.input(array)

    def ints(self, *numbers: int) -> Value:
        """A constant vector of int64."""
        return self.weight(np.array(numbers, np.int64))

    def find(self, suits: Callable[[Value], bool], new: Callable[[], Array]) -> Value:
        """A value that suits, mostly one of the last; a new input where there is none, and now and then."""
        found = [v for v in self.values if suits(v)]
        if not found or self.chance(0.1):
            return self.input(new())
        return found[-1 - min(int(self.rng.exponential(1.5)), len(found) - 1)]

    def floats(self, ranks: Sequence[int] = (0, 1, 2, 3, 4, 5, 6), *, exact: bool = False) -> Value:
        """A float32 value of one of these ranks."""
        return self.find(
            lambda v: v.is_float and v.rank in ranks and (v.exact or not exact),
            lambda: self.numbers(*self.shape(self.pick(*ranks))),
        )

    def map(self, spatial: Sequence[int] = (1, 2, 2, 2, 3)) -> Value:
        """A float32 map with one of these numbers of spatial axes."""
        axes = self.pick(*spatial)
        return self.find(
            lambda v: v.is_float and v.rank == axes + 2 and v.shape[1] <= 64,
            lambda: self.numbers(*self.map_shape(axes)),
        )

    # ---- nodes

    def emit(
        self,
        op: str,
        *operands: Value | None,
        results: int = 1,
        error: float = ROUNDING,
        exact: bool = False,
        **attributes: Any,
    ) -> Value:
        """A new node; `exact` says that it moves numbers and makes none. Returns its first result."""
        names = ["" if v is None else v.name for v in operands]
        outputs = [f"v{len(self.values)}_{i}" for i in range(results)]
        node = helper.make_node(op, names, outputs, **attributes)
        given = {v.name: v for v in operands if v is not None}
        step = Step(_session(node, given), tuple(given), tuple(outputs), 0.0 if exact else error)
        try:
            arrays = step.session.run(None, {n: v.array for n, v in given.items()})
        except Exception as refused:
            raise Illegal(str(refused)) from refused
        for array in arrays:
            if array.size > LARGEST or not array.size or not np.isfinite(array).all():
                raise Illegal(f"{op} is too large, empty or not finite")
            if np.abs(array.astype(np.float64)).max() > 40 * MAGNITUDE:
                raise Illegal(f"{op} is too great")
        untouched = all(v.exact for v in given.values())
        integral = arrays[0].dtype != np.float32
        made = [Value(n, a, untouched and (exact or integral)) for n, a in zip(outputs, arrays, strict=True)]
        self.nodes.append(node)
        self.steps.append(step)
        self.values.extend(made)
        return made[0]

    def tame(self, value: Value) -> Value:
        """Brought back to numbers around 1 where they have grown."""
        largest = float(np.abs(value.array).max())
        if not value.is_float or largest <= MAGNITUDE:
            return value
        return self.emit("Mul", value, self.weight(np.float32(1 / largest)))


def _session(node: onnx.NodeProto, given: dict[str, Value]) -> Any:
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.array.dtype), v.shape)
        for n, v in given.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(n) for n in node.output]
    graph = helper.make_graph([node], "node", infos, outputs)
    return session(model_of(graph))


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A graph of the standard's operators as a model."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def session(model: onnx.ModelProto) -> Any:
    """onnxruntime on one thread; raises Illegal for what it refuses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as refused:
        raise Illegal(str(refused)) from refused
