"""The Python builder: shapes, weights, names, operators, and errors at the user's line."""

import inspect

import numpy as np
import pytest

from convc.errors import ConvcError, GraphError, TypeRuleError
from convc.evaluate import evaluate
from convc.frontends.builder import Network, Tensor
from convc.ir.opdef import REGISTRY
from convc.ir.verify import verify


def made(shape=(1, 4, 9, 9), **options):
    net = Network("test", **options)
    return net, net.input("image", shape)


def computed(net, x, *arrays):
    """The value of `x` by the float64 reference."""
    net.output(x, "result")
    return evaluate(net.graph, dict(zip([v.name for v in net.graph.inputs], arrays, strict=True)))[0]


# ---- shapes


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda n, x: n.conv(x, 6, 3), (1, 6, 7, 7)),
        (lambda n, x: n.conv(x, 6, 3, padding=1), (1, 6, 9, 9)),
        (lambda n, x: n.conv(x, 6, 3, padding="same", stride=2), (1, 6, 5, 5)),
        (lambda n, x: n.conv(x, 6, (3, 5), padding=(1, 2), stride=(1, 2)), (1, 6, 9, 5)),
        (lambda n, x: n.conv(x, 6, 2, padding=((0, 1), (1, 0))), (1, 6, 9, 9)),
        (lambda n, x: n.conv(x, 6, 3, dilation=2, padding="valid"), (1, 6, 5, 5)),
        (lambda n, x: n.conv(x, 8, 3, groups=4, padding="same"), (1, 8, 9, 9)),
        (lambda n, x: n.conv_transpose(x, 6, 2, stride=2), (1, 6, 18, 18)),
        (lambda n, x: n.conv_transpose(x, 6, 3, stride=2, padding=1, output_padding=1), (1, 6, 18, 18)),
        (lambda n, x: n.conv_transpose(x, 6, 3, stride=2, padding="same"), (1, 6, 18, 18)),
        (lambda n, x: n.conv_transpose(x, 6, 1, stride=2, padding="same"), (1, 6, 18, 18)),
        (lambda n, x: n.max_pool(x, 2), (1, 4, 4, 4)),
        (lambda n, x: n.max_pool(x, 3, stride=2, ceil_mode=True), (1, 4, 4, 4)),
        (lambda n, x: n.average_pool(x, 2, stride=1, padding="same"), (1, 4, 9, 9)),
        (lambda n, x: n.lp_pool(x, 3), (1, 4, 3, 3)),
        (lambda n, x: n.global_average_pool(x), (1, 4, 1, 1)),
        (lambda n, x: n.global_max_pool(x), (1, 4, 1, 1)),
        (lambda n, x: n.linear(x, 7), (1, 7)),
        (lambda n, x: n.linear(n.flatten(x), 7, bias=False), (1, 7)),
        (lambda n, x: n.layer_norm(x, axis=2), (1, 4, 9, 9)),
        (lambda n, x: n.group_norm(n.instance_norm(n.batch_norm(x)), 2), (1, 4, 9, 9)),
        (lambda n, x: n.concat([x, x, n.lrn(x, 5)]), (1, 12, 9, 9)),
        (lambda n, x: n.split(x, (1, 3))[1], (1, 3, 9, 9)),
        (lambda n, x: n.split(x, 2)[0], (1, 2, 9, 9)),
        (lambda n, x: n.reshape(x, (4, -1, 3)), (4, 27, 3)),
        (lambda n, x: n.transpose(x, (0, 2, 3, 1)), (1, 9, 9, 4)),
        (lambda n, x: n.pad(x, (1, (2, -3)), mode="constant", value=2.0), (1, 4, 11, 8)),
        (lambda n, x: n.crop(x, (4, 9)), (1, 4, 4, 9)),
        (lambda n, x: n.gather(x, [3, 0]), (1, 2, 9, 9)),
        (lambda n, x: n.depth_to_space(x, 2), (1, 1, 18, 18)),
        (lambda n, x: n.space_to_depth(n.crop(x, (8, 8)), 2), (1, 16, 4, 4)),
        (lambda n, x: n.resize(x, (5, 20), mode="linear"), (1, 4, 5, 20)),
        (lambda n, x: n.resize(x, scale=1.5, mode="cubic"), (1, 4, 13, 13)),
        (lambda n, x: n.upsample(x), (1, 4, 18, 18)),
        (lambda n, x: n.reduce("mean", x, (1, 2), keepdims=False), (1, 9)),
        (lambda n, x: x[:, 1:3, ::-2, ...], (1, 2, 5, 9)),
        (lambda n, x: x[0, ..., -1], (4, 9)),
        (lambda n, x: n.apply("tile", x, repeats=(2, 1, 1, 1)), (2, 4, 9, 9)),
    ],
)
def test_shapes_are_inferred(layer, expected):
    net, x = made()
    result = layer(net, x)
    assert result.shape == expected
    net.output(result)
    verify(net.graph)


@pytest.mark.parametrize("shape", [(2, 3, 11), (2, 3, 5, 6, 7)])
def test_layers_work_on_one_and_three_spatial_axes(shape):
    net, x = made(shape)
    y = net.max_pool(net.conv(x, 5, 3, padding="same"), 2)
    assert y.shape == (2, 5, *(n // 2 for n in shape[2:]))


def test_every_activation_has_its_reference():
    names = (
        "relu", "relu6", "clip", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "hard_swish",
        "swish", "mish", "gelu", "tanh", "softplus", "softsign", "softmax", "log_softmax", "dropout", "prelu",
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((1, 4, 2, 2))
    for name in names:
        net, t = made((1, 4, 2, 2))
        assert computed(net, getattr(net, name)(t), x).shape == x.shape
    net, t = made((1, 4, 2, 2))
    np.testing.assert_array_equal(computed(net, net.relu6(10 * t), x), np.clip(10 * x, 0, 6))


def test_every_operator_is_reachable_by_name():
    net, _ = made()
    for op in REGISTRY:
        with pytest.raises(TypeRuleError, match=rf"{op} '{op}1': .*no_such_attribute"):
            net.apply(op, no_such_attribute=1)


# ---- arithmetic of tensors


def test_tensor_arithmetic_is_numpys():
    a, b = np.random.default_rng(1).standard_normal((2, 1, 4, 3, 3))
    net = Network()
    x, y = net.input("a", a.shape), net.input("b", b.shape)
    gate = np.linspace(1, 2, 4).reshape(1, 4, 1, 1)
    z = (2.0 - x) / (y * y + 1) + gate * x - -y
    expected = (2.0 - a) / (b * b + 1) + gate * a + b
    # numbers become float32 constants: one rounding of the gate, everything else is exact or float64
    np.testing.assert_allclose(computed(net, z, a, b), expected, rtol=0, atol=4 * np.finfo("f4").eps)


def test_slices_are_numpys():
    a = np.random.default_rng(2).standard_normal((2, 4, 5, 6))
    for index in (np.s_[:, 1], np.s_[..., ::-1], np.s_[1, ..., 2:-1:2], np.s_[:, -3:, 4:0:-2, -1], np.s_[0]):
        net, x = made(a.shape)
        np.testing.assert_array_equal(computed(net, x[index], a), a[index])


def test_crop_keeps_the_centre():
    a = np.arange(36.0).reshape(1, 1, 6, 6)
    net, x = made(a.shape)
    np.testing.assert_array_equal(computed(net, net.crop(x, (3, 2)), a), a[:, :, 1:4, 2:4])


# ---- weights


def weights_of(net):
    net.output(next(iter(net._graph.nodes[-1].outputs)) and Tensor(net, net._graph.nodes[-1].output))
    return {value.name: array for value, array in net.graph.constants.items()}


def test_weights_follow_from_seed_and_name_alone():
    def build(seed, extra):
        net, x = made(seed=seed)
        if extra:
            x = net.conv(x, 4, 1, name="extra")
        net.conv(x, 8, 3, name="body")
        return weights_of(net)

    plain, more, other = build(0, False), build(0, True), build(1, False)
    for part in ("body.weight", "body.bias"):
        np.testing.assert_array_equal(plain[part], more[part])
        assert not np.array_equal(plain[part], other[part])


def test_drawn_weights_have_the_variance_of_he():
    net, x = made((1, 64, 3, 3))
    net.conv(x, 512, 3)
    weight = weights_of(net)["conv1.weight"]
    assert weight.dtype == np.float32
    variance, count = 2 / (64 * 9), weight.size
    assert abs(weight.var() / variance - 1) < 5 * np.sqrt(2 / count)  # five deviations of a sample variance
    assert abs(weight.mean()) < 5 * np.sqrt(variance / count)


def test_without_a_seed_weights_are_zeros_that_take_no_memory():
    net, x = made(seed=None)
    net.linear(x, 1000)
    weight = weights_of(net)["linear1.weight"]
    assert weight.shape == (1000, 324)
    assert weight.strides == (0, 0)
    assert not weight.any()


def test_given_weights_are_used():
    rng = np.random.default_rng(3)
    a, w, b = rng.standard_normal((1, 4, 3, 3)), rng.standard_normal((2, 4, 1, 1)), rng.standard_normal(2)
    net, x = made(a.shape)
    y = computed(net, net.conv(x, 2, 1, weight=w, bias=b), a)
    rounded = np.float64(np.float32(w[:, :, 0, 0])), np.float64(np.float32(b))
    expected = np.einsum("kc,nchw->nkhw", rounded[0], a) + rounded[1].reshape(-1, 1, 1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)


def test_a_table_gives_every_weight(tmp_path):
    rng = np.random.default_rng(4)
    np.savez(tmp_path / "w.npz", **{"a.weight": rng.standard_normal((2, 4, 1, 1)), "a.bias": np.ones(2)})
    with np.load(tmp_path / "w.npz") as table:
        net, x = made(weights=table)
        net.output(net.conv(x, 2, 1, name="a"))
    assert {v.name for v in net.graph.constants} == {"a.weight", "a.bias"}


def test_a_table_must_have_every_weight_and_no_more():
    table = {"a.weight": np.ones((2, 4, 1, 1)), "left": np.ones(1)}
    net, x = made(weights=table)
    with pytest.raises(
        TypeRuleError, match=r"conv 'a': No array 'a.bias' of shape \(2,\) is among the 2 given"
    ):
        net.conv(x, 2, 1, name="a")
    net.output(net.conv(x, 2, 1, bias=False, name="a"))
    with pytest.raises(GraphError, match=r"no layer for 1 of the given arrays: left\."):
        _ = net.graph


# ---- names


def test_layers_are_numbered_by_kind_within_their_scope():
    net, x = made()
    x = net.relu(net.conv(x, 4, 1))
    with net.scope("stage"):
        x = net.conv(x, 4, 1)
        with net.scope("block"):
            x = net.linear(x, 4, name="last")
    x = net.relu(x)
    assert [n.name for n in net._graph.nodes if n.op != "reshape"] == [
        "conv1", "relu1", "stage.conv1", "stage.block.last", "relu2",
    ]  # fmt: skip
    assert x.name == "relu2"


def test_outputs_have_the_names_that_were_asked_for():
    net, x = made()
    a, b = net.split(x, 2)
    net.output(net.relu(a), "left")
    net.output(b)
    assert net.graph.output_names == ("left", "split1:1")
    with pytest.raises(GraphError, match="Two outputs are named 'left'"):
        net.output(a, "left")


# ---- mistakes

MISTAKES = [
    (lambda n, x: n.conv(x, 6, 11), "conv 'conv1': A window of 11 .* does not fit into 9 elements"),
    (lambda n, x: n.conv(x, 6, 3, groups=3), "3 groups do not divide 4 input and 6 output channels"),
    (lambda n, x: n.conv(x, 6, 3, stride=0), r"stride \(0, 0\) must be positive"),
    (lambda n, x: n.conv(x, 6, (3, 3, 3)), r"kernel \(3, 3, 3\) must be an integer or 2 of them"),
    (lambda n, x: n.conv(x, 6, 3, padding="full"), "padding 'full' must be an integer"),
    (lambda n, x: n.conv(x, 6, 3, padding=-1), "padding -1 must not be negative"),
    (
        lambda n, x: n.conv(x, 6, 3, weight=np.ones((6, 3, 3, 3))),
        r"\(6, 3, 3, 3\); the layer needs \(6, 4, 3",
    ),
    (lambda n, x: n.conv(x, 6, 3, bias=np.ones(4)), r"'conv1.bias' has shape \(4,\); the layer needs \(6,\)"),
    (lambda n, x: n.conv(x, 1, 1, bias=np.ones(1) * 1j), "dtype complex128; the layer needs float32"),
    (lambda n, x: n.conv(n.flatten(x), 6, 3), r"conv 'conv1': The input \(1, 324\) has no spatial axes"),
    (lambda n, x: n.batch_norm(x, mean=np.ones(5)), r"batch_norm 'batch_norm1': .* \(5,\); .* needs \(4,\)"),
    (lambda n, x: x + n.max_pool(x, 2), r"add 'add1': Shapes \(1, 4, 9, 9\) and \(1, 4, 4, 4\)"),
    (lambda n, x: n.concat([x, n.max_pool(x, 2)], name="j"), r"concat 'j': .*\(1, 4, 9, 9\), \(1, 4, 4, 4\)"),
    (lambda n, x: n.split(x, 3), r"split 'split1': 3 equal parts do not divide 4, axis 1"),
    (lambda n, x: n.reshape(x, (5, -1)), r"\(1, 4, 9, 9\) cannot become \(5, -1\)"),
    (lambda n, x: n.crop(x, (10, 9)), r"\(9, 9\) cannot be cropped to \(10, 9\)"),
    (lambda n, x: n.resize(x), "Give size or scale"),
    (lambda n, x: n.gather(x, [0.5]), "dtype float64; integers are needed"),
    (lambda n, x: x[:, 4], r"Index 4 does not fit axis 1 of the shape \(1, 4, 9, 9\)"),
    (lambda n, x: x[0, 0, 0, 0, 0], r"does not fit the shape \(1, 4, 9, 9\)"),
    (lambda n, x: n.apply("frobnicate", x), "frobnicate 'frobnicate1': Unknown operator"),
    (lambda n, x: n.input("image", (1, 2)), "input: Two values are named 'image'"),
    (lambda n, x: n.input("other", (0, 2)), r"input: The shape \(0, 2\) must consist of positive integers"),
    (lambda n, x: n.input("other", (1,), "float8"), "The dtype 'float8' is unknown"),
    (lambda n, x: (n.relu(x, name="r"), n.relu(x, name="r")), "relu 'r': Two layers are named 'r'"),
    (lambda n, x: n.relu(Network("b").input("y", (1, 2))), "Tensor 'y' belongs to the network 'b'"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_are_reported_at_their_line(mistake, message):
    net, x = made()
    with pytest.raises(ConvcError, match=message) as caught:
        mistake(net, x)
    line = inspect.getsourcelines(mistake)[1]
    assert str(caught.value).startswith(("tests/test_builder.py", __file__))
    assert f"test_builder.py:{line}: " in str(caught.value)


def test_a_mistake_names_the_scope_and_leaves_the_network_usable():
    net, x = made()
    with net.scope("stage1"), pytest.raises(TypeRuleError, match=r"conv 'stage1\.conv1': 7 groups"):
        net.conv(x, 6, 3, groups=7)
    net.output(net.conv(x, 6, 3))
    verify(net.graph)
    assert [v.name for v in net.graph.constants] == ["conv1.weight", "conv1.bias"]


def test_a_network_needs_an_output():
    net, _ = made()
    with pytest.raises(GraphError, match=r"Network 'test' has no output\. Call net\.output\(x\)\."):
        _ = net.graph


def test_a_tensor_does_not_unpack():
    _, x = made()
    with pytest.raises(TypeError, match=r"use net\.split"):
        _, _ = x
