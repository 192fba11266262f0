"""VGG-16: thirteen 3x3 convolutions and three fully connected layers.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015
(arXiv 1409.1556), table 1, column D; 138,357,544 parameters.
"""

from __future__ import annotations

from convc.frontends.builder import Network
from convc.ir.graph import Graph

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def build(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 3, 224, 224) to probabilities of 1000 classes."""
    net = Network("vgg16", seed=seed)
    x = net.input("image", (batch, 3, 224, 224))
    for stage, (channels, convolutions) in enumerate(STAGES, 1):
        for index in range(1, convolutions + 1):
            x = net.relu(net.conv(x, channels, 3, padding=1, name=f"conv{stage}_{index}"))
        x = net.max_pool(x, 2, name=f"pool{stage}")
    x = net.dropout(net.relu(net.linear(x, 4096, name="fc6")))
    x = net.dropout(net.relu(net.linear(x, 4096, name="fc7")))
    net.output(net.softmax(net.linear(x, 1000, name="fc8")), "probabilities")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None))
