"""Broken and hostile files: one typed line, and sizes are compared with limits before memory is asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import draw, ints, model, node
from onnx_refusals import refuse

from convc.errors import ConvcError, ModelError, UnsupportedError
from convc.frontends.onnx import functions, limits, read
from convc.frontends.onnx.limits import Allowance, size_fault
from convc.types import TensorType

MEMORY = 32 << 20
"""Bytes that refusing a model may take; each of those here asks for gigabytes."""


def refuse_cheaply(proto: onnx.ModelProto, *words: str) -> None:
    """Importing must raise ModelError, and not have asked for much memory before."""
    tracemalloc.start()
    try:
        refuse(proto, ModelError, *words)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


# ---- sizes


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TensorType((1,) * 33), "33 axes; convc takes 32 at most"),
        (TensorType((2, -1)), "the shape [2, -1], with a negative extent"),
        (TensorType((0, 1 << 31)), "2147483647 elements are the most"),
        (TensorType((1 << 16, 1 << 15), "int8"), "2147483647 elements are the most"),
        (TensorType((1 << 29,), "float64"), ""),
        (TensorType(((1 << 29) + 1,), "float64"), "4294967304 bytes; convc takes 4 GiB at most"),
        (TensorType((1,) * 32), ""),
        (TensorType(()), ""),
    ],
)  # fmt: skip
def test_limits_of_a_tensor(kind: TensorType, words: str) -> None:
    found = size_fault(kind)
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.parametrize("shape", [(1,) * 70, (1 << 62, 4), (1 << 20, 1 << 20), (3, 1 << 29), (1 << 31, 1)])
def test_inputs_that_are_too_large(shape: tuple[int, ...]) -> None:
    refuse_cheaply(model([node("Relu", "x", "y")], {"x": shape}), "Input 'x'", "convc takes")


@pytest.mark.parametrize("dims", [[1] * 70, [0, 1 << 62], [1 << 31, 0]])
@pytest.mark.parametrize("place", ["initialiser", "attribute"])
def test_weights_that_are_too_large(dims: list[int], place: str) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=dims, raw_data=bytes(4 if 0 not in dims else 0))
    nodes = [node("Concat", "x w", "y", axis=0)]
    if place == "attribute":
        nodes.insert(0, node("Constant", "", "w", "stored", value=tensor))
    proto = model(nodes, {"x": (1, 4)})
    if place == "initialiser":
        proto.graph.initializer.append(tensor)
    refuse(proto, ModelError, "Initialiser 'w'" if place == "initialiser" else "'stored'", "convc takes")


BIG = 1 << 34


@pytest.mark.parametrize(
    ("op", "weights", "attributes"),
    [
        ("Expand", [ints(1 << 31, 4)], {}),
        ("Expand", [ints(-7, 4)], {}),
        ("Tile", [ints(1 << 20, 1 << 20)], {}),
        ("Pad", [ints(0, 0, BIG, 0)], {}),
        ("Pad", [ints(0, 0, 1 << 62, 1 << 62)], {"mode": "edge"}),
        ("Resize", [None, None, ints(1 << 20, 1 << 20)], {}),
        ("Resize", [None, np.float32([1e9, 1e30])], {}),
        ("Unsqueeze", [ints(*range(40))], {}),
        ("Reshape", [ints(*[1] * 40, 4)], {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("constant", [True, False])
def test_results_that_are_too_large(
    op: str, weights: list[Any], attributes: dict[str, Any], constant: bool
) -> None:
    """Computed at run time, or from constants when the model is read."""
    given = {f"c{i}": w for i, w in enumerate(weights) if w is not None}
    names = " ".join([f"c{i}" if w is not None else "_" for i, w in enumerate(weights)])
    big = node(op, f"{'k' if constant else 'x'} {names}", "b", "big", **attributes)
    nodes = [big, node("ReduceSum", "b", "s", keepdims=0), node("Add", "x s", "y")]
    proto = model(nodes, {"x": (1, 4)}, weights={**given, "k": draw(1, 4)}, opset=18)
    refuse_cheaply(proto, f"Node 'big' ({op})", "a tensor of this node has")


@pytest.mark.parametrize(
    ("op", "weights", "attributes"),
    [
        ("Conv", (1, 1, 3, 3), {"pads": [1 << 30] * 4}),
        ("Conv", (1, 1, 3, 3), {"pads": [1 << 30] * 4, "strides": [1 << 29] * 2}),
        ("Conv", (1, 1, 3, 3), {"pads": [1 << 62] * 4, "strides": [1 << 62] * 2}),
        ("ConvTranspose", (1, 1, 3, 3), {"strides": [1 << 20] * 2}),
        ("ConvTranspose", (1, 1, 3, 3), {"strides": [1 << 20, 1 << 12], "pads": [3 << 19, 0, 3 << 19, 0]}),
        ("ConvTranspose", (1, 1, 3, 3), {"dilations": [1 << 62] * 2}),
        ("ConvTranspose", (1, 1, 3, 3), {"output_padding": [1 << 40, 0]}),
        ("MaxPool", None, {"kernel_shape": [1 << 31, 1], "pads": [1 << 31, 0, 1 << 31, 0]}),
        ("AveragePool", None, {"kernel_shape": [2, 2], "pads": [1 << 31, 0, 0, 0]}),
        ("LRN", None, {"size": 1 << 40}),
    ],
)  # fmt: skip
def test_windows_that_are_too_large(
    op: str, weights: tuple[int, ...] | None, attributes: dict[str, Any]
) -> None:
    """A small result does not help where the padded input, or what is cropped to it, is too large."""
    given = {} if weights is None else {"w": draw(*weights)}
    proto = model(
        [node(op, " ".join(["x", *given]), "y", "it", **attributes)], {"x": (1, 1, 4, 4)}, weights=given
    )
    refuse_cheaply(proto, f"Node 'it' ({op})", "a tensor of this node has")


@pytest.mark.parametrize(
    ("op", "weights"),
    [
        ("ConstantOfShape", [ints(1 << 20, 1 << 20)]),
        ("ConstantOfShape", [ints(-1)]),
        ("Range", [np.int64(0), np.int64(1 << 40), np.int64(1)]),
        ("Range", [np.float32(0), np.float32(1e30), np.float32(1e-3)]),
    ],
)
def test_constants_that_are_too_large(op: str, weights: list[Any]) -> None:
    given = {f"c{i}": w for i, w in enumerate(weights)}
    nodes = [node(op, " ".join(given), "b", "big"), node("ReduceMax", "b", "y", keepdims=0)]
    refuse_cheaply(
        model(nodes, {"x": (1,)}, weights=given), f"Node 'big' ({op})", "a tensor of this node has"
    )


@pytest.mark.parametrize(
    ("first", "last", "step"), [(0, 4, 0), (0, np.nan, 1), (0, np.inf, 1), (np.nan, 1, 1), (0, 1, np.nan)]
)
def test_ranges_without_a_length(first: float, last: float, step: float) -> None:
    given = {"a": np.float32(first), "b": np.float32(last), "c": np.float32(step)}
    proto = model([node("Range", "a b c", "y", "range")], {"x": (1,)}, weights=given)
    refuse(proto, ModelError, "Node 'range' (Range)", "no sensible length")


def test_many_constants_together_are_too_large() -> None:
    """Each is far below the limit of a tensor, and none of them is in the file."""
    nodes = [node("ConstantOfShape", "s", "c0", "first")]
    for i in range(9):
        nodes.append(node("Add", f"c{i} one", f"c{i + 1}", f"n{i}"))
    nodes.append(node("Gather", "c9 zero", "y"))
    proto = model(nodes, {"x": (1,)}, weights={"s": ints(1 << 10), "one": draw(1), "zero": ints(0)})
    assert read(proto).outputs[0].type.shape == (1,)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(ints(3 << 27), "s"))
    refuse_cheaply(proto, "Node 'first' (ConstantOfShape)", "million steps to compute", "Compute them before")


def test_products_of_constants_count_as_work() -> None:
    allowance = Allowance(0)
    assert allowance.spend(limits.FOLDED_BYTES)
    assert not allowance.spend(1)
    nodes = [
        node("ConstantOfShape", "s", "a"),
        node("MatMul", "a a", "b", "square"),
        node("Gather", "b zero", "y"),
    ]
    proto = model(nodes, {"x": (1,)}, weights={"s": ints(1 << 11, 1 << 11), "zero": ints(0)})
    with pytest.raises(ModelError, match="Node 'square' \\(MatMul\\): the constants that follow from others"):
        read(proto)


# ---- structure


def edited(edit: Callable[[onnx.ModelProto], Any], *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A changed model, of a Softmax unless other nodes are given."""
    proto = model(nodes or [node("Softmax", "x", "y", axis=1)], {"x": (1, 4)})
    edit(proto)
    return proto


@pytest.mark.parametrize("version", [1 << 31, 1 << 40, 0, -1, -(1 << 63)])
def test_versions_that_cannot_be(version: int) -> None:
    opset = edited(lambda m: setattr(m.opset_import[0], "version", version))
    refuse(opset, ModelError, f"states version {version} of ONNX's operators")
    if version:  # early files state none
        refuse(
            edited(lambda m: setattr(m, "ir_version", version)), ModelError, f"version {version} of the file"
        )
    other = edited(lambda m: m.opset_import.append(helper.make_opsetid("z", version)))
    assert len(read(other).nodes) == 1


def test_attributes_of_a_function_that_is_not_there() -> None:
    proto = edited(lambda m: setattr(m.graph.node[0].attribute[0], "ref_attr_name", "q"))
    refuse(proto, ModelError, "(Softmax): attribute axis refers to attribute 'q' of a function")


@pytest.mark.parametrize("word", [b"y", b"x", b"axis", b"Softmax", b"the name", b"a domain", b"some symbol"])
def test_names_that_are_no_text(word: bytes, tmp_path: Path) -> None:
    proto = edited(lambda m: None, node("Softmax", "x", "y", "the name", axis=1))
    proto.opset_import.append(helper.make_opsetid("a domain", 1))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "some symbol"
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString().replace(word, b"\xad" + word[1:]))
    refuse(path, ModelError, "\\xad", "is not UTF-8", "the file is damaged".capitalize())


def test_names_that_break_lines() -> None:
    proto = model([node("DepthToSpace", "x", "y", "a\nb\u2028\x1b[31m", blocksize=2)], {"x": (1, 3, 2, 2)})
    refuse(proto, ConvcError, "Node 'a\\nb\\u2028\\x1b[31m' (DepthToSpace)")
    proto = model([node("Det", "x", "y", "a\nb")], {"x": (2, 2)})
    refuse(proto, UnsupportedError, "'a\\nb'")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "w.bin\0"}, "'w.bin\\x00', which is no name of a file"),
        ({"location": "w" * 5000}, "is missing from"),
        ({"location": "."}, "which is missing from"),
        ({"location": "w.bin", "offset": "9" * 5000}, "offset '9999999999999999999... (5000 characters)'"),
        ({"location": "w.bin", "length": "9" * 5000}, "external length"),
        ({"location": "w.bin", "offset": "9" * 19}, "which has 16"),
        ({"location": "w.bin", "offset": "1\0"}, "'1\\x00', which is no number"),
    ],
)  # fmt: skip
def test_external_data_that_lies_nowhere(entries: dict[str, str], words: str, tmp_path: Path) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    proto = model([node("Add", "x w", "y")], {"x": (1, 4)})
    proto.graph.initializer.append(tensor)
    (tmp_path / "w.bin").write_bytes(draw(4).tobytes())
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    refuse(tmp_path / "m.onnx", ModelError, "Initialiser 'w'", words)


def test_constants_of_nodes_may_lie_outside(tmp_path: Path) -> None:
    tensor = TensorProto(data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    proto = model([node("Constant", "", "w", value=tensor), node("Add", "x w", "y")], {"x": (1, 4)})
    (tmp_path / "w.bin").write_bytes(draw(4).tobytes())
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (weights,) = read(tmp_path / "m.onnx").constants.values()
    np.testing.assert_array_equal(weights, draw(4))
    refuse(proto, ModelError, "The value of Node 'Constant_0' (Constant)", "has no folder")


# ---- functions


def calling(length: int, calls: int, version: int = 1) -> onnx.ModelProto:
    """Functions of which each calls the next one several times."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", version)]
    made = []
    for i in range(length):
        op, domain = (f"F{i + 1}", "f") if i + 1 < length else ("Relu", "")
        names = ["a", *(f"t{k}" for k in range(calls - 1)), "b"]
        nodes = [helper.make_node(op, [names[k]], [names[k + 1]], domain=domain) for k in range(calls)]
        made.append(helper.make_function("f", f"F{i}", ["a"], ["b"], nodes, opsets))
    return model([helper.make_node("F0", ["x"], ["y"], domain="f")], {"x": (2,)}, functions=made)


def test_functions_that_double() -> None:
    assert len(read(calling(5, 2)).nodes) == 32
    refuse_cheaply(calling(30, 2), "expand to 1073741824 nodes")
    refuse_cheaply(calling(3, 500), "nodes, ")


def test_functions_in_long_chains() -> None:
    assert len(read(calling(20, 1)).nodes) == 1
    refuse_cheaply(calling(1000, 1), "1000 calls inside each other; convc takes")


def test_functions_with_large_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few nodes, but each call brings a constant of its own."""
    monkeypatch.setattr(functions, "EXPANDED_BYTES", 1 << 18)
    proto = calling(6, 2)
    stored = helper.make_tensor("", TensorProto.FLOAT, [4096], draw(4096).tobytes(), raw=True)
    proto.functions[5].node.append(helper.make_node("Constant", [], ["c"], value=stored))
    refuse(proto, ModelError, "expand to ", " MiB")


def test_functions_of_versions_that_cannot_be() -> None:
    refuse(calling(2, 1, 1 << 40), ModelError, "Function 'F0'", f"states version {1 << 40}", "domain 'f'")


def test_functions_that_call_themselves_in_a_branch() -> None:
    inner = helper.make_graph(
        [helper.make_node("F", ["a"], ["t"], domain="f")],
        "in",
        [],
        [helper.make_tensor_value_info("t", 1, None)],
    )
    chosen = node("If", "c", "b", then_branch=inner, else_branch=inner)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    made = helper.make_function("f", "F", ["a"], ["b"], [node("IsNaN", "a", "c"), chosen], opsets)
    proto = model([helper.make_node("F", ["x"], ["y"], domain="f")], {"x": ()}, functions=[made])
    refuse(proto, ModelError, "Function 'F' of domain 'f' in 'network' calls itself")
