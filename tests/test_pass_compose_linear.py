"""Two convolutions with nothing in between multiplied together."""

from __future__ import annotations

import numpy as np
import pytest
from pass_checks import CONV, PADDED, check_pass, check_refused, check_same_results, check_untouched

from convc.ir import Graph, Step, verify
from convc.ops.conv import ConvAttrs
from convc.passes.compose_linear import ComposeLinear
from convc.types import TensorType

EPS = float(np.finfo(np.float64).eps)


POINT, NONE = (1, 1), ((0, 0), (0, 0))
CASES = [
    # kernel, strides, dilations and pads of the first, then of the second
    ((3, 2), (2, 1), (1, 2), ((1, 0), (2, 1)), POINT, (1, 3), POINT, NONE),
    ((3, 2), (1, 2), (2, 1), ((0, 3), (0, 0)), POINT, (2, 2), POINT, NONE),
    (POINT, (1, 2), POINT, NONE, (3, 2), (2, 1), (1, 2), ((1, 1), (2, 1))),
    (POINT, (3, 1), POINT, NONE, (2, 3), (1, 2), (2, 1), NONE),
    (POINT, (2, 2), POINT, NONE, POINT, (3, 1), POINT, NONE),
]


def _pair(case, biases: tuple[bool, bool], *, relu: bool) -> Graph:
    """Convolutions of 2 to 5 to 2 channels on 7 x 8 pixels in float64."""
    rng = np.random.default_rng(0)
    graph = Graph("pair")
    value = graph.add_input("x", TensorType((2, 2, 7, 8), "float64"))
    for name, channels, bias, settings in zip(
        "my", ((5, 2), (2, 5)), biases, (case[:4], case[4:]), strict=True
    ):
        weights = graph.add_constant(f"{name}.w", rng.standard_normal((*channels, *settings[0])))
        inputs = [value, weights]
        inputs += [graph.add_constant(f"{name}.b", rng.standard_normal(channels[0]))] if bias else []
        epilogue = [Step("relu")] if relu and name == "y" else []
        node = graph.add(
            "conv", inputs, ConvAttrs(*settings[1:]), name=name, origin=[name], epilogue=epilogue
        )
        value = node.output
    graph.set_outputs([value])
    return graph


@pytest.mark.parametrize("biases", [(False, False), (False, True), (True, True), (True, False)])
@pytest.mark.parametrize("case", CASES)
def test_strides_dilations_and_pads(case, biases):
    if biases[0] and case[7] != NONE:
        biases = (False, biases[1])
    relu = biases != (True, False)
    graph = _pair(case, biases, relu=relu)
    changes = ComposeLinear().run(graph)
    verify(graph)
    assert len(changes.made) == 1
    (node,) = graph.nodes
    assert (node.name, node.origin, len(node.epilogue)) == ("y", ("y", "m"), relu)
    check_same_results(_pair(case, biases, relu=relu), graph, EPS)


def test_an_epilogue_leaves_no_room_for_a_new_bias():
    graph = _pair(CASES[0], (True, False), relu=True)
    changes = ComposeLinear().run(graph)
    assert [c.text for c in changes.refused] == ["'y' has an epilogue and no bias to take that of 'm'"]


def test_text():
    check_pass(
        ComposeLinear(),
        f"""
        input %x : float32[1,1,4,4]
        const %w1 : float32[2,1,1,1] = [1.0, 2.0]
        const %w2 : float32[1,2,2,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        const %b : float32[2] = [1.0, -1.0]
        %m : float32[1,2,4,4] = conv(%x, %w1, %b) {CONV} from "A"
        %y : float32[1,1,3,3] = conv(%m, %w2) {CONV} from "B"
        output %y
        """,
        f"""
        input %x : float32[1,1,4,4]
        const %w1 : float32[2,1,1,1] = [1.0, 2.0]
        const %b : float32[2] = [1.0, -1.0]
        const %y.bias : float32[1] = [-16.0]
        const %w2 : float32[1,1,2,2] = [11.0, 14.0, 17.0, 20.0]
        %y : float32[1,1,3,3] = conv(%x, %w2, %y.bias) {CONV} from "B", "A"
        output %y
        """,
    )


HEAD = """
input %x : float32[1,2,4,4]
const %w1 : float32[3,2,1,1] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
const %w2 : float32[2,3,1,1] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
const %w3 : float32[1,3,3,1] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
const %n : float32[1,2,1,1] = [1.0, 2.0]
const %e : float32[4,1,1,1] = [1.0, 2.0, 3.0, 4.0]
const %b : float32[3] = [1.0, 2.0, 3.0]
""".strip()
T = "float32[1,3,4,4]"


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (
            f"{T} = conv(%x, %w1) {CONV}",
            f"float32[1,2,4,4] = conv(%m, %w2) {CONV}\noutput %m",
            "has other users",
        ),
        (
            f"{T} = conv(%x, %w1) {CONV} | relu(.)",
            f"float32[1,2,4,4] = conv(%m, %w2) {CONV}",
            "'m' has an epilogue",
        ),
        (
            f"{T} = conv(%x, %w1, %b) {CONV}",
            f"float32[1,1,4,6] = conv(%m, %w3) {PADDED}",
            "'y' pads with zeros, and not with the bias of 'm'",
        ),
        (
            f"float32[1,1,4,4] = conv(%x, %n) {CONV}",
            f"float32[1,4,4,4] = conv(%m, %e) {CONV}",
            "one convolution would take 128 multiply-adds; the two take 96",
        ),
        (
            f"{T} = conv(%x, %w1) {CONV}",
            f"{T} = conv(%m, %g) {CONV[:-1]}, groups=3}}",
            "'m' has 1 groups and 'y' 3",
        ),
        (
            f"{T} = conv(%x, %w1) {CONV}",
            f"float32[1,2,4,4] = conv(%m, %h) {CONV}",
            "the weights of 'y' are computed",
        ),
    ],
)
def test_refusals(first, second, reason):
    more = "input %h : float32[2,3,1,1]\nconst %g : float32[3,1,1,1] = [1.0, 2.0, 3.0]"
    check_refused(ComposeLinear(), f"{HEAD}\n{more}\n%m : {first}\n%y : {second}\noutput %y", reason)


def test_two_windows_stay():
    check_untouched(
        ComposeLinear(),
        f"""
        input %x : float32[1,1,8,8]
        const %w : float32[1,1,2,2] = [1.0, 2.0, 3.0, 4.0]
        %m : float32[1,1,7,7] = conv(%x, %w) {CONV}
        %y : float32[1,1,6,6] = conv(%m, %w) {CONV}
        output %y
        """,
    )
