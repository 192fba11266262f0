"""Half precision between a graph's inputs and outputs."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from pass_checks import CONV, PADDED, graph_of, random_inputs, text_of

from convc.compilation import plan
from convc.compiler import Options
from convc.dtype import DType
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.frontends.onnx import read, to_onnx
from convc.ir import Graph, verify
from convc.passes.convert_precision import ConvertPrecision
from convc.passes.remove_identities import RemoveIdentities
from convc.progress import Progress
from convc.types import Array

HALVES = ("float16", "bfloat16")


def check_text(before: str, after: str, changed: list[str], dtype: str = "float16") -> Graph:
    """Run the pass; compare with the text `after` and with the names of the nodes that it says it changed."""
    graph = graph_of(before)
    signature = [v.type for v in (*graph.inputs, *graph.outputs)]
    names = graph.output_names
    changes = ConvertPrecision(dtype).run(graph)
    verify(graph)
    assert text_of(graph) == dedent(after).strip()
    assert [v.type for v in (*graph.inputs, *graph.outputs)] == signature
    assert graph.output_names == names
    assert [str(change) for change in changes] == [f"{name}: stores {dtype}" for name in changed]
    return graph


@pytest.mark.parametrize("dtype", HALVES)
def test_a_layer_with_its_epilogue(dtype):
    check_text(
        f"""
        input %x : float32[1,2,3,3]
        const %w : float32[2,2,1,1] = [0.5, 2.5, 3.5, 4.5]
        const %b : float32[2] = [1.5, 0.25]
        %y : float32[1,2,3,3] = conv(%x, %w, %b) {CONV} | add(., %x) | relu(.) name "c" from "C"
        output %y
        """,
        f"""
        input %x : float32[1,2,3,3]
        const %w:D : D[2,2,1,1] = [0.5, 2.5, 3.5, 4.5]
        const %b:D : D[2] = [1.5, 0.25]
        %x:D : D[1,2,3,3] = cast(%x) {{dtype='D'}}
        %y : D[1,2,3,3] = conv(%x:D, %w:D, %b:D) {CONV} | add(., %x:D) | relu(.) name "c" from "C"
        %y:float32 : float32[1,2,3,3] = cast(%y) {{dtype='float32'}}
        output %y:float32 as "y"
        """.replace(":D", f":{dtype}")
        .replace("D[", f"{dtype}[")
        .replace("'D'", f"'{dtype}'"),
        ["c (from C)"],
        dtype,
    )


def test_integers_stay_and_casts_to_float32_become_half():
    check_text(
        """
        input %x : float32[2,3]
        input %i : int64[2]
        %a : int64[2] = argmax(%x) {axis=1, keepdims=False}
        %s : int64[2] = add(%a, %i)
        %f : float32[2] = cast(%s) {dtype='float32'}
        output %a
        output %f
        """,
        """
        input %x : float32[2,3]
        input %i : int64[2]
        %x:float16 : float16[2,3] = cast(%x) {dtype='float16'}
        %a : int64[2] = argmax(%x:float16) {axis=1, keepdims=False}
        %s : int64[2] = add(%a, %i)
        %f : float16[2] = cast(%s) {dtype='float16'}
        %f:float32 : float32[2] = cast(%f) {dtype='float32'}
        output %a
        output %f:float32 as "f"
        """,
        ["f"],
    )


def test_inputs_and_constants_that_are_outputs_keep_their_digits():
    check_text(
        """
        input %x : float32[3]
        input %unused : float32[2]
        const %k : float32[3] = [1.0, 2.0, 3.0]
        %y : float32[3] = mul(%x, %k)
        output %x
        output %k
        output %y
        output %y as "again"
        """,
        """
        input %x : float32[3]
        input %unused : float32[2]
        const %k : float32[3] = [1.0, 2.0, 3.0]
        const %k:float16 : float16[3] = [1.0, 2.0, 3.0]
        %x:float16 : float16[3] = cast(%x) {dtype='float16'}
        %y : float16[3] = mul(%x:float16, %k:float16)
        %y:float32 : float32[3] = cast(%y) {dtype='float32'}
        output %x
        output %k
        output %y:float32 as "y"
        output %y:float32 as "again"
        """,
        ["y"],
    )


def test_a_graph_of_integers_is_left_alone():
    text = """
        input %i : int64[2]
        %s : int64[2] = add(%i, %i)
        output %s
        """
    check_text(text, text, [])


WIDEN = ConvertPrecision("float32", source="float16")


def check_widened(before: str, after: str) -> None:
    graph = graph_of(before)
    WIDEN.run(graph)
    verify(graph)
    assert text_of(graph) == dedent(after).strip()


def test_a_layer_in_half_is_computed_in_float32():
    check_widened(
        f"""
        input %x : float16[1,2,3,3]
        const %w : float16[2,2,1,1] = [0.5, 2.5, 3.5, 4.5]
        %y : float16[1,2,3,3] = conv(%x, %w) {CONV} | relu(.) name "c" from "C"
        output %y
        """,
        f"""
        input %x : float16[1,2,3,3]
        const %w:float32 : float32[2,2,1,1] = [0.5, 2.5, 3.5, 4.5]
        %x:float32 : float32[1,2,3,3] = cast(%x) {{dtype='float32'}}
        %y : float32[1,2,3,3] = conv(%x:float32, %w:float32) {CONV} | relu(.) name "c" from "C"
        %y:float16 : float16[1,2,3,3] = cast(%y) {{dtype='float16'}}
        output %y:float16 as "y"
        """,
    )


def test_numbers_that_the_model_itself_casts_to_half_are_rounded():
    """Those of another format; what was half already is cast to nothing, and one to float32 is none."""
    check_widened(
        """
        input %x : float32[2]
        input %i : int32[2]
        %r : float16[2] = cast(%x) {dtype='float16'}
        %j : float16[2] = cast(%i) {dtype='float16'}
        %s : float16[2] = add(%r, %j)
        %t : float16[2] = cast(%s) {dtype='float16'}
        %f : float32[2] = cast(%t) {dtype='float32'}
        output %f
        output %j
        """,
        """
        input %x : float32[2]
        input %i : int32[2]
        %r : float16[2] = cast(%x) {dtype='float16'}
        %j : float16[2] = cast(%i) {dtype='float16'}
        %r:float32 : float32[2] = cast(%r) {dtype='float32'}
        %j:float32 : float32[2] = cast(%j) {dtype='float32'}
        %s : float32[2] = add(%r:float32, %j:float32)
        %t : float32[2] = cast(%s) {dtype='float32'}
        %f : float32[2] = cast(%t) {dtype='float32'}
        output %f
        output %j
        """,
    )


def test_half_made_single_and_half_again_is_the_graph_itself():
    """What becomes of a model in half on a GPU that computes in half."""
    text = f"""
        input %x : float16[1,2,3,3]
        const %w : float16[2,2,1,1] = [0.5, 2.5, 3.5, 4.5]
        %y : float16[1,2,3,3] = conv(%x, %w) {CONV}
        output %y
        """
    graph = graph_of(text)
    for step in (WIDEN, ConvertPrecision("float16"), RemoveIdentities()):
        step.run(graph)
    verify(graph)
    renamed = text_of(graph).replace("w:float32:float16", "w").replace(' as "y"', "")
    assert renamed.splitlines() == [line.strip() for line in text.strip().splitlines()]


SHAPES = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (2, 4, 1, 1), "k": (1, 2, 1, 1)}


def network(constants: dict[str, Array]) -> Graph:
    """Two convolutions, with epilogues, and a mean."""
    lines = [
        f"const %{name} : float32[{','.join(map(str, a.shape))}] = {a.ravel().tolist()}\n"
        for name, a in constants.items()
    ]
    return graph_of(
        f"""input %x : float32[1,3,6,5]
{"".join(lines)}%a : float32[1,4,6,5] = conv(%x, %w1, %b1) {PADDED} | relu(.)
%b : float32[1,2,6,5] = conv(%a, %w2) {CONV} | mul(., %k)
%p : float32[1,2,1,1] = reduce_mean(%b) {{axes=(2, 3), keepdims=True}}
output %b
output %p
"""
    )


ROUNDINGS = 4
"""On the longest way through the network: of the input and three constants."""


def draw(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("dtype", HALVES)
def test_results_are_those_of_rounded_inputs_and_constants(dtype):
    """The reference computes in float64 between the casts; the last of them rounds to float32."""
    constants = draw(1)
    graph = network(constants)
    inputs = random_inputs(graph)
    half = network(constants)
    assert len(ConvertPrecision(dtype).run(half).made) == 3
    verify(half)
    found = evaluate(half, inputs)

    by_hand = network({name: once(array, dtype) for name, array in constants.items()})
    for one, other in zip(found, evaluate(by_hand, {"x": once(inputs["x"], dtype)}), strict=True):
        np.testing.assert_allclose(one, other, rtol=2.0**-24, atol=1e-13 * np.abs(other).max())

    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    sizes = evaluate(network({n: np.abs(a) for n, a in constants.items()}), {"x": np.abs(inputs["x"])})
    for one, exact, size in zip(found, evaluate(graph, inputs), sizes, strict=True):
        error = np.abs(one - exact)
        assert (error <= ((1 + unit) ** ROUNDINGS - 1 + 2.0**-23) * size).all()
        assert error.max() > unit / 8 * np.abs(exact).max(), "nothing was rounded"


def once(array: Array, dtype: str) -> Array:
    """float32 numbers that the half type has."""
    return array.astype(DType.of(dtype).numpy).astype(np.float32)


def test_an_algorithm_is_asked_of_the_layer_and_not_of_the_casts_around() -> None:
    net = Network("small")
    net.output(net.conv(net.input("x", (1, 16, 9, 9)), 16, 3, name="c"), "y")
    graph = read(to_onnx(net))  # whose nodes have origins, as those of all files
    options = Options("cuda:sm_90", precision="float16", algorithms={"c": "generic"})
    compilation = plan(graph, options, Progress())
    chosen = {node.op: choice.lowering.name for node, choice in compilation.choices.items()}
    assert chosen["conv"] == "generic"
    assert sum(node.op == "cast" for node in compilation.graph.nodes) == 2
