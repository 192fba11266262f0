"""How large a model may be. A size is compared with these before memory is asked for it.

The limits lie far above the networks that people have, and below what makes a broken or hostile file take a
machine's memory or minutes of its time.
"""

from __future__ import annotations

from convc.types import TensorType

RANK = 32
"""Axes of a tensor; NumPy stops at 64, and some of what convc does doubles their number."""
ELEMENTS = (1 << 31) - 1
"""Elements of a tensor, and so extents too: generated code counts them in 32 bits."""
TENSOR_BYTES = 1 << 32
"""Bytes of a tensor."""
VERSION = (1 << 31) - 1
"""The largest version of an opset or of the file format: ONNX's own library keeps them in 32 bits."""
NODES = 1 << 15
"""Nodes of a model once its functions are expanded."""
EXPANDED_BYTES = 1 << 28
"""Bytes of a model, weights aside, once its functions are expanded."""
CALLS = 32
"""Functions that call functions."""
DEPTH = 16
"""Graphs in nodes of graphs; protobuf's own parser stops at about 30."""
FOLDED_BYTES = 1 << 30
FOLDED_TIMES = 16
"""Bytes that may be read and written, and products computed, for constants that follow from others: so many,
and as many times the bytes of the model's own weights."""


def size_fault(kind: TensorType) -> str:
    """Why a tensor is too large to compile, or nothing where it is not."""
    if kind.rank > RANK:
        return f"{kind.rank} axes; convc takes {RANK} at most"
    if min(kind.shape, default=0) < 0:
        return f"the shape {list(kind.shape)}, with a negative extent"
    if max(kind.shape, default=0) > ELEMENTS or kind.size > ELEMENTS:
        return f"the shape {list(kind.shape)}; {ELEMENTS} elements are the most that convc takes"
    if kind.nbytes > TENSOR_BYTES:
        return f"the type {kind}, {kind.nbytes} bytes; convc takes {TENSOR_BYTES >> 30} GiB at most"
    return ""


class Allowance:
    """What is left of the work that an import may spend on constants that follow from others."""

    def __init__(self, weights_bytes: int) -> None:
        self.total = self.left = FOLDED_BYTES + FOLDED_TIMES * weights_bytes

    def spend(self, work: int) -> bool:
        """Take `work` (bytes read and written, and products) out, and say whether there was enough."""
        self.left -= work
        return self.left >= 0
