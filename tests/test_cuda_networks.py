"""Whole networks for a GPU: compiled, loaded by the real runtime and run on an emulated device.

The driver is `support/fake_cuda`, and the place of cubins is taken by the emulation of the same CUDA source,
so that kernels, launches, the memory plan and the order of the graph are what they are on a GPU.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from emulated_builder import Emulator
from fake_driver import FakeDriver
from networks import branches, dense, residual, separable, up_down

import convc
from convc.codegen import device_build
from convc.codegen.gpus import PRECISIONS
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.runtime.compare import relative_error
from convc.verify import allowed_error, random_inputs


@pytest.fixture
def driver(library: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeDriver]:
    monkeypatch.setenv("CONVC_LIBCUDA", str(library.path))
    monkeypatch.setattr(device_build, "nvcc", Emulator(tmp_path))
    library.reset()
    before = library.live
    yield library
    gc.collect()
    assert library.live == before, "something was not freed"


def products(graph: Graph, precision: str) -> dict[str, str]:
    """Kernels for products of matrices for all convolutions, those of both kinds of tensor cores in turn.

    Left to itself a graph as small as these takes generic kernels, which larger ones do not.
    """
    kinds = ("implicit_gemm",) if precision == "float32" else ("implicit_gemm_mma", "implicit_gemm_wgmma")
    return dict(zip((node.name for node in graph.nodes if node.op == "conv"), cycle(kinds)))


def check(
    graph: Graph, precision: str, driver: FakeDriver, algorithms: dict[str, str] | None = None
) -> convc.Module:
    """Compile, which verifies; then run again on other inputs and compare with float64."""
    module = convc.compile(graph, target="cuda:sm_90", precision=precision, algorithms=algorithms)
    feeds = random_inputs(graph, seed=7)
    limit = allowed_error(1e-5, precision)
    for found, expected in zip(module.run(None, feeds), evaluate(graph, feeds), strict=True):
        assert relative_error(found, expected) <= limit
    assert driver.calls("cuGraphLaunch") > 0
    return module


@pytest.mark.parametrize(
    ("make", "precision"),
    [
        (residual, "bfloat16"),
        (dense, "float16"),
        (branches, "float32"),
        (up_down, "tf32"),
        (separable, "bfloat16"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_agrees_with_float64(make: Callable[[], Graph], precision: str, driver: FakeDriver) -> None:
    module = check(make(), precision, driver)
    assert module.manifest.verification["error"] <= module.manifest.verification["limit"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_agree_with_float64(precision: str, driver: FakeDriver) -> None:
    graph = residual()
    algorithms = products(graph, precision)
    module = check(graph, precision, driver, algorithms)
    assert {layer.name: layer.chosen for layer in module.manifest.plan if layer.op == "conv"} == algorithms


def test_saved_and_loaded(driver: FakeDriver, tmp_path: Path) -> None:
    graph = residual()
    compiled = convc.compile(graph, target="cuda:sm_90", algorithms=products(graph, "float32"), verify=False)
    compiled.save(tmp_path / "network.so")
    loaded = convc.load(tmp_path / "network.so")
    feeds = random_inputs(graph)
    for a, b in zip(compiled.run(None, feeds), loaded.run(None, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


def test_branches_run_side_by_side(driver: FakeDriver) -> None:
    """Independent branches have no edges between them in the graph of launches."""
    net = Network("branches", seed=0)
    x = net.input("x", (1, 16, 6, 6))
    net.output(net.concat([net.relu(net.conv(x, 16, 1)), net.relu(net.conv(x, 16, 3, padding=1))]))
    module = check(net.graph, "float32", driver)
    assert len(module.manifest.steps) >= 2
