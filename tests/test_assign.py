"""The joint choice: layouts that suit the whole graph, the user's wishes, and reasons that can be read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import networks
import pytest
from rich.console import Console

from convc.codegen.machine import resolve
from convc.compilation import plan
from convc.compiler import Options, layer_plans
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.lowering.base import Layouts, Lowering
from convc.passes.pipeline import run_pipeline
from convc.plan import select
from convc.plan.assign import Assignment
from convc.plan.elimination import minimise
from convc.plan.layout import LayoutAssignment
from convc.plan.program import Run
from convc.plan.select import Selector
from convc.progress import Progress
from convc.report.explain import render
from convc.target import Target
from convc.types import PLAIN, Array, Layout
from convc.workload import Workload

TARGET = Target("test", "x86_64-linux-gnu", "skylake-avx512", "avx512", 16, 32, (), 2)
BLOCKED = Layout(16)


def converted(graph: Graph) -> list[tuple[int, ...]]:
    """The shapes of the tensors that a plan converts."""
    compilation = plan(graph, Options(threads=1), Progress())
    return [n.output.type.shape for n in compilation.graph.nodes if n.op == "relayout"]


def test_conversion_goes_where_the_tensor_is_small() -> None:
    """A forward walk would enlarge the plain input and convert the result, 16 times the data."""
    net = Network("enlarged")
    x = net.resize(net.input("x", (1, 32, 20, 20)), scale=4.0)
    net.output(net.global_average_pool(net.conv(x, 32, 1)))
    shapes = converted(net.graph)
    assert (1, 32, 20, 20) in shapes
    assert (1, 32, 80, 80) not in shapes


def test_single_channels_are_not_padded_to_blocks_for_long() -> None:
    """The map of one channel is converted as it comes out of the convolution, not after five more layers."""
    net = Network("mask")
    x = net.conv(net.input("x", (1, 32, 64, 64)), 1, 1)
    for _ in range(5):
        x = net.max_pool(x, 3, stride=1, padding=1)
    net.output(x)
    compilation = plan(net.graph, Options(threads=1), Progress())
    pools = [n for n in compilation.graph.nodes if n.op == "max_pool"]
    assert {n.output.type.layout for n in pools} == {PLAIN}


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_solutions_are_exact_and_repeatable(name: str) -> None:
    def solve() -> Any:
        graph = networks.NETWORKS[name]()
        run_pipeline(graph)
        assignment = Assignment(graph, Selector(resolve("haswell", 2)))
        assignment.run()
        return assignment.solve()

    first = solve()
    assert first.cost == pytest.approx(first.bound, rel=1e-9)
    assert first == solve()


@pytest.mark.parametrize("name", ["residual", "up_down", "separable", "lines", "volume"])
def test_the_price_is_that_of_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plan runs costs what the solution said, borders aside (shared buffers share theirs)."""
    monkeypatch.setattr(Assignment, "_border", lambda self, kind, halo: 0.0)
    totals = []
    solve = Assignment.solve

    def noted(self: Assignment) -> Any:
        totals.append(solve(self))
        return totals[-1]

    monkeypatch.setattr(Assignment, "solve", noted)
    compilation = plan(networks.NETWORKS[name](), Options("haswell", 2), Progress())
    selector = Selector(compilation.target)
    runs = [s for s in compilation.program.steps if isinstance(s, Run)]
    paid = sum(selector._seconds(s.choice.lowering, s.choice.workload) for s in runs)
    assert paid == pytest.approx(totals[0].cost, rel=1e-9)


class Fixed(Lowering):
    """A price, an operator and two layouts."""

    def __init__(self, name: str, op: str, seconds: float, reads: Layout, writes: Layout) -> None:
        self.name, self.ops, self.seconds = name, (op,), seconds  # type: ignore[misc]
        self.reads, self.writes = reads, writes

    def applies(self, w: Workload, target: Target) -> str | None:
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return Layouts((w.inputs[0].layout,), (w.outputs[0].layout,)) if w.op == "relayout" else Layouts(  # type: ignore[union-attr]
            (self.reads,), (self.writes,)
        )  # fmt: skip

    def compute(self, w: Workload, target: Target) -> Any:
        raise AssertionError

    def cost(self, w: Workload, target: Target) -> float:
        return self.seconds

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        return 0.0


FAST = Fixed("fast", "relu", 1.0e-3, PLAIN, PLAIN)
SLOW = Fixed("slow", "relu", 1.05e-3, PLAIN, BLOCKED)
NEXT = Fixed("next", "tanh", 1.0e-3, BLOCKED, BLOCKED)
COPY = Fixed("copy", "relayout", 0.1e-3, PLAIN, PLAIN)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """relu, then tanh, for which the lowerings above are all that there is."""
    monkeypatch.setattr(select, "lowerings", lambda target: (FAST, SLOW, NEXT, COPY))
    net = Network("chain")
    net.output(net.tanh(net.relu(net.input("x", (1, 16, 4, 4)), name="first"), name="second"))
    return net.graph


def chosen(graph: Graph, **options: Any) -> dict[str, select.Choice]:
    choices = LayoutAssignment(graph, Selector(TARGET, **options)).run()
    return {node.name: choice for node, choice in choices.items()}


def test_dearer_layer_is_chosen_for_its_layout_and_says_so(chain: Graph) -> None:
    choice = chosen(chain)["first"]
    assert choice.lowering is SLOW
    assert choice.reason == (
        "chosen over fast, which is 0.050 ms cheaper by itself and would cost 0.100 ms in the layouts and "
        "borders around it"
    )
    assert [c.predicted_ms for c in choice.candidates] == [1.0, 1.05]


def test_the_user_is_obeyed_and_the_rest_is_chosen_around(chain: Graph) -> None:
    choices = chosen(chain, algorithms={"first": "fast"})
    assert choices["first"].lowering is FAST
    assert choices["first"].reason == ""
    assert sum(c.lowering is COPY for c in choices.values()) == 2


def test_reasons_are_shown() -> None:
    net = Network("shown")
    net.output(net.conv(net.input("x", (1, 16, 8, 8)), 16, 3, name="layer"))
    (layer,) = (p for p in layer_plans(plan(net.graph, Options(threads=1), Progress())) if p.name == "layer")
    for detailed in (False, True):
        text = io.StringIO()
        table = render([replace(layer, reason="chosen over fast")], detailed=detailed)
        Console(width=600, file=text).print(table)
        assert "chosen over fast" in text.getvalue()


def test_prices_that_stand_alone_are_the_sum_of_minima(chain: Graph) -> None:
    """Without the factors that tie layers together, each takes what is cheapest by itself."""
    assignment = Assignment(chain, Selector(TARGET))
    assignment.run()
    alone = [f for f in assignment.factors if len(f.variables) == 1]
    sizes = [len(o.allowed) for o in assignment.options.values()]
    sizes += [len(f) for f in assignment.forms.values()]
    assert minimise(sizes, alone).cost == pytest.approx(2e-3)
