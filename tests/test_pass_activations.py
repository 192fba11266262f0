"""Activations recognised where exporters spelled them out."""

from __future__ import annotations

import numpy as np
import pytest
from pass_checks import check_same_results, check_untouched, graph_of, random_inputs, text_of

from convc.evaluate import evaluate
from convc.ir import verify
from convc.passes.pipeline import run_pipeline
from convc.passes.recognise_activations import RecogniseActivations

HEAD = """
input %x : float32[2,9]
const %half : float32[] = [0.5]
const %one : float32[1] = [1.0]
const %three : float32[] = [3.0]
const %six : float32[] = [6.0]
const %sixth : float32[] = [0.16666667]
const %root : float32[] = [1.4142135]
const %inverse : float32[] = [0.70710677]
"""

SPELLED = {
    "swish": ["sigmoid(%x)", "mul(%x, %a)"],
    "swish, factors exchanged": ["sigmoid(%x)", "mul(%a, %x)"],
    "hard_swish": ["hard_sigmoid(%x) {alpha=0.16666667, beta=0.5}", "mul(%x, %a)"],
    "hard_swish by clip": ["add(%x, %three)", "clip(%a) {min=0.0, max=6.0}", "mul(%x, %b)", "div(%c, %six)"],
    "hard_swish by clip and factor": [
        "add(%three, %x)", "clip(%a) {min=0.0, max=6.0}", "mul(%b, %x)", "mul(%sixth, %c)",
    ],
    "mish": ["softplus(%x)", "tanh(%a)", "mul(%x, %b)"],
    "gelu": ["div(%x, %root)", "erf(%a)", "add(%b, %one)", "mul(%x, %c)", "mul(%d, %half)"],
    "gelu, exchanged": ["mul(%inverse, %x)", "erf(%a)", "add(%one, %b)", "mul(%c, %x)", "mul(%half, %d)"],
}  # fmt: skip


def spelled(calls: list[str]) -> str:
    """Statements %a, %b, ... of these calls, each from a node of its own."""
    lines = [f'%{"abcde"[i]} : float32[2,9] = {call} from "{"ABCDE"[i]}"' for i, call in enumerate(calls)]
    return "\n".join([HEAD.strip(), *lines, f"output %{'abcde'[len(calls) - 1]}"])


@pytest.mark.parametrize("name", SPELLED)
def test_recognised(name):
    calls = SPELLED[name]
    text = spelled(calls)
    graph = graph_of(text)
    changes = RecogniseActivations().run(graph)
    verify(graph)
    (node,) = graph.nodes
    assert node.op == name.split(" ")[0].rstrip(",")
    assert sorted(node.origin) == list("ABCDE"[: len(calls)])
    assert f"{len(calls)} nodes recognised as {node.op}" in str(changes)
    # the constants themselves are rounded to float32
    check_same_results(graph_of(text), graph, float(np.finfo(np.float32).eps))
    assert not RecogniseActivations().run(graph)


@pytest.mark.parametrize(
    "calls",
    [
        ["sigmoid(%x)", "mul(%a, %a)"],
        ["sigmoid(%x)", "mul(%a, %one)"],
        ["sigmoid(%x)", "div(%x, %a)"],
        ["sigmoid(%x)", "div(%a, %x)"],
        ["hard_sigmoid(%x) {alpha=0.16666667, beta=0.5}", "div(%x, %a)"],
        ["softplus(%x)", "tanh(%a)", "div(%x, %b)"],
        ["hard_sigmoid(%x)", "mul(%x, %a)"],
        ["hard_sigmoid(%x) {alpha=0.16666667, beta=0.4}", "mul(%x, %a)"],
        ["add(%x, %one)", "clip(%a) {min=0.0, max=6.0}", "mul(%x, %b)", "div(%c, %six)"],
        ["add(%x, %three)", "clip(%a) {min=0.0, max=5.0}", "mul(%x, %b)", "div(%c, %six)"],
        ["add(%x, %three)", "clip(%a) {min=0.0, max=6.0}", "mul(%x, %b)", "div(%six, %c)"],
        ["softplus(%x)", "sigmoid(%a)", "mul(%x, %b)"],
        ["div(%root, %x)", "erf(%a)", "add(%b, %one)", "mul(%x, %c)", "mul(%d, %half)"],
        ["div(%x, %root)", "erf(%a)", "add(%b, %one)", "mul(%x, %c)", "mul(%d, %one)"],
        ["div(%x, %root)", "erf(%a)", "add(%b, %half)", "mul(%x, %c)", "mul(%d, %half)"],
    ],
)
def test_look_alikes_stay(calls):
    check_untouched(RecogniseActivations(), spelled(calls))


def test_a_constant_of_more_axes_makes_no_activation():
    """It adds an axis: the result is not of x's shape."""
    text = spelled(SPELLED["gelu"]).replace("%half : float32[]", "%half : float32[1,1,1]")
    check_untouched(RecogniseActivations(), text.replace("%e : float32[2,9]", "%e : float32[1,2,9]"))


def test_parts_with_other_readers_stay_for_them():
    graph = graph_of(spelled(SPELLED["swish"]) + "\noutput %a")
    assert RecogniseActivations().run(graph)
    assert [n.op for n in graph.nodes] == ["sigmoid", "swish"]


def test_convolution_takes_a_spelled_activation_in():
    text = """
    input %x : float32[1,1,3,3]
    const %w : float32[1,1,1,1] = [2.0]
    %c : float32[1,1,3,3] = conv(%x, %w) {strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))}
    %s : float32[1,1,3,3] = sigmoid(%c)
    %y : float32[1,1,3,3] = mul(%c, %s)
    output %y
    """
    graph = graph_of(text)
    run_pipeline(graph)
    assert "| swish(.)" in text_of(graph)
    assert len(graph.nodes) == 1
    inputs = random_inputs(graph)
    x = 2 * inputs["x"].astype(np.float64)
    np.testing.assert_allclose(evaluate(graph, inputs)[0], x / (1 + np.exp(-x)), rtol=1e-14)
