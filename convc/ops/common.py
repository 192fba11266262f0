"""Arithmetic of sliding windows and broadcasting, shared by the operator families."""

from __future__ import annotations

from collections.abc import Sequence

from convc.errors import TypeRuleError
from convc.types import Array, Shape, TensorType

Pads = tuple[tuple[int, int], ...]
"""Zero rows added before and after each spatial axis."""


def window_output(
    size: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int], *, ceil_mode: bool = False
) -> int:
    """Output extent of a sliding window over `size` elements (Dumoulin and Visin, arXiv 1603.07285).

    With `ceil_mode` a last window that starts inside the input or its left padding counts, as in ONNX.
    Raises TypeRuleError when the window, dilated, does not fit.
    """
    span = dilation * (kernel - 1) + 1
    padded = size + pad[0] + pad[1]
    if span > padded and not ceil_mode:
        raise TypeRuleError(
            f"A window of {span} (kernel {kernel}, dilation {dilation}) does not fit into {padded} elements "
            f"({size} padded by {pad[0]} and {pad[1]})."
        )
    if not ceil_mode:
        return (padded - span) // stride + 1
    count = -(-(padded - span) // stride) + 1
    if (count - 1) * stride >= size + pad[0]:
        count -= 1
    if count < 1:
        raise TypeRuleError(f"A window of {span} does not fit into {padded} elements.")
    return count


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The common shape by NumPy's rules. Raises TypeRuleError that quotes all of them."""
    rank = max(map(len, shapes), default=0)
    result = []
    for axis in range(-rank, 0):
        extents = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(extents) > 1:
            raise TypeRuleError(f"Shapes {' and '.join(map(str, shapes))} do not broadcast together.")
        result.append(extents.pop() if extents else 1)
    return tuple(result)


def must_broadcast_to(target: Shape, what: str, shape: Shape) -> None:
    """Check that `shape` broadcasts to `target` and not beyond. Raises TypeRuleError that quotes both."""
    extents = zip(reversed(shape), reversed(target), strict=False)
    if len(shape) > len(target) or any(e not in (1, t) for e, t in extents):
        raise TypeRuleError(f"{what} of shape {shape} does not broadcast to {target}.")


def required(inputs: Sequence[TensorType | None], index: int, what: str) -> TensorType:
    """Input `index`, which must be there. Raises TypeRuleError otherwise."""
    found = inputs[index] if index < len(inputs) else None
    if found is None:
        raise TypeRuleError(f"Input {index} ({what}) is missing.")
    return found


def same_dtype(what: str, *types: TensorType) -> None:
    """Check that all types share one dtype. Raises TypeRuleError that names those found."""
    if len({t.dtype for t in types}) > 1:
        raise TypeRuleError(f"{what} have different dtypes: {', '.join(t.dtype for t in types)}.")


def must_be(kind: str, *types: TensorType) -> None:
    """Check that elements are a "float", a "number", a "bool" or "any". Else raises TypeRuleError."""
    for found in types:
        fits = {
            "float": found.is_float,
            "number": found.dtype != "bool",
            "bool": found.dtype == "bool",
            "any": True,
        }
        if not fits[kind]:
            raise TypeRuleError(f"The dtype is {found.dtype}; {KINDS[kind]} is needed.")


KINDS = {"float": "a floating-point one", "number": "a number", "bool": "bool"}
MANY = 1 << 30
"""Upper limit of inputs for operators that take any number."""


def positive_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front. Raises TypeRuleError when it is out of range."""
    if not -rank <= axis < rank:
        raise TypeRuleError(f"Axis {axis} does not exist in a tensor of rank {rank}.")
    return axis % rank


def per_axis(entries: Sequence[object], rank: int, what: str) -> None:
    """Check that there is one entry for each of `rank` axes. Raises TypeRuleError."""
    if len(entries) != rank:
        raise TypeRuleError(f"{what} {tuple(entries)} has {len(entries)} entries; {rank} axes need one each.")


def array(inputs: Sequence[Array | None], index: int) -> Array:
    """Input `index` of a reference, which the type rule has found to be there."""
    found = inputs[index]
    assert found is not None
    return found


def per_channel(vector: Array, rank: int) -> Array:
    """A vector (C,) shaped to broadcast over axis 1 of a tensor of that rank."""
    return vector.reshape(-1, *[1] * (rank - 2))
