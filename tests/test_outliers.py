"""One large input among small ones: which outputs lose accuracy by it, and how much they may."""

from __future__ import annotations

import numpy as np
import pytest

import convc
from convc.compilation import plan
from convc.errors import OptionError, VerificationError
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.lowering.base import Reach
from convc.lowering.cook_toom import cook_toom
from convc.lowering.direct import Direct
from convc.options import Options
from convc.progress import Progress
from convc.runtime.manifest import Candidate
from convc.target import Target
from convc.types import Array
from convc.workload import Workload

OUTLIER = 1e5
PLACE = (11, 10)


def conv(channels: int, kernel: int, size: int = 24) -> Graph:
    net = Network("one", seed=9)
    x = net.input("x", (1, channels, size, size))
    net.output(net.conv(x, 8, kernel, padding=kernel // 2, bias=False, name="c"))
    return net.graph


def seen(kernel: int, step: int, tile: tuple[int, int]) -> tuple[slice, slice]:
    """Outputs in whose windows (step 1) or tiles of `step` outputs and `tile` inputs PLACE lies."""
    found = []
    for place, size in zip(PLACE, tile, strict=True):
        starts = [i for i in range(0, 24, step) if 0 <= place + kernel // 2 - i < size]
        found.append(slice(starts[0], starts[-1] + step))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("lowering", "channels", "kernel", "step", "tile"),
    [
        ("direct", 8, 3, 1, (3, 3)),
        ("winograd2", 8, 3, 1, (3, 3)),  # its windows, though its tiles are larger
        ("winograd4", 8, 3, 4, (6, 6)),
        ("winograd6", 8, 3, 6, (8, 8)),
        ("winograd4", 8, 5, 4, (8, 8)),
        ("winograd_rows", 3, 5, 4, (8, 8)),  # whose tiles have one row: fewer than these
    ],
)
def test_an_outlier_stays_in_its_tile(
    lowering: str, channels: int, kernel: int, step: int, tile: tuple[int, int]
) -> None:
    graph = conv(channels, kernel)
    module = convc.compile(graph, threads=1, algorithms={"c": lowering}, verify=False)
    x = np.random.default_rng(3).standard_normal((1, channels, 24, 24)).astype("float32")
    usual = module(x)
    x[(0, 1, *PLACE)] = OUTLIER
    found, (exact,) = module(x), evaluate(graph, {"x": x})
    touched = np.zeros((24, 24), bool)
    touched[seen(kernel, step, tile)] = True
    np.testing.assert_array_equal(found[..., ~touched], usual[..., ~touched])
    (bound,) = (c.error for layer in module.plan for c in layer.candidates if c.lowering == lowering)
    (weights,) = graph.constants.values()
    norms = np.sqrt(np.square(weights.astype("float64")).sum(axis=(1, 2, 3)))
    assert bound is not None
    assert (np.abs(found - exact).max(axis=(0, 2, 3)) <= bound * norms * OUTLIER).all()


def test_an_outlier_in_a_transformed_map() -> None:
    """FFT: the whole tile is as far off as the outlier is large, and not farther."""
    graph = conv(4, 7)
    module = convc.compile(graph, threads=1, algorithms={"c": "fft"}, verify=False)
    x = np.random.default_rng(3).standard_normal((1, 4, 24, 24)).astype("float32")
    x[(0, 1, *PLACE)] = OUTLIER
    (exact,) = evaluate(graph, {"x": x})
    (bound,) = (c.error for layer in module.plan for c in layer.candidates if c.lowering == "fft")
    (weights,) = graph.constants.values()
    norms = np.sqrt(np.square(weights.astype("float64")).sum(axis=(1, 2, 3)))
    assert bound is not None
    assert (np.abs(module(x) - exact).max(axis=(0, 2, 3)) <= bound * norms * OUTLIER).all()


@pytest.mark.parametrize(("m", "r", "stride"), [(2, 3, 1), (2, 5, 1), (4, 3, 1), (6, 3, 1), (3, 2, 1)])
def test_which_algorithms_keep_windows_apart(m: int, r: int, stride: int) -> None:
    assert cook_toom(m, r, stride).contained == (m == 2)


# ---- selection


def layer(graph: Graph, **options: object) -> dict[str, Candidate]:
    """The candidates of the only convolution."""
    compilation = plan(graph, Options("haswell", 2, **options), Progress())  # type: ignore[arg-type]
    (choice,) = (c for n, c in compilation.choices.items() if n.op == "conv")
    return {c.lowering: c for c in choice.candidates} | {"": Candidate(choice.lowering.name)}


def masked(kind: str) -> Graph:
    net = Network("masked", seed=1)
    y = net.relu(net.conv(net.input("x", (1, 64, 56, 56)), 64, 3, padding=1, bias=False))
    mask = np.ones((1, 1, 56, 56), "float32")
    mask[..., 20:23, 20:23] = 0
    if kind == "mask":
        y = net.mul(y, mask)
    elif kind == "channels":
        y = net.mul(y, np.arange(64, dtype="float32").reshape(64, 1, 1))
    elif kind == "crop":
        y = net.apply("slice", net.sigmoid(y), starts=(0, 0, 8, 8), stops=(1, 64, 48, 48), steps=(1, 1, 1, 1))
    net.output(y)
    return net.graph


@pytest.mark.parametrize(("kind", "reader"), [("mask", "a mask behind"), ("crop", r"(slice)")])
def test_what_keeps_a_part_of_a_map_is_judged_by_that_part(kind: str, reader: str) -> None:
    """Tiles of large inputs beside what is left may not spoil it."""
    found = layer(masked(kind))
    for name in ("winograd4", "winograd6", "fft"):
        rejected = found[name].rejected or ""
        assert "in proportion to the largest input of a tile" in rejected
        assert reader in rejected
    assert found[""].lowering == "winograd2"


@pytest.mark.parametrize("kind", ["plain", "channels"])
def test_whole_maps_are_judged_by_their_largest(kind: str) -> None:
    assert layer(masked(kind))[""].lowering in ("winograd4", "winograd6")


def test_errors_by_element_leave_what_sums_each_output_alone() -> None:
    found = layer(masked("plain"), error_measure="element")
    assert found[""].lowering in ("direct", "im2col")
    reason = "its error is in proportion to the largest input of a {} (--error-measure element)"
    assert found["winograd2"].rejected == reason.format("window")
    assert found["winograd4"].rejected == reason.format("tile")
    with pytest.raises(OptionError, match=r"not measured by 'elements'\. Give layer or element"):
        layer(masked("plain"), error_measure="elements")
    assert Direct().reach(Workload("conv", None, (), (), (), 2)) == Reach.TERMS  # type: ignore[arg-type]


# ---- verification by element


def two_sizes() -> Graph:
    """A convolution of which one output channel is a millionth of the others."""
    net = Network("sizes", seed=4)
    weights = np.random.default_rng(5).standard_normal((8, 8, 3, 3)).astype("float32")
    weights[3] *= np.float32(1e-6)
    x = net.conv(net.input("x", (1, 8, 12, 12)), 8, 3, weight=weights, bias=False, name="c")
    net.output(net.tanh(net.conv(net.relu(x), 8, 1, name="d")), "t")
    net.output(x, "y")
    return net.graph


def test_small_elements_are_verified_by_their_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    module = convc.compile(two_sizes(), threads=1, error_measure="element")
    assert module.manifest.options["error_measure"] == "element"
    assert 0 < module.manifest.verification["error"] < 1e-5
    right = Direct.pack

    def wrong(self: Direct, w: Workload, target: Target, index: int, array: Array) -> Array:
        small = np.abs(array) < 1e-5
        return right(self, w, target, index, np.where(small, array * np.float32(1.001), array))

    monkeypatch.setattr(Direct, "pack", wrong)
    direct = {"c": "direct", "d": "direct"}
    convc.compile(two_sizes(), threads=1, algorithms=direct)  # a billionth of the largest output
    with pytest.raises(VerificationError, match="first layer to diverge is 'c'"):
        convc.compile(two_sizes(), threads=1, algorithms=direct, error_measure="element")
