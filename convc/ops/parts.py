"""Operators that join tensors, cut them up or pick parts of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.fields import Field, Fields, met
from convc.ir.opdef import Attrs, register
from convc.ir.traits import Affine, Cut, IntegerUse, Join, Sharing
from convc.ops.common import (
    MANY,
    array,
    per_axis,
    positive_axis,
    required,
    same_dtype,
)
from convc.ops.shape import Movement
from convc.types import Array, Shape, TensorType


@dataclass(frozen=True)
class ConcatAttrs(Attrs):
    """The axis along which the inputs are joined."""

    axis: int


@dataclass(frozen=True)
class SplitAttrs(Attrs):
    """The axis that is cut, and the extent of each piece."""

    axis: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class SliceAttrs(Attrs):
    """For every axis the range(start, stop, step); with a negative step, stop -1 means through index 0."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class GatherAttrs(Attrs):
    """The axis that the indices count along."""

    axis: int = 0


@register
class Concat(Movement[ConcatAttrs]):
    """Tensors joined along one axis."""

    name = "concat"
    attrs = ConcatAttrs
    inputs = (1, MANY)

    def infer(self, attrs: ConcatAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        types = [required(inputs, i, "to join") for i in range(len(inputs))]
        same_dtype("The inputs of concat", *types)
        axis = positive_axis(attrs.axis, types[0].rank)
        rests = {t.shape[:axis] + t.shape[axis + 1 :] for t in types}
        if len(rests) > 1 or len({t.rank for t in types}) > 1:
            raise TypeRuleError(
                f"Shapes {', '.join(str(t.shape) for t in types)} differ elsewhere than on axis {axis}."
            )
        joined = sum(t.shape[axis] for t in types)
        first = types[0]
        return (TensorType((*first.shape[:axis], joined, *first.shape[axis + 1 :]), first.dtype),)

    def reference(self, attrs: ConcatAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (np.concatenate([array(inputs, i) for i in range(len(inputs))], attrs.axis),)

    def identity(self, attrs: ConcatAttrs) -> bool:
        return True

    def passes(self, attrs: ConcatAttrs) -> Affine:
        return Affine.ALL

    def sharing(
        self, attrs: ConcatAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Sharing | None:
        return Join(attrs.axis % outputs[0].rank)

    def seams(
        self, attrs: ConcatAttrs, inputs: Sequence[TensorType | None], output: TensorType
    ) -> tuple[int, tuple[int, ...]]:
        """Where one input ends and the next begins."""
        axis = attrs.axis % output.rank
        return axis, tuple(itertools.accumulate(t.physical[axis] for t in inputs if t is not None))

    def receptive(
        self, attrs: ConcatAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        return met([(kind.shape, fields) for kind, fields in operands], out)


@register
class Split(Movement[SplitAttrs]):
    """A tensor cut into pieces along one axis; one output for each."""

    name = "split"
    attrs = SplitAttrs

    def infer(self, attrs: SplitAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        axis = positive_axis(attrs.axis, x.rank)
        if sum(attrs.sizes) != x.shape[axis] or min(attrs.sizes, default=-1) < 0:
            raise TypeRuleError(
                f"sizes {attrs.sizes} do not add up to {x.shape[axis]}, axis {axis} of {x.shape}."
            )
        return tuple(
            TensorType((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype) for size in attrs.sizes
        )

    def reference(self, attrs: SplitAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return tuple(np.split(array(inputs, 0), np.cumsum(attrs.sizes[:-1], dtype=np.int64), attrs.axis))

    def identity(self, attrs: SplitAttrs) -> bool:
        return True

    def sharing(
        self, attrs: SplitAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Sharing | None:
        ends = tuple(itertools.accumulate(attrs.sizes))
        return Cut(attrs.axis % outputs[0].rank, (0, *ends[:-1]))

    def receptive(
        self, attrs: SplitAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        return operands[0][1]


@register
class Slice(Movement[SliceAttrs]):
    """Every step-th index from start to stop on each axis."""

    name = "slice"
    attrs = SliceAttrs

    def infer(self, attrs: SliceAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        for name in ("starts", "stops", "steps"):
            per_axis(getattr(attrs, name), x.rank, name)
        shape = []
        for axis, (extent, start, stop, step) in enumerate(
            zip(x.shape, attrs.starts, attrs.stops, attrs.steps, strict=True)
        ):
            indices = range(start, stop, step) if step else range(0)
            if step == 0 or (
                indices and not 0 <= min(indices[0], indices[-1]) <= max(indices[0], indices[-1]) < extent
            ):
                raise TypeRuleError(
                    f"start {start}, stop {stop}, step {step} on axis {axis} do not stay inside {x.shape}."
                )
            shape.append(len(indices))
        return (TensorType(tuple(shape), x.dtype),)

    def reference(self, attrs: SliceAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        ranges = zip(attrs.starts, attrs.stops, attrs.steps, strict=True)
        index = tuple(
            slice(a, None if b < 0 else b, step) if range(a, b, step) else slice(0) for a, b, step in ranges
        )
        return (array(inputs, 0)[index],)

    def identity(self, attrs: SliceAttrs) -> bool:
        return set(attrs.steps) <= {1}

    def sharing(
        self, attrs: SliceAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Sharing | None:
        """A run of elements along a single axis."""
        x = required(inputs, 0, "x")
        cut = [axis for axis, (a, b) in enumerate(zip(x.shape, outputs[0].shape, strict=True)) if a != b]
        if len(cut) != 1 or any(step != 1 for step in attrs.steps):
            return None
        return Cut(cut[0], (attrs.starts[cut[0]],))

    def receptive(
        self, attrs: SliceAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        axes = zip(operands[0][1], attrs.steps, strict=True)
        return tuple(f and Field(f.size, f.jump * abs(step)) for f, step in axes)


@register
class Gather(Movement[GatherAttrs]):
    """Slices of x picked by integer indices, which may count from the end: NumPy's take."""

    name = "gather"
    attrs = GatherAttrs
    inputs = (2, 2)
    integers: ClassVar[Any] = {1: IntegerUse.INDEX}

    def infer(self, attrs: GatherAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, indices = required(inputs, 0, "x"), required(inputs, 1, "indices")
        if indices.dtype not in ("int32", "int64"):
            raise TypeRuleError(f"The indices are {indices.dtype}; they must be int32 or int64.")
        axis = positive_axis(attrs.axis, x.rank)
        return (TensorType((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype),)

    def reference(self, attrs: GatherAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (np.take(array(inputs, 0), array(inputs, 1), attrs.axis),)

    def receptive(
        self, attrs: GatherAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """Axes of the indices take the place of the one that they pick from."""
        (_, x), (indices, _) = operands
        axis = attrs.axis % len(x)
        return (*x[:axis], *[None] * indices.rank, *x[axis + 1 :])
