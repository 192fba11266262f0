"""Sliding windows under other strides: the padding that keeps their number, and checks that rules share."""

from __future__ import annotations

import math

from convc.ir import Node
from convc.ops.conv import ConvAttrs


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
