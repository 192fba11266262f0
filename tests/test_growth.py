"""A network of twice as many layers takes twice the work to compile: calls are counted, not seconds."""

from __future__ import annotations

import cProfile
import pstats
import random
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convc.codegen.link import distinct_kernels, network_source
from convc.compilation import plan
from convc.compiler import Options, describe
from convc.ir.order import Names, Order
from convc.progress import Progress

SHAPE = (1, 8, 4, 4)


class Model:
    """Nodes in a row, each named after its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}" + ("" if i == 0 else f"_{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0]

    def proto(self, last: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
        result = [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "g", given, result, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def elementwise(m: Model, layers: int) -> str:
    ops = ("Abs", "Sigmoid", "Exp", "Relu", "Floor", "Tanh", "Neg")
    rng, last = random.Random(0), "x"
    for _ in range(4 * layers):
        last = m.add(rng.choice(ops), last)
    return last


def residual(m: Model, layers: int) -> str:
    rng, last = np.random.default_rng(0), "x"
    for _ in range(layers):
        w = m.constant(rng.standard_normal((8, 8, 3, 3)).astype("float32"))
        last = m.add("Add", m.add("Relu", m.add("Conv", last, w, pads=[1] * 4)), last)
    return last


def fan(m: Model, layers: int) -> str:
    """One value with many readers, many of which end in one sum."""
    rng, source = np.random.default_rng(0), m.add("Softmax", "x", axis=1)
    ends = [m.add("Mul", m.add("Sigmoid", m.add("Add", source, m.constant(np.float32(rng.random())))), source)
            for _ in range(layers)]  # fmt: skip
    return m.add("Sum", *ends)


def moves(m: Model, layers: int) -> str:
    shape, last = m.constant(np.int64(SHAPE)), "x"
    for _ in range(layers):
        turned = m.add("Reshape", m.add("Transpose", last, perm=[0, 2, 3, 1]), shape)
        first = m.add("Split", turned, axis=1, outputs=2, num_outputs=2)
        last = m.add("Softmax", m.add("Concat", f"{first}_1", first, axis=1), axis=1)
    return last


def calls(build: Callable[[Model, int], str], layers: int) -> int:
    """Function calls from the model to the program, its C text and its manifest, built-in ones too."""
    m = Model()
    model = m.proto(build(m, layers))
    profile = cProfile.Profile()
    profile.enable()
    compilation = plan(model, Options(threads=1), Progress())
    symbols, _ = distinct_kernels(compilation.program, compilation.target)
    network_source(compilation.program, symbols, describe(compilation).contract)
    describe(compilation)
    profile.disable()
    return pstats.Stats(profile).total_calls


@pytest.mark.parametrize("build", [elementwise, residual, fan, moves])
def test_twice_the_layers_take_twice_the_calls(build: Callable[[Model, int], str]) -> None:
    """The second difference is small: where each layer looked at all others it would be half of the last."""
    calls(build, 2)  # modules are imported, tables filled
    few, some, many = (calls(build, layers) for layers in (10, 20, 40))
    assert many - some < 2.3 * (some - few), (few, some, many)


def test_passes_walk_over_the_nodes_as_often_in_any_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many nodes are put in a row, after changes, for each node that there is."""
    walked = [0]
    row = Order.row.fget
    assert row is not None

    def counted(self: Order) -> tuple:
        if self._row is None:
            walked[0] += len(self._after) - 1
        return row(self)

    monkeypatch.setattr(Order, "row", property(counted))

    def each(layers: int) -> float:
        m = Model()
        model = m.proto(residual(m, layers))
        walked[0] = 0
        plan(model, Options(threads=1), Progress())
        return walked[0] / layers

    assert each(40) <= 1.1 * each(10)


# ---- the row of nodes and the names


def test_order_is_that_of_a_list() -> None:
    rng, order, row = random.Random(0), Order(range(5)), list(range(5))
    for item in range(5, 200):
        if row and rng.random() < 0.4:
            order.remove(row.pop(rng.randrange(len(row))))
        place = rng.randrange(len(row) + 1)
        order.insert(item, row[place] if place < len(row) else None)
        row.insert(place, item)
        if rng.random() < 0.5:
            assert order.row == tuple(row)
    assert list(order) == row
    assert row[3] in order
    assert None not in order


def test_names_take_the_first_version_that_is_free() -> None:
    names = Names()
    assert [names.take("relu") for _ in range(3)] == ["relu", "relu.1", "relu.2"]
    assert names.take("relu.1") == "relu.1.1"
    names.free("relu.1")
    assert "relu.1" not in names
    assert [names.take("relu") for _ in range(2)] == ["relu.1", "relu.3"]
    names.free("relu")
    assert names.fresh("relu") == "relu"
