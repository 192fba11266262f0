"""U-Net for segmentation, with unpadded convolutions and cropped copies.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015
(arXiv 1505.04597), figure 1; 31,030,658 parameters. `padded=True` keeps the image's size, as most
implementations do today; the size must then be a multiple of 16. `width` is that of the first level; 32 with
256 x 256 is a usual light form.
"""

from __future__ import annotations

from convc.frontends.builder import Network, Tensor
from convc.ir.graph import Graph

LEVELS = 4


def build(
    batch: int = 1, seed: int | None = 0, size: int = 572, padded: bool = False, width: int = 64
) -> Graph:
    """Image (batch, 1, size, size) to probabilities of two classes for each pixel; 572 gives 388 x 388."""
    net = Network("unet", seed=seed)

    widths = [width << level for level in range(LEVELS)]

    def double(x: Tensor, channels: int) -> Tensor:
        for index in (1, 2):
            x = net.relu(net.conv(x, channels, 3, padding="same" if padded else "valid", name=f"conv{index}"))
        return x

    x = net.input("image", (batch, 1, size, size))
    copies = []
    for level, channels in enumerate(widths, 1):
        with net.scope(f"down{level}"):
            x = double(x, channels)
            copies.append(x)
            x = net.max_pool(x, 2, name="pool")
    with net.scope("bottom"):
        x = net.dropout(double(x, width << LEVELS))
    for level, channels, copy in zip((4, 3, 2, 1), widths[::-1], copies[::-1], strict=True):
        with net.scope(f"up{level}"):
            x = net.conv_transpose(x, channels, 2, stride=2, name="up")
            x = double(net.concat([net.crop(copy, x.shape[2:]), x]), channels)
    net.output(net.softmax(net.conv(x, 2, 1, name="classes")), "probabilities")
    return net.graph


if __name__ == "__main__":
    from convc.report.summary import show

    show(build(seed=None))
