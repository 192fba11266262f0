"""AlexNet, in its original two groups and in its later single column.

`build`: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
NIPS 2012, section 3. Two groups (the paper's two GPUs), cross-channel normalisation, overlapping pooling;
60,965,224 parameters. The input is 227 x 227: with the 224 of the text the first layer would not give 55 x
55 maps.

`build_2014`: Krizhevsky: One weird trick for parallelizing convolutional neural networks (arXiv 1404.5997),
footnote 1, in torchvision's form, which many mean by AlexNet: one column, no normalisation; 61,100,840
parameters.
"""

from __future__ import annotations

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph


def build(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 3, 227, 227) to probabilities of 1000 classes."""
    net = Network("alexnet", seed=seed)

    def normalise(x: Tensor) -> Tensor:
        """Section 3.3: k = 2, n = 5, alpha = 1e-4, which `lrn` divides by n."""
        return net.lrn(x, 5, alpha=5e-4, beta=0.75, bias=2.0)

    def pool(x: Tensor) -> Tensor:
        """Section 3.4: windows of 3, two apart."""
        return net.max_pool(x, 3, stride=2)

    x = net.input("image", (batch, 3, 227, 227))
    x = pool(normalise(net.relu(net.conv(x, 96, 11, stride=4, name="conv1"))))
    x = pool(normalise(net.relu(net.conv(x, 256, 5, padding=2, groups=2, name="conv2"))))
    x = net.relu(net.conv(x, 384, 3, padding=1, name="conv3"))
    x = net.relu(net.conv(x, 384, 3, padding=1, groups=2, name="conv4"))
    x = pool(net.relu(net.conv(x, 256, 3, padding=1, groups=2, name="conv5")))
    x = net.dropout(net.relu(net.linear(x, 4096, name="fc6")))
    x = net.dropout(net.relu(net.linear(x, 4096, name="fc7")))
    net.output(net.softmax(net.linear(x, 1000, name="fc8")), "probabilities")
    return net.graph


def build_2014(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 3, 224, 224) to logits of 1000 classes."""
    net = Network("alexnet_2014", seed=seed)

    def pool(x: Tensor) -> Tensor:
        return net.max_pool(x, 3, stride=2)

    x = net.input("image", (batch, 3, 224, 224))
    x = pool(net.relu(net.conv(x, 64, 11, stride=4, padding=2, name="conv1")))
    x = pool(net.relu(net.conv(x, 192, 5, padding=2, name="conv2")))
    x = net.relu(net.conv(x, 384, 3, padding=1, name="conv3"))
    x = net.relu(net.conv(x, 256, 3, padding=1, name="conv4"))
    x = net.dropout(pool(net.relu(net.conv(x, 256, 3, padding=1, name="conv5"))))
    x = net.dropout(net.relu(net.linear(x, 4096, name="fc6")))
    x = net.relu(net.linear(x, 4096, name="fc7"))
    net.output(net.linear(x, 1000, name="fc8"), "logits")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None))
    show(build_2014(seed=None))
