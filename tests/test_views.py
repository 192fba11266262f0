"""Where tensors live: programs run in NumPy over their planned memory give what the graph says."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import simulate

from convc.compilation import plan
from convc.compiler import Options
from convc.evaluate import evaluate
from convc.frontends.builder import Network, Tensor
from convc.ir import Graph
from convc.plan.program import Run
from convc.progress import Progress
from convc.verify import compare, random_inputs

EPS = float(np.finfo(np.float32).eps)


def steps_of(graph: Graph, target: str = "host") -> list[str]:
    """Check that the plan computes the graph; the operators of its steps."""
    compilation = plan(graph, Options(target, 2), Progress())
    feeds = random_inputs(graph)
    errors = compare(simulate(compilation, feeds), evaluate(graph, feeds))
    # each layer's result is rounded once
    assert max(errors) <= EPS * 4 * len(graph.nodes)
    return [step.node.op for step in compilation.program.steps if isinstance(step, Run)]


@pytest.mark.parametrize("target", ["host", "haswell"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_run_over_their_planned_memory(name: str, target: str) -> None:
    steps_of(networks.NETWORKS[name](), target)


def _start(batch: int = 1, channels: int = 32) -> tuple[Network, Tensor]:
    net = Network("nasty", seed=3)
    return net, net.input("x", (batch, channels, 6, 5))


@pytest.mark.parametrize("batch", [1, 3])
def test_concat_of_one_value_twice(batch: int) -> None:
    net, x = _start(batch)
    y = net.conv(x, 16, 1)
    net.output(net.conv(net.concat([y, y, y], axis=1), 8, 3, padding=1))
    steps_of(net.graph)


def test_concat_of_inputs_and_constants() -> None:
    net, x = _start()
    y = net.conv(x, 16, 1)
    fixed = net.constant(np.ones((1, 16, 6, 5), "float32"))
    net.output(net.concat([x, fixed, y, x], axis=1), "plain")
    net.output(net.conv(net.concat([fixed, y], axis=1), 5, 3, padding=1), "read")
    steps_of(net.graph)


def test_value_in_two_concats_and_concat_in_a_concat() -> None:
    net, x = _start()
    a, b, c = (net.conv(x, 16, 1) for _ in range(3))
    left, right = net.concat([a, b], axis=1), net.concat([b, c], axis=1)
    both = net.concat([left, right, a], axis=1)
    net.output(net.conv(both, 8, 3, padding=1))
    net.output(net.relu(net.concat([both, left], axis=1)))
    steps_of(net.graph)


def test_pieces_of_an_input() -> None:
    net, x = _start(2, 48)
    a, b, c = net.split(x, [16, 15, 17], axis=1)
    net.output(a, "itself")
    net.output(net.relu(b), "relu")
    net.output(net.conv(c, 7, 3, padding=1), "conv")
    net.output(x[:, 4:20], "slice")
    steps_of(net.graph)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_slices_are_views_wherever_they_begin(axis: int) -> None:
    net, x = _start(2, 64)
    y = net.relu(net.conv(x, 64, 3, padding=1))
    pieces = [y[(slice(None),) * axis + (slice(start, stop),)] for start, stop in ((0, 2), (1, 4), (0, 5))]
    if axis == 1:
        pieces += [y[:, 16:48], y[:, 32:49]]
    for piece in pieces:
        net.output(net.conv(piece, 16, 3, padding=1))
        net.output(net.add(piece, 1.0))
    steps_of(net.graph)


def test_chains_of_reshapes_between_outputs() -> None:
    net, x = _start(1, 16)
    y = net.conv(x, 16, 1)
    a = net.reshape(y, (16, 30))
    b = net.reshape(a, (1, 480))
    c = net.reshape(b, (4, 4, 30))
    for index, value in enumerate((a, b, c, y, a)):
        net.output(value, f"out{index}")
    net.output(net.relu(net.reshape(c, (1, 16, 6, 5))))
    net.output(net.reshape(x, (480,)))
    steps_of(net.graph)


def test_output_that_a_padded_layer_reads() -> None:
    net, x = _start()
    y = net.conv(x, 32, 3, padding=1)
    net.output(y)
    net.output(net.concat([y, net.conv(y, 16, 3, padding=1)], axis=1))
    net.output(net.conv(net.concat([y, y], axis=1), 16, 5, padding=2))
    steps_of(net.graph)


def test_odd_channels_in_the_middle() -> None:
    net, x = _start(2)
    parts = [net.conv(x, channels, 1) for channels in (16, 5, 32, 1, 17)]
    net.output(net.conv(net.relu(net.concat(parts, axis=1)), 8, 3, padding=1))
    net.output(net.concat(parts[::-1], axis=1))
    steps_of(net.graph)


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_concat_along_other_axes(axis: int) -> None:
    net, x = _start(2)
    a, b = (net.conv(x, 32, 3, padding=1) for _ in range(2))
    y = net.concat([a, b, a], axis=axis)
    net.output(net.conv(y, 16, 3, padding=1))
    net.output(net.conv(a, 4, 3, padding=1))
    steps_of(net.graph)


def test_inputs_of_a_concat_with_borders_of_different_width() -> None:
    net, x = _start()
    a, b = net.conv(x, 16, 1), net.conv(x, 32, 1)
    net.output(net.conv(a, 8, 5, padding=2))
    net.output(net.conv(b, 8, 3, padding=(0, 1)))
    net.output(net.max_pool(b, 3, stride=1, padding=1))
    y = net.concat([a, b], axis=1)
    net.output(net.conv(y, 8, 3, padding=1))
    net.output(net.relu(y))
    steps_of(net.graph)


def test_dense_block_needs_no_copy() -> None:
    assert "concat" not in steps_of(networks.dense())


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random networks of layers that view, pad, cut and join."""
    net = Network("random", seed=draw(st.integers(0, 99)))
    batch = draw(st.integers(1, 2))
    values = [net.input("x", (batch, draw(st.sampled_from([3, 16, 32, 40])), 5, 4))]
    for _ in range(draw(st.integers(2, 9))):
        x = draw(st.sampled_from(values))
        kind = draw(
            st.sampled_from(["conv1", "conv3", "relu", "add", "concat", "split", "slice", "pool", "flat"])
        )
        channels = x.shape[1]
        if kind == "conv1":
            values.append(net.conv(x, draw(st.sampled_from([5, 16, 32])), 1))
        elif kind == "conv3":
            values.append(net.conv(x, draw(st.sampled_from([16, 17])), 3, padding=1))
        elif kind == "relu":
            values.append(net.relu(x))
        elif kind == "add":
            values.append(net.add(x, draw(st.sampled_from([v for v in values if v.shape == x.shape]))))
        elif kind == "concat":
            values.append(
                net.concat([x, *draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))], axis=1)
            )
        elif kind == "split" and channels > 1:
            cut = draw(st.sampled_from([c for c in (1, 16, channels // 2) if 0 < c < channels]))
            values += net.split(x, [cut, channels - cut], axis=1)
        elif kind == "slice" and channels > 1:
            start = draw(st.sampled_from([s for s in (0, 1, 16) if s < channels - 1]))
            values.append(x[:, start:])
        elif kind == "pool":
            values.append(net.max_pool(x, 3, stride=1, padding=1))
        elif kind == "flat":
            flat = net.reshape(x, (batch, channels * 20))
            values.append(net.reshape(flat, x.shape))
    results = [values[-1], *draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))]
    for index, value in enumerate(results):
        net.output(value, f"out{index}")
    return net.graph


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_random_networks_run_over_their_planned_memory(graph: Graph) -> None:
    steps_of(graph)
