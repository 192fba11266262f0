"""LeNet-5, the digit reader.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11),
1998, section II.B and figure 2.

`build` is the form in use today: full connections in C3, plain average pooling, softmax; 61,706 parameters.
`build_1998` is the paper's: C3 connected by its table I, pooling with a trained coefficient and bias for each
map, the activation 1.7159 tanh(2x / 3), distances to fixed +-1 codes as output; 60,000 trained parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph
from convc.types import Array

# Table I: the S2 maps that each of the 16 maps of C3 sees.
C3_INPUTS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


def build(batch: int = 1, seed: int | None = 0, weights: Mapping[str, Array] | None = None) -> Graph:
    """Image (batch, 1, 32, 32) to probabilities of the ten digits, (batch, 10)."""
    net = Network("lenet5", seed=seed, weights=weights)
    x = net.input("image", (batch, 1, 32, 32))
    x = net.average_pool(net.tanh(net.conv(x, 6, 5, name="c1")), 2, name="s2")
    x = net.average_pool(net.tanh(net.conv(x, 16, 5, name="c3")), 2, name="s4")
    x = net.tanh(net.conv(x, 120, 5, name="c5"))
    x = net.tanh(net.linear(x, 84, name="f6"))
    x = net.linear(x, 10, name="output")
    net.output(net.softmax(x), "probabilities")
    return net.graph


def build_1998(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 1, 32, 32) to the penalty of each of the ten digits, (batch, 10); the smallest wins.

    The paper's codes are drawings of the characters; here they are drawn from the seed.
    """
    net = Network("lenet5_1998", seed=seed)
    rng = np.random.default_rng(seed)

    def squash(x: Tensor) -> Tensor:
        return 1.7159 * net.tanh(2 / 3 * x)

    def subsample(x: Tensor, name: str) -> Tensor:
        """Sum of 2x2 pixels, times a coefficient, plus a bias, for each map."""
        shape = (1, x.channels, 1, 1)
        coefficient, bias = rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.05, shape)
        with net.scope(name):
            scaled = net.mul(4 * net.average_pool(x, 2, name="mean"), coefficient, name="scale")
            return squash(net.add(scaled, bias, name="bias"))

    x = net.input("image", (batch, 1, 32, 32))
    x = subsample(squash(net.conv(x, 6, 5, name="c1")), "s2")
    with net.scope("c3"):
        maps = [net.conv(net.gather(x, seen), 1, 5, name=f"map{i}") for i, seen in enumerate(C3_INPUTS)]
        x = squash(net.concat(maps))
    x = subsample(x, "s4")
    x = squash(net.conv(x, 120, 5, name="c5"))
    x = squash(net.linear(x, 84, name="f6"))
    codes = rng.choice([-1.0, 1.0], (10, 84))  # sum over i of (x_i - code_i)^2 is |x|^2 - 2 x . code + 84
    cross = net.linear(x, 10, weight=-2 * codes, bias=np.full(10, 84.0), name="codes")
    net.output(cross + net.reduce("sum_square", x, 1), "penalties")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build())
    show(build_1998())
