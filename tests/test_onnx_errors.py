"""What the importer says of models that are broken or that ask for too much: each message is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper
from onnx_models import draw, ints, model, node
from onnx_refusals import refuse

from convc.errors import ModelError, TypeRuleError, UnsupportedError
from convc.frontends.onnx import check, read
from convc.frontends.onnx.handlers import supported

CONV = model([node("Conv", "x w", "y", "conv1")], {"x": (1, 3, 8, 8)}, weights={"w": draw(4, 3, 3, 3)})

# ---- files


def test_missing_file(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", ModelError, "There is no file", "none.onnx")


def test_folder_instead_of_file(tmp_path: Path) -> None:
    refuse(tmp_path, ModelError, "is not a file")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(b"")
    refuse(path, ModelError, "empty.onnx", "is empty")


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"\x89PNG\r\n\x1a\n" * 9, b"{}", b"\x00" * 64])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    refuse(path, ModelError, "other.onnx", "not an ONNX model")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = CONV.SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        refuse(path, ModelError)


def saved_externally(folder: Path, location: str = "weights.bin") -> Path:
    """CONV with its weights in a file beside it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(CONV)
    external_data_helper.convert_model_to_external_data(copy, location=location, size_threshold=0)
    path = folder / "model.onnx"
    onnx.save(copy, path)
    return path


def relocate(path: Path, **entries: str) -> None:
    """Rewrite the external-data entries of the only initialiser."""
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())


def test_external_data_is_read(tmp_path: Path) -> None:
    graph = read(saved_externally(tmp_path))
    (weights,) = graph.constants.values()
    np.testing.assert_array_equal(weights, draw(4, 3, 3, 3))


def test_missing_external_data(tmp_path: Path) -> None:
    path = saved_externally(tmp_path)
    (tmp_path / "weights.bin").unlink()
    refuse(path, ModelError, "Initialiser 'w'", "weights.bin", "missing")


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../weights.bin", "a/../../weights.bin", "C:\\w.bin", ""]
)
def test_external_data_must_stay_in_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(432))
    path = saved_externally(folder)
    relocate(path, location=location)
    refuse(path, ModelError, "Initialiser 'w'", "leaves the model's folder")


def test_external_data_behind_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = saved_externally(folder)
    (folder / "weights.bin").rename(tmp_path / "secret.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    refuse(path, ModelError, "leaves the model's folder")


def test_short_external_data(tmp_path: Path) -> None:
    path = saved_externally(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    refuse(path, ModelError, "Initialiser 'w'", "needs bytes 0 to 432", "which has 100")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"length": "7"}, "states 7 bytes"),
        ({"offset": "-4"}, "'-4'"),
        ({"offset": "x"}, "no number of bytes"),
    ],
)
def test_wrong_external_entries(tmp_path: Path, entries: dict[str, str], words: str) -> None:
    path = saved_externally(tmp_path)
    relocate(path, **entries)
    refuse(path, ModelError, words)


def test_external_data_of_a_model_in_memory(tmp_path: Path) -> None:
    refuse(onnx.load(saved_externally(tmp_path), load_external_data=False), ModelError, "has no folder")


# ---- malformed models


def change(edit: Callable[[onnx.ModelProto], Any]) -> onnx.ModelProto:
    """A changed copy of CONV."""
    copy = onnx.ModelProto()
    copy.CopyFrom(CONV)
    edit(copy)
    return copy


def set_data(raw: bytes) -> Callable[[onnx.ModelProto], None]:
    """An edit that replaces the weights' bytes."""
    return lambda m: setattr(m.graph.initializer[0], "raw_data", raw)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: m.graph.ClearField("node"), ["makes the output 'y'"]),
        (lambda m: m.ClearField("graph"), ["not an ONNX model"]),
        (lambda m: m.ClearField("opset_import"), ["opset"]),
        (set_data(b"abc"), ["Initialiser 'w'", "has 3 bytes", "needs 432"]),
        (lambda m: m.graph.initializer[0].dims.append(-2), ["Initialiser 'w'", "negative"]),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), ["Initialiser 'w'", "twice"]),
        (lambda m: m.graph.input.append(m.graph.input[0]), ["Two inputs"]),
        (lambda m: m.graph.node[0].input.__setitem__(1, "v"), ["'conv1' (Conv)", "reads 'v'", "neither"]),
        (lambda m: m.graph.node[0].input.__setitem__(0, "y"), ["'conv1' (Conv)", "cycle"]),
        (lambda m: m.graph.node[0].input.__delitem__(1), ["'conv1' (Conv)"]),
        (lambda m: m.graph.node[0].output.__setitem__(0, "x"), ["'conv1' (Conv)", "exists already"]),
        (lambda m: m.graph.node.append(m.graph.node[0]), ["makes 'y', which exists already"]),
        (lambda m: m.graph.output.append(m.graph.output[0]), ["different names"]),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 0), ["1, 3, 0, 8"]),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", -5), ["-5"]),
    ],
    ids=lambda v: "" if callable(v) else v[0],
)  # fmt: skip
def test_malformed_models(edit: Callable[[onnx.ModelProto], Any], words: list[str]) -> None:
    refuse(change(edit), ModelError, *words)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"strides": [1, 1, 1]}, "strides = [1, 1, 1] has 3 entries; 2 are expected"),
        ({"strides": [0, 1]}, "must be positive"),
        ({"kernel_shape": [5, 5]}, "contradicts the weights' [3, 3]"),
        ({"auto_pad": "SAME"}, "auto_pad = 'SAME'"),
        ({"strides": 2}, "strides"),
        ({"unheard_of": 2}, "unheard_of"),
    ],
)  # fmt: skip
def test_malformed_attributes_name_the_node(attributes: dict[str, Any], words: str) -> None:
    def edit(m: onnx.ModelProto) -> None:
        m.graph.node[0].attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())

    refuse(change(edit), ModelError, "Node 'conv1' (Conv)", words)


def test_type_rules_name_the_node() -> None:
    wrong = model([node("Conv", "x w", "y", "conv1")], {"x": (1, 5, 8, 8)}, weights={"w": draw(4, 3, 3, 3)})
    refuse(wrong, TypeRuleError, "Node 'conv1' (Conv)", "3 input channels", "has 5")


def test_constants_that_do_not_fit_name_the_node() -> None:
    nodes = [node("Gather", "table index", "i", "pick"), node("Reshape", "x i", "y")]
    wrong = model(nodes, {"x": (4,)}, weights={"table": ints(4), "index": ints(3)})
    refuse(wrong, TypeRuleError, "Node 'pick' (Gather)", "out of bounds")


def test_missing_required_attribute() -> None:
    refuse(model([node("Concat", "x x", "y", "join")], {"x": (2, 2)}), ModelError, "'join' (Concat)", "axis")


@pytest.mark.parametrize(
    ("op", "weights", "attributes", "words"),
    [
        ("Reshape", [ints(3, -1)], {}, "cannot take the shape"),
        ("Reshape", [ints(0, 0, 0)], {}, "keeps an axis"),
        ("Transpose", [], {"perm": [0, 0]}, "no order of 2 axes"),
        ("Squeeze", [ints(0)], {}, "not all of extent 1"),
        ("Unsqueeze", [ints(0, 0)], {}, "one axis twice"),
        ("Slice", [ints(0), ints(1), ints(5)], {}, "axis 5 is out of range"),
        ("Slice", [ints(0), ints(1), ints(0), ints(0)], {}, "do not fit"),
        ("Pad", [ints(1, 1)], {}, "pads [1, 1] do not fit 2 axes"),
        ("Expand", [ints(3, 5)], {}, "does not broadcast"),
        ("Tile", [ints(2)], {}, "do not fit"),
        ("Flatten", [], {"axis": 9}, "axis = 9 is out of range"),
        ("Resize", [np.float32([]), np.float32([2, -1])], {}, "do not fit"),
        ("Softmax", [], {"axis": 2}, "axis 2 is out of range"),
        ("ReduceMean", [], {"axes": [0, -2]}, "one axis twice"),
        ("Split", [ints(1, 2)], {}, "2 entries for 1 outputs"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(
    op: str, weights: list[Any], attributes: dict[str, Any], words: str
) -> None:
    given = {f"c{i}": w for i, w in enumerate(weights)}
    wrong = model([node(op, " ".join(["x", *given]), "y", "it", **attributes)], {"x": (2, 4)}, weights=given)
    refuse(wrong, ModelError, f"Node 'it' ({op})", words)


def test_absurd_constants_are_not_built() -> None:
    nodes = [node("ConstantOfShape", "s", "c", "huge"), node("Add", "x c", "y")]
    wrong = model(nodes, {"x": (2,)}, weights={"s": ints(1 << 40, 1 << 20)})
    refuse(wrong, ModelError, "Node 'huge' (ConstantOfShape)", "2147483647 elements are the most")


# ---- what convc does not do


def test_all_unsupported_nodes_are_named_at_once() -> None:
    nodes = [
        node("NonZero", "x", "n", "where"),
        node("Relu", "x", "a"),
        node("MaxPool", "a", "b indices", "pool", kernel_shape=[2, 2]),
        node("Conv", "b w", "c", "conv"),
        node("GridSample", "c g", "d", "warp"),
        node("GridSample", "d g", "e", "warp2"),
        helper.make_node("Fancy", ["e"], ["y"], name="fancy", domain="com.acme"),
    ]
    shapes = {"x": (1, 3, 9, 9), "g": (1, 2, 2, 2)}
    proto = model(nodes, shapes, ("y", "n", "indices"), {"w": draw(2, 3, 3, 3)})
    refuse(
        proto,
        UnsupportedError,
        "NonZero (opset 17) node 'where': input 0 (X) 'x' is computed at run time",
        "MaxPool (opset 17) node 'pool': output 1 (Indices) is used",
        "GridSample (opset 17) nodes 'warp', 'warp2': convc has no code",
        "Fancy (opset 17) node 'fancy': an operator of domain 'com.acme'",
    )
    findings = check(proto)
    assert len(findings.lines()) == 4
    assert dict(findings.supported) == {"Relu": 1, "Conv": 1}


def test_nodes_behind_a_value_of_unknown_type_are_found() -> None:
    nodes = [
        helper.make_node("Fancy", ["x"], ["a"], name="first", domain="com.acme"),
        node("Relu", "a", "b"),
        node("Det", "b", "y", "second"),
    ]
    refuse(model(nodes, {"x": (1, 3, 3)}), UnsupportedError, "node 'first'", "node 'second'")


def test_attributes_behind_an_unsupported_node_are_found_by_inference() -> None:
    nodes = [
        node("BitwiseNot", "x", "a", "first"),
        node("Cast", "a", "f", to=1),
        node("Resize", "f _ s", "y", "second", coordinate_transformation_mode="tf_crop_and_resize"),
    ]
    proto = model(
        nodes, {"x": (1, 1, 4, 4)}, weights={"s": np.float32([1, 1, 2, 2])}, opset=18, dtypes={"x": 6}
    )
    refuse(proto, UnsupportedError, "'first'", "'second'", "coordinate_transformation_mode = 'tf_crop")


@pytest.mark.parametrize(
    ("op", "outputs", "attributes", "words"),
    [
        ("Dropout", "y mask", {}, "output 1 (mask) is used"),
        ("BatchNormalization", "y m v", {"training_mode": 1}, "training_mode = 1"),
        ("LayerNormalization", "y m", {}, "output 1"),
        ("Cast", "y", {"to": onnx.TensorProto.BFLOAT16}, "to = BFLOAT16"),
        ("Conv", "y", {"pads": [-1, 0, 0, 0]}, "pads = [-1, 0, 0, 0]"),
    ],
)  # fmt: skip
def test_training_and_other_refusals(op: str, outputs: str, attributes: dict[str, Any], words: str) -> None:
    weights = {"Conv": {"w": draw(3, 3, 1, 1)}, "LayerNormalization": {"s": draw(4)}}.get(op, {})
    if op == "BatchNormalization":
        weights = {name: draw(3) for name in "sbmv"}
        outputs = "y rm rv"
    inputs = " ".join(["x", *weights])
    proto = model(
        [node(op, inputs, outputs, "it", **attributes)], {"x": (1, 3, 4, 4)}, outputs.split(), weights
    )
    refuse(proto, UnsupportedError, f"{op} (opset 17) node 'it'", words)


def test_arguments_computed_at_run_time_are_refused() -> None:
    proto = model([node("Reshape", "x s", "y", "flat")], {"x": (4, 4), "s": (2,)}, dtypes={"s": 7})
    refuse(proto, UnsupportedError, "input 1 (shape) 's' is computed at run time, not constant")
    assert read(proto, constants={"s": ints(2, 8)}).outputs[0].type.shape == (2, 8)


def test_old_and_future_definitions_are_refused() -> None:
    upsample = node("Upsample", "x", "y", height_scale=2.0, width_scale=2.0)
    old = model([upsample], {"x": (1, 1, 4, 4)}, opset=6)
    refuse(old, UnsupportedError, "Upsample (opset 6)", "its definition is another than in opsets 7 to")
    assert len(read(model([node("Relu", "x", "y")], {"x": (4,)}, opset=6)).nodes) == 1  # Relu has not changed


@pytest.mark.parametrize("dtype", [onnx.TensorProto.STRING, onnx.TensorProto.BFLOAT16, 99])
def test_inputs_of_other_dtypes(dtype: int) -> None:
    proto = model([node("Identity", "x", "y")], {"x": (4,)}, dtypes={"x": dtype})
    refuse(proto, UnsupportedError, "Input 'x' has data type")


def test_sparse_weights_are_refused() -> None:
    refuse(change(lambda m: m.graph.sparse_initializer.add()), UnsupportedError, "sparse")


def test_functions_that_call_themselves() -> None:
    call = helper.make_node("F", ["x"], ["y"], domain="my")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    function = helper.make_function("my", "F", ["x"], ["y"], [call], opsets)
    proto = model([call], {"x": (3,)}, functions=[function])
    refuse(proto, ModelError, "Function 'F' of domain 'my' in 'network' calls itself")
    call.input.append("x")
    function = helper.make_function("my", "F", ["x"], ["y"], [node("Relu", "x", "y")], opsets)
    refuse(model([call], {"x": (3,)}, functions=[function]), ModelError, "cannot be expanded")


def test_supported_list_names_real_operators() -> None:
    schemas = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert set(supported()) - schemas <= {"Swish"}  # which came with onnx 1.19
    assert len(supported()) > 100
    assert all(re.fullmatch(r"[A-Z]\w+", name) for name in supported())
