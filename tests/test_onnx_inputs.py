"""Shapes of inputs, and inputs that are built in: what may be given, what messages propose, what fits."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import convc
from onnx import TensorProto, helper
from onnx_models import draw, ints, model, node
from onnx_refusals import refuse

from convc.cli.options import parse_constants
from convc.compiler import compile
from convc.errors import ModelError, OptionError, UnsupportedError
from convc.frontends.onnx import constant_inputs, read

# ---- shapes


def open_model(*dims: int | str | None) -> onnx.ModelProto:
    """A model whose input has these dimensions."""
    return model([node("Relu", "x", "y")], {"x": dims})


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": (1, 3, 8, 8)}, "names 'z', which is no input of the model. Its inputs are x."),
        ({"x": (1, 3, 8)}, "gives x:1x3x8; the model's input 'x' is Nx3xHx?"),
        ({"x": (1, 4, 8, 8)}, "gives x:1x4x8x8"),
        ({}, "Dimension 2 of input 'x' (Nx3xHx?) has no fixed extent. Give it, for example "
             "--input-shapes x:1x3x224x224 (in Python input_shapes={'x': (1, 3, 224, 224)})."),
    ],
)  # fmt: skip
def test_wrong_input_shapes(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    refuse(open_model("N", 3, "H", None), OptionError, words, input_shapes=shapes)


@pytest.mark.parametrize("extent", [0, -1, 1.5])
def test_extents_that_no_input_has(extent: float) -> None:
    refuse(open_model("N", 3), OptionError, "'x'", str(extent), input_shapes={"x": (extent, 3)})


def test_inputs_that_are_too_large() -> None:
    refuse(open_model("N", 3), ModelError, "Input 'x' (Nx3)", "the most", input_shapes={"x": (1 << 40, 3)})


def test_unknown_rank_needs_a_shape() -> None:
    proto = model([node("Relu", "x", "y")], {"x": None})
    refuse(proto, OptionError, "does not state the shape of input 'x'", "--input-shapes x:")
    assert read(proto, input_shapes={"x": (2, 5)}).outputs[0].type.shape == (2, 5)


def test_one_symbol_with_two_extents() -> None:
    proto = model([node("Add", "x z", "y")], {"x": ("N",), "z": ("N",)})
    refuse(proto, OptionError, "'N' the extents 2 and 3", input_shapes={"x": (2,), "z": (3,)})


def as_paddle_writes_it() -> onnx.ModelProto:
    """-1 as a number, and `?` as one symbol for whatever is open."""
    inputs = {"x": None, "a z": ("?", 3, "?", "?")}
    proto = model([node("Relu", "x", "y"), node("Neg", "z", "b")], inputs, ("y", "b"))
    proto.graph.node[1].input[0] = "a z"
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    for extent in (-1, 3, -1, -1):
        dims.add().dim_value = extent
    return proto


@pytest.mark.parametrize("nothing", ["?", "", "-1", "None"])
def test_open_extents_without_a_symbol_are_each_their_own(nothing: str) -> None:
    graph = read(open_model(nothing, 3, nothing, nothing), input_shapes={"x": (2, 3, 8, 9)})
    assert graph.inputs[0].type.shape == (2, 3, 8, 9)
    proto = as_paddle_writes_it()
    graph = read(proto, input_shapes={"x": (1, 3, 20, 28), "a z": (2, 3, 12, 16)})
    assert [v.type.shape for v in graph.inputs] == [(1, 3, 20, 28), (2, 3, 12, 16)]


def test_a_symbol_is_one_extent_though_another_dimension_has_none() -> None:
    proto = model([node("Add", "x z", "y")], {"x": ("N", "?"), "z": ("N", "?")})
    graph = read(proto, input_shapes={"x": (4, 5), "z": (4, 1)})
    assert [v.type.shape for v in graph.inputs] == [(4, 5), (4, 1)]
    refuse(proto, OptionError, "'N' the extents 4 and 3", input_shapes={"x": (4, 5), "z": (3, 5)})


def test_the_proposed_shapes_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As printed: once in a shell, once in Python."""
    path = tmp_path / "m.onnx"
    onnx.save(as_paddle_writes_it(), path)
    failed = convc(capsys, "check", path)
    assert failed.code == 2
    typed = re.search(r"for example (.*) \(in Python", failed.err)
    shapes = re.search(r"\(in Python (input_shapes=.*)\)\.", failed.err)
    assert typed is not None
    assert shapes is not None
    assert convc(capsys, "check", path, *shlex.split(typed[1])).code == 0
    given = eval(f"dict({shapes[1]})")  # the very words of the message
    assert given == {"input_shapes": {"x": (1, 3, 224, 224), "a z": (1, 3, 224, 224)}}
    assert len(read(path, **given).nodes) == 2


def test_the_proposed_batch_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model([node("Add", "x z", "y")], {"x": ("N", 3, 5), "z": ("H", 3, 5)}), path)
    said: list[str] = []
    graph = read(path, notice=said.append)
    assert [v.type.shape for v in graph.inputs] == [(1, 3, 5), (1, 3, 5)]
    assert len(said) == 2
    typed = [re.search(r"(--input-shapes \S+) would choose 8", text) for text in said]
    words = [word for match in typed for word in shlex.split(match[1] if match else "")]
    assert words == ["--input-shapes", "x:8x3x5", "--input-shapes", "z:8x3x5"]
    assert convc(capsys, "check", path, *words).code == 0


def test_names_in_notices_stay_on_one_line() -> None:
    proto = open_model("N\nM", 3)
    said: list[str] = []
    read(proto, notice=said.append)
    assert said[0].startswith("Input 'x' has an open batch (N\\nM); it is taken as 1.")


# ---- inputs that are built in


def sized() -> onnx.ModelProto:
    """A crop whose size is an input."""
    nodes = [node("Slice", "x zero size axis", "y", "crop")]
    weights = {"zero": ints(0), "axis": ints(1)}
    return model(nodes, {"x": (2, 6), "size": (1,)}, weights=weights, dtypes={"size": TensorProto.INT64})


@pytest.mark.parametrize("value", [4, 4.0, [4], np.int64(4), np.int32([4]), np.float32([4.0])])
def test_numbers_lists_and_arrays_take_the_type_of_the_input(value: Any) -> None:
    graph = read(sized(), constants={"size": value})
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.outputs[0].type.shape == (2, 4)
    (array,) = constant_inputs(sized(), {"size": value}).values()
    assert (array.dtype, array.tolist()) == (np.int64, [4])


@pytest.mark.parametrize(
    ("constants", "words"),
    [
        ({"rate": 1}, "--constant names 'rate', which is no input of the model. Its inputs are x, size."),
        ({"size": [1, 2]}, "--constant size has the shape [2]; the model's input is 1."),
        ({"size": np.array(4)}, "--constant size has the shape []; the model's input is 1."),
        ({"size": 1.5}, "--constant size=1.5 is beyond what the input's dtype int64 holds."),
        ({"size": float("nan")}, "--constant size=nan is beyond"),
        ({"size": "4"}, "--constant size='4' is no number. The input is int64."),
        ({"size": [[1], [2, 3]]}, "rows of different lengths"),
        ({"x": 1.0}, "--constant x has the shape []; the model's input is 2x6."),
    ],
)  # fmt: skip
def test_values_that_an_input_cannot_hold(constants: dict[str, Any], words: str) -> None:
    refuse(sized(), OptionError, words, constants=constants)


def test_what_a_small_dtype_does_not_hold() -> None:
    proto = model([node("Identity", "x", "y")], {"x": ()}, dtypes={"x": TensorProto.UINT8})
    refuse(proto, OptionError, "dtype uint8", constants={"x": 256})
    refuse(proto, OptionError, "dtype uint8", constants={"x": -1})
    half = model([node("Identity", "x", "y")], {"x": ()}, dtypes={"x": TensorProto.FLOAT16})
    refuse(half, OptionError, "dtype float16", constants={"x": 1e6})
    assert read(half, constants={"x": 0.1}).inputs == ()


def test_refusals_say_which_inputs_to_build_in() -> None:
    """Here through an operator, and not where an image decides."""
    nodes = [node("Add", "size size", "twice"), *sized().graph.node]
    nodes[1].input[2] = "twice"
    weights = {"zero": ints(0), "axis": ints(1)}
    inputs = {"x": (2, 6), "size": (1,)}
    proto = model(nodes, inputs, weights=weights, dtypes={"size": TensorProto.INT64})
    refuse(proto, UnsupportedError, "--constant size=VALUE (in Python constants={...})")
    assert read(proto, constants={"size": 2}).outputs[0].type.shape == (2, 4)
    seen = model([node("NonZero", "x", "y")], {"x": (2, 600)})
    with pytest.raises(Exception, match="Export these parts in another form") as raised:
        read(seen)
    assert "--constant" not in str(raised.value)


@pytest.mark.parametrize("typed", ["size=4", "size=0004", "size={npy}"])
def test_the_command_builds_inputs_in(typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, stored = tmp_path / "m.onnx", tmp_path / "size.npy"
    onnx.save(sized(), path)
    np.save(stored, ints(4))
    flags = ("--constant", typed.format(npy=stored))
    assert convc(capsys, "check", path).code == 2
    assert convc(capsys, "check", path, *flags).code == 0
    found = convc(capsys, "summary", path, *flags)
    assert "(2, 4)" in found.out or "2x4" in found.out


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("size", "--constant 'size' is not NAME=VALUE. For instance"),
        ("size=", "is not NAME=VALUE"),
        ("size=four", "--constant 'size=four': 'four' is no number."),
        ("size=4,", "'' is no number"),
        ("size=none.npy", "'none.npy' cannot be read"),
    ],
)
def test_constants_that_do_not_parse(
    typed: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(sized(), path)
    found = convc(capsys, "check", path, "--constant", typed)
    assert found.code == 2
    assert words in found.err


def test_a_compiled_constant_is_known_to_later_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The module no longer has the input, and verifying it against the model needs no flag."""
    path, module = tmp_path / "m.onnx", tmp_path / "m.so"
    nodes = [node("Slice", "x zero size axis", "cut"), node("Gemm", "cut w", "y")]
    weights = {"zero": ints(0), "axis": ints(1), "w": draw(4, 3)}
    inputs = {"x": (2, 6), "size": (1,)}
    onnx.save(model(nodes, inputs, weights=weights, dtypes={"size": TensorProto.INT64}), path)
    made = convc(capsys, "compile", path, "-o", module, "--threads", 1, "--constant", "size=4")
    assert made.code == 0, made.err
    assert convc(capsys, "verify", module, "--against", path).code == 0


def test_several_numbers_and_truth_values() -> None:
    typed = ["a=1,2,3", "b=true", "c=-0.5", "d=1e3"]
    assert parse_constants(typed) == {"a": [1, 2, 3], "b": True, "c": -0.5, "d": 1000.0}


def test_flags_of_inputs_that_are_no_tensor() -> None:
    proto = model([node("Identity", "x", "y")], {"x": ()})
    proto.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", 1, None))
    refuse(proto, UnsupportedError, "Input 'x' is a sequence_type", constants={"x": 1})


def test_a_graph_has_no_inputs_to_build_in() -> None:
    with pytest.raises(
        OptionError, match="constants= build inputs of an ONNX model in; 'network' is a Graph"
    ):
        compile(read(sized(), constants={"size": 4}), constants={"size": 4})
