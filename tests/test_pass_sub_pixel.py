"""Transposed convolutions computed phase by phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from pass_checks import CONV, check_refused, check_same_results, check_untouched

from convc.compilation import plan
from convc.compiler import Options
from convc.ir import Graph, Step, verify
from convc.ops.conv import ConvTransposeAttrs
from convc.passes.sub_pixel import SubPixel, TransposedToDense
from convc.progress import Progress
from convc.types import TensorType


@dataclass(frozen=True)
class AnyChannels(SubPixel):
    """For blocks of one channel."""

    rules = (TransposedToDense(block=1),)


# kernel, stride, dilations, pads, output_pads
CASES = [
    ((3, 3), 2, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((4, 4), 2, (1, 1), ((1, 1), (1, 1)), (0, 0)),
    ((5, 3), 2, (1, 1), ((2, 2), (0, 1)), (1, 0)),
    ((5, 4), 3, (1, 1), ((1, 1), (0, 1)), (0, 0)),
    ((3, 5), 2, (3, 1), ((3, 3), (2, 2)), (1, 1)),
    ((6, 6), 3, (2, 1), ((4, 4), (2, 1)), (0, 0)),
]


def _graph(case, *, bias: bool = True) -> Graph:
    """40 channels to 2, in float64."""
    kernel, stride, dilations, pads, more = case
    rng = np.random.default_rng(0)
    graph = Graph("up")
    x = graph.add_input("x", TensorType((2, 40, 5, 6), "float64"))
    inputs = [x, graph.add_constant("w", rng.standard_normal((40, 2, *kernel)))]
    inputs += [graph.add_constant("b", rng.standard_normal(2))] if bias else []
    attrs = ConvTransposeAttrs((stride, stride), dilations, pads, 1, more)
    node = graph.add("conv_transpose", inputs, attrs, name="up", origin=["Up"], epilogue=[Step("relu")])
    graph.set_outputs([node.output])
    return graph


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bias", [True, False])
def test_phases_interleave_to_the_same(case, bias):
    graph = _graph(case, bias=bias)
    changes = AnyChannels().run(graph)
    verify(graph)
    assert len(changes.made) == 1, changes
    assert {n.op for n in graph.nodes} == {"conv", "concat", "depth_to_space"}
    *convs, concat, interleave = graph.nodes
    assert [n.name for n in convs[:2]] == ["up", "up.2"]
    assert all(n.origin == ("Up",) for n in convs)
    assert (concat.origin, interleave.origin) == ((), ())  # so that --algo up=direct means the convolutions
    check_same_results(_graph(case, bias=bias), graph, float(np.finfo("float64").eps))


def test_a_kernel_of_three_falls_into_nine_taps():
    graph = _graph(CASES[0])
    changes = AnyChannels().run(graph)
    assert changes.made[0].text == "becomes 4 convolutions with 1x1 + 1x2 + 2x1 + 2x2 taps"
    *convs, concat, interleave = graph.nodes
    pads = [n.attrs.pads for n in convs]
    none, after = (0, 0), (0, 1)
    assert pads == [(none, none), (none, after), (after, none), (after, after)]
    assert concat.inputs == tuple(n.output for n in convs)
    assert (interleave.attrs.block, interleave.attrs.mode) == (2, "DCR")
    w, last = (graph.constant(graph.node(n).inputs[1]) for n in ("up", "up.4"))
    given = _graph(CASES[0])
    kernel = given.constant(given.node("up").inputs[1])
    np.testing.assert_array_equal(w[1, 2], kernel[2, 1, 1:2, 1:2])
    np.testing.assert_array_equal(last[1, 2], kernel[2, 1, ::-2, ::-2])
    assert AnyChannels().run(graph).made == []


def _refused(case, reason: str, *, channels: int = 1, w: str = "", more: str = "") -> None:
    """A single channel in, `channels` out."""
    kernel, stride, dilations, pads, extra = case
    size = channels * kernel[0] * kernel[1]
    attrs = f"strides=({stride}, {stride}), dilations={dilations}, pads={pads}, output_pads={extra}"
    full = [
        stride * 2 + d * (k - 1) + 1 + e - sum(p)
        for d, k, e, p in zip(dilations, kernel, extra, pads, strict=True)
    ]
    shape = f"float32[1,{channels},{full[0]},{full[1]}]"
    weights = f"float32[1,{channels},{kernel[0]},{kernel[1]}]"
    declared = w or f"const %w : {weights} = [{', '.join(['1.0'] * size)}]"
    check_refused(
        AnyChannels() if channels < 3 else SubPixel(),
        f"""
        input %x : float32[1,1,3,3]
        input %r : {shape}
        {declared.replace("WEIGHTS", weights)}
        %y : {shape} = conv_transpose(%x, %w) {{{attrs}}}{more}
        output %y
        """,
        reason,
    )


def test_refusals():
    plain = ((1, 1), ((0, 0), (0, 0)), (0, 0))
    _refused(((2, 2), 2, *plain), "the time of 0 multiply-adds, once saved, would go into a copy")
    _refused(((3, 3), 2, *plain), r"strides \(2, 2\) do not cut 7 x 7 outputs into equal parts")
    _refused(((1, 1), 2, (1, 1), ((0, 0), (0, 0)), (1, 1)), "some outputs have no taps")
    _refused(((2, 2), 2, (1, 1), ((2, 2), (0, 0)), (0, 0)), "part of the input has none")
    _refused(((2, 2), 2, *plain), "3 channels in 1 groups do not fill blocks of 16", channels=3)
    _refused(((2, 2), 2, *plain), "operands of its epilogue", more=" | add(., %r)")
    _refused(((2, 2), 2, *plain), "the weights of 'y' are computed", w="input %w : WEIGHTS")


def test_without_a_stride_nothing_interleaves():
    check_untouched(
        SubPixel(),
        f"""
        input %x : float32[1,1,3,3]
        const %w : float32[1,1,1,1] = [1.0]
        %y : float32[1,1,3,3] = conv_transpose(%x, %w) {CONV}
        output %y
        """,
    )


def test_a_wish_for_the_layer_is_one_for_its_convolutions():
    graph = Graph("up")
    x = graph.add_input("x", TensorType((1, 40, 5, 6)))
    w = graph.add_constant("w", np.ones((40, 16, 4, 4), "float32"))
    attrs = ConvTransposeAttrs((2, 2), (1, 1), ((1, 1), (1, 1)))
    graph.set_outputs([graph.add("conv_transpose", [x, w], attrs, name="up", origin=["up"]).output])
    for wish in ("direct", "im2col"):
        compilation = plan(graph, Options(threads=2, algorithms={"up": wish}), Progress())
        chosen = [c.lowering.name for n, c in compilation.choices.items() if n.op == "conv"]
        assert chosen == [wish] * 4


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_phases_that_differ_in_weights_alone_are_one_convolution(kernel, bias):
    """Kernels as long as the stride, whose phases have one tap each; a GPU takes them so."""

    @dataclass(frozen=True)
    class Always(SubPixel):
        rules = (TransposedToDense(block=1, always=True),)

    case = (kernel, kernel[0], (1, 1), ((0, 0), (0, 0)), (0, 0))
    graph = _graph(case, bias=bias)
    assert not AnyChannels().run(graph).made, "it saves no products"
    before = _graph(case, bias=bias)
    Always().run(graph)
    verify(graph)
    assert [n.op for n in graph.nodes] == ["conv", "depth_to_space"]
    check_same_results(before, graph, 2.0**-53)
