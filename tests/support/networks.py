"""Small networks for tests, each with one thing that the compiler must get right."""

from __future__ import annotations

from collections.abc import Callable

from convc.frontends.builder import Network, Tensor
from convc.ir import Graph


def residual() -> Graph:
    """Two residual blocks, the second with a strided shortcut, then pooling and a linear layer."""
    net = Network("residual", seed=1)
    x = net.input("image", (2, 3, 21, 17))
    x = net.relu(net.batch_norm(net.conv(x, 20, 3, padding=1)))
    y = net.relu(net.batch_norm(net.conv(x, 20, 3, padding=1)))
    x = net.relu(net.add(net.conv(y, 20, 3, padding=1), x))
    y = net.relu(net.conv(x, 33, 3, stride=2, padding=1))
    y = net.conv(y, 33, 3, padding=1)
    x = net.relu(net.add(net.conv(x, 33, 1, stride=2), y))
    x = net.flatten(net.global_average_pool(x))
    net.output(net.softmax(net.linear(x, 7)))
    return net.graph


def dense() -> Graph:
    """A dense block: every concatenation is the beginning of the next, and one reader of a part pads."""
    net = Network("dense", seed=2)
    x = net.input("image", (1, 16, 9, 12))
    x = net.conv(x, 32, 1)
    for growth in (16, 32, 16):
        y = net.relu(net.batch_norm(x))
        x = net.concat([x, net.conv(y, growth, 3, padding=1)], axis=1)
    net.output(net.conv(x, 8, 3, padding=1))
    return net.graph


def branches() -> Graph:
    """Inception-like: four branches of the same input concatenated, batch above one, one branch odd."""
    net = Network("branches", seed=3)
    x = net.input("image", (3, 24, 10, 11))
    pooled = net.max_pool(x, 3, stride=1, padding=1)
    parts = [
        net.conv(x, 16, 1),
        net.conv(x, 32, 3, padding=1),
        net.conv(x, 16, 5, padding=2),
        net.conv(pooled, 19, 1),
    ]
    x = net.relu(net.concat(parts, axis=1))
    a, b = net.split(x, [40, 43], axis=1)
    net.output(net.mul(net.sigmoid(a), 2.0), "left")
    net.output(net.conv(b, 5, 3), "right")
    net.output(x, "all")
    return net.graph


def up_down() -> Graph:
    """U-Net in small: pooling, transposed convolution, a skip concatenated with it, resize."""
    net = Network("up_down", seed=4)
    x = net.input("image", (1, 1, 16, 24))
    skip = net.relu(net.conv(x, 16, 3, padding=1))
    x = net.relu(net.conv(net.max_pool(skip, 2), 32, 3, padding=1))
    x = net.conv_transpose(x, 16, 2, stride=2)
    x = net.relu(net.conv(net.concat([skip, x], axis=1), 16, 3, padding=1))
    net.output(net.conv(net.resize(x, scale=2.0), 2, 1))
    return net.graph


def separable() -> Graph:
    """Depthwise separable layers with clipped activations and a squeeze-and-excite gate."""
    net = Network("separable", seed=5)
    x = net.input("image", (1, 3, 20, 20))
    x = net.relu6(net.conv(x, 24, 3, stride=2, padding=1))
    x = net.relu6(net.conv(x, 24, 3, padding=1, groups=24))
    gate = net.sigmoid(net.conv(net.relu(net.conv(net.global_average_pool(x), 6, 1)), 24, 1))
    x = net.conv(net.mul(x, gate), 40, 1)
    x = net.relu6(net.conv(x, 40, 5, stride=2, padding=2, groups=40))
    net.output(net.conv(x, 12, 3, padding=1, groups=4))
    return net.graph


def lines() -> Graph:
    """One spatial axis: an audio-like network with dilation."""
    net = Network("lines", seed=6)
    x = net.input("signal", (2, 4, 50))
    x = net.relu(net.conv(x, 16, 7, padding=3))
    x = net.relu(net.conv(x, 16, 3, padding=2, dilation=2))
    net.output(net.conv(net.max_pool(x, 2), 3, 1))
    return net.graph


def volume() -> Graph:
    """Three spatial axes."""
    net = Network("volume", seed=7)
    x = net.input("scan", (1, 2, 6, 7, 8))
    x = net.relu(net.conv(x, 16, 3, padding=1))
    net.output(net.global_average_pool(net.conv(x, 5, 2, stride=2)))
    return net.graph


def shared_output() -> Graph:
    """Outputs that are inputs, that are returned twice, and that are read on by padded layers."""
    net = Network("shared_output", seed=8)
    x = net.input("image", (1, 16, 8, 8))
    y = net.conv(x, 16, 3, padding=1, name="first")
    net.output(y, "y")
    net.output(net.relu(net.conv(y, 16, 3, padding=1)), "z")
    net.output(net.reshape(y, (1, 1024)), "flat")
    net.output(net.add(x, 1.0), "sum")
    return net.graph


NETWORKS: dict[str, Callable[[], Graph]] = {
    f.__name__: f for f in (residual, dense, branches, up_down, separable, lines, volume, shared_output)
}

__all__ = ["NETWORKS", "Tensor"]
