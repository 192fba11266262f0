"""Receptive fields: what an operator makes of them, in the terms that every operator's rule is written in.

Along each spatial axis a value has a receptive field (how many input pixels reach one of its pixels) and a
jump (how many input pixels lie between two neighbours). A window of k taps, d apart, with stride s gives

    field' = field + d * (k - 1) * jump        jump' = jump * s

and where branches meet, the largest field counts (Araujo, Norris, Sim: Computing Receptive Fields of
Convolutional Neural Networks, Distill 2019, sections 2 and 4; exact where the branches are aligned).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from convc.types import Shape


@dataclass(frozen=True)
class Field:
    """Receptive field and jump along one axis, in input pixels."""

    size: Fraction = Fraction(1)
    jump: Fraction = Fraction(1)

    def window(self, kernel: int, stride: int = 1, dilation: int = 1) -> Field:
        """The field after a sliding window."""
        return Field(self.size + dilation * (kernel - 1) * self.jump, self.jump * stride)

    def upsampled(self, taps: int, factor: Fraction) -> Field:
        """The field when a pixel is made from `taps` neighbours, and `factor` times as many come out."""
        return Field(self.size + (taps - 1) * self.jump, self.jump / factor)


Fields = tuple[Field | None, ...]
"""One entry for each axis of a value: None for batch, channels and whatever is no image axis."""


@dataclass(frozen=True)
class Window:
    """What one output pixel sees along each spatial axis: kernel, stride, dilation."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    def after(self, x: Fields) -> Fields:
        """Fields of what the window makes of a map (N, C, *spatial)."""
        taps = zip(self.kernel, self.strides, self.dilations, strict=True)
        return (*x[:2], *(f and f.window(k, s, d) for f, (k, s, d) in zip(x[2:], taps, strict=True)))


def met(parts: Sequence[tuple[Shape, Fields]], shape: Shape) -> Fields:
    """Branches that meet in a value of shape `shape`, their axes aligned at the end as in broadcasting."""
    result: list[Field | None] = []
    for axis in range(-len(shape), 0):
        aligned = [(s[axis], f[axis]) for s, f in parts if len(s) >= -axis]
        fields = [(extent, field) for extent, field in aligned if field is not None]
        if not fields:
            result.append(None)
            continue
        size = max(field.size for _, field in fields)
        # what is broadcast along the axis (a gate for each channel) has no jump to contribute
        jump = max(fields, key=lambda pair: (pair[0] == shape[axis], pair[1].jump))[1].jump
        result.append(Field(size, jump))
    return tuple(result)


def seen_whole(x: Fields, shape: Shape, axes: Sequence[int]) -> Fields:
    """Fields after each of the axes of a value of shape `shape` was seen as a whole."""
    whole = {axis % len(x) for axis in axes}
    return tuple(f and f.window(shape[axis]) if axis in whole else f for axis, f in enumerate(x))
