"""Chains of elementwise operators: each value is computed once, code grows as they do, long ones are cut."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import te, tirx

import convc
from convc.codegen.device_build import device_code
from convc.codegen.kernel import llvm_target, lower
from convc.codegen.link import BoundKernel, bind
from convc.codegen.pipeline import PIPELINE, cpu_passes, tvm
from convc.compilation import plan
from convc.compiler import Options
from convc.evaluate import evaluate
from convc.ir import Graph, Node, opdef
from convc.lowering.functions import constant, let
from convc.ops.conv import ConvAttrs
from convc.passes.fuse_epilogues import LONGEST_CHAIN, LONGEST_EPILOGUE, FuseEpilogues
from convc.progress import Progress
from convc.types import TensorType

FUNCTIONS = (
    "sigmoid",
    "mish",
    "softplus",
    "tanh",
    "erf",
    "elu",
    "hard_swish",
    "gelu",
    "swish",
    "celu",
    "exp",
)


def chain(*ops: str, dtype: str = "float32") -> Graph:
    """Unary operators in a row, on one vector."""
    graph = Graph("chain")
    value = graph.add_input("x", TensorType((1, 16), dtype))
    for op in ops:
        value = graph.add(op, [value], name=op).output
    graph.set_outputs([value])
    return graph


def only_kernel(graph: Graph, target: str) -> BoundKernel:
    compilation = plan(graph, Options(target, threads=1), Progress())
    (step,) = compilation.program.steps
    return bind(step, compilation.target)


def host_text(graph: Graph) -> str:
    """The program that LLVM is given."""
    bound = only_kernel(graph, "haswell")
    target = llvm_target(bound.kernel.target)
    module = lower(bound.kernel, bound.lowering, bound.schedule)
    return str(cpu_passes()(tirx.transform.BindTarget(target.with_host(target))(module)))


def device_text(graph: Graph) -> str:
    """The source that the CUDA compiler is given."""
    return device_code(only_kernel(graph, "cuda:sm_90")).source


@pytest.mark.parametrize(("text", "rounding"), [(host_text, "nearbyint("), (device_text, "nearbyintf(")])
def test_code_grows_as_the_chain_does(text, rounding: str) -> None:
    """A sigmoid rounds once, and reads its argument five times."""
    texts = [text(chain(*["sigmoid"] * count)) for count in (2, 4, 8)]
    assert [t.count(rounding) for t in texts] == [n * texts[0].count(rounding) // 2 for n in (2, 4, 8)]
    assert texts[0].count(rounding) in (2, 4)  # on a vector of 16, or two of 8
    sizes = [len(t) for t in texts]
    assert sizes[2] - sizes[1] < 2.2 * (sizes[1] - sizes[0])


def test_vectors_are_rounded_as_vectors() -> None:
    text = host_text(chain("exp"))
    assert "T.nearbyint" in text
    assert "for i" not in text.split("T.nearbyint")[0].rsplit("\n", 1)[1]
    assert "T.float32x8" in text or "float32x8" in text


def test_no_function_is_left_inside_another() -> None:
    """All functions of the list in one row, over and over: their bindings have become slots."""
    text = host_text(chain(*FUNCTIONS[:6]))
    assert "T.Let(" not in text
    assert "convc_bound" not in text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_chains_equal_float64(dtype: str) -> None:
    """Thirty functions: the error of each passes through the slopes of those that follow, of at most 1.1."""
    graph = chain(*(FUNCTIONS[:-1] * 3)[:30], dtype=dtype)
    x = np.linspace(-4, 4, 16).reshape(1, 16).astype(dtype)
    (exact,) = evaluate(graph, {"x": x})
    (found,) = convc.compile(graph, threads=1).run(None, {"x": x})
    assert abs(found - exact).max() <= 30 * 1.1**30 * 8 * np.finfo(dtype).eps * max(1, abs(exact).max())


def test_chains_of_bits() -> None:
    """Values that are true or false are bound as well; vectors of bits have no memory of their own."""
    graph = Graph("bits")
    a, b = (graph.add_input(n, TensorType((3, 16), "bool")) for n in "ab")
    value = a
    for _ in range(6):
        value = graph.add("xor", [graph.add("not", [value]).output, b]).output
    graph.set_outputs([value])
    bits = np.random.default_rng(0).integers(0, 2, (2, 3, 16)).astype(bool)
    found = convc.compile(graph, threads=1).run(None, {"a": bits[0], "b": bits[1]})
    np.testing.assert_array_equal(found[0], bits[0])  # twice three times


def test_a_value_of_one_branch_is_computed_in_that_branch() -> None:
    """Where the other is taken, the place that it reads does not exist."""
    x = te.placeholder((4,), "float32", "x")

    def at(i):
        there = let(x(i - 4), lambda t: let(t * t, lambda s: s + t / (s + constant(1, s))))
        return tirx.if_then_else(i >= 4, there, tirx.const(-1, "float32"))

    func = te.create_prim_func([x, te.compute((8,), at, name="y")])
    target = tvm.target.Target({"kind": "llvm"})
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    text = str(cpu_passes()(tirx.transform.BindTarget(target.with_host(target))(module)))
    assert text.index("if 4 <= i:") < text.index("t: T.float32 = x")
    given, result = (tvm.runtime.tensor(np.arange(n, dtype="float32")) for n in (4, 8))
    tvm.tirx.build(module, target=target, pipeline=PIPELINE)["main"](given, result)
    t = np.arange(4, dtype="float64")
    expected = np.concatenate([-np.ones(4), t * t + t / (t * t + 1)])
    np.testing.assert_allclose(result.numpy(), expected, rtol=4 * np.finfo("float32").eps)


# ---- how long a kernel may become


def length(node: Node) -> int:
    return sum(opdef(op).instructions for op in (node.op, *(s.op for s in node.epilogue)))


def test_long_chains_are_cut_into_equal_kernels() -> None:
    graph = chain(*["tanh"] * 100)
    changes = FuseEpilogues().run(graph)
    assert len(graph.nodes) == -(-100 // (LONGEST_CHAIN // opdef("tanh").instructions))
    assert max(map(length, graph.nodes)) <= LONGEST_CHAIN
    assert f"instructions a vector, of at most {LONGEST_CHAIN}" in changes.refused[0].text


def test_epilogues_of_kernels_are_cut_earlier() -> None:
    """A convolution keeps what its register tile can repeat; the rest is a kernel of its own."""
    graph = Graph("conv")
    x = graph.add_input("x", TensorType((1, 2, 3, 3)))
    w = graph.add_constant("w", np.ones((2, 2, 1, 1), "float32"))
    value = graph.add("conv", [x, w], ConvAttrs((1, 1), (1, 1), ((0, 0), (0, 0)))).output
    for _ in range(20):
        value = graph.add("tanh", [value]).output
    graph.set_outputs([value])
    FuseEpilogues().run(graph)
    assert [n.op for n in graph.nodes] == ["conv", "tanh"]
    count = LONGEST_EPILOGUE // opdef("tanh").instructions
    assert [len(n.epilogue) for n in graph.nodes] == [count, 20 - count - 1]


def test_equal_parts_of_a_chain_share_a_kernel() -> None:
    period: list[str] = ["sigmoid", "tanh"] * (LONGEST_CHAIN // 64)
    compilation = plan(chain(*period * 4), Options(threads=1), Progress())
    steps = compilation.program.steps
    assert len(steps) == 4
    assert len({bind(step, compilation.target).kernel.workload for step in steps}) == 1
