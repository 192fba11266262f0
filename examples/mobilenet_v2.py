"""MobileNet v2: inverted residuals of depthwise convolutions, with linear bottlenecks.

Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018 (arXiv 1801.04381), table 2;
3,504,872 parameters.
"""

from __future__ import annotations

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph

# Table 2: t, the expansion; c, output channels; n, repetitions; s, stride of the first.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def build(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 3, 224, 224) to logits of 1000 classes."""
    net = Network("mobilenet_v2", seed=seed)

    def conv(x: Tensor, channels: int, kernel: int, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        padding = kernel // 2
        x = net.conv(
            x, channels, kernel, stride=stride, padding=padding, groups=groups, bias=False, name=name
        )
        return net.batch_norm(x, name=f"{name}.norm")

    def bottleneck(x: Tensor, expansion: int, channels: int, stride: int) -> Tensor:
        """Table 1: widen, filter each channel by itself, project without an activation."""
        y = x
        if expansion > 1:
            y = net.relu6(conv(y, expansion * x.channels, 1, "expand"))
        y = net.relu6(conv(y, y.channels, 3, "depthwise", stride, groups=y.channels))
        y = conv(y, channels, 1, "project")
        return net.add(x, y, name="add") if stride == 1 and x.channels == channels else y

    x = net.input("image", (batch, 3, 224, 224))
    x = net.relu6(conv(x, 32, 3, "conv1", stride=2))
    for stage, (expansion, channels, count, first) in enumerate(BOTTLENECKS, 1):
        for index in range(count):
            with net.scope(f"bottleneck{stage}.{index}"):
                x = bottleneck(x, expansion, channels, first if index == 0 else 1)
    x = net.relu6(conv(x, 1280, 1, "conv2"))
    x = net.dropout(net.flatten(net.global_average_pool(x, name="pool")))
    net.output(net.linear(x, 1000, name="classifier"), "logits")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None))
