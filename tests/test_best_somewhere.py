"""Every lowering is the untuned choice for a layer of a published network: one that is never best may go.

Only selection runs here, for a machine written down below, so that the answers do not depend on the host.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache

import pytest

from convc.codegen.machine import resolve
from convc.compilation import fusions, lower
from convc.compiler import Options
from convc.frontends.builder import Network, Tensor
from convc.ir.clone import clone
from convc.lowering.registry import LOWERINGS
from convc.passes.pipeline import PIPELINE, run_pipeline
from convc.plan.select import DEFAULT_MAX_ERROR, Choice
from convc.progress import Progress
from convc.schedules.cpu import SCHEDULES
from convc.target import Target
from convc.types import Shape

ZEN4 = replace(resolve("znver4", threads=2), name="two Zen 4 cores", l3=32 << 20)
ZEN5 = replace(
    resolve("znver5", threads=2), name="two Zen 5 cores of one chiplet", l3=32 << 20, memory_bandwidth=45e9
)


@dataclass(frozen=True)
class Layer:
    """One layer of a network, as the only layer that has a choice in a graph of its own."""

    best: str
    input: Shape
    add: Callable[[Network, Tensor], Tensor]
    machine: Target = ZEN4


def conv(
    best: str, shape: Shape, channels: int, kernel: int, stride: int = 1, padding: int | None = None
) -> Layer:
    """A convolution, by default padded by half its kernel, with bias and ReLU."""
    pads = kernel // 2 if padding is None else padding

    def add(net: Network, x: Tensor) -> Tensor:
        y = net.conv(x, channels, kernel, stride=stride, padding=pads, name="layer")
        return net.relu(y)

    return Layer(best, shape, add)


def pooled(best: str, shape: Shape, channels: int, kernel: int, size: int, activation: str) -> Layer:
    """A padded convolution, an activation, and the maximum of windows side by side."""

    def add(net: Network, x: Tensor) -> Tensor:
        y = net.conv(x, channels, kernel, padding=kernel // 2, name="layer")
        return net.max_pool(getattr(net, activation)(y), size)

    return Layer(best, shape, add)


def grouped(best: str, shape: Shape, size: int) -> Layer:
    """A 3x3 convolution in groups of `size` channels."""
    groups = shape[1] // size
    return Layer(best, shape, lambda net, x: net.conv(x, shape[1], 3, padding=1, groups=groups, name="layer"))


def depthwise(best: str, shape: Shape, kernel: int) -> Layer:
    """A depthwise convolution padded by half its kernel."""
    groups = shape[1]
    return Layer(
        best,
        shape,
        lambda net, x: net.conv(x, groups, kernel, padding=kernel // 2, groups=groups, name="layer"),
    )


def expanded(shape: Shape, channels: int, stride: int) -> Layer:
    """A 1x1 convolution and a depthwise one after it."""

    def add(net: Network, x: Tensor) -> Tensor:
        wide = net.relu(net.conv(x, channels, 1, name="expand"))
        return net.conv(wide, channels, 3, stride=stride, padding=1, groups=channels, name="layer")

    return Layer("separable", shape, add)


LAYERS = {
    # stems of 3 channels, and strided bodies
    "resnet50/conv1": conv("winograd_rows", (1, 3, 224, 224), 64, 7, stride=2),
    "alexnet/features.0": conv("winograd_rows", (1, 3, 224, 224), 64, 11, stride=4, padding=2),
    "vgg16/conv1_1": conv("direct", (1, 3, 224, 224), 64, 3),
    "mobilenet_v2/features.0": conv("direct", (1, 3, 224, 224), 32, 3, stride=2),
    "resnet50/layer2.0.conv2": conv("winograd4", (1, 128, 56, 56), 128, 3, stride=2),
    "resnet50/layer3.0.conv2": conv("winograd2", (1, 256, 28, 28), 256, 3, stride=2),
    "inception_v3/Mixed_6a.branch3x3": conv("winograd2", (1, 288, 35, 35), 384, 3, stride=2, padding=0),
    "resnet50/layer4.0.conv2": conv("direct", (1, 512, 14, 14), 512, 3, stride=2),
    # 1x1 on rows of an odd length: the flattened map divides better than its rows
    "squeezenet1_1/features.3.squeeze": conv("im2col", (1, 64, 55, 55), 16, 1),
    "squeezenet1_1/features.4.squeeze": conv("im2col", (1, 128, 55, 55), 16, 1),
    # 3x3 bodies: the smaller the map, the smaller the tiles that cover it without waste
    "vgg16/conv2_2": conv("winograd4", (1, 128, 112, 112), 128, 3),
    "unet/down4.conv1": conv("winograd6", (1, 256, 68, 68), 512, 3, padding=0),
    "resnet18/layer3.1.conv1": conv("winograd4", (1, 256, 14, 14), 256, 3),
    "vgg16/conv5_1": conv("winograd4", (1, 512, 14, 14), 512, 3),
    "googlenet/inception_4a.3x3": conv("winograd4", (1, 96, 14, 14), 208, 3),
    "resnet18/layer4.1.conv1": conv("winograd2", (1, 512, 7, 7), 512, 3),
    "googlenet/inception_5b.3x3": conv("winograd2", (1, 192, 7, 7), 384, 3),
    # pooled before they are stored
    "vgg16/conv1_2": pooled("winograd4", (1, 64, 224, 224), 64, 3, 2, "relu"),
    "vgg16/conv3_3": pooled("winograd4", (1, 256, 56, 56), 256, 3, 2, "relu"),
    "mnist_12/convolution28": pooled("direct", (1, 1, 28, 28), 8, 5, 2, "relu"),
    # groups of few channels: 4 groups in a vector, and groups that are no whole number of vectors
    "resnext50_32x4d/layer1.1.conv2": grouped("grouped", (1, 128, 56, 56), 4),
    "resnext50_32x4d/layer2.1.conv2": grouped("grouped", (1, 256, 28, 28), 8),
    "regnet_x_1_6gf/block2.1.conv2": grouped("grouped", (1, 168, 28, 28), 24),
    "resnext50_32x4d/layer3.1.conv2": grouped("direct", (1, 512, 14, 14), 16),
    # large dense kernels: Wei et al., Convolutional Pose Machines, CVPR 2016, figure 2
    "pose_machine/stage2.conv2": conv("fft", (1, 128, 46, 46), 128, 11),
    # Ding et al., Scaling Up Your Kernels to 31x31, CVPR 2022, table 1
    "replknet31b/stage1.dw": depthwise("fft", (1, 128, 56, 56), 31),
    "replknet31b/stage3.dw": depthwise("fft", (1, 512, 14, 14), 27),
    "dense_11x11": conv("fft", (1, 64, 56, 56), 64, 11),
    "unet/up4.up": Layer(
        "direct",
        (1, 1024, 28, 28),
        lambda net, x: net.conv_transpose(x, 512, 2, stride=2, name="layer"),
    ),
    # the tensor between the two would go to L3 and back
    "mobilenet_v2/features.2": expanded((1, 16, 112, 112), 96, 2),
    "mobilenet_v2/features.4": expanded((1, 24, 56, 56), 144, 2),
    # cores that outrun their memory by more: weights in 24 bits
    "resnet18/layer3.1.conv1, Zen 5": replace(
        conv("winograd4_24bit", (1, 256, 14, 14), 256, 3), machine=ZEN5
    ),
    "resnet18/layer4.1.conv1, Zen 5": replace(conv("winograd2_24bit", (1, 512, 7, 7), 512, 3), machine=ZEN5),
    "vgg16/conv5_1, Zen 5": replace(conv("winograd4_24bit", (1, 512, 14, 14), 512, 3), machine=ZEN5),
    "vgg16/fc7": Layer("gemm_24bit", (1, 4096), lambda net, x: net.linear(x, 4096, name="layer")),
    "resnet18/fc": Layer("gemm", (1, 512), lambda net, x: net.linear(x, 1000, name="layer")),
    "vgg16/pool1": Layer("generic", (1, 64, 224, 224), lambda net, x: net.max_pool(x, 2, name="layer")),
}
INEXACT = [name for name, layer in LAYERS.items() if layer.best.startswith(("winograd", "fft"))]


@cache
def choice(name: str, max_error: float = DEFAULT_MAX_ERROR, all_errors: bool = False) -> Choice:
    """What is decided about a layer, its weights being random."""
    layer = LAYERS[name]
    net = Network("one_layer")
    net.output(layer.add(net, net.input("x", layer.input)))
    graph = clone(net.graph)
    options = Options(max_error=max_error, all_errors=all_errors)
    run_pipeline(graph, (*PIPELINE, *fusions(options, layer.machine)))
    choices = lower(net.graph, graph, options, layer.machine, Progress()).choices
    return next(
        c for node, c in choices.items() if "layer" in (node.name, *node.origin) and node.op != "relayout"
    )


@pytest.mark.parametrize("name", LAYERS)
def test_is_chosen(name: str) -> None:
    found = choice(name)
    prices = ", ".join(f"{c.lowering} {c.predicted_ms} ms {c.rejected or ''}" for c in found.candidates)
    assert found.lowering.name == LAYERS[name].best, prices


def test_pooling_joins_its_convolution() -> None:
    joined = {name for name in LAYERS if choice(name).workload.op == "conv_max_pool"}
    assert joined == {"vgg16/conv1_2", "vgg16/conv3_3", "mnist_12/convolution28"}


def test_every_lowering_is_best_somewhere() -> None:
    assert {type(choice(name).lowering) for name in LAYERS} == {type(lowering) for lowering in LOWERINGS}


@pytest.mark.parametrize("max_error", [1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("name", INEXACT)
def test_smaller_errors_are_had_by_dearer_lowerings(name: str, max_error: float) -> None:
    found = choice(name, max_error)
    taken = next(c for c in found.candidates if c.lowering == found.lowering.name)
    assert found.lowering.exact or (taken.error is not None and taken.error <= max_error)
    cheaper = found.candidates[: found.candidates.index(taken)]
    for candidate in cheaper:
        assert candidate.error is not None
        assert candidate.error > max_error
        assert candidate.rejected == f"error {candidate.error:.1e} exceeds {max_error:g}"
    if max_error == 1e-7:  # less than the rounding of a single float32 operation
        assert found.lowering.exact
        assert LAYERS[name].best in {c.lowering for c in cheaper}


@pytest.mark.parametrize("name", INEXACT)
def test_all_errors_changes_no_choice(name: str) -> None:
    found = choice(name, all_errors=True)
    assert found.lowering.name == LAYERS[name].best
    assert all((c.error is None) == (c.predicted_ms is None) for c in found.candidates)


@pytest.mark.parametrize("name", LAYERS)
def test_default_configuration_is_in_the_space(name: str) -> None:
    found = choice(name)
    schedule = SCHEDULES[found.lowering.schedule]
    default = schedule.default(found.workload, ZEN4)
    space = list(schedule.space(found.workload, ZEN4))
    assert default in space
    assert len(space) == len(set(space))


@pytest.mark.parametrize("name", LAYERS)
def test_configurations_survive_json(name: str) -> None:
    found = choice(name)
    schedule = SCHEDULES[found.lowering.schedule]
    for config in [schedule.default(found.workload, ZEN4), *schedule.space(found.workload, ZEN4)]:
        fields = json.loads(json.dumps(asdict(config)))
        assert type(config)(**fields) == config


def test_every_schedule_belongs_to_a_lowering() -> None:
    assert {lowering.schedule for lowering in LOWERINGS} == set(SCHEDULES)
