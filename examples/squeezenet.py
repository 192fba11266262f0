"""SqueezeNet 1.1: fire modules of cheap 1x1 convolutions around few 3x3 ones.

Iandola et al.: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, 2016
(arXiv 1602.07360), table 1, in the authors' later form 1.1: a 3x3 stem of 64 channels and earlier pooling,
2.4 times less work at the same accuracy; 1,235,496 parameters.
"""

from __future__ import annotations

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph

# Each fire module: s1x1, and e1x1 = e3x3; None is a max pooling.
FIRES = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "pool3": None,
    "fire4": (32, 128),
    "fire5": (32, 128),
    "pool5": None,
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}


def build(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 3, 224, 224) to logits of 1000 classes."""
    net = Network("squeezenet1_1", seed=seed)

    def pool(x: Tensor, name: str) -> Tensor:
        return net.max_pool(x, 3, stride=2, ceil_mode=True, name=name)

    def fire(x: Tensor, squeeze: int, expand: int, name: str) -> Tensor:
        with net.scope(name):
            x = net.relu(net.conv(x, squeeze, 1, name="squeeze"))
            one = net.relu(net.conv(x, expand, 1, name="expand1x1"))
            three = net.relu(net.conv(x, expand, 3, padding=1, name="expand3x3"))
            return net.concat([one, three], name="output")

    x = net.input("image", (batch, 3, 224, 224))
    x = pool(net.relu(net.conv(x, 64, 3, stride=2, name="conv1")), "pool1")
    for name, widths in FIRES.items():
        x = pool(x, name) if widths is None else fire(x, *widths, name)
    x = net.relu(net.conv(net.dropout(x), 1000, 1, name="conv10"))
    net.output(net.flatten(net.global_average_pool(x, name="pool10")), "logits")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None))
