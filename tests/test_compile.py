"""Whole networks: what a module computes, against float64 and against onnxruntime."""

from __future__ import annotations

import networks
import numpy as np
import onnxruntime
import pytest

import convc
from convc.compilation import plan
from convc.compiler import Options
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.frontends.onnx import to_onnx
from convc.plan.program import Run
from convc.progress import Progress
from convc.target import Target
from convc.types import Array
from convc.verify import compare, random_inputs
from convc.workload import Workload

# Every layer may be off by --max-error = 1e-5 of its largest output here; layers in a row add up.
LAYER_ERROR = 1e-5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_agrees_with_float64_and_onnxruntime(name: str, threads: int) -> None:
    graph = networks.NETWORKS[name]()
    module = convc.compile(graph, threads=threads, max_error=LAYER_ERROR, verify=False)
    feeds = random_inputs(graph, seed=7)
    found = module.run(None, feeds)
    limit = LAYER_ERROR * len(graph.nodes)
    assert max(compare(found, evaluate(graph, feeds))) < limit
    model = to_onnx(graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert max(compare(found, session.run(None, feeds))) < limit


@pytest.mark.parametrize("target", ["haswell", "x86-64"])
def test_narrower_vectors_agree(target: str) -> None:
    for name in ("residual", "separable", "branches"):
        graph = networks.NETWORKS[name]()
        module = convc.compile(graph, target=target, threads=2, max_error=LAYER_ERROR)
        assert module.manifest.verification["error"] < LAYER_ERROR * len(graph.nodes)


def test_dense_block_copies_nothing() -> None:
    """Each concatenation is a view: no step belongs to one, and only the input is converted."""
    compilation = plan(networks.dense(), Options(), Progress())
    ops = [step.node.op for step in compilation.program.steps if isinstance(step, Run)]
    assert "concat" not in ops
    assert ops.count("relayout") == 2  # the image in, the result out


def test_compiling_leaves_the_graph_alone() -> None:
    graph = networks.residual()
    before = str(graph)
    convc.compile(graph, verify=False)
    assert str(graph) == before


def test_equal_layers_share_a_kernel() -> None:
    from convc.codegen.link import distinct_kernels

    net = Network("twice")
    x = net.input("image", (1, 32, 8, 8))
    for _ in range(4):
        x = net.relu(net.conv(x, 32, 3, padding=1))
    net.output(x)
    compilation = plan(net.graph, Options(), Progress())
    symbols, kernels = distinct_kernels(compilation.program, compilation.target)
    # Two layouts in, two ways out (into a border of zeros or not), one conversion at each end.
    assert len([s for s in symbols if s]) == 6
    assert len(kernels) == 4


def test_a_wrong_kernel_is_caught_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break one lowering's weights: verification refuses the module and names the layer."""
    from convc.lowering.direct import Direct

    right = Direct.pack

    def wrong(self: Direct, w: Workload, target: Target, index: int, array: Array) -> Array:
        return right(self, w, target, index, array * 1.01 if index == 1 else array)

    monkeypatch.setattr(Direct, "pack", wrong)
    graph = networks.lines()
    with pytest.raises(convc.ConvcError, match=r"off by .* first layer to diverge is 'conv1' \(conv\)"):
        convc.compile(graph, algorithms={"conv1": "direct", "conv2": "direct", "conv3": "direct"})


def test_unchosen_lowering_is_reachable() -> None:
    graph = networks.dense()
    for lowering in ("direct", "im2col", "winograd2", "winograd4", "winograd6", "fft"):
        module = convc.compile(graph, algorithms={"conv5": lowering}, max_error=1e-3)
        assert next(p for p in module.plan if p.name == "conv5").chosen == lowering
        assert np.isfinite(module.manifest.verification["error"])
