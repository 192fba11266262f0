"""ResNet-18, 34, 50, 101 and 152.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv 1512.03385), table 1.
A bottleneck's stride lies on its 3x3 convolution, as in torchvision ("v1.5"); `original=True` puts it on the
first 1x1, as in the paper. Parameters, either way: 11,689,512; 21,797,672; 25,557,032; 44,549,160;
60,192,808.
"""

from __future__ import annotations

import sys

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def build(
    batch: int = 1, seed: int | None = 0, depth: int = 50, original: bool = False, size: int = 224
) -> Graph:
    """Image (batch, 3, size, size) to logits of 1000 classes."""
    net = Network(f"resnet{depth}", seed=seed)

    def conv(x: Tensor, channels: int, kernel: int, name: str, stride: int = 1, gain: float = 1.0) -> Tensor:
        x = net.conv(x, channels, kernel, stride=stride, padding=kernel // 2, bias=False, name=name)
        return net.batch_norm(x, gain=gain, name=f"{name}.norm")

    def basic(x: Tensor, width: int, stride: int) -> Tensor:
        x = net.relu(conv(x, width, 3, "conv1", stride))
        return conv(x, width, 3, "conv2", gain=0.3)

    def bottleneck(x: Tensor, width: int, stride: int) -> Tensor:
        first, second = (stride, 1) if original else (1, stride)
        x = net.relu(conv(x, width, 1, "conv1", first))
        x = net.relu(conv(x, width, 3, "conv2", second))
        return conv(x, 4 * width, 1, "conv3", gain=0.3)

    block, expansion = (basic, 1) if depth < 50 else (bottleneck, 4)
    x = net.input("image", (batch, 3, size, size))
    x = net.relu(conv(x, 64, 7, "conv1", stride=2))
    x = net.max_pool(x, 3, stride=2, padding=1, name="pool1")
    for stage, count in enumerate(BLOCKS[depth], 1):
        width = 32 << stage
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            with net.scope(f"layer{stage}.{index}"):
                shortcut = x
                if stride > 1 or x.channels != width * expansion:
                    shortcut = conv(x, width * expansion, 1, "shortcut", stride)
                x = net.relu(net.add(block(x, width, stride), shortcut, name="add"), name="output")
    x = net.global_average_pool(x, name="pool")
    net.output(net.linear(x, 1000, name="fc"), "logits")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None, depth=int(sys.argv[1]) if len(sys.argv) > 1 else 50))
