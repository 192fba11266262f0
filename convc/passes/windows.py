"""What rules that rewrite sliding windows ask: the padding under other strides, and what a window costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convc.ir import Node
from convc.ops.conv import ConvAttrs

MOVED = 32
"""Multiply-adds that take as long as writing a float to L3 and reading it again: 8 bytes at 50 GB/s, beside
400 GFLOP/s of two cores."""


def products(kernel: Sequence[int], steps: Sequence[int]) -> float:
    """Multiply-adds that take the time of a dense window's sum for one input channel.

    `steps` are strides and dilations; where all are 1, Winograd's F(4, k) makes (k + 3) / 4 products for an
    output along each axis, and its transforms take about half as much again: 2 x 2 taps of 256 channels took
    0.48 of the time of four pointwise convolutions, and 2 x 1 taps 0.68 of the time of two.
    """
    direct = math.prod(kernel)
    return direct if max(steps) > 1 else min(direct, 1.5 * math.prod((k + 3) / 4 for k in kernel))


def keep_windows(size: int, count: int, span: int, stride: int, before: int) -> tuple[int, int] | None:
    """The padding for `count` windows of `span` elements, the first at -before; None where none gives that.

    The last window may need less padding than there was, or leave out elements of the `size` at the end.
    """
    after = max(0, (count - 1) * stride + span - before - size)
    if before < 0 or (size + before + after - span) // stride + 1 != count:
        return None
    return before, after


def pointwise(node: Node) -> bool:
    """Whether a convolution's kernel is one tap, on pixels without padding."""
    assert isinstance(node.attrs, ConvAttrs)
    weights = node.inputs[1]
    assert weights is not None
    return math.prod(weights.type.shape[2:]) == 1 and not any(map(any, node.attrs.pads))
