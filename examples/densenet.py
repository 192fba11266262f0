"""DenseNet-121, 169 and 201: every layer sees the maps of all before it in its block.

Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, CVPR 2017 (arXiv
1608.06993), table 1, growth rate 32. Parameters: 7,978,856; 14,149,480; 20,013,928.
"""

from __future__ import annotations

import sys

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph

BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
GROWTH = 32


def build(batch: int = 1, seed: int | None = 0, depth: int = 121) -> Graph:
    """Image (batch, 3, 224, 224) to logits of 1000 classes."""
    net = Network(f"densenet{depth}", seed=seed)

    def conv(x: Tensor, channels: int, kernel: int, name: str, stride: int = 1) -> Tensor:
        return net.conv(x, channels, kernel, stride=stride, padding=kernel // 2, bias=False, name=name)

    def active(x: Tensor, name: str) -> Tensor:
        return net.relu(net.batch_norm(x, name=name))

    def layer(x: Tensor) -> Tensor:
        """Section 3, "bottleneck layers": BN-ReLU-Conv(1x1)-BN-ReLU-Conv(3x3), 4 k maps between them."""
        y = conv(active(x, "norm1"), 4 * GROWTH, 1, "conv1")
        y = conv(active(y, "norm2"), GROWTH, 3, "conv2")
        return net.concat([x, y], name="output")

    x = net.input("image", (batch, 3, 224, 224))
    x = active(conv(x, 2 * GROWTH, 7, "conv0", stride=2), "norm0")
    x = net.max_pool(x, 3, stride=2, padding=1, name="pool0")
    for block, count in enumerate(BLOCKS[depth], 1):
        for index in range(1, count + 1):
            with net.scope(f"block{block}.{index}"):
                x = layer(x)
        if block < len(BLOCKS[depth]):
            with net.scope(f"transition{block}"):  # half the maps, half the size
                x = conv(active(x, "norm"), x.channels // 2, 1, "conv")
                x = net.average_pool(x, 2, name="pool")
    x = net.global_average_pool(active(x, "norm5"), name="pool5")
    net.output(net.linear(x, 1000, name="classifier"), "logits")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None, depth=int(sys.argv[1]) if len(sys.argv) > 1 else 121))
