"""What is measured on a GPU: layers that are awkward or real, the distinct layers of networks, networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import models
import numpy as np
from store import PERIOD, Conv, filters, noise

from convc.frontends.builder import Network, Tensor
from convc.ir import Graph
from convc.ops.conv import ConvAttrs
from convc.verify import random_inputs

PRECISIONS = ("float16", "tf32", "float32")
"""Those that are timed, the one that users of such a device ask for first."""

BATCHES = (32, 1, 128, 8)


@dataclass(frozen=True)
class Case:
    """A network of which a module's result is compared with float64.

    `conv` is its only layer's geometry, from which the GPU machine makes operands and the result; otherwise
    those are carried. `forced` says that each lowering of `op` is tried on the layer named "layer", and
    `real` that the layer is too large for the naive one.
    """

    name: str
    op: str
    graph: Callable[[], Graph]
    conv: Conv | None = None
    forced: bool = True
    real: bool = False

    def feeds(self, graph: Graph) -> dict[str, Any]:
        """Inputs by name."""
        if self.conv is not None:
            return {"x": self.conv.operands()[0]}
        drawn = random_inputs(graph)
        return {k: noise(a.shape, 7) if a.dtype == np.float32 else a for k, a in drawn.items()}


def conv(
    input: tuple[int, ...],
    weight: tuple[int, ...],
    *,
    pads: Any = 0,
    strides: int | tuple[int, ...] = 1,
    dilations: int | tuple[int, ...] = 1,
    **fields: Any,
) -> Conv:
    """A geometry; numbers stand for all axes, a number in `pads` for both sides."""
    axes = len(input) - 2
    strides, dilations, pads = ((v,) * axes if isinstance(v, int) else v for v in (strides, dilations, pads))
    both = tuple((p, p) if isinstance(p, int) else p for p in pads)
    return Conv(input, weight, strides, both, dilations, **fields)


def conv_graph(geometry: Conv) -> Graph:
    """The network of one convolution, named "layer", with the geometry's own weights."""
    c = geometry
    _, weight, bias = c.operands()
    net = Network("layer")
    y = net.conv(
        net.input("x", c.input),
        c.weight[0],
        c.weight[2:],
        stride=c.strides,
        padding=c.pads,
        dilation=c.dilations,
        groups=c.groups,
        weight=weight,
        bias=False if bias is None else bias,
        name="layer",
    )
    net.output(net.relu(y) if c.relu else y, "y")
    return net.graph


AWKWARD: dict[str, Conv] = {
    "5-to-33": conv((2, 5, 9, 7), (33, 5, 3, 3), pads=1, bias=True),
    "strided-asymmetric": conv((1, 20, 11, 8), (20, 20, 3, 3), strides=(2, 1), pads=((0, 1), (2, 0))),
    "dilated": conv((1, 16, 12, 10), (16, 16, 3, 3), pads=(2, 3), dilations=(2, 3), relu=True),
    "7x7-first": conv((1, 3, 21, 18), (24, 3, 7, 7), pads=3, strides=2, bias=True, relu=True),
    "1x1-odd": conv((1, 33, 5, 5), (40, 33, 1, 1), bias=True),
    "1x1-tiny": conv((1, 3, 4, 3), (5, 3, 1, 1)),
    "1x1-strided": conv((1, 16, 9, 9), (16, 16, 1, 1), strides=3),
    "one-pixel": conv((1, 64, 1, 1), (48, 64, 1, 1), bias=True),
    "larger-than-map": conv((1, 8, 3, 2), (16, 8, 5, 5), pads=2),
    "1d": conv((2, 3, 31), (17, 3, 5), pads=((4, 0),), dilations=2, bias=True, relu=True),
    "3d": conv((1, 3, 4, 5, 6), (20, 3, 3, 2, 3), pads=((1, 1), (0, 1), (1, 0)), strides=(1, 2, 1)),
    "groups-of-4": conv((1, 32, 7, 6), (32, 4, 3, 3), pads=1, groups=8, bias=True, relu=True),
    "groups-of-5": conv((1, 15, 6, 6), (9, 5, 3, 3), pads=1, groups=3),
    "groups-8-to-16": conv((2, 32, 7, 5), (64, 8, 3, 3), pads=1, groups=4, bias=True),
    "long-sums": conv((1, 512, 5, 7), (13, 512, 3, 3), pads=1, bias=True),
    "depthwise-odd": conv((2, 19, 13, 11), (19, 1, 3, 3), pads=1, groups=19, bias=True),
    "depthwise-5x5-strided": conv((1, 40, 17, 15), (40, 1, 5, 5), pads=2, strides=2, groups=40),
    "depthwise-dilated": conv((1, 24, 16, 16), (24, 1, 3, 3), pads=2, dilations=2, groups=24, relu=True),
    "9x9": conv((1, 16, 23, 26), (24, 16, 9, 9), pads=4, bias=True),
    "31x31": conv((1, 8, 40, 40), (8, 8, 31, 31), pads=15),
}  # fmt: skip

_REAL = {"bias": True, "relu": True, "period": 7}
REAL: dict[str, Conv] = {
    "resnet-first": conv((8, 3, 224, 224), (64, 3, 7, 7), pads=3, strides=2, **_REAL),
    "resnet-64-at-56": conv((8, 64, 56, 56), (64, 64, 3, 3), pads=1, **_REAL),
    "resnet-128-strided": conv((8, 128, 56, 56), (128, 128, 3, 3), pads=1, strides=2, **_REAL),
    "resnet-256-at-14": conv((32, 256, 14, 14), (256, 256, 3, 3), pads=1, **_REAL),
    "resnet-512-at-7": conv((1, 512, 7, 7), (512, 512, 3, 3), pads=1, **_REAL),
    "resnet-256-to-64": conv((8, 256, 56, 56), (64, 256, 1, 1), **_REAL),
    "resnet-shortcut": conv((8, 512, 28, 28), (1024, 512, 1, 1), strides=2, **_REAL),
    "resnet-2048-at-7": conv((32, 2048, 7, 7), (512, 2048, 1, 1), **_REAL),
    "vgg-64-at-224": conv((2, 64, 224, 224), (64, 64, 3, 3), pads=1, **_REAL),
    "vgg-512-at-28": conv((8, 512, 28, 28), (512, 512, 3, 3), pads=1, **_REAL),
    "inception-1x7": conv((8, 160, 17, 17), (192, 160, 1, 7), pads=(0, 3), **_REAL),
    "inception-5x5": conv((8, 48, 35, 35), (64, 48, 5, 5), pads=2, **_REAL),
    "mobilenet-at-112": conv((8, 32, 112, 112), (32, 1, 3, 3), pads=1, groups=32, **_REAL),
    "mobilenet-strided": conv((8, 144, 56, 56), (144, 1, 3, 3), pads=1, strides=2, groups=144, **_REAL),
    "mobilenet-project": conv((8, 144, 28, 28), (32, 144, 1, 1), **_REAL),
    "unet-32-at-256": conv((2, 32, 256, 256), (32, 32, 3, 3), pads=1, **_REAL),
}  # fmt: skip

OTHERS: dict[str, tuple[tuple[int, ...], Callable[[Network, Tensor], Tensor]]] = {
    "max-pool": ((2, 19, 15, 13), lambda n, x: n.max_pool(x, 3, stride=2, padding=1)),
    "max-pool-real": ((2, 24, 112, 112), lambda n, x: n.max_pool(x, 3, stride=2, padding=1)),
    "average-pool": ((2, 19, 15, 13), lambda n, x: n.average_pool(x, 3, stride=1, padding=1)),
    "global-pool": ((4, 256, 7, 7), lambda n, x: n.global_average_pool(x)),
    "softmax": ((8, 1000), lambda n, x: n.softmax(x)),
    "softmax-of-channels": ((2, 5, 12, 9), lambda n, x: n.softmax(x)),
    "batch-norm": ((2, 19, 9, 7), lambda n, x: n.relu(n.batch_norm(x))),
    "concat-of-pools": ((2, 19, 9, 7), lambda n, x: n.concat([x, n.max_pool(x, 3, stride=1, padding=1)])),
    "up-convolution": ((2, 24, 9, 7), lambda n, x: n.conv_transpose(x, 17, 2, stride=2)),
    "up-convolution-3x3": ((1, 8, 9, 7), lambda n, x: n.conv_transpose(x, 16, 3, stride=2, padding=1)),
    "resize": ((1, 12, 9, 7), lambda n, x: n.resize(x, scale=2.0)),
    "gate": ((2, 24, 9, 7), lambda n, x: n.mul(x, n.sigmoid(n.global_average_pool(x)))),
    "transpose": ((2, 7, 9, 5), lambda n, x: n.transpose(x, (0, 2, 3, 1))),
    "gelu": ((2, 19, 9, 7), lambda n, x: n.gelu(x)),
    "mean": ((2, 19, 9, 7), lambda n, x: n.reduce("mean", x, (2, 3))),
}

LINEAR = {
    "one-row": (1, 512, 1000), "few-rows": (3, 40, 33), "rows": (65, 72, 130), "real": (32, 2048, 1000),
    "odd": (5, 37, 19),
}  # fmt: skip


def _other(name: str) -> Graph:
    shape, layer = OTHERS[name]
    net = Network(name)
    net.output(layer(net, net.input("x", shape)), "y")
    return net.graph


def _linear(name: str) -> Graph:
    rows, terms, columns = LINEAR[name]
    net = Network("layer")
    weight = filters((columns, terms), 3, PERIOD)
    x = net.linear(
        net.input("x", (rows, terms)), columns, weight=weight, bias=noise((columns,), 4), name="layer"
    )
    net.output(net.relu(x), "y")
    return net.graph


def _residual() -> Graph:
    """Blocks with a strided shortcut, a pooling and a linear layer."""
    net = Network("residual", seed=1)
    x = net.relu(net.batch_norm(net.conv(net.input("x", (4, 3, 65, 63)), 32, 7, stride=2, padding=3)))
    x = net.max_pool(x, 3, stride=2, padding=1)
    for width, stride in ((32, 1), (72, 2), (64, 1)):
        y = net.relu(net.batch_norm(net.conv(x, width, 3, stride=stride, padding=1)))
        y = net.batch_norm(net.conv(y, width, 3, padding=1), gain=0.3)
        same = stride == 1 and x.channels == width
        x = net.relu(net.add(y, x if same else net.conv(x, width, 1, stride=stride)))
    net.output(net.softmax(net.linear(net.global_average_pool(x), 11)), "y")
    return net.graph


def _branches() -> Graph:
    """Branches of one input that run side by side into slices of one tensor, twice over."""
    net = Network("branches", seed=3)
    x = net.input("x", (3, 24, 20, 19))
    for _ in range(2):
        pooled = net.average_pool(x, 3, stride=1, padding=1)
        narrow = net.relu(net.conv(x, 16, 1))
        parts = [
            net.conv(x, 24, 1),
            net.conv(narrow, 40, 3, padding=1),
            net.conv(narrow, 17, (1, 7), padding="same"),
        ]
        x = net.relu(net.concat([*parts, net.conv(pooled, 19, 1)]))
    net.output(x, "y")
    return net.graph


def _separable() -> Graph:
    """Inverted residuals with a squeeze-and-excite gate."""
    net = Network("separable", seed=5)
    x = net.relu6(net.conv(net.input("x", (2, 3, 40, 40)), 24, 3, stride=2, padding=1))
    for stride in (1, 2, 1):
        y = net.relu6(net.conv(x, 96, 1))
        y = net.relu6(net.conv(y, 96, 3, stride=stride, padding=1, groups=96))
        gate = net.sigmoid(net.conv(net.relu(net.conv(net.global_average_pool(y), 8, 1)), 96, 1))
        y = net.conv(net.mul(y, gate), 24, 1)
        x = net.add(x, y) if stride == 1 else y
    net.output(x, "y")
    return net.graph


def _unet() -> Graph:
    graph: Graph = models.Example("unet", "unet").graph(2, size=64, padded=True, width=4)
    return graph


def checks() -> Iterator[Case]:
    """All cases."""
    for table, real in ((AWKWARD, False), (REAL, True)):
        for name, c in table.items():
            yield Case(f"conv-{name}", "conv", lambda c=c: conv_graph(c), c, real=real)  # type: ignore[misc]
    for name in LINEAR:
        yield Case(f"linear-{name}", "gemm", lambda name=name: _linear(name))  # type: ignore[misc]
    for name in OTHERS:
        yield Case(name, "", lambda name=name: _other(name), forced=False)  # type: ignore[misc]
    for name, make in (
        ("residual", _residual),
        ("branches", _branches),
        ("separable", _separable),
        ("unet", _unet),
    ):
        yield Case(f"network-{name}", "network", make, forced=False)


# ---- layers and networks ----

NETWORKS: tuple[models.Example, ...] = (
    models.Example("resnet18", "resnet", options={"depth": 18}),
    models.Example("resnet50", "resnet"),
    models.Example("vgg16", "vgg16"),
    models.Example("mobilenet_v2", "mobilenet_v2"),
    models.Example("unet", "unet", options={"size": 256, "padded": True, "width": 32}),
    models.Example("inception_v3", "inception_v3"),
)

LAYERS_OF = ("resnet50", "vgg16", "mobilenet_v2")


@dataclass
class Layer:
    """A distinct convolution: without its batch, and how often each network has it."""

    geometry: Conv
    counts: dict[str, int] = field(default_factory=dict)

    def at(self, batch: int) -> Conv:
        """The layer at a batch size, with a bias."""
        g = self.geometry
        return Conv(
            (batch, *g.input[1:]),
            g.weight,
            g.strides,
            g.pads,
            g.dilations,
            g.groups,
            bias=True,
            period=PERIOD,
        )

    @property
    def name(self) -> str:
        """Such as 3x3 64->128 /2 at 56x56."""
        g = self.geometry
        size, kernel = ("x".join(map(str, v)) for v in (g.input[2:], g.weight[2:]))
        stride = f" /{g.strides[0]}" if max(g.strides) > 1 else ""
        groups = "" if g.groups == 1 else " depthwise" if g.weight[1] == 1 else f" in {g.groups} groups"
        return f"{kernel} {g.input[1]}->{g.weight[0]}{stride}{groups} at {size}"


def layers(networks: Sequence[str] = LAYERS_OF, most: int = 16) -> list[Layer]:
    """The distinct convolutions of these networks; of each the `most` that have most work between them."""
    found: dict[Conv, Layer] = {}
    wanted: dict[Conv, None] = {}
    for example in NETWORKS:
        if example.name not in networks:
            continue
        own: list[Conv] = []
        for node in example.graph(1, seed=None).nodes:
            if not isinstance(node.attrs, ConvAttrs) or node.op != "conv":
                continue
            x, w = node.inputs[0], node.inputs[1]
            assert x is not None
            assert w is not None
            a = node.attrs
            key = Conv(x.type.shape, w.type.shape, a.strides, a.pads, a.dilations, a.groups)
            counts = found.setdefault(key, Layer(key)).counts
            counts[example.name] = counts.get(example.name, 0) + 1
            own.append(key)
        ranked = sorted(dict.fromkeys(own), key=lambda k: -k.flops * own.count(k))
        wanted.update(dict.fromkeys(ranked[:most]))
    return [found[key] for key in wanted]
