"""The layer table: parameters, multiply-adds, receptive fields against published values."""

import json
from fractions import Fraction

import pytest
from rich.console import Console

from convc.frontends.builder import Network
from convc.ir.graph import Step
from convc.report.summary import render, summary, to_json, totals


def rows_of(net, x):
    net.output(x)
    return {row.name: row for row in summary(net.graph)}


def field(layers):
    """Receptive field and stride after `layers(net, x)` on a 64 x 64 image."""
    net = Network(seed=None)
    y = layers(net, net.input("image", (1, 4, 64, 64)))
    row = rows_of(net, y)[y.name]
    return row.receptive_field, row.stride


@pytest.mark.parametrize(
    ("layers", "size", "stride"),
    [
        (lambda n, x: n.conv(x, 4, 3), 3, 1),
        (lambda n, x: n.conv(n.conv(x, 4, 3), 4, 3), 5, 1),
        (lambda n, x: n.conv(n.conv(x, 4, 3, stride=2), 4, 3), 7, 2),
        (lambda n, x: n.conv(x, 4, 3, dilation=4), 9, 1),
        (lambda n, x: n.conv(n.average_pool(x, 2), 4, 3, dilation=2), 10, 2),
        (lambda n, x: n.conv(n.conv(x, 4, 3), 4, 3) + n.conv(x, 4, 5, padding=0), 5, 1),
        (lambda n, x: n.concat([n.conv(x, 4, 7, padding="same"), x]), 7, 1),
        (lambda n, x: n.global_average_pool(n.conv(x, 4, 3)), 64, 1),
        (lambda n, x: x * n.sigmoid(n.global_average_pool(x)), 64, 1),
        (lambda n, x: n.conv_transpose(n.max_pool(x, 2), 4, 2, stride=2), 2, 1),
        (lambda n, x: n.conv_transpose(n.max_pool(x, 2), 4, 4, stride=2), 4, 1),
        (lambda n, x: n.conv_transpose(x, 4, 4, stride=2), 2, Fraction(1, 2)),
        (lambda n, x: n.conv(n.upsample(n.max_pool(x, 4), 4), 4, 3), 6, 1),
        (lambda n, x: n.upsample(x, mode="linear"), 2, Fraction(1, 2)),
        (lambda n, x: n.space_to_depth(x, 4), 4, 4),
        (lambda n, x: n.depth_to_space(n.space_to_depth(x, 4), 4), 4, 1),
        (lambda n, x: n.conv(x[:, :, ::2, ::2], 4, 3), 5, 2),
        (lambda n, x: n.relu(n.batch_norm(n.lrn(n.pad(n.conv(x, 4, 3), 2), 5))), 3, 1),
        (lambda n, x: n.reshape(n.conv(x, 4, 3), (1, 2, 2, 62, 62)), 3, 1),
        (lambda n, x: n.transpose(n.conv(x, 4, 3), (0, 2, 3, 1)), 3, 1),
    ],
)
def test_receptive_fields_follow_distill(layers, size, stride):
    # 1 + sum of (k - 1) * product of earlier strides, dilated where needed; counted by hand
    assert field(layers) == ((size, size), (stride, stride))


def test_axes_have_fields_of_their_own():
    assert field(lambda n, x: n.conv(x, 4, (1, 5), stride=(1, 2))) == ((1, 5), (1, 2))
    net = Network(seed=None)
    x = net.conv(net.input("signal", (1, 2, 40)), 3, 7)
    assert rows_of(net, x)["conv1"].receptive_field == (7,)


def test_fully_connected_layers_have_no_field():
    net = Network(seed=None)
    y = net.linear(net.input("image", (1, 4, 8, 8)), 5)
    row = rows_of(net, y)["linear1"]
    assert (row.receptive_field, row.stride) == ((), ())
    assert (row.parameters, row.multiply_adds) == (256 * 5 + 5, 256 * 5)


def test_parameters_are_counted_once_and_statistics_not_at_all():
    net = Network(seed=0)
    x = net.input("image", (2, 4, 8, 8))
    a = net.conv(x, 6, 3, groups=2, name="a")
    b = net.apply("add", net.batch_norm(a, name="norm"), 0.5, name="half")
    rows = rows_of(net, b)
    assert rows["a"].parameters == 6 * 2 * 9 + 6
    assert rows["a"].multiply_adds == 2 * 6 * 36 * 2 * 9
    assert rows["norm"].parameters == 12
    assert rows["half"].parameters == 0
    graph = net.graph
    first = graph.node("a")
    graph.add("conv", first.inputs, first.attrs, name="again")
    again = summary(graph)[-1]
    assert (again.name, again.parameters, again.multiply_adds) == ("again", 0, rows["a"].multiply_adds)


def test_an_epilogue_counts_with_its_layer():
    net = Network(seed=0)
    x = net.input("image", (1, 4, 8, 8))
    y, wide = net.conv(x, 4, 1, name="y"), net.conv(x, 4, 5, padding=2, name="wide")
    net.output(y)
    graph = net.graph
    node = graph.add("conv", graph.node("y").inputs, graph.node("y").attrs, name="fused")
    graph.append_step(node, Step("add"), wide.value, ())
    graph.append_step(node, Step("relu"), None, ())
    row = summary(graph)[-1]
    assert row.epilogue == ("add", "relu")
    assert row.receptive_field == (5, 5)


def small():
    net = Network("small", seed=None)
    x = net.conv(net.input("image", (1, 3, 8, 10)), 4, 3, stride=2, name="stem")
    net.output(net.upsample(net.relu(x), 4))
    return summary(net.graph)


def test_json_has_the_documented_keys():
    table = json.loads(json.dumps(to_json(small())))
    assert table["totals"] == {"layers": 3, "parameters": 112, "multiply_adds": 4 * 27 * 3 * 4}
    assert table["layers"][1] == {
        "name": "stem", "op": "conv", "epilogue": [], "kernel": [3, 3], "strides": [2, 2],
        "output_shape": [1, 4, 3, 4], "parameters": 112, "multiply_adds": 1296,
        "receptive_field": [3, 3], "stride": [2, 2],
    }  # fmt: skip
    assert table["layers"][0]["op"] == "input"
    assert table["layers"][3]["stride"] == [0.5, 0.5]


def test_the_table_fits_a_terminal_and_ends_in_totals():
    console = Console(width=80, record=True)
    console.print(render(small(), title="small"))
    text = console.export_text()
    assert "conv 3x3 / 2" in text
    assert "1x4x3x4" in text
    last = [line for line in text.splitlines() if line.strip()][-1].split()
    assert last == ["3", "layers", "112", "1.3", "k"]
    assert totals(small())["parameters"] == 112
