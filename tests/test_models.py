"""What may stand for a network in Python, and what is said of anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import convc
from convc.errors import ConvcError, GraphError, ModelError, OptionError, TypeRuleError
from convc.evaluate import evaluate
from convc.frontends.onnx import check
from convc.ir import parse_graph
from convc.report.summary import show, summary
from convc.verify import verify_against


def network() -> convc.Network:
    net = convc.Network("small")
    net.output(net.relu(net.conv(net.input("image", (1, 3, 8, 8)), 4, 3, name="first")), "y")
    return net


@pytest.fixture(scope="module")
def module() -> convc.Module:
    return convc.compile(network(), threads=1)


def test_a_network_is_a_model_wherever_one_is_taken(
    module: convc.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network()
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    (expected,) = evaluate(net.graph, {"image": x})
    np.testing.assert_allclose(module(x), expected, atol=1e-5)
    assert verify_against(module, net)["y"] < 1e-5
    assert summary(net) == summary(net.graph)
    show(net)
    assert "first" in capsys.readouterr().out
    assert convc.to_onnx(net) == convc.to_onnx(net.graph)


def test_a_network_without_output_is_none() -> None:
    net = convc.Network("open")
    net.input("x", (1, 3, 8, 8))
    with pytest.raises(GraphError, match="Network 'open' has no output"):
        convc.compile(net)


class Module_:
    """Stands for torch's, which tests do without."""

    __module__ = "torch.nn.modules.module"


NO_MODELS: list[tuple[Any, str]] = [
    (None, "not None"),
    (3, "not an object of int"),
    (b"\x08\x07", r"not an object of bytes. onnx.load_from_string\(data\) reads"),
    (Module_(), r"torch.nn.modules.module.Module_. Export it: torch.onnx.export"),
    (onnx.GraphProto(), "GraphProto"),
    (["a.onnx"], "not an object of list"),
]


@pytest.mark.parametrize(("model", "message"), NO_MODELS)
@pytest.mark.parametrize("use", [convc.compile, convc.read_onnx, convc.autotune, check])
def test_what_is_no_model_is_named(use: Any, model: Any, message: str) -> None:
    with pytest.raises(ModelError, match=f"A model is the path of an ONNX file, .*{message}"):
        use(model)


def test_a_graph_is_no_onnx_model_and_the_reverse() -> None:
    with pytest.raises(ModelError, match="but a Graph already"):
        convc.read_onnx(network())  # type: ignore[arg-type]
    for use in (convc.to_onnx, summary):
        with pytest.raises(
            ModelError, match=r"Graph or Network is needed here, not an object of str.*read_onnx"
        ):
            use("a.onnx")  # type: ignore[operator]


SHAPES: list[tuple[Any, str]] = [
    ({"image": (2, 3, 8, 8)}, r"'image' the shape \(2, 3, 8, 8\), but .* fixed: \(1, 3, 8, 8\). Build the"),
    ({"imge": (1, 3, 8, 8)}, "names 'imge', which is no input of 'small'. Its inputs are image"),
    ({"image": "1x3x8x8"}, "gives 'image' the shape '1x3x8x8'. A shape is a sequence of integers, for"),
    ({"image": (1, 3, 8.0, 8)}, "A shape is a sequence of integers"),
    ({"image": (1, 3, None, 8)}, "A shape is a sequence of integers"),
    ({"image": 8}, "A shape is a sequence of integers"),
    ((1, 3, 8, 8), r'not a shape for each name. For instance input_shapes=\{"image"'),
]


@pytest.mark.parametrize(("shapes", "message"), SHAPES)
def test_shapes_of_a_graph_are_fixed(shapes: Any, message: str) -> None:
    with pytest.raises(OptionError, match=f"^input_shapes= .*{message}"):
        convc.compile(network().graph, input_shapes=shapes)


def test_its_own_shape_is_fine() -> None:
    convc.compile(network(), threads=1, verify=False, input_shapes={"image": [1, np.int64(3), 8, 8]})  # type: ignore[dict-item]


# ---- numbers of another type than the operator's


def layers(net: convc.Network, x: Any) -> list[Any]:
    """Each attribute that is a float, as an integer and as NumPy's; integers as NumPy's."""
    i, f = np.int64, np.float32
    return [
        net.lrn(x, i(5), alpha=1, beta=1, bias=2),
        net.elu(x, 1), net.leaky_relu(x, 0), net.hard_sigmoid(x, 1, i(0)), net.swish(x, 2), net.clip(x, 0, 6),
        net.batch_norm(x, epsilon=1), net.instance_norm(x, epsilon=i(1)), net.layer_norm(x, epsilon=f(1)),
        net.group_norm(x, i(2), epsilon=1),
        net.conv(x, i(4), i(3), stride=np.array(1), padding=np.array([1, 1]), groups=i(2)),
        net.conv_transpose(x, i(4), [i(2), 2], stride=(i(2), i(2))),
        net.pad(x, i(1), value=1), net.resize(x, scale=2), net.resize(x, i(4)), net.upsample(x, i(2)),
        net.max_pool(x, i(2), ceil_mode=1), net.softmax(x, i(1)), net.reshape(x, i(256)),
        net.reduce("mean", x, np.array([2, 3])), net.split(x, i(2))[0], net.transpose(x, np.arange(4)),
        net.unary("celu", x, alpha=2), net.unary("shrink", x, lambd=1, bias=0),
    ]  # fmt: skip


def test_numbers_become_what_operators_declare(tmp_path: Path) -> None:
    """What is written is read by others, and its text form is the same again."""
    net = convc.Network("numbers")
    x = net.input("image", (1, 4, 8, 8))
    for k, y in enumerate(layers(net, x)):
        net.output(y, f"y{k}")
    proto = convc.to_onnx(net)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32)
    for found, expected in zip(
        session.run(None, {"image": image}), evaluate(net.graph, {"image": image}), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_text_takes_integers_for_floats_too() -> None:
    text = 'graph "g" {\n  input %x : float32[1,2]\n  %y : float32[1,2] = elu(%x) {alpha=1}\n  output %y\n}\n'
    attrs = parse_graph(text, {}).nodes[0].attrs
    assert type(attrs.alpha) is float  # type: ignore[attr-defined]
    with pytest.raises(GraphError, match="Line 3: attributes of elu: alpha='a' must be a number, not str"):
        parse_graph(text.replace("alpha=1", "alpha='a'"), {})


WRONG: list[tuple[Any, str]] = [
    (lambda n, x: n.elu(x, "1"), "elu 'elu1': alpha='1' must be a number, not str"),
    (lambda n, x: n.elu(x, None), "alpha=None must be a number, not NoneType"),
    (lambda n, x: n.elu(x, 10**400), "is beyond the range of a float"),
    (lambda n, x: n.lrn(x, 5.0), "lrn 'lrn1': size=5.0 must be an integer: write 5"),
    (lambda n, x: n.softmax(x, 1.5), "axis=1.5 must be an integer, not float"),
    (lambda n, x: n.softmax(x, "channels"), "axis='channels' must be an integer, not str"),
    (lambda n, x: n.batch_norm(x, epsilon=True), "epsilon=True must be a number, not bool"),
    (lambda n, x: n.conv(x, 4.0, 3), "conv 'conv1': channels=4.0 must be an integer: write 4"),
    (lambda n, x: n.conv(x, 4, 3.0), "kernel 3.0 must be an integer or 2 of them"),
    (lambda n, x: n.conv(x, 4, "3"), "kernel '3' must be an integer or 2 of them"),
    (lambda n, x: n.conv(x, 4, 3, groups=2.0), "groups=2.0 must be an integer: write 2"),
    (lambda n, x: n.conv(x, 4, 3, padding=1.0), "padding 1.0 must be an integer"),
    (lambda n, x: n.linear(x, 10.0), "features=10.0 must be an integer: write 10"),
    (lambda n, x: n.max_pool(x, 2, ceil_mode="no"), "ceil_mode='no' must be a bool, not str"),
    (lambda n, x: n.reshape(x, (1, 256.0)), "shape=256.0 must be an integer: write 256"),
    (lambda n, x: n.resize(x, scale="2"), "scale='2' must be a number, not str"),
    (lambda n, x: n.gelu(x, 1), "approximate=1 must be a str, not int"),
    (lambda n, x: n.transpose(x, 3), "transpose"),
    (lambda n, x: n.apply("transpose", x, perm=3), "perm=3 must be a sequence, not int"),
    (lambda n, x: n.relu(np.zeros((1, 4))), "relu 'relu1': A Tensor of this network is needed"),
    (lambda n, x: n.conv("image", 4, 3), "Tensor of this network is needed, not an object of str. net.input"),
    (lambda n, x: n.concat([x, 3]), "concat"),
    (lambda n, x: n.input("other", 8.0), r"input: The shape \(8.0,\) must consist of positive integers"),
    (lambda n, x: n.input((1, 3), "other"), r"input: The name \(1, 3\) must be a string. It comes before"),
    (lambda n, x: n.input("other", (1, 3), np.complex64), "The dtype 'complex64' is unknown"),
    (lambda n, x: n.constant(np.array(["a"])), "The dtype 'str[0-9]*' is unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "message"), WRONG)
def test_what_is_no_number_is_refused(mistake: Any, message: str) -> None:
    net = convc.Network("wrong")
    x = net.input("image", (1, 4, 8, 8))
    with pytest.raises(ConvcError, match=message):
        mistake(net, x)


def test_numpys_dtypes_are_known() -> None:
    net = convc.Network("dtypes")
    assert net.input("a", (1, 3), np.float32).dtype == net.input("b", (1, 3), np.dtype("float32")).dtype
    with pytest.raises(TypeRuleError):
        net.input("c", (1, 3), "float33")
