"""The plan of memory: how much a network takes, and what shares a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networks
import numpy as np
import pytest
from interpreter import simulate

from convc.compilation import Compilation, plan
from convc.compiler import Options
from convc.evaluate import evaluate
from convc.frontends.builder import Network, Tensor
from convc.plan import memory
from convc.plan.program import Argument, Clear, Location, Run
from convc.progress import Progress
from convc.verify import compare, random_inputs


def planned(net: Network) -> Compilation:
    return plan(net.graph, Options(threads=1), Progress())


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_workspace_is_close_to_the_most_bytes_alive(name: str) -> None:
    """No packing of `branches` does better than 1.12, as all orders of its six buffers show."""
    program = plan(networks.NETWORKS[name](), Options("haswell", 1), Progress()).program
    assert program.workspace_bound <= program.workspace_bytes <= 1.15 * program.workspace_bound


def test_chain_needs_two_buffers_however_long() -> None:
    def workspace(layers: int) -> int:
        net = Network("chain")
        x = net.input("x", (1, 32, 20, 20))
        for _ in range(layers):
            x = net.tanh(net.conv(x, 32, 1))
        net.output(x)
        return planned(net).program.workspace_bytes

    assert workspace(4) == workspace(12)


def residual(blocks: int, kernel: int) -> Network:
    net = Network("residual")
    x = net.conv(net.input("x", (1, 32, 20, 20)), 32, 1)
    for _ in range(blocks):
        y = net.relu(net.conv(x, 32, kernel, padding=kernel // 2))
        x = net.relu(net.add(net.conv(y, 32, 1), x))
    net.output(net.global_average_pool(x))
    return net


@pytest.mark.parametrize("kernel", [1, 3])
def test_residual_sums_are_written_over_their_operand(kernel: int) -> None:
    """The trunk has one place through all blocks, and its border is cleared once."""
    compilation = planned(residual(3, kernel))
    runs = [s for s in compilation.program.steps if isinstance(s, Run) and s.node.epilogue]
    sums = [s for s in runs if len(s.node.inputs) > s.node.arity]
    assert len(sums) == 3
    assert {s.arguments[-1] for s in sums} == {s.arguments[-2] for s in sums}
    assert len({s.arguments[-1] for s in sums}) == 1
    assert sum(isinstance(s, Clear) for s in compilation.program.steps) == (kernel > 1)
    feeds = random_inputs(compilation.source)
    errors = compare(simulate(compilation, feeds), evaluate(compilation.source, feeds))
    assert max(errors) <= 40 * float(np.finfo(np.float32).eps)


def later_reader(net: Network, x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda y: net.concat([net.conv(y, 16, 1), net.conv(x, 16, 1)], axis=1)


def later_concat(net: Network, x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda y: net.conv(net.concat([y, x], axis=1), 8, 1)


def earlier_piece(net: Network, x: Tensor) -> Callable[[Tensor], Tensor]:
    piece = net.split(x, [16, 16], axis=1)[0]
    return lambda y: net.conv(net.concat([net.tanh(y), net.tanh(piece)], axis=1), 8, 1)


@pytest.mark.parametrize("use", [later_reader, later_concat, earlier_piece])
def test_an_operand_that_is_read_later_keeps_its_place(use: Callable[..., Any]) -> None:
    """By another layer, as part of a concatenation, or through a view made before."""
    net = Network("kept")
    x = net.conv(net.input("x", (1, 32, 9, 9)), 32, 1)
    rest = use(net, x)
    net.output(rest(net.add(net.conv(net.tanh(x), 32, 1), x)))
    compilation = planned(net)
    steps = compilation.program.steps
    (run,) = (s for s in steps if isinstance(s, Run) and "add" in {t.op for t in s.node.epilogue})
    operand = sum(value is not None for value in run.node.operands)
    assert run.arguments[operand].location != run.arguments[-1].location
    feeds = random_inputs(compilation.source)
    errors = compare(simulate(compilation, feeds), evaluate(compilation.source, feeds))
    assert max(errors) <= 32 * float(np.finfo(np.float32).eps)


def test_an_operand_that_the_layer_reads_elsewhere_too_keeps_its_place() -> None:
    """x + conv(x): other threads still read x around the element that one has stored."""
    net = Network("twice")
    x = net.conv(net.input("x", (1, 32, 9, 9)), 32, 1)
    net.output(net.global_average_pool(net.add(net.conv(x, 32, 3, padding=1), x)))
    compilation = planned(net)
    (run,) = (s for s in compilation.program.steps if isinstance(s, Run) and s.node.epilogue)
    assert run.arguments[-1].location != run.arguments[-2].location


def test_skip_connections_leave_room_for_what_they_will_be_joined_with() -> None:
    """Half of the joined buffer is written at the end; the layers between live there."""
    net = Network("skip")
    skip = net.conv(net.input("x", (1, 16, 32, 32)), 32, 1)
    deep = net.max_pool(skip, 2)
    for _ in range(3):
        deep = net.tanh(net.conv(deep, 64, 1))
    up = net.conv_transpose(deep, 32, 2, stride=2)
    net.output(net.conv(net.concat([skip, up], axis=1), 8, 1))
    program = planned(net).program
    joined = 4 * 64 * 32 * 32
    deepest = 4 * 64 * 16 * 16
    assert program.workspace_bytes < joined + 2 * deepest


@pytest.mark.parametrize("batch", [1, 2])
def test_pooling_where_most_memory_is_needed_runs_in_halves(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second half of the result lies where the first half of the input was."""
    net = Network("pooled")
    x = net.conv(net.input("x", (batch, 16, 20, 20)), 64, 1)
    net.output(net.conv(net.max_pool(x, 3, stride=1, padding=1), 8, 3, padding=1))
    compilation = planned(net)
    assert [s.node.op for s in compilation.program.steps if isinstance(s, Run)].count("max_pool") == 2
    feeds = random_inputs(compilation.source)
    errors = compare(simulate(compilation, feeds), evaluate(compilation.source, feeds))
    assert max(errors) <= 12 * float(np.finfo(np.float32).eps)
    monkeypatch.setattr(memory, "HALVING_SAVES", 0.0)
    whole = planned(net).program
    assert [s.node.op for s in whole.steps if isinstance(s, Run)].count("max_pool") == 1
    assert compilation.program.workspace_bytes <= 0.9 * whole.workspace_bytes


def test_alignment_of_an_argument_is_what_its_place_guarantees() -> None:
    assert Argument(Location("input", 0, 0)).alignment == 4
    assert Argument(Location("workspace", 0, 0)).alignment == 64
    assert Argument(Location("workspace", 0, 4 * 12)).alignment == 16
    assert Argument(Location("output", 0, 128)).alignment == 64
