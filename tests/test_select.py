"""Selection: the cheapest lowering within the error bound, the user's wishes, and reasons for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from convc.errors import OptionError
from convc.frontends.builder import Network
from convc.ir import Attrs, Graph
from convc.lowering.base import Layouts, Lowering
from convc.plan import select
from convc.plan.select import Selector
from convc.runtime.manifest import Candidate
from convc.target import Target
from convc.types import PLAIN, Array, Layout
from convc.workload import Workload

TARGET = Target("test", "x86_64-linux-gnu", "skylake-avx512", "avx512", 16, 32, (), 2)


class Priced(Lowering):
    """A lowering of relu that is only a price."""

    ops = ("relu",)

    def __init__(
        self, name: str, seconds: float, error: float = 0.0, exact: bool = True, reason: str | None = None
    ) -> None:
        self.name, self.seconds, self.error = name, seconds, error  # type: ignore[misc]
        self.exact, self.reason = exact, reason  # type: ignore[misc]
        self.asked = 0

    def applies(self, w: Workload, target: Target) -> str | None:
        return self.reason

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return Layouts((PLAIN,), (PLAIN,))

    def compute(self, w: Workload, target: Target) -> Any:
        raise AssertionError

    def cost(self, w: Workload, target: Target) -> float:
        return self.seconds

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        self.asked += 1
        return self.error


FAST = Priced("fast", 1e-3, 1e-2, exact=False)
MIDDLE = Priced("middle", 2e-3, 1e-6, exact=False)
SLOW = Priced("slow", 3e-3, 1e-7)
NEVER = Priced("never", 0.0, reason="it is Tuesday")
COPY = Priced("copy", 1e-4)
COPY.ops = ("relayout",)  # type: ignore[misc]


@pytest.fixture
def graph() -> Graph:
    net = Network("one")
    net.output(net.relu(net.input("x", (1, 4)), name="only"))
    return net.graph


@pytest.fixture(autouse=True)
def _lowerings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "lowerings", lambda target: (SLOW, NEVER, FAST, MIDDLE, COPY))


def choose(graph: Graph, **options: Any) -> tuple[Lowering, tuple[Candidate, ...]]:
    """The cheapest lowering that is allowed, and the table."""
    found = Selector(TARGET, **options).options(graph, graph.node("only"))
    return found.allowed[0].lowering, found.candidates


def test_cheapest_within_the_error_wins_and_the_table_is_kept(graph: Graph) -> None:
    lowering, candidates = choose(graph, max_error=1e-4)
    assert lowering is MIDDLE
    table = {c.lowering: (c.predicted_ms, c.error, c.rejected) for c in candidates}
    assert table == {
        "fast": (1.0, 1e-2, "error 1.0e-02 exceeds 0.0001"),
        "middle": (2.0, 1e-6, None),
        "slow": (3.0, None, None),  # dearer than the choice: its error is nobody's concern
        "never": (None, None, "it is Tuesday"),
    }
    assert [c.lowering for c in candidates] == ["fast", "middle", "slow", "never"]


@pytest.mark.parametrize(
    ("bound", "name"), [(1e-1, "fast"), (1e-2, "fast"), (1e-5, "middle"), (1e-7, "slow")]
)
def test_bound_decides(graph: Graph, bound: float, name: str) -> None:
    assert choose(graph, max_error=bound)[0].name == name


def test_exact_lowering_is_never_rejected_for_rounding(graph: Graph) -> None:
    assert choose(graph, max_error=1e-12)[0] is SLOW


def test_what_copies_around_it_could_make_good_stays_an_option(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying input and output takes 0.2 ms: 2.1 ms may win over 2 in another layout, 3 ms may not."""
    near = Priced("near", 2.1e-3)
    monkeypatch.setattr(near, "layouts", lambda w, target: Layouts((Layout(16),), (Layout(16),)))
    monkeypatch.setattr(select, "lowerings", lambda target: (SLOW, FAST, MIDDLE, near, COPY))
    found = Selector(TARGET).options(graph, graph.node("only"))
    assert [o.lowering for o in found.allowed] == [MIDDLE, near]


def test_all_errors_are_estimated_on_request(graph: Graph) -> None:
    errors = {c.lowering: c.error for c in choose(graph, all_errors=True)[1]}
    assert errors == {"fast": 1e-2, "middle": 1e-6, "slow": 1e-7, "never": None}


def test_user_overrules_price_and_error(graph: Graph) -> None:
    lowering, candidates = choose(graph, algorithms={"only": "fast"}, max_error=1e-6)
    assert lowering is FAST
    assert next(c for c in candidates if c.lowering == "fast").error == 1e-2


def test_layers_are_known_by_their_origin_too(graph: Graph) -> None:
    graph.set_origin(graph.node("only"), ["Relu_17"])
    selector = Selector(TARGET, algorithms={"Relu_17": "slow"})
    selector.check_names(graph)
    assert [o.lowering for o in selector.options(graph, graph.node("only")).allowed] == [SLOW]


@pytest.mark.parametrize(
    ("algorithms", "message"),
    [
        ({"only": "never"}, r"'never' cannot compute 'only': it is Tuesday\."),
        (
            {"only": "best"},
            r"layer 'only' \(relu\) has no lowering 'best'\. It has: fast, middle, slow, never\.",
        ),
    ],
)
def test_impossible_wishes_are_refused(graph: Graph, algorithms: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        choose(graph, algorithms=algorithms)


def test_unknown_layer_is_refused_with_close_names(graph: Graph) -> None:
    message = r"--algo: no layer is named 'onyl'\. Close names: only\."
    with pytest.raises(OptionError, match=message):
        Selector(TARGET, algorithms={"onyl": "fast"}).check_names(graph)


def test_nothing_within_the_bound_names_the_least_error(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "lowerings", lambda target: (FAST, MIDDLE, COPY))
    message = r"computes 'only' within --max-error 1e-08\. The least error found is 1\.0e-06"
    with pytest.raises(OptionError, match=message):
        choose(graph, max_error=1e-8)


def test_equal_workloads_are_priced_once(graph: Graph) -> None:
    twin = graph.add("relu", [graph.inputs[0]], Attrs(), name="twin")
    selector = Selector(TARGET)
    asked = FAST.asked
    first = selector.options(graph, graph.node("only"))
    priced = len(selector._seen)
    assert selector.options(graph, twin).allowed == first.allowed
    assert len(selector._seen) == priced
    assert FAST.asked > asked
