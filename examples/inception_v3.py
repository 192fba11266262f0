"""Inception v3, without its auxiliary classifier: 5x5 as two 3x3, 7x7 as 1x7 and 7x1.

Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, CVPR 2016 (arXiv 1512.00567),
table 1 and figures 5 to 7, with the channels of the authors' code, which the paper leaves out; 23,834,568
parameters.
"""

from __future__ import annotations

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph

Kernel = int | tuple[int, int]


class _Blocks(Network):
    """The paper's building blocks; each is a scope of its own."""

    def unit(
        self, x: Tensor, channels: int, kernel: Kernel, name: str, stride: int = 1, padding: str = ""
    ) -> Tensor:
        """Convolution, batch norm, ReLU: of the input's size, or unpadded when strided."""
        padding = padding or ("same" if stride == 1 else "valid")
        x = self.conv(x, channels, kernel, stride=stride, padding=padding, bias=False, name=name)
        return self.relu(self.batch_norm(x, epsilon=1e-3, name=f"{name}.norm"))

    def pooled(self, x: Tensor, channels: int) -> Tensor:
        """The branch of an average pooling."""
        return self.unit(self.average_pool(x, 3, stride=1, padding=1, name="pool"), channels, 1, "pool_proj")

    def figure5(self, x: Tensor, projection: int) -> Tensor:
        """35 x 35 maps: the 5x5 of GoogLeNet as two 3x3; the other 5x5 stayed."""
        double = self.unit(self.unit(x, 64, 1, "double_reduce"), 96, 3, "double1")
        branches = [
            self.unit(x, 64, 1, "1x1"),
            self.unit(self.unit(x, 48, 1, "5x5_reduce"), 64, 5, "5x5"),
            self.unit(double, 96, 3, "double2"),
            self.pooled(x, projection),
        ]
        return self.concat(branches, name="output")

    def figure6(self, x: Tensor, width: int) -> Tensor:
        """17 x 17 maps: n = 7, as 1x7 and 7x1."""
        single = self.unit(self.unit(x, width, 1, "7x7_reduce"), width, (1, 7), "1x7")
        double = self.unit(x, width, 1, "double_reduce")
        for number, kernel in enumerate(((7, 1), (1, 7), (7, 1)), 1):
            double = self.unit(double, width, kernel, f"double{number}")
        branches = [
            self.unit(x, 192, 1, "1x1"),
            self.unit(single, 192, (7, 1), "7x1"),
            self.unit(double, 192, (1, 7), "double4"),
            self.pooled(x, 192),
        ]
        return self.concat(branches, name="output")

    def figure7(self, x: Tensor) -> Tensor:
        """8 x 8 maps: 1x3 and 3x1 side by side."""
        single = self.unit(x, 384, 1, "3x3_reduce")
        double = self.unit(self.unit(x, 448, 1, "double_reduce"), 384, 3, "double")
        branches = [
            self.unit(x, 320, 1, "1x1"),
            self.unit(single, 384, (1, 3), "1x3"),
            self.unit(single, 384, (3, 1), "3x1"),
            self.unit(double, 384, (1, 3), "double_1x3"),
            self.unit(double, 384, (3, 1), "double_3x1"),
            self.pooled(x, 192),
        ]
        return self.concat(branches, name="output")

    def shrink35(self, x: Tensor) -> Tensor:
        """Section 5: 35 x 35 to 17 x 17, convolution beside pooling."""
        double = self.unit(self.unit(x, 64, 1, "double_reduce"), 96, 3, "double1")
        branches = [
            self.unit(x, 384, 3, "3x3", stride=2),
            self.unit(double, 96, 3, "double2", stride=2),
            self.max_pool(x, 3, stride=2, name="pool"),
        ]
        return self.concat(branches, name="output")

    def shrink17(self, x: Tensor) -> Tensor:
        """17 x 17 to 8 x 8."""
        double = self.unit(self.unit(x, 192, 1, "7x7_reduce"), 192, (1, 7), "1x7")
        double = self.unit(double, 192, (7, 1), "7x1")
        branches = [
            self.unit(self.unit(x, 192, 1, "3x3_reduce"), 320, 3, "3x3", stride=2),
            self.unit(double, 192, 3, "7x7_3x3", stride=2),
            self.max_pool(x, 3, stride=2, name="pool"),
        ]
        return self.concat(branches, name="output")


def build(batch: int = 1, seed: int | None = 0) -> Graph:
    """Image (batch, 3, 299, 299) to logits of 1000 classes."""
    net = _Blocks("inception_v3", seed=seed)
    x = net.input("image", (batch, 3, 299, 299))
    x = net.unit(x, 32, 3, "conv1", stride=2)
    x = net.unit(x, 32, 3, "conv2", padding="valid")
    x = net.max_pool(net.unit(x, 64, 3, "conv3"), 3, stride=2, name="pool1")
    x = net.unit(x, 80, 1, "conv4")
    x = net.unit(x, 192, 3, "conv5", padding="valid")
    x = net.max_pool(x, 3, stride=2, name="pool2")
    for name, projection in (("5b", 32), ("5c", 64), ("5d", 64)):
        with net.scope(f"mixed_{name}"):
            x = net.figure5(x, projection)
    with net.scope("mixed_6a"):
        x = net.shrink35(x)
    for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        with net.scope(f"mixed_{name}"):
            x = net.figure6(x, width)
    with net.scope("mixed_7a"):
        x = net.shrink17(x)
    for name in ("7b", "7c"):
        with net.scope(f"mixed_{name}"):
            x = net.figure7(x)
    x = net.dropout(net.flatten(net.global_average_pool(x, name="pool")))
    net.output(net.linear(x, 1000, name="classifier"), "logits")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None))
