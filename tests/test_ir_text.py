"""The text form: printing, parsing, errors by line."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, Case
from pass_checks import CONV, graph_of, text_of

from convc.errors import GraphError
from convc.ir import Attrs, Graph, Step, difference, equal, parse_graph, print_graph
from convc.ops.conv import ConvAttrs
from convc.ops.unary import ClipAttrs
from convc.types import Layout, TensorType


def constants_of(graph: Graph) -> dict[str, np.ndarray]:
    return {v.name: a for v, a in graph.constants.items()}


def residual_block() -> Graph:
    graph = Graph('a "block"')
    rng = np.random.default_rng(0)
    x = graph.add_input("x", TensorType((1, 4, 5, 5)))
    w = graph.add_constant("w", rng.standard_normal((4, 4, 3, 3)).astype(np.float32))
    scalar = graph.add_constant("half a", np.float32([[[[0.1]]]]))
    attrs = ConvAttrs((1, 1), (1, 1), ((1, 1), (1, 1)))
    steps = [Step("mul", operand=3), Step("sub", operand=4, swapped=True), Step("clip", ClipAttrs(max=6.0))]
    node = graph.add(
        "conv", [x, w, None, scalar, x], attrs,
        name="layer 1", origin=["Conv_0", "Mul_1"], output_names=["/y:0"], epilogue=steps, arity=3,
    )  # fmt: skip
    graph.set_outputs([node.output], ["prob"])
    return graph


def test_prints_every_part():
    graph = residual_block()
    digest = print_graph(graph).split("sha256:")[1][:16]
    assert print_graph(graph) == (
        'graph "a \\"block\\"" {\n'
        "  input %x : float32[1,4,5,5]\n"
        f"  const %w : float32[4,4,3,3] = @sha256:{digest}\n"
        '  const %"half a" : float32[1,1,1,1] = [0.1]\n'
        "  %/y:0 : float32[1,4,5,5] = conv(%x, %w, _) "
        "{strides=(1, 1), dilations=(1, 1), pads=((1, 1), (1, 1))}"
        ' | mul(., %"half a") | sub(%x, .) | clip(.) {max=6.0} name "layer 1" from "Conv_0", "Mul_1"\n'
        '  output %/y:0 as "prob"\n'
        "}\n"
    )


def test_round_trip_of_every_part():
    graph = residual_block()
    parsed = parse_graph(str(graph), constants_of(graph))
    assert difference(graph, parsed) == ""
    node = parsed.node("layer 1")
    assert node.arity == 3
    assert node.inputs[2] is None
    assert node.epilogue[1] == Step("sub", Attrs(), 4, swapped=True)
    assert parsed.output_names == ("prob",)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_round_trip_of_every_operator(case: Case):
    graph = case.graph()
    assert difference(graph, parse_graph(str(graph), constants_of(graph))) == ""


def test_infinite_and_missing_numbers():
    text = """
    input %x : float32[2]
    const %c : float32[3] = [inf, -inf, nan]
    const %n : int64[2] = [-9223372036854775808, 7]
    const %t : bool[2] = [True, False]
    const %empty : float32[0] = []
    const %scalar : float32[] = [2.5]
    %y : float32[2] = clip(%x) {min=-inf, max=inf}
    output %y
    """
    graph = graph_of(text)
    found = {v.name: a for v, a in graph.constants.items()}
    assert np.isposinf(found["c"][0])
    assert np.isneginf(found["c"][1])
    assert np.isnan(found["c"][2])
    assert found["n"][0] == np.iinfo(np.int64).min
    assert found["scalar"].shape == ()
    assert "%y : float32[2] = clip(%x)\n" in str(graph)  # both are the defaults
    assert equal(graph, parse_graph(str(graph)))


def test_float32_constants_survive_bit_by_bit():
    rng = np.random.default_rng(1)
    array = rng.integers(0, 2**32, 16, dtype=np.uint32).view(np.float32)
    array[~np.isfinite(array)] = 1e-45
    graph = Graph()
    graph.set_outputs([graph.add_constant("c", array)])
    (parsed,) = parse_graph(str(graph)).constants.values()
    assert parsed.tobytes() == array.tobytes()


def test_layouts_are_part_of_types():
    text = f"""
    input %x : float32[1,16,4,4]{{c16}}
    const %w : float32[1,16,1,1] = {list(map(float, range(16)))}
    %y : float32[1,1,4,4]{{c8}} = conv(%x, %w) {CONV}
    output %y
    """
    graph = graph_of(text)
    assert graph.inputs[0].type.layout == Layout(16)
    assert graph.outputs[0].type.layout == Layout(8)
    assert equal(graph, parse_graph(str(graph)))


def test_several_outputs():
    text = """
    input %x : float32[4]
    %a : float32[1], %b : float32[3] = split(%x) {axis=0, sizes=(1, 3)} name "cut"
    output %b
    output %a
    """
    graph = graph_of(text)
    assert [v.name for v in graph.node("cut").outputs] == ["a", "b"]
    assert text_of(graph) == "\n".join(line.strip() for line in text.strip().splitlines())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("relu(.)", "tanh(.)"), "relu"),
        (("[1.0, 2.0]", "[1.0, 3.0]"), "[1.0, 2.0]"),
        (('from "A"', 'from "B"'), 'from "A"'),
        (('as "out"', 'as "other"'), 'as "out"'),
        (("clip(%x)", "clip(%x) {min=0.0}"), "clip(%x)"),
        (("output %z", "output %y\noutput %z"), "output"),
    ],
)
def test_difference_finds_each_change(change, expected):
    text = """
    input %x : float32[2]
    const %c : float32[2] = [1.0, 2.0]
    %y : float32[2] = clip(%x) | add(., %c) from "A"
    %z : float32[2] = neg(%y) | relu(.)
    output %z as "out"
    """
    assert change[0] in text
    found = difference(graph_of(text), graph_of(text.replace(*change)))
    assert expected in found


def test_difference_finds_elements_behind_equal_text():
    graph = residual_block()
    other = residual_block()
    assert equal(graph, other)
    (w, *_) = other.constants.values()
    w.flat[0] = np.nextafter(w.flat[0], np.float32(9))
    assert "const %w" in difference(graph, other)


HEAD = 'graph "g" {\ninput %x : float32[1,1,3,3]\nconst %w : float32[1,1,1,1] = [2.0]\n'


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("%y : float32[1,1,3,3] = blur(%x)", "Line 4: Unknown operator 'blur'"),
        ("%y : float32[1,1,3,3] = relu(%z)", "Line 4: %z is used before it is defined"),
        ("%y : float32[1,1,3] = relu(%x)", r"Line 4: by the rule of relu, 'y' makes float32\[1,1,3,3\]"),
        ("%y : flaot32[1,1,3] = relu(%x)", "Line 4: a type such as .* expected, at 'flaot32"),
        ("%y : float32[1,1,3,3] = relu(%x", "Line 4: ',' expected"),
        ("%y : float32[1,1,3,3] = relu(%x) relu", "Line 4: the line should end here, at 'relu'"),
        (
            "%y : float32[1,1,3,3] = clip(%x) {low=1}",
            r"Line 4: clip has no attribute 'low' \(it has: min, max\)",
        ),
        ("%y : float32[1,1,3,3] = clip(%x) {min=f(1)}", r"Line 4: 'f\(1\)' is not a Python literal"),
        ("%y : float32[1,1,3,3] = clip(%x) {min=}", "Line 4: .* is not a Python literal"),
        ("%y : float32[1,1,3,3] = clip(%x) {min=1", "Line 4: '}' is missing"),
        ("%y : float32[1,1,3,3] = conv(%x, %w)", "Line 4: attributes of conv: .*strides"),
        (f"%y : float32[1,1,3,3] = conv(%x, _) {CONV}", r"Line 4: 'y': Input 1 \(weights\) is missing"),
        ("%y : float32[1,1,3,3] = relu(.)", "Line 4: '.' is the running value of an epilogue"),
        ("%y : float32[1,1,3,3] = relu(%x) | add(%x, %x)", "Line 4: the step add needs '.' once"),
        ("%y : float32[1,1,3,3] = relu(%x) | add(., _)", "Line 4: the operand of the step add is missing"),
        ("%x : float32[1,1,3,3] = relu(%x)", "Line 4: %x is defined twice"),
        ('const %c : float32[2] = [1.0, "a", 2.0]', "Line 4: %c has 3 elements; float32\\[2\\] needs 2"),
        ("const %c : float32[20] = @sha256:00", "Line 4: the array of constant %c was not given"),
        (
            "const %d : float32[20] = @sha256:00",
            "Line 4: %d is float32\\[20\\], but the array given is float64",
        ),
        (
            "const %e : float64[20] = @sha256:00",
            "Line 4: %e has digest 00, but the array given has [0-9a-f]{16}",
        ),
        ("}\n%y : float32[1,1,3,3] = relu(%x)", "Line 5: nothing may follow the closing '}'"),
        ("output y", "Line 4: a value such as %x expected, at 'y'"),
        ("# the end", "The text ends before the graph does"),
    ],
)
def test_errors_name_the_line(statement, message):
    given = {"d": np.zeros(20), "e": np.zeros(20)}
    text = HEAD + statement + ("\n" if statement.startswith(("#", "}")) else "\n}\n")
    with pytest.raises(GraphError, match=message):
        parse_graph(text, given)


def test_a_name_given_twice_to_nodes():
    statement = '%{} : float32[1,1,3,3] = relu(%x) name "same"\n'
    with pytest.raises(GraphError, match="Line 5: the node 'same' or one of its outputs is defined twice"):
        parse_graph(HEAD + statement.format("a") + statement.format("b") + "}")
