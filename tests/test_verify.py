"""What verification accepts, what it refuses, and what it says of outputs that prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import convc
from convc.draw import random_inputs
from convc.errors import InputError, VerificationError
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.lowering.direct import Direct
from convc.progress import Progress
from convc.runtime.module import Module
from convc.target import Target
from convc.types import Array
from convc.workload import Workload


class Heard(Progress):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def compiled(graph: Graph, heard: Heard | None = None, **options: object) -> Module:
    """The module of a graph whose convolutions are all direct."""
    algorithms = {node.name: "direct" for node in graph.nodes if node.op == "conv"}
    return convc.compile(graph, threads=1, algorithms=algorithms, progress=heard or Heard(), **options)  # type: ignore[arg-type]


def excused(module: Module) -> dict[str, int]:
    found: dict[str, int] = module.manifest.verification["excused"]
    return found


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions take one output channel's weights for 5 % larger than they are."""
    right = Direct.pack

    def wrong(self: Direct, w: Workload, target: Target, index: int, array: Array) -> Array:
        if index == 1:
            array = array.copy()
            array[1] *= 1.05
        return right(self, w, target, index, array)

    monkeypatch.setattr(Direct, "pack", wrong)


# ---- what float32 explains


def sine() -> Graph:
    """Amplifies the rounding of a convolution a thousand times and more."""
    net = Network("sine", seed=1)
    net.output(net.unary("sin", net.mul(net.conv(net.input("x", (1, 8, 16, 16)), 8, 3, name="c"), 2000.0)))
    return net.graph


def deep() -> Graph:
    """Amplifies by a little in each of many layers."""
    net = Network("deep", seed=2)
    x = net.input("x", (1, 8, 8, 8))
    for i in range(12):
        x = net.unary("sin", net.mul(net.conv(x, 8, 3, padding=1, name=f"c{i}"), 3.0))
    net.output(x)
    return net.graph


def bytes_() -> Graph:
    """An image of bytes, of which many lie on the edge between two."""
    net = Network("bytes", seed=3)
    x = net.conv(net.input("x", (1, 8, 48, 48)), 8, 3, name="c")
    x = net.clip(net.mul(x, 20000.0), -30000, 30000)
    net.output(net.apply("cast", net.unary("round", x), dtype="int32"))
    return net.graph


def mask() -> Graph:
    """A convolution cut off at a value that many of its outputs come near."""
    net = Network("mask", seed=4)
    x = net.mul(net.conv(net.input("x", (1, 8, 48, 48)), 8, 3, name="c"), 1000.0)
    frac = net.sub(x, net.unary("floor", x))
    net.output(net.apply("cast", net.binary("greater", frac, 0.5), dtype="float32"))
    return net.graph


def relus() -> Graph:
    """Forty layers, each of which adds its rounding."""
    net = Network("relus", seed=5)
    x = net.input("x", (1, 8, 8, 8))
    for _ in range(40):
        x = net.relu(net.conv(x, 8, 3, padding=1))
    net.output(x)
    return net.graph


GRAPHS = {f.__name__: f for f in (sine, deep, bytes_, mask)}


@pytest.mark.parametrize("name", GRAPHS)
def test_what_rounding_does_is_no_miscompilation(name: str) -> None:
    heard = Heard()
    module = compiled(GRAPHS[name](), heard)
    ((_, count),) = excused(module).items()
    size = int(np.prod(module.outputs[0].shape))
    assert 0 < count < (size / 50 if name in ("bytes_", "mask") else size)
    assert module.manifest.verification["error"] <= module.manifest.verification["limit"]
    assert any(f"{count} of {size} elements of output" in text for text in heard.texts)


@pytest.mark.parametrize("graph", [*GRAPHS.values(), relus])
@pytest.mark.usefixtures("broken")
def test_a_broken_kernel_is_refused_all_the_same(graph: Callable[[], Graph]) -> None:
    with pytest.raises(VerificationError, match=r"first layer to diverge is 'c(onv1|0|)' \(conv\), off by"):
        compiled(graph())


def test_a_single_decision_between_near_equals() -> None:
    """The index of the larger of two sums that are equal but for rounding."""
    net = Network("decision", seed=6)
    x = net.input("x", (1, 64))
    weights = np.random.default_rng(0).standard_normal((64, 2)).astype("float32")
    weights[:, 1] = weights[:, 0] * np.float32(1 + 2**-22)
    sums = net.binary("matmul", x, net.constant(weights))
    net.output(net.apply("argmax", sums, axis=1))
    assert compiled(net.graph).manifest.verification["error"] == 0


@pytest.mark.parametrize("scale", [1000.0, -1000.0])
def test_overflow_is_no_miscompilation(scale: float) -> None:
    net = Network("overflow")
    net.output(net.unary("exp", net.mul(net.input("x", (1, 64)), scale)))
    assert compiled(net.graph).manifest.verification["untested"] == []


def test_underflow_is_no_miscompilation() -> None:
    """A product of 400 sigmoids is 0 in float32 for the usual inputs, and tells something for others."""
    net = Network("underflow")
    net.output(net.reduce("prod", net.sigmoid(net.input("x", (1, 400))), axes=1))
    assert compiled(net.graph).manifest.verification["untested"] == []


# ---- outputs that prove nothing


def silent(bias: float) -> Graph:
    """A convolution that no input gets through the activation, and a bias behind it."""
    net = Network("silent", seed=7)
    x = net.conv(net.input("x", (1, 8, 8, 8)), 8, 3, bias=np.full(8, -1e6, "float32"), name="c")
    net.output(net.add(net.relu(x), bias))
    return net.graph


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_an_output_that_never_changes_is_not_called_verified(bias: float) -> None:
    heard = Heard()
    module = compiled(silent(bias), heard)
    (name,) = module.manifest.verification["untested"]
    assert any(f"Output '{name}' was the same for all inputs" in text for text in heard.texts)


def test_an_output_without_inputs_is_compared_in_silence() -> None:
    net = Network("constant", seed=8)
    x = net.input("x", (1, 4))
    net.output(net.relu(x), "y")
    net.output(net.unary("exp", net.constant(np.ones((1, 4), "float32"))), "e")
    heard = Heard()
    module = compiled(net.graph, heard)
    np.testing.assert_allclose(module.run(["e"], {"x": np.ones((1, 4), "float32")})[0], np.e, rtol=1e-6)
    assert not heard.texts


def test_what_never_changes_is_compared_element_by_element(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of a small element is far below a thousandth of the largest."""
    from convc.plan.memory import Constants

    right = Constants.add
    values = np.array([[1e-4, 1.0]], "float32")

    def wrong(self: Constants, packed: Array) -> object:
        return right(self, np.where(packed == np.float32(1e-4), np.float32(1.01e-4), packed))

    net = Network("silent", seed=7)
    x = net.unary("abs", net.input("x", (1, 2)))
    net.output(net.add(net.relu(net.sub(-1.0, x)), values))
    monkeypatch.setattr(Constants, "add", wrong)
    with pytest.raises(VerificationError, match=r"off by 1\.0e-06 .* 1\.0e-05"):
        compiled(net.graph)


# ---- the inputs


def integers(dtype: str, shape: tuple[int, ...] = (4, 50)) -> tuple[Network, object]:
    net = Network("integers")
    return net, net.input("i", shape, dtype=dtype)


def drawn(net: Network, seed: int = 0) -> Array:
    return random_inputs(net.graph, seed)["i"]


def test_indices_are_in_range_and_use_it() -> None:
    net, i = integers("int64")
    table = np.arange(300, dtype="float32").reshape(100, 3)
    net.output(net.apply("gather", net.constant(table), net.reshape(i, (200,)), axis=0))
    found = drawn(net)
    assert (found.min(), found.max()) >= (0, 80)
    assert found.max() < 100
    assert compiled(net.graph).manifest.verification["untested"] == []


def test_computed_indices_are_the_same_in_every_try() -> None:
    net, i = integers("int64")
    table = net.constant(np.arange(40, dtype="float32"))
    net.output(net.apply("gather", table, net.add(i, 20), axis=0))
    np.testing.assert_array_equal(drawn(net, 0), drawn(net, 1))


def test_divisors_are_not_zero() -> None:
    net, i = integers("int32")
    net.output(net.div(net.constant(np.full((4, 50), 7, "int32")), i))
    found = drawn(net)
    assert (found != 0).all()
    assert (found < 0).any()


@pytest.mark.parametrize(("dtype", "low", "high"), [("uint8", 0, 255), ("int32", -9, 9), ("bool", 0, 1)])
def test_integers_take_many_values(dtype: str, low: int, high: int) -> None:
    net, i = integers(dtype, (5000,))
    net.output(net.apply("cast", i, dtype="float32"))
    found = drawn(net)
    assert (int(found.min()), int(found.max()), str(found.dtype)) == (low, high, dtype)


def test_inputs_may_be_given() -> None:
    """Only numbers above 1e6 get through; what is drawn does not."""
    x = np.full((1, 8, 8, 8), 1e7, "float32")
    heard = Heard()
    module = compiled(silent(0.0), heard, verify_inputs={"x": x})
    assert module(x).any()
    assert not heard.texts
    assert module.manifest.verification["untested"] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"z": np.zeros((1, 8, 8, 8), "float32")}, "no input named 'z'.*inputs are x"),
        (
            {"x": np.zeros((1, 9), "float32")},
            r"float32\[1, 9\]; the model takes float32\[1, 8, 8, 8\]",
        ),
        ({"x": np.zeros((1, 8, 8, 8))}, r"float64\[1, 8, 8, 8\]; the model takes float32"),
    ],
)
def test_given_inputs_must_fit(given: dict[str, Array], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compiled(silent(0.0), verify_inputs=given)
