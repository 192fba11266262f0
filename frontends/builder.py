"""Networks in Python, written like the architecture table of a paper.

    from convc.frontends.builder import Network

    net = Network("lenet5", seed=0)
    x = net.input("image", (1, 1, 32, 32))
    x = net.average_pool(net.tanh(net.conv(x, 6, 5, name="c1")), 2)
    x = net.average_pool(net.tanh(net.conv(x, 16, 5, name="c3")), 2)
    x = net.tanh(net.conv(x, 120, 5, name="c5"))
    x = net.tanh(net.linear(x, 84, name="f6"))
    net.output(net.softmax(net.linear(x, 10, name="f7")))
    graph = net.graph

Shapes are known as soon as a layer is written: `print(x.shape)`. A layer that does not fit raises a
ConvcError that begins with the file and line that asked for it:

    net.py:7: conv 'c5': The array for 'c5.weight' has shape (120, 16, 3, 3); the layer needs (120, 16, 5, 5).

Weights are drawn from the seed (`seed=None`: zeros that take no memory), or given: for one layer by
`weight=` and `bias=`, for the whole network by `Network(weights={"c1.weight": ..., "c1.bias": ...})`, where
an `.npz` file serves as well as a dict. The parts are `weight` and `bias` for convolutions and `linear`,
`scale`, `bias`, `mean` and `var` for normalisations, `slope` for `prelu`.
"""

from __future__ import annotations

from convc.frontends.builder_core import Tensor
from convc.frontends.builder_layers import WeightedLayers
from convc.frontends.builder_shapes import Activations, Arithmetic, Shapes
from convc.frontends.builder_windows import WindowLayers

__all__ = ["Network", "Tensor"]


class Network(WeightedLayers, WindowLayers, Activations, Arithmetic, Shapes):
    """A network under construction: call its layers, mark outputs, take `graph`.

    `Network(name, seed=0, weights=None)`. Every layer takes `name=`; without one it is called after its kind
    with a number (`conv1`, `conv2`, ...). Within `with net.scope("stage1"):` names begin with `stage1.`.
    Operators of `docs/ops.md` that have no method are reached by `net.unary`, `net.binary`, `net.reduce` and
    `net.apply(op, *operands, **attributes)`.
    """
