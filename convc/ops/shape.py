"""Operators that move elements of a tensor without computing on them; `parts` has those that join and cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.fields import Fields, met
from convc.ir.opdef import A, Attrs, Cost, OpDef, register
from convc.ir.traits import Affine, Reinterpret, Sharing
from convc.ops.common import (
    Pads,
    array,
    broadcast_shapes,
    per_axis,
    required,
)
from convc.types import Array, Shape, TensorType


@dataclass(frozen=True)
class ReshapeAttrs(Attrs):
    """The new shape, every extent known."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class TransposeAttrs(Attrs):
    """Axis i of the result is axis perm[i] of the input."""

    perm: tuple[int, ...]


@dataclass(frozen=True)
class ExpandAttrs(Attrs):
    """The shape with which the input is broadcast."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class TileAttrs(Attrs):
    """How often each axis is repeated."""

    repeats: tuple[int, ...]


@dataclass(frozen=True)
class PadAttrs(Attrs):
    """(before, after) for every axis, negative to crop; crops come first, then `mode` fills what is added.

    Modes: "constant" (with `value`), "reflect" (without repeating the edge), "edge", "wrap".
    """

    pads: Pads
    mode: str = "constant"
    value: float = 0.0


@dataclass(frozen=True)
class DepthSpaceAttrs(Attrs):
    """Edge of a block, and whether channels are ordered depth-column-row or column-row-depth."""

    block: int
    mode: str = "DCR"


class Movement(OpDef[A]):
    """Marks operators that cost memory traffic only."""

    moves = True
    exact = True
    finite = True

    def cost(self, attrs: A, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        return Cost()


@register
class Reshape(Movement[ReshapeAttrs]):
    """The same elements in the same order under another shape."""

    name = "reshape"
    attrs = ReshapeAttrs

    def infer(self, attrs: ReshapeAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        if min(attrs.shape, default=0) < 0 or math.prod(attrs.shape) != x.size:
            raise TypeRuleError(
                f"{x.shape} has {x.size} elements; {attrs.shape} would need {math.prod(attrs.shape)}."
            )
        return (TensorType(attrs.shape, x.dtype),)

    def reference(self, attrs: ReshapeAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (array(inputs, 0).reshape(attrs.shape),)

    def identity(self, attrs: ReshapeAttrs) -> bool:
        return True

    def sharing(
        self, attrs: ReshapeAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Sharing | None:
        return Reinterpret()

    def receptive(
        self, attrs: ReshapeAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """Axes at the end that keep their extents keep their fields."""
        ((kind, x),) = operands
        kept = 0
        while kept < min(kind.rank, len(out)) and kind.shape[-1 - kept] == out[-1 - kept]:
            kept += 1
        return (*[None] * (len(out) - kept), *x[len(x) - kept :])


@register
class Transpose(Movement[TransposeAttrs]):
    """Axes in another order."""

    name = "transpose"
    attrs = TransposeAttrs

    def infer(self, attrs: TransposeAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        if sorted(attrs.perm) != list(range(x.rank)):
            raise TypeRuleError(f"perm {attrs.perm} is not a permutation of the {x.rank} axes of {x.shape}.")
        return (TensorType(tuple(x.shape[axis] for axis in attrs.perm), x.dtype),)

    def reference(self, attrs: TransposeAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (array(inputs, 0).transpose(attrs.perm),)

    def identity(self, attrs: TransposeAttrs) -> bool:
        return attrs.perm == tuple(range(len(attrs.perm)))

    def receptive(
        self, attrs: TransposeAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        return tuple(operands[0][1][axis] for axis in attrs.perm)


@register
class Expand(Movement[ExpandAttrs]):
    """Broadcasting of input and shape against each other, by NumPy's rules."""

    name = "expand"
    attrs = ExpandAttrs

    def infer(self, attrs: ExpandAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        return (TensorType(broadcast_shapes(x.shape, attrs.shape), x.dtype),)

    def reference(self, attrs: ExpandAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        return (np.broadcast_to(x, broadcast_shapes(x.shape, attrs.shape)),)

    def identity(self, attrs: ExpandAttrs) -> bool:
        return True

    def receptive(
        self, attrs: ExpandAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        ((kind, x),) = operands
        return met([(kind.shape, x)], out)


@register
class Tile(Movement[TileAttrs]):
    """The tensor repeated along every axis."""

    name = "tile"
    attrs = TileAttrs

    def infer(self, attrs: TileAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        per_axis(attrs.repeats, x.rank, "repeats")
        if min(attrs.repeats, default=0) < 0:
            raise TypeRuleError(f"repeats {attrs.repeats} must not be negative.")
        return (TensorType(tuple(e * r for e, r in zip(x.shape, attrs.repeats, strict=True)), x.dtype),)

    def reference(self, attrs: TileAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (np.tile(array(inputs, 0), attrs.repeats),)

    def identity(self, attrs: TileAttrs) -> bool:
        return True

    def receptive(
        self, attrs: TileAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        return operands[0][1]


@register
class Pad(Movement[PadAttrs]):
    """Elements added at, or cropped from, both ends of every axis."""

    name = "pad"
    attrs = PadAttrs

    def infer(self, attrs: PadAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        per_axis(attrs.pads, x.rank, "pads")
        if attrs.mode not in ("constant", "reflect", "edge", "wrap"):
            raise TypeRuleError(
                f"Padding mode '{attrs.mode}' is unknown; use constant, reflect, edge or wrap."
            )
        for axis, (extent, (before, after)) in enumerate(zip(x.shape, attrs.pads, strict=True)):
            kept = extent + min(before, 0) + min(after, 0)
            most = (
                kept - 1 if attrs.mode == "reflect" else math.inf if attrs.mode == "constant" or kept else 0
            )
            if kept < 0 or max(before, after, 0) > max(most, 0):
                raise TypeRuleError(
                    f"pads {(before, after)} with mode {attrs.mode} do not fit axis {axis} of {x.shape}."
                )
        return (TensorType(tuple(e + sum(p) for e, p in zip(x.shape, attrs.pads, strict=True)), x.dtype),)

    def reference(self, attrs: PadAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        kept = x[
            tuple(slice(max(-b, 0), e - max(-a, 0)) for e, (b, a) in zip(x.shape, attrs.pads, strict=True))
        ]
        added = [(max(before, 0), max(after, 0)) for before, after in attrs.pads]
        if attrs.mode == "constant":
            return (np.pad(kept, added, constant_values=x.dtype.type(attrs.value)),)
        return (np.pad(kept, added, mode=attrs.mode),)  # type: ignore[call-overload]

    def identity(self, attrs: PadAttrs) -> bool:
        return not any(map(any, attrs.pads))

    def passes(self, attrs: PadAttrs) -> Affine:
        """A border of zeros is not shifted; other numbers would have to change with the map."""
        if attrs.mode != "constant":
            return Affine.ALL
        return Affine.SCALE | Affine.NEGATIVE if attrs.value == 0 else Affine.NOTHING

    def per_channel(self, attrs: PadAttrs, inputs: Sequence[TensorType | None]) -> bool:
        return not any(map(any, attrs.pads[:2]))

    def seams(
        self, attrs: PadAttrs, inputs: Sequence[TensorType | None], output: TensorType
    ) -> tuple[int, tuple[int, ...]]:
        """Where the border ends and begins on the last axis that has one."""
        padded = [axis for axis, (before, after) in enumerate(attrs.pads) if before > 0 or after > 0]
        if not padded:
            return 0, ()
        before, after = attrs.pads[padded[-1]]
        return padded[-1], (before, output.physical[padded[-1]] - after)

    def receptive(self, attrs: PadAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape) -> Fields:
        return operands[0][1]


def _check_depth_space(attrs: DepthSpaceAttrs, x: TensorType) -> Shape:
    """The shape of x, found to be (N, C, H, W)."""
    if x.rank != 4 or attrs.block < 1 or attrs.mode not in ("DCR", "CRD"):
        raise TypeRuleError(
            f"A tensor (N, C, H, W), a positive block and mode DCR or CRD are needed, "
            f"not {x.shape}, {attrs.block} and {attrs.mode}."
        )
    return x.shape


@register
class DepthToSpace(Movement[DepthSpaceAttrs]):
    """Channels unfolded into blocks of pixels; CRD is sub-pixel convolution's order (arXiv 1609.05158)."""

    name = "depth_to_space"
    attrs = DepthSpaceAttrs

    def infer(self, attrs: DepthSpaceAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        n, c, h, w = _check_depth_space(attrs, x)
        if c % attrs.block**2:
            raise TypeRuleError(f"The {c} channels of {x.shape} do not divide by {attrs.block} squared.")
        return (TensorType((n, c // attrs.block**2, h * attrs.block, w * attrs.block), x.dtype),)

    def reference(self, attrs: DepthSpaceAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, b = array(inputs, 0), attrs.block
        n, c, h, w = x.shape
        if attrs.mode == "DCR":
            y = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return (y.reshape(n, c // b**2, h * b, w * b),)

    def identity(self, attrs: DepthSpaceAttrs) -> bool:
        return True

    def receptive(
        self, attrs: DepthSpaceAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        x = operands[0][1]
        return (*x[:2], *(f and f.upsampled(1, Fraction(attrs.block)) for f in x[2:]))


@register
class SpaceToDepth(Movement[DepthSpaceAttrs]):
    """Blocks of pixels folded into channels: the inverse of depth_to_space."""

    name = "space_to_depth"
    attrs = DepthSpaceAttrs

    def infer(self, attrs: DepthSpaceAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        n, c, h, w = _check_depth_space(attrs, x)
        if h % attrs.block or w % attrs.block:
            raise TypeRuleError(
                f"The {h} x {w} pixels of {x.shape} do not divide into blocks of {attrs.block}."
            )
        return (TensorType((n, c * attrs.block**2, h // attrs.block, w // attrs.block), x.dtype),)

    def reference(self, attrs: DepthSpaceAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, b = array(inputs, 0), attrs.block
        n, c, h, w = x.shape
        order = (0, 3, 5, 1, 2, 4) if attrs.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return (x.reshape(n, c, h // b, b, w // b, b).transpose(order).reshape(n, c * b * b, h // b, w // b),)

    def identity(self, attrs: DepthSpaceAttrs) -> bool:
        return True

    def receptive(
        self, attrs: DepthSpaceAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        x = operands[0][1]
        return (*x[:2], *(f and f.window(attrs.block, attrs.block) for f in x[2:]))


@register
class Relayout(Movement[Attrs]):
    """A copy into another storage layout. Only passes make it; they set the layout of its output."""

    name = "relayout"
    copies_layout = True

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        return (TensorType(x.shape, x.dtype),)

    def reference(self, attrs: Attrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (array(inputs, 0),)

    def sharing(
        self, attrs: Attrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Sharing | None:
        return Reinterpret()

    def receptive(self, attrs: Attrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape) -> Fields:
        return operands[0][1]
