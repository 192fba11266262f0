"""What a newcomer types wrong: each answer says what was found and what to do."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import Result, convc
from onnx import TensorProto, helper, numpy_helper

import convc as package
from convc import formats
from convc.cli.main import VERBS
from convc.errors import ModelError, ModuleError, OptionError
from convc.frontends.onnx import to_onnx
from convc.naming import close_names, layer_named, layers_named, module_of


def refused(result: Result, *parts: str) -> None:
    assert result.code == 2, result
    assert result.err.startswith("convc: error: ")
    assert result.err.count("\n") == 1
    for part in parts:
        assert part in result.err, result.err


# ---- verbs and flags


def test_without_arguments_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ((), ("db",)):
        result = convc(capsys, *group)
        assert (result.code, result.err) == (2, "")
        assert result.out.startswith(f"Usage: {' '.join(('convc', *group))} [OPTIONS] COMMAND")
        assert result.out == convc(capsys, *group, "--help").out
    assert all(f"\n  {verb} " in convc(capsys).out for verb in VERBS)


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("compil", ["There is no command 'compil'. Did you mean 'compile'?"]),
        ("Compile x.onnx", ["Did you mean 'compile'?"]),
        ("frobnicate", ["The commands are compile, run, verify"]),
        ("net.onnx", ["It looks like a file: `convc compile net.onnx`"]),
        ("build/net.so", ["`convc inspect build/net.so`"]),
        ("db lst", ["There is no command 'lst'. Did you mean 'list'?"]),
        ("compile x.onnx --thread 2", ["'--thread'", "--threads"]),
        ("compile x.onnx --outptu y.so", ["'--outptu'", "--output"]),
        ("run x.so --inputs x=1.npy", ["'--inputs'", "--input"]),
        ("explain x.so --layers c", ["'--layers'", "--layer"]),
    ],
)
def test_misspelt_words_are_suggested(
    typed: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(convc(capsys, *typed.split()), *parts)


# ---- the wrong kind of file


def network() -> package.Network:
    net = package.Network("small")
    x = net.conv(net.input("image", (1, 3, 8, 8)), 4, 3, name="first")
    net.output(net.conv(net.relu(x), 4, 1, name="second"), "y")
    return net


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "net.onnx"
    onnx.save(to_onnx(network()), path)
    return path


@pytest.fixture(scope="module")
def module(model: Path) -> Path:
    path = model.with_suffix(".so")
    package.compile(model, threads=1).save(path)
    return path


@pytest.mark.parametrize("verb", ["compile", "summary", "check", "tune"])
def test_a_module_is_no_model(verb: str, module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        convc(capsys, verb, module),
        f"'{module}' is a convc module, not an ONNX model. It is compiled already: `convc run`, `inspect`",
    )


@pytest.mark.parametrize("verb", ["run", "inspect"])
def test_a_model_is_no_module(verb: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        convc(capsys, verb, model),
        f"'{model}' is an ONNX model, not a convc module. Make a module of it: `convc compile MODEL.onnx",
    )


def test_a_model_is_not_replaced_by_its_module(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    for verb in ("compile", "tune"):
        refused(convc(capsys, verb, model, "-o", model), f"-o names the model itself, '{model}'.")
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--algo first=direct --algo first=im2col", "--algo is given twice for 'first'. Give it once."),
        (
            "--input-shapes image:1x3x8x8 --input-shapes image:1x3x8x9",
            "--input-shapes is given twice for 'image'",
        ),
        ("--emit graph -o out.so", "--emit prints text and writes no module. Leave out -o and --json."),
        ("--emit graph --json", "--emit prints text"),
    ],
)
def test_flags_that_contradict(
    flags: str, message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(convc(capsys, "compile", model, *flags.split()), message)


def test_inputs_that_are_no_arrays(module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cat.png").write_bytes(FILES["png"][0])
    np.savez(tmp_path / "all.npz", image=np.zeros(3))
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8), "f"))
    for given, message in (
        (["image=cat.png"], "'cat.png' for input 'image' is a PNG image, not a NumPy array."),
        (["image=all.npz"], "'all.npz' for input 'image' holds several arrays."),
        (["image=x.npy", "image=x.npy"], "--input is given twice for 'image'."),
        (["x.npy"], "--input 'x.npy' is not NAME=FILE.npy. `convc inspect` shows the names of inputs."),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            refused(convc(capsys, "run", module, *(w for g in given for w in ("--input", g))), message)


def test_a_module_of_another_name_is_one(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "net.bin"
    other.write_bytes(module.read_bytes())
    assert json.loads(convc(capsys, "explain", other, "--json").out)[0]["name"] == "first"


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, b"")
    return out.getvalue()


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


FILES = {
    "archive/data.pkl": (archive("net/data.pkl", "net/version"), "a file of PyTorch", "torch.onnx.export"),
    "model.onnx": (archive("a/net.onnx"), "a ZIP archive with 'a/net.onnx' in it", "Unpack it"),
    "npz": (archive("x.npy"), "an archive of NumPy arrays", ""),
    "keras": (archive("config.json", "model.weights.h5"), "a model of Keras", "model.export"),
    "cut.zip": (archive("x")[:40], "a ZIP archive, or the beginning of one", "again"),
    "npy": (saved(np.zeros(3)), "a NumPy array", "--input NAME=FILE.npy"),
    "pickle": (pickle.dumps({"w": 1}), "a pickle, as of weights of PyTorch or Paddle", "without a network"),
    "safetensors": ((16).to_bytes(8, "little") + b'{"w":{"dtype":1}', "a file of safetensors", "weights"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(30), "a network of TensorFlow Lite", "tf2onnx"),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(30), "an HDF5 file, as Keras writes them", "tf2onnx"),
    "paddle": (b"\x0a\x40\x08\0\x1a\x04feed\x1a\x05fetch", "a network of Paddle", "paddle2onnx"),
    "pb": (b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder\x12\x05Const", "a network of TensorFlow", "tf2onnx"),
    "page": (b"\n<!DOCTYPE html><html>", "a web page", "Download the file itself"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS", "git lfs pull"),
    "xml": (b'<?xml version="1.0"?><net name="x">', "an XML file, as OpenVINO's", "ONNX file"),
    "gz": (b"\x1f\x8b\x08" + bytes(20), "a gzip archive", "Unpack"),
    "png": (b"\x89PNG\r\n\x1a\n", "a PNG image", "A model is needed"),
    "elf": (b"\x7fELF" + bytes(60), "a shared library or program", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_other_files_are_called_what_they_are(name: str, tmp_path: Path) -> None:
    content, kind, advice = FILES[name]
    path = tmp_path / "given.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"given\.onnx' is ") as caught:
        package.read_onnx(path)
    assert f"is {kind}, not an ONNX model" in str(caught.value)
    assert advice in caught.value.hint
    with pytest.raises(ModuleError, match=r"' is (.*, )?not a convc module"):
        package.load(path)


def test_endings_help_where_contents_do_not(tmp_path: Path) -> None:
    for ending, kind in ((".pdiparams", "a file of Paddle's weights"), (".caffemodel", "a file of Caffe")):
        path = tmp_path / f"net{ending}"
        path.write_bytes(bytes(range(200, 250)))
        found = formats.recognised(path)
        assert found is not None
        assert found.name == kind
    assert formats.recognised(tmp_path / "absent") is None
    assert formats.recognised(tmp_path) is None


# ---- names of layers


def exported(path: Path) -> Path:
    """A model as torch's exporter makes it: nodes named by numbers, weights by modules. One is read twice."""
    rng = np.random.default_rng(0)
    weights = {"stem.conv1.weight": (4, 3, 3, 3), "head.shared.weight": (4, 4, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "stem.conv1.weight"], ["a"], name="node_Conv_292"),
        helper.make_node("MaxPool", ["a"], ["b"], name="node_MaxPool_3", kernel_shape=[2, 2]),
        helper.make_node("Conv", ["b", "head.shared.weight"], ["c"], name="node_Conv_294"),
        helper.make_node("Relu", ["c"], ["d"], name="node_Relu_295"),
        helper.make_node("Conv", ["d", "head.shared.weight"], ["y"], name="node_Conv_296"),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", [1, 3, 8, 8]), ("y", [1, 4, 5, 5]))
    ]
    arrays = [numpy_helper.from_array(rng.normal(size=s).astype("f"), n) for n, s in weights.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], arrays)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("numbered") / "net.onnx")


def test_layers_are_named_by_their_weights(numbered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(convc(capsys, "explain", numbered, "--layer", "stem.conv1", "--json").out)
    assert [layer["name"] for layer in shown] == ["node_Conv_292"]
    both = json.loads(convc(capsys, "explain", numbered, "--layer", "head.shared", "--json").out)
    assert [layer["name"] for layer in both] == ["node_Conv_294", "node_Conv_296"]
    result = convc(capsys, "explain", numbered, "--algo", "stem.conv1=im2col", "--json")
    chosen = {layer["name"]: layer["chosen"] for layer in json.loads(result.out)}
    assert chosen["node_Conv_292"] == "im2col"


def test_a_name_of_several_layers_does_not_choose(
    numbered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "'head.shared' may be any of 2 layers. Give one of these names: node_Conv_294, node_Conv_296."
    refused(convc(capsys, "explain", numbered, "--algo", "head.shared=direct"), f"--algo: {message}")
    db = ("--db", tmp_path / "t.db", "-o", tmp_path / "t.so")
    refused(convc(capsys, "tune", numbered, "--layers", "head.shared", *db), f"--layers: {message}")


def test_close_names_include_those_of_weights(
    numbered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ("explain", numbered, "--layer", "conv1"),
        ("explain", numbered, "--algo", "conv1=direct"),
        ("tune", numbered, "--layers", "conv1", "--db", tmp_path / "t.db", "-o", tmp_path / "t.so"),
    ):
        refused(convc(capsys, *arguments), "no layer is named 'conv1'. Close names: stem.conv1")


@pytest.mark.parametrize(
    ("weight", "module"),
    [
        ("conv1.weight", "conv1"), ("layer1.0.bn1.running_mean", "layer1.0.bn1"), ("conv0_weight", "conv0"),
        ("stage1_conv1_bias", "stage1_conv1"), ("bn_gamma", "bn"), ("onnx::Conv_497", ""), ("weight", ""),
        ("", ""), ("conv1.", ""),
    ],
)  # fmt: skip
def test_modules_of_weights(weight: str, module: str) -> None:
    assert module_of(weight) == module


class Layer:
    def __init__(self, name: str, *origin: str, op: str = "conv") -> None:
        self.name, self.origin, self.op = name, origin, op


def test_a_layers_own_name_comes_first() -> None:
    half = Layer("half", "conv2", op="cast")
    layers = [Layer("conv1", "conv1", "conv2"), Layer("conv2", "conv2", "conv1"), half]
    assert layer_named("conv1", layers, "--algo") == layers[:1]
    assert layers_named("conv2", layers, "--layer") == layers[1:2]
    parts = [Layer("up.0", "up", "up.w"), Layer("up.1", "up", "up.w")]
    assert layer_named("up", parts, "--algo") == parts  # what one node became
    parts = [Layer("up", "up"), Layer("up.1", "up"), Layer("woven", "up", op="transpose")]
    assert layer_named("up", parts, "--algo") == parts[:2]
    with pytest.raises(OptionError, match=r"--x: no layer is named 'q'. See `convc summary` for the names."):
        layers_named("q", layers, "--x")


def test_close_names_are_parts_first() -> None:
    known = ["conv10", "layer1.conv1", "a/conv1/Conv", "xonv1"]
    assert close_names("conv1", known) == ["layer1.conv1", "a/conv1/Conv", "conv10"]
