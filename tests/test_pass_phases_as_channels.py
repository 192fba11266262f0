"""Transposed convolutions whose phases are channels of a dense one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from pass_checks import check_refused, check_same_results

import convc
from convc.compilation import plan
from convc.compiler import Options
from convc.evaluate import evaluate
from convc.ir import Graph, Step, verify
from convc.ops.conv import ConvTransposeAttrs
from convc.passes.phases_as_channels import LONGEST_STRIDE, PhasesAsChannels
from convc.passes.sub_pixel import SubPixel
from convc.progress import Progress
from convc.types import TensorType


@dataclass(frozen=True)
class Case:
    """A transposed convolution from `channels` to `channels`, and the operators that it becomes."""

    input: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    becomes: str
    dilations: tuple[int, ...] = ()
    more: tuple[int, ...] = ()
    channels: tuple[int, int] = (40, 3)
    groups: int = 1


BETWEEN = "reshape transpose reshape"
CASES = {
    "stft": Case((6,), (32,), (8,), ((0, 0),), BETWEEN, channels=(10, 1)),
    "kernel no multiple of the stride": Case((5, 4), (3, 5), (2, 2), ((0, 0),) * 2, "depth_to_space slice"),
    "padded": Case((5, 4), (4, 4), (2, 2), ((1, 1),) * 2, "depth_to_space slice"),
    "padded by whole strides": Case((5, 4), (6, 4), (2, 2), ((2, 2), (2, 0)), "depth_to_space"),
    "more outputs": Case((4, 4), (3, 3), (2, 2), ((1, 1),) * 2, "depth_to_space slice", more=(1, 1)),
    "strides of two kinds": Case((4, 5), (4, 3), (2, 3), ((0, 0),) * 2, BETWEEN),
    "stride on one axis": Case((4, 5), (1, 4), (1, 2), ((0, 0),) * 2, BETWEEN),
    "dilated": Case((4, 5), (3, 3), (2, 2), ((0, 0),) * 2, "depth_to_space slice", dilations=(2, 3)),
    "three axes": Case((2, 3, 2), (2, 3, 2), (2, 2, 2), ((0, 0),) * 3, f"{BETWEEN} slice"),
    "groups": Case((4, 4), (4, 4), (2, 2), ((1, 1),) * 2, "depth_to_space slice", channels=(6, 9), groups=3),
    "each channel alone": Case(
        (3, 3), (4, 4), (2, 2), ((0, 0),) * 2, "depth_to_space", channels=(5, 5), groups=5
    ),
    "blocks and a long stride": Case((3,), (16,), (8,), ((4, 4),), f"{BETWEEN} slice", channels=(4, 32)),
}  # fmt: skip


def graph_for(case: Case, *, bias: bool = True, steps: bool = True, dtype: str = "float64") -> Graph:
    """The layer with an activation, a difference with an operand and another activation behind it."""
    rng = np.random.default_rng(0)
    graph, axes, (c, k) = Graph("up"), len(case.input), case.channels
    x = graph.add_input("x", TensorType((2, c, *case.input), dtype))
    inputs = [
        x,
        graph.add_constant("w", rng.standard_normal((c, k // case.groups, *case.kernel)).astype(dtype)),
    ]
    inputs += [graph.add_constant("b", rng.standard_normal(k).astype(dtype))] if bias else []
    dilations = case.dilations or (1,) * axes
    attrs = ConvTransposeAttrs(case.strides, dilations, case.pads, case.groups, case.more)
    node = graph.add("conv_transpose", inputs, attrs, name="up", origin=["Up"])
    if steps:
        other = graph.add_input("r", node.output.type)
        graph.append_step(node, Step("relu"), None, ["Relu"])
        graph.append_step(node, Step("sub", swapped=True), other, ["Sub"])
        graph.append_step(node, Step("tanh"), None, ["Tanh"])
        graph.append_step(node, Step("add"), other, ["Add"])
    graph.set_outputs([node.output])
    return graph


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("whole", [True, False], ids=["bias and steps", "bare"])
def test_phases_are_channels_of_the_same(name: str, whole: bool) -> None:
    case = CASES[name]
    graph = graph_for(case, bias=whole, steps=whole)
    changes = PhasesAsChannels().run(graph)
    verify(graph)
    assert len(changes.made) == 1, changes
    assert " ".join(n.op for n in graph.nodes) == f"conv {case.becomes}{' sub' if whole else ''}"
    conv, *others = graph.nodes
    assert (conv.name, conv.origin[0]) == ("up", "Up")
    assert not any(n.origin for n in others)  # so that --algo up=direct means the convolution
    if whole:
        assert [s.op for s in conv.epilogue] == ["relu"]
        assert [s.op for s in others[-1].epilogue] == ["tanh", "add"]
    check_same_results(graph_for(case, bias=whole, steps=whole), graph, float(np.finfo("float64").eps))


def test_channels_and_taps_of_the_convolution() -> None:
    """Channel s k + b has every s-th tap of output channel k from b on, in reverse."""
    graph = graph_for(CASES["stft"], bias=False, steps=False)
    given = graph.constant(graph.node("up").inputs[1])
    (change,) = PhasesAsChannels().run(graph).made
    assert change.text == "becomes a convolution with 4 taps, of whose channels 8 are neighbours"
    weights = graph.constant(graph.node("up").inputs[1])
    assert weights.shape == (8, 10, 4)
    np.testing.assert_array_equal(weights[3, 7], given[7, 0, 3::8][::-1])


REFUSALS = {
    "16": ("the time of 0 multiply-adds, once saved, would go into a copy", ""),
    "1": ("part of the input reaches no output", ", pads=((4, 4), (4, 4))"),
}


def text(channels: str, pads: str, weights: str = "const", extent: int = 6) -> str:
    """2 x 2 taps of stride 2, from 1 channel."""
    ones = f" = [{', '.join(['1.0'] * 4 * int(channels))}]" if weights == "const" else ""
    settings = f"{{strides=(2, 2), dilations=(1, 1){pads or ', pads=((0, 0), (0, 0))'}}}"
    large = 2 * extent - (8 if pads else 0)
    return f"""
    input %x : float32[1,1,{extent},{extent}]
    {weights} %w : float32[1,{channels},2,2]{ones}
    %y : float32[1,{channels},{large},{large}] = conv_transpose(%x, %w) {settings}
    output %y
    """


def test_refusals() -> None:
    for channels, (reason, pads) in REFUSALS.items():
        check_refused(PhasesAsChannels(), text(channels, pads), reason)
    check_refused(PhasesAsChannels(), text("1", "", "input"), "the weights of 'y' are computed")
    graph = graph_for(Case((4,), (3,), (1,), ((1, 1),), ""), steps=False)
    assert not PhasesAsChannels().run(graph)


def test_few_channels_and_long_strides_are_dense_in_every_network() -> None:
    """The head of a text detector, and an inverse Fourier transform; U-Net's layers stay what they were."""
    found = {}
    for name, case in {
        "one channel": Case((8, 8), (2, 2), (2, 2), ((0, 0),) * 2, "", channels=(24, 1)),
        "stft": CASES["stft"],
        "u-net": Case((8, 8), (2, 2), (2, 2), ((0, 0),) * 2, "", channels=(32, 16)),
        "long": Case((8,), (16,), (LONGEST_STRIDE + 1,), ((0, 0),), "", channels=(16, 16)),
    }.items():
        graph = graph_for(case, steps=False, dtype="float32")
        found[name] = plan(graph, Options(threads=1), Progress()).graph.node("up").op
    assert found == {"one channel": "conv", "stft": "conv", "u-net": "conv_transpose", "long": "conv"}


def test_compiled_ones_equal_the_reference() -> None:
    """Two kinds in one network, against float64: the layers of an inverse transform and of FSRCNN."""
    rng = np.random.default_rng(1)
    for case in (
        CASES["stft"],
        Case((6, 5), (9, 9), (3, 3), ((4, 4),) * 2, "", more=(2, 2), channels=(8, 1)),
    ):
        graph = graph_for(case, dtype="float32")
        feeds = {v.name: rng.standard_normal(v.type.shape).astype("float32") for v in graph.inputs}
        (exact,) = evaluate(graph, feeds)
        (found,) = convc.compile(graph, threads=1).run(None, feeds)
        terms = 4 + case.channels[0] * np.prod(case.kernel) / np.prod(case.strides)
        assert abs(found - exact).max() <= np.finfo("float32").eps * terms * abs(exact).max()


def test_whole_blocks_of_channels_go_to_the_phases_one_by_one() -> None:
    graph = graph_for(
        Case((4, 4), (3, 3), (2, 2), ((1, 1),) * 2, "", more=(1, 1), channels=(64, 16)), steps=False
    )
    assert SubPixel().run(graph).made
    assert not PhasesAsChannels().run(graph).made
