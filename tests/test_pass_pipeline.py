"""The whole pipeline: on a hand-made residual network, its reports, its verifier and its dumps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from pass_checks import check_same_results, graph_of

from convc.errors import GraphError
from convc.ir import Graph, Value, difference, parse_graph, verify
from convc.ops.conv import ConvAttrs
from convc.ops.linear import GemmAttrs
from convc.ops.norm import BatchNormAttrs
from convc.ops.pool import MaxPoolAttrs
from convc.ops.reduce import ReduceAttrs
from convc.ops.shape import ReshapeAttrs
from convc.passes.base import Change, Changes, Pass
from convc.passes.pipeline import PIPELINE, run_pipeline
from convc.types import TensorType


class ResNet:
    """A small ResNet as PyTorch exports it: convolutions without bias, then batch norm, relu, sums."""

    def __init__(self, dtype: str) -> None:
        self.rng = np.random.default_rng(0)
        self.dtype = dtype
        self.graph = Graph("resnet")
        self.count: dict[str, int] = {}

    def weights(self, name: str, *shape: int) -> Value:
        return self.graph.add_constant(name, self.rng.uniform(0.2, 1.0, shape).astype(self.dtype))

    def node(self, op: str, inputs, attrs=None) -> Value:
        number = self.count[op] = self.count.get(op, -1) + 1
        return self.graph.add(op, inputs, attrs, name=f"{op}{number}", origin=[f"{op}_{number}"]).output

    def conv(self, x: Value, channels: int, kernel: int, stride: int) -> Value:
        index = self.count.get("conv", -1) + 1
        bound = 1 / np.sqrt(x.type.shape[1] * kernel**2)
        array = self.rng.uniform(-bound, bound, (channels, x.type.shape[1], kernel, kernel))
        w = self.graph.add_constant(f"w{index}", array.astype(self.dtype))
        pad = (kernel // 2, kernel // 2)
        return self.node("conv", [x, w], ConvAttrs((stride, stride), (1, 1), (pad, pad)))

    def norm(self, x: Value) -> Value:
        index = self.count.get("batch_norm", -1) + 1
        vectors = [
            self.weights(f"{what}{index}", x.type.shape[1]) for what in ("scale", "bias", "mean", "var")
        ]
        return self.node("batch_norm", [x, *vectors], BatchNormAttrs(1e-5))

    def block(self, x: Value, channels: int, stride: int, swap: bool) -> Value:
        y = self.node("relu", [self.norm(self.conv(x, channels, 3, stride))])
        y = self.norm(self.conv(y, channels, 3, 1))
        shortcut = x if stride == 1 else self.norm(self.conv(x, channels, 1, stride))
        return self.node("relu", [self.node("add", [shortcut, y] if swap else [y, shortcut])])

    def build(self) -> Graph:
        x = self.graph.add_input("image", TensorType((2, 3, 16, 16), self.dtype))
        y = self.node("relu", [self.norm(self.conv(x, 8, 7, 2))])
        y = self.node("max_pool", [y], MaxPoolAttrs((3, 3), (2, 2), (1, 1), ((1, 1), (1, 1))))
        y = self.block(y, 8, 1, swap=False)
        y = self.block(y, 16, 2, swap=True)
        y = self.node("dropout", [self.node("reduce_mean", [y], ReduceAttrs((2, 3)))])
        y = self.node("reshape", [y], ReshapeAttrs((2, 16)))
        y = self.node("matmul", [y, self.weights("fc", 16, 10)])
        y = self.node("add", [y, self.weights("fc.bias", 10)])
        self.graph.set_outputs([y], ["logits"])
        verify(self.graph)
        return self.graph


def test_residual_network_becomes_kernels():
    graph = ResNet("float32").build()
    runs = run_pipeline(graph)
    found = [(n.name, n.op, [s.op for s in n.epilogue], n.arity) for n in graph.nodes]
    assert found == [
        ("conv0", "conv", ["relu"], 3),
        ("max_pool0", "max_pool", [], 1),
        ("conv1", "conv", ["relu"], 3),
        ("conv2", "conv", ["add", "relu"], 3),
        ("conv3", "conv", ["relu"], 3),
        ("conv4", "conv", [], 3),
        ("conv5", "conv", ["add", "relu"], 3),
        ("reduce_mean0", "reduce_mean", [], 1),
        ("reshape0", "reshape", [], 1),
        ("matmul0", "gemm", [], 3),
    ]
    assert graph.node("conv2").origin == ("conv_2", "batch_norm_2", "add_0", "relu_2")
    assert graph.node("reduce_mean0").origin == ("reduce_mean_0", "dropout_0")
    assert graph.output_names == ("logits",)
    assert {run.name for run in runs} == {step.name for step in PIPELINE}
    assert all(run.seconds >= 0 for run in runs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_residual_network_computes_the_same(dtype):
    """In float32 the folded weights are rounded once more, in float64 likewise, at its own eps."""
    graph = ResNet(dtype).build()
    run_pipeline(graph)
    check_same_results(ResNet(dtype).build(), graph, float(np.finfo(dtype).eps))


def test_origins_cover_the_whole_model():
    graph = ResNet("float32").build()
    everything = {name for node in graph.nodes for name in node.origin}
    run_pipeline(graph)
    assert {name for node in graph.nodes for name in node.origin} == everything


def test_a_second_run_changes_nothing():
    graph = ResNet("float32").build()
    run_pipeline(graph)
    text, constants = str(graph), {v.name: a for v, a in graph.constants.items()}
    runs = run_pipeline(graph)
    assert [c for run in runs for c in run.changes.made] == []
    assert difference(parse_graph(text, constants), graph) == ""


def test_copies_are_made_again_as_they_were():
    graph = graph_of("input %x : float32[2]\nconst %c : float32[1] = [1.0]\noutput %x\noutput %c")
    run_pipeline(graph)
    text = str(graph)
    run_pipeline(graph)
    assert str(graph) == text
    assert [n.op for n in graph.nodes] == ["identity", "identity"]


def test_pre_activation_block_leaves_one_elementwise_node():
    """DenseNet's batch norm and relu before a padded convolution: product, sum and relu in one node."""
    rng = np.random.default_rng(0)
    constants = {f"w{i}": rng.standard_normal((3, 3, 3, 3)).astype(np.float32) for i in range(1)}
    from convc.ir.printing import digest

    graph = graph_of(
        f"""
        input %x : float32[1,3,8,8]
        const %w0 : float32[3,3,3,3] = @sha256:{digest(constants["w0"])}
        const %g : float32[3] = [1.0, 2.0, 3.0]
        %n : float32[1,3,8,8] = batch_norm(%x, %g, %g, %g, %g) name "norm" from "Bn"
        %r : float32[1,3,8,8] = relu(%n) from "Relu"
        %y : float32[1,3,8,8] = conv(%r, %w0) {{strides=(1, 1), dilations=(1, 1), pads=((1, 1), (1, 1))}}
        output %y
        """,
        constants,
    )
    run_pipeline(graph)
    first, second = graph.nodes
    assert (first.name, first.op, [s.op for s in first.epilogue]) == ("norm", "mul", ["add", "relu"])
    assert first.origin == ("Bn", "Relu")
    assert (second.op, second.epilogue) == ("conv", ())


def test_factors_of_gemm_meet_its_bias():
    graph = graph_of(
        """
        input %x : float32[1,2]
        const %w : float32[2,2] = [1.0, 2.0, 3.0, 4.0]
        const %b : float32[2] = [1.0, 2.0]
        %y : float32[1,2] = gemm(%x, %w) {alpha=2.0}
        %z : float32[1,2] = add(%b, %y)
        output %z
        """
    )
    run_pipeline(graph)
    (node,) = graph.nodes
    assert node.attrs == GemmAttrs()
    np.testing.assert_array_equal(graph.constant(node.inputs[1]), [[2, 4], [6, 8]])
    np.testing.assert_array_equal(graph.constant(node.inputs[2]), [1, 2])


# ---- infrastructure


@dataclass(frozen=True)
class Vandal(Pass):
    """Breaks the order of nodes."""

    name: ClassVar[str] = "vandal"

    def run(self, graph: Graph) -> Changes:
        graph.move(graph.nodes[1], before=graph.nodes[0])
        changes = Changes()
        changes.made.append(Change("a", "turned around", ("A",)))
        return changes


CHAIN = "input %x : float32[2]\n%a : float32[2] = relu(%x)\n%b : float32[2] = neg(%a)\noutput %b"


@dataclass(frozen=True)
class Nothing(Pass):
    """Changes nothing."""

    name: ClassVar[str] = "nothing"

    def run(self, graph: Graph) -> Changes:
        return Changes()


def test_the_verifier_runs_after_the_last_pass(monkeypatch):
    monkeypatch.delenv("CONVC_DEBUG", raising=False)
    with pytest.raises(GraphError, match=r"After the pass 'vandal': .*<neg 'b'> reads %a"):
        run_pipeline(graph_of(CHAIN), [Vandal()])


def test_the_verifier_runs_after_each_pass_when_debugging(monkeypatch):
    passes = [Vandal(), Nothing()]
    monkeypatch.setenv("CONVC_DEBUG", "0")
    with pytest.raises(GraphError, match="After the pass 'nothing'"):
        run_pipeline(graph_of(CHAIN), passes)
    monkeypatch.setenv("CONVC_DEBUG", "1")
    with pytest.raises(GraphError, match="After the pass 'vandal'"):
        run_pipeline(graph_of(CHAIN), passes)


def test_a_broken_graph_is_refused_before_any_pass():
    graph = graph_of(CHAIN)
    graph.move(graph.nodes[1], before=graph.nodes[0])
    with pytest.raises(GraphError, match=r"^<neg 'b'> reads %a"):
        run_pipeline(graph)


def test_changes_are_printed(monkeypatch, capsys):
    monkeypatch.setenv("CONVC_DEBUG", "2")
    run_pipeline(graph_of(CHAIN))
    printed = capsys.readouterr().err
    assert "== fuse-epilogues: " in printed
    assert "   b: neg joins the epilogue of 'a'\n" in printed


def test_the_observer_sees_each_pass_and_the_graph_after_it():
    seen = []
    run_pipeline(graph_of(CHAIN), observer=lambda run, graph: seen.append((run.name, len(graph.nodes))))
    assert [name for name, _ in seen] == [step.name for step in PIPELINE]
    assert seen[0][1] == 2
    assert seen[-1][1] == 1


def test_dumps_are_numbered_and_parse(monkeypatch, tmp_path):
    folder = tmp_path / "dumps"
    monkeypatch.setenv("CONVC_DUMP", str(folder))
    graph = graph_of(CHAIN)
    before = str(graph)
    run_pipeline(graph)
    files = sorted(folder.iterdir())
    expected = ["00-imported.txt", *(f"{i:02}-{step.name}.txt" for i, step in enumerate(PIPELINE, 1))]
    assert [f.name for f in files] == expected
    assert files[0].read_text() == before
    assert difference(parse_graph(files[-1].read_text()), graph) == ""


def test_passes_are_values_with_names_and_options():
    assert len({step.name for step in PIPELINE}) == len(PIPELINE) - 2  # dead code and identities go twice
    for step in PIPELINE:
        assert replace(step) == step
        assert hash(replace(step)) == hash(step)
