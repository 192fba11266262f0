"""Kernels of low rank split into one-dimensional ones."""

from __future__ import annotations

import numpy as np
import pytest
from pass_checks import check_same_results

from convc.ir import Graph, Step, verify
from convc.ops.conv import ConvAttrs
from convc.passes.base import Changes
from convc.passes.separate_kernels import OVERSAMPLING, RANK_ERROR, SeparateKernels, _leading
from convc.types import Array, TensorType

RNG = np.random.default_rng(0)
SETTINGS = [
    ((1, 1), (1, 1), ((3, 3), (2, 2))),
    ((2, 1), (1, 1), ((3, 0), (1, 4))),
    ((1, 3), (2, 1), ((0, 0), (0, 0))),
    ((1, 1), (1, 2), ((1, 6), (4, 0))),
]


def _dense(rank: int, *, transposed: bool = False) -> Array:
    """(24, 20, 7, 5) of some rank over rows (k, i) and columns (c, j), or with i and j exchanged."""
    k, c, i, j = (24, 20, 5, 7) if transposed else (24, 20, 7, 5)
    a, b = RNG.standard_normal((k, rank, i)), RNG.standard_normal((rank, c, j))
    w = np.einsum("kri,rcj->kcij", a, b)
    return w.swapaxes(2, 3) if transposed else w


def _graph(w: Array, settings=SETTINGS[0], groups: int = 1, size: tuple[int, int] = (16, 17)) -> Graph:
    graph = Graph("low rank")
    x = graph.add_input("x", TensorType((2, w.shape[1] * groups, *size), str(w.dtype)))
    bias = graph.add_constant("b", np.arange(len(w), dtype=w.dtype))
    attrs = ConvAttrs(*settings, groups)
    node = graph.add(
        "conv", [x, graph.add_constant("w", w), bias], attrs, name="c", origin=["C"], epilogue=[Step("relu")]
    )
    graph.set_outputs([node.output])
    return graph


def _split(w: Array, settings=SETTINGS[0], groups: int = 1, size=(16, 17)) -> tuple[Graph, Changes]:
    """The graph after the pass, which computes the same."""
    graph = _graph(w, settings, groups, size)
    changes = SeparateKernels().run(graph)
    verify(graph)
    eps = float(np.finfo(w.dtype).eps)
    check_same_results(_graph(w, settings, groups, size), graph, eps * (RANK_ERROR if changes else 1))
    return graph, changes


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("transposed", [False, True])
def test_dense_kernels(settings, transposed):
    w = _dense(3, transposed=transposed)
    graph, changes = _split(w, settings)
    first, second = graph.nodes
    assert (first.name, second.name, first.origin, len(second.epilogue)) == ("c.first", "c", ("C",), 1)
    assert first.output.type.shape[1] == 3
    kernels = [n.inputs[1].type.shape for n in graph.nodes]
    along, across = ((3, 20, 7, 1), (24, 3, 1, 5)) if transposed else ((3, 20, 1, 5), (24, 3, 7, 1))
    assert kernels == [along, across]
    assert changes.made[0].text == "its 7 x 5 kernel becomes two with 3 channels in between"
    assert SeparateKernels().run(graph).made == []


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("each", [1, 2])
def test_depthwise_kernels(settings, each):
    a, b = RNG.standard_normal((6 * each, 1, 13, 1)), RNG.standard_normal((6 * each, 1, 1, 11))
    graph, _ = _split(a * b, settings, groups=6, size=(63, 41))
    assert [n.inputs[1].type.shape[1:] for n in graph.nodes] in (
        [(1, 1, 11), (1, 13, 1)],
        [(1, 13, 1), (1, 1, 11)],
    )
    assert [n.attrs.groups for n in graph.nodes] == [6, 6 * each]


def test_what_rounding_leaves_of_the_rank_counts_and_more_does_not():
    w = _dense(2)
    assert _split(w.astype("float32"))[1]
    noise = RNG.standard_normal(w.shape)
    noise *= np.linalg.norm(w) / np.linalg.norm(noise)
    eps = float(np.finfo("float32").eps)
    assert _split((w + RANK_ERROR / 2 * eps * noise).astype("float32"))[1]
    assert not _split((w + 2 * RANK_ERROR * eps * noise).astype("float32"))[1]


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_a_random_sample_finds_what_all_singular_values_tell(noise):
    """Of a matrix of 300 rows and 200 columns whose rank is 30 but for noise, and of one whose rank is 31."""
    exact = RNG.standard_normal((300, 30)) @ RNG.standard_normal((30, 200))
    matrix = exact + noise * RNG.standard_normal(exact.shape)
    u, s, vt, rest = _leading(matrix, 30, 1e-6)
    assert len(s) == 30 + OVERSAMPLING
    assert np.linalg.norm(matrix - (u * s) @ vt) == pytest.approx(rest, abs=1e-10)
    np.testing.assert_allclose(s[:30], np.linalg.svd(matrix, compute_uv=False)[:30], rtol=1e-9)
    above = exact + RNG.standard_normal((300, 1)) * RNG.standard_normal((1, 200))
    many = RNG.standard_normal((300, 50)) @ RNG.standard_normal((50, 200))
    assert [len(_leading(m, 30, 1e-6)[1]) for m in (above, many)] == [30 + OVERSAMPLING, 200]


@pytest.mark.parametrize(
    ("w", "groups"),
    [
        (RNG.standard_normal((24, 20, 3, 3)), 1),
        (RNG.standard_normal((24, 20, 3, 3)).astype("float16"), 1),
        (_dense(40), 1),  # of lower rank, but not low enough
        (RNG.standard_normal((6, 1, 13, 11)), 6),
        (np.ones((6, 1, 3, 3)), 6),  # of rank 1, but a second pass over memory takes longer
        (np.full((24, 20, 3, 3), np.inf), 1),
    ],
)
def test_refusals(w, groups):
    graph = _graph(w, groups=groups)
    changes = SeparateKernels().run(graph)
    assert not changes
    assert [c.text for c in changes.refused] == [
        "its kernel has no rank so low that two one-dimensional ones would take less time"
    ]


@pytest.mark.parametrize(("shape", "groups"), [((24, 20, 1, 7), 1), ((24, 10, 7, 7), 2)])
def test_other_kernels_stay(shape, groups):
    graph = _graph(np.ones(shape), groups=groups)
    assert list(SeparateKernels().run(graph)) == []
