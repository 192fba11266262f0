"""GoogLeNet, the first Inception network, without its auxiliary classifiers.

Szegedy et al.: Going Deeper with Convolutions, CVPR 2015 (arXiv 1409.4842), table 1; 6,998,552 parameters.
"""

from __future__ import annotations

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj; None is a max pooling.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "pool3": None,
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "pool4": None,
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def build(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 3, 224, 224) to probabilities of 1000 classes."""
    net = Network("googlenet", seed=seed)

    def conv(x: Tensor, channels: int, kernel: int, name: str, stride: int = 1) -> Tensor:
        return net.relu(net.conv(x, channels, kernel, stride=stride, padding=kernel // 2, name=name))

    def pool(x: Tensor, name: str) -> Tensor:
        return net.max_pool(x, 3, stride=2, ceil_mode=True, name=name)

    def inception(x: Tensor, widths: tuple[int, ...], name: str) -> Tensor:
        one, reduce3, three, reduce5, five, projection = widths
        with net.scope(f"inception_{name}"):
            branches = [
                conv(x, one, 1, "1x1"),
                conv(conv(x, reduce3, 1, "3x3_reduce"), three, 3, "3x3"),
                conv(conv(x, reduce5, 1, "5x5_reduce"), five, 5, "5x5"),
                conv(net.max_pool(x, 3, stride=1, padding=1, name="pool"), projection, 1, "pool_proj"),
            ]
            return net.concat(branches, name="output")

    x = net.input("image", (batch, 3, 224, 224))
    x = net.lrn(pool(conv(x, 64, 7, "conv1", stride=2), "pool1"), 5)
    x = conv(conv(x, 64, 1, "conv2_reduce"), 192, 3, "conv2")
    x = pool(net.lrn(x, 5), "pool2")
    for name, widths in INCEPTIONS.items():
        x = pool(x, name) if widths is None else inception(x, widths, name)
    x = net.dropout(net.flatten(net.global_average_pool(x, name="pool5")))
    net.output(net.softmax(net.linear(x, 1000, name="classifier")), "probabilities")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None))
