"""Models as a broken exporter, a bad disk or an attacker leaves them, drawn at random.

Run as a script, `hostile_models.py FIRST COUNT`, it imports so many of them within limits of memory and time,
and prints what was neither imported nor refused by a typed error on one line.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convc.types import TensorType

SIZES = (0, -1, -7, 3, 64, 1 << 15, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 33, 1 << 40, 1 << 62, -(1 << 63))
NAMES = (
    "",
    "a\nb",
    "a\x00b",
    "a\x1b[31m",
    "x",
    "y",
    "\N{FULLWIDTH LATIN SMALL LETTER W}",
    "n" * 5000,
    "../w",
    '"',
)
VERSIONS = (0, -1, 1, 6, 11, 13, 18, 21, 28, 99, 1 << 31, 1 << 40, -(1 << 63))

SOUND = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}
"""Of the weights, unless an edit changes them."""
MEMORY, SECONDS = 6 << 30, 300
"""What a child that imports hostile models may take in all."""

Edit = Callable[[random.Random, onnx.ModelProto], None]


def _node(op: str, inputs: str, outputs: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"the {op}", **attributes)


Base: TypeAlias = "tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, list[int] | tuple[int, ...]]]"
"""Nodes, the shape of input x, and weights: integers as a list, or the shape of floats."""

FILTER = (3, 2, 3, 3)
BASES: tuple[Base, ...] = (
    ([_node("Conv", "x w", strides=[1, 1], pads=[1] * 4, dilations=[1, 1])], (1, 2, 6, 5), {"w": FILTER}),
    ([_node("ConvTranspose", "x w", strides=[2, 2], pads=[0, 1, 0, 1])], (1, 3, 4, 5), {"w": FILTER}),
    ([_node("ConvTranspose", "x w", output_padding=[1, 0], strides=[2, 2])], (1, 3, 4, 5), {"w": FILTER}),
    ([_node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])], (1, 2, 6, 5), {}),
    ([_node("AveragePool", "x", kernel_shape=[2, 3], count_include_pad=1)], (1, 2, 6, 5), {}),
    ([_node("LpPool", "x", kernel_shape=[2, 2], p=2)], (1, 2, 6, 5), {}),
    ([_node("LRN", "x", size=3)], (1, 4, 3, 3), {}),
    ([_node("Pad", "x s")], (2, 3), {"s": [0, 1, 2, 0]}),
    ([_node("Tile", "x s")], (2, 3), {"s": [2, 3]}),
    ([_node("Expand", "x s")], (1, 3), {"s": [4, 3]}),
    ([_node("Expand", "c s", "e"), _node("Add", "x e")], (1, 3), {"c": (1, 3), "s": [4, 3]}),
    ([_node("ConstantOfShape", "s", "c"), _node("Add", "x c")], (2, 3), {"s": [2, 3]}),
    ([_node("Range", "a b c", "r"), _node("Gather", "x r")], (4,), {"a": [0], "b": [4], "c": [1]}),
    ([_node("Reshape", "x s")], (4, 6), {"s": [2, -1]}),
    ([_node("Slice", "x a b c d")], (8, 6), {"a": [1], "b": [7], "c": [0], "d": [2]}),
    ([_node("Resize", "x r r s", mode="nearest")], (1, 1, 3, 4), {"r": (0,), "s": [1, 1, 6, 8]}),
    ([_node("Resize", "x r s", mode="linear")], (1, 1, 3, 4), {"r": (0,), "s": (4,)}),
    ([_node("Gather", "x s", axis=0)], (4, 3), {"s": [1, 3]}),
    ([_node("Split", "x s", "y z", axis=1)], (2, 6), {"s": [2, 4]}),
    ([_node("DepthToSpace", "x", blocksize=2)], (1, 8, 2, 3), {}),
    ([_node("GroupNormalization", "x s t", num_groups=2)], (1, 4, 3, 3), {"s": (4,), "t": (4,)}),
    ([_node("ReduceSum", "x s", keepdims=1)], (2, 3, 4), {"s": [0, 2]}),
    ([_node("Gemm", "x w", transB=1)], (2, 4), {"w": (3, 4)}),
    ([_node("MatMul", "c d", "e"), _node("MatMul", "x e")], (2, 4), {"c": (4, 5), "d": (5, 3)}),
    ([_node("Unsqueeze", "x s", "u"), _node("Transpose", "u", perm=[2, 0, 1])], (2, 4), {"s": [1]}),
    ([_node("Concat", "x x", "a", axis=0), _node("Concat", "a a", axis=1)], (2, 4), {}),
    ([_node("OneHot", "x s t", "o", axis=0), _node("Relu", "o")], (2,), {"s": [3], "t": (2,)}),
    ([_node("Loop", "s t x", body=helper.make_graph([], "body", [], []))], (2,), {"s": [3], "t": (1,)}),
)


def base(rng: random.Random) -> onnx.ModelProto:
    """A sound model of one or two nodes, some of which convc has no code for."""
    nodes, shape, weights = rng.choice(BASES)
    arrays = {
        name: np.int64(given) if isinstance(given, list) else np.ones(given, np.float32)
        for name, given in weights.items()
    }
    outputs = [name for name in nodes[-1].output if name]
    graph = helper.make_graph(
        [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes],
        "hostile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _numbers(rng: random.Random, model: onnx.ModelProto) -> None:
    """Extreme numbers in attributes."""
    attributes = [
        a for n in model.graph.node for a in n.attribute if a.ints or a.type == onnx.AttributeProto.INT
    ]
    for attribute in attributes:
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(SIZES)
        elif rng.random() < 0.5:
            attribute.i = rng.choice(SIZES)


def _arguments(rng: random.Random, model: onnx.ModelProto) -> None:
    """Extreme numbers in the constants that say how much."""
    for tensor in model.graph.initializer:
        kind = TensorType(tuple(tensor.dims), SOUND.get(tensor.data_type, "int8"))
        if len(tensor.raw_data) != kind.nbytes or kind.rank > 1:
            continue  # a filter, or another edit has been here
        array = numpy_helper.to_array(tensor).copy()
        if array.size:
            value = rng.choice(SIZES)
            array.reshape(-1)[rng.randrange(array.size)] = (
                value if array.dtype.kind == "i" else np.float32(value or np.nan)
            )
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _inputs(rng: random.Random, model: onnx.ModelProto) -> None:
    """Extents and ranks of the input."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if rng.random() < 0.2:
        dims.extend(onnx.TensorShapeProto.Dimension(dim_value=1) for _ in range(rng.choice([1, 30, 70])))
    elif dims:
        dim = rng.choice(dims)
        if rng.random() < 0.3:
            dim.dim_param = rng.choice(["?", "N", "-1", "a\nb", ""])
        else:
            dim.dim_value = rng.choice(SIZES)


def _weights(rng: random.Random, model: onnx.ModelProto) -> None:
    """Shapes, types and places of the weights."""
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    kind = rng.randrange(4)
    if kind == 0:
        tensor.dims.extend([1] * rng.choice([1, 40, 70]))
    elif kind == 1 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
        if rng.random() < 0.5:
            tensor.dims.append(0)
            tensor.raw_data = b""
    elif kind == 2:
        tensor.data_type = rng.choice([0, 2, 9, 10, 16, 17, 23, 99, -1])
    else:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entries = {
            "location": rng.choice(["w.bin", "w.bin\0", "..", ".", "/dev/zero", "x" * 5000, "\n", "//", ""]),
            "offset": rng.choice(
                ["0", "9" * 5000, "-1", "1e3", "\N{ARABIC-INDIC DIGIT ONE}", str(1 << 62), "\0"]
            ),
            "length": rng.choice(["72", "9" * 5000, "", "0"]),
        }
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)


def _names(rng: random.Random, model: onnx.ModelProto) -> None:
    """Names that do not print, are long, empty, or taken."""
    node = rng.choice(model.graph.node)
    kind = rng.randrange(5)
    if kind == 0:
        node.name = rng.choice(NAMES)
    elif kind == 1:
        node.output[0] = rng.choice(NAMES)
    elif kind == 2 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(NAMES)
    elif kind == 3:
        node.op_type = rng.choice([*NAMES, "If", "Scan", "SequenceAt"])
    else:
        model.graph.name = rng.choice(NAMES)


def _versions(rng: random.Random, model: onnx.ModelProto) -> None:
    """Versions of the format, of opsets, of domains that nobody uses."""
    model.opset_import[0].version = rng.choice(VERSIONS)
    if rng.random() < 0.3:
        model.ir_version = rng.choice([0, -1, 3, 99, 1 << 31, 1 << 40])
    if rng.random() < 0.3:
        model.opset_import.append(helper.make_opsetid(rng.choice(NAMES), rng.choice(VERSIONS)))


def _references(rng: random.Random, model: onnx.ModelProto) -> None:
    """Attributes that refer to those of a function, are of another kind, or occur twice."""
    node = rng.choice(model.graph.node)
    if not node.attribute:
        return
    attribute = rng.choice(node.attribute)
    kind = rng.randrange(3)
    if kind == 0:
        attribute.ref_attr_name = "q"
    elif kind == 1:
        attribute.type = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 14])
    else:
        node.attribute.append(attribute)


def _branches(rng: random.Random, model: onnx.ModelProto) -> None:
    """The nodes moved into a branch of an If, or several deep."""
    outputs = list(model.graph.output)
    for level in range(rng.choice([1, 1, 2, 12])):
        inner = onnx.GraphProto(name=f"branch {level}")
        inner.node.extend(model.graph.node)
        inner.output.extend(outputs)
        empty = onnx.GraphProto(name="empty")
        empty.output.extend(outputs if rng.random() < 0.7 else [])
        names = [o.name for o in outputs]
        chosen = helper.make_node("If", [f"c{level}"], names, name="if", then_branch=inner, else_branch=empty)
        if rng.random() < 0.1:
            del chosen.attribute[rng.randrange(len(chosen.attribute))]
        del model.graph.node[:]
        model.graph.node.append(chosen)
        if rng.random() < 0.7:
            model.graph.initializer.append(numpy_helper.from_array(np.array(rng.random() < 0.8), f"c{level}"))
        else:
            model.graph.input.append(helper.make_tensor_value_info(f"c{level}", TensorProto.BOOL, []))


def _functions(rng: random.Random, model: onnx.ModelProto) -> None:
    """Functions that call others twice, in a chain, or themselves."""
    length, calls = rng.choice([(2, 2), (40, 2), (200, 1), (2000, 1), (3, 40)])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("f", rng.choice([1, 1, 1, 1 << 40]))]
    for i in range(length):
        op, domain = (f"F{i + 1}", "f") if i + 1 < length else ("Relu", "")
        if rng.random() < 0.001:
            op = "F0"
        nodes = [
            helper.make_node(
                op, [f"t{k}" if k else "a"], [f"t{k + 1}" if k + 1 < calls else "b"], domain=domain
            )
            for k in range(calls)
        ]
        model.functions.append(helper.make_function("f", f"F{i}", ["a"], ["b"], nodes, opsets))
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.graph.node.append(helper.make_node("F0", ["x"], ["from function"], domain="f"))
    model.graph.output.append(helper.make_tensor_value_info("from function", TensorProto.FLOAT, None))


def _order(rng: random.Random, model: onnx.ModelProto) -> None:
    """Nodes in another order, or twice."""
    nodes = list(model.graph.node) * rng.choice([1, 1, 2])
    rng.shuffle(nodes)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


EDITS: tuple[Edit, ...] = (
    _numbers, _numbers, _arguments, _arguments, _arguments, _inputs, _inputs, _weights, _weights, _names,
    _versions, _references, _branches, _functions, _order,
)  # fmt: skip


def hostile(seed: int) -> bytes:
    """The bytes of a model: sound but for one or two edits, and perhaps for bytes that are no text."""
    rng = random.Random(seed)
    model = base(rng)
    for _ in range(rng.choice([1, 1, 2, 3])):
        rng.choice(EDITS)(rng, model)
    data = model.SerializeToString()
    if rng.random() < 0.05:
        data = data.replace(rng.choice([b"y", b"x", b"strides", b"hostile", b"axis"]), b"\xad", 1)
    if rng.random() < 0.05:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return data


def fault_of(data: bytes, path: Path) -> tuple[str, str]:
    """What the importer makes of a file: `imported`, `refused` or `fault`, and its words."""
    from convc.errors import ConvcError
    from convc.frontends.onnx import check, read

    path.write_bytes(data)
    try:
        check(path)
        read(path, notice=lambda text: None)
    except ConvcError as error:
        text = str(error)
        return ("refused" if text.isprintable() and text else "fault"), text
    except Exception:
        return "fault", traceback.format_exc()
    return "imported", ""


def main() -> None:
    """Import models of the given seeds; print each that is a fault, and a last line of counts."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    found = {"imported": 0, "refused": 0, "fault": 0}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "w.bin").write_bytes(bytes(72))
        for seed in range(first, first + count):
            print(f"at {seed}", file=sys.stderr, flush=True)  # the last one of these is where it crashed
            kind, words = fault_of(hostile(seed), Path(folder) / "m.onnx")
            found[kind] += 1
            if kind == "fault":
                print(f"seed {seed}: {words}", flush=True)
    print(f"{found['imported']} imported, {found['refused']} refused, {found['fault']} faults")


if __name__ == "__main__":
    main()
