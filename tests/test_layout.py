"""Layout assignment: conversions only where layouts differ, once each; plain inputs and outputs."""

from __future__ import annotations

import numpy as np

from convc.compilation import Compilation, plan
from convc.compiler import Options
from convc.frontends.builder import Network
from convc.ir.verify import verify
from convc.progress import Progress
from convc.types import PLAIN


def planned(net: Network, **options: object) -> Compilation:
    compilation = plan(net.graph, Options(threads=1, **options), Progress())  # type: ignore[arg-type]
    verify(compilation.graph)
    return compilation


def relayouts(compilation: Compilation) -> list[str]:
    return [node.name for node in compilation.graph.nodes if node.op == "relayout"]


def blocked(compilation: Compilation) -> bool:
    return any(v.type.layout != PLAIN for v in compilation.graph.values())


def test_chain_is_converted_at_its_ends_only() -> None:
    net = Network("chain")
    x = net.input("x", (1, 32, 14, 14))
    for _ in range(4):
        x = net.relu(net.conv(x, 32, 3, padding=1))
    net.output(x)
    compilation = planned(net)
    assert blocked(compilation)
    assert len(relayouts(compilation)) == 2


def test_one_conversion_serves_all_readers() -> None:
    net = Network("fan")
    x = net.input("x", (1, 32, 14, 14))
    parts = [net.conv(x, 32, 1) for _ in range(3)]
    net.output(net.relu(net.concat(parts, axis=1)))
    assert len(relayouts(planned(net))) == 2


def test_inputs_and_outputs_are_plain_and_outputs_have_buffers_of_their_own() -> None:
    net = Network("ends")
    x = net.input("x", (1, 16, 5, 5))
    y = net.conv(x, 16, 1)
    for index, value in enumerate((y, y, x, net.reshape(x, (400,)))):
        net.output(value, f"y{index}")
    graph = planned(net).graph
    assert all(v.type.layout == PLAIN for v in (*graph.inputs, *graph.outputs))
    assert len(set(graph.outputs)) == 4
    assert not set(graph.outputs) & set(graph.inputs)
    assert graph.output_names == ("y0", "y1", "y2", "y3")


def test_channel_vectors_get_the_rank_of_the_layer() -> None:
    """A scale (C, 1, 1) must meet blocked channels lane by lane."""
    net = Network("scales")
    x = net.input("x", (2, 20, 6, 6))
    gate = net.input("gate", (20, 1, 1))
    y = net.mul(net.conv(x, 20, 1), gate)
    net.output(net.add(y, net.constant(np.ones((20, 1, 1), "float32"))))
    graph = planned(net).graph
    for node in graph.nodes:
        if node.op in ("mul", "add", "conv"):
            extra = node.inputs[node.arity :] if node.op == "conv" else node.inputs
            assert all(v is None or v.type.rank == 4 or v.type.size == 1 for v in extra)


def test_every_node_has_a_choice_whose_types_are_those_of_the_graph() -> None:
    net = Network("types")
    x = net.input("x", (1, 3, 20, 20))
    y = net.max_pool(net.relu(net.conv(x, 24, 3, stride=2)), 2)
    net.output(net.softmax(net.linear(net.flatten(y), 5)))
    compilation = planned(net)
    for node in compilation.graph.nodes:
        workload = compilation.choices[node].workload
        for value, kind in zip(node.inputs, workload.inputs, strict=True):
            if value is not None and compilation.graph.constant(value) is None:
                assert kind == value.type, node
        assert tuple(v.type for v in node.outputs) == workload.outputs
