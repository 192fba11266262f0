"""What the compiler may ask of an operator, beyond its type rule and its reference.

Passes, lowerings and the memory plan ask these questions and never for the operator's name, so that an
operator that is new to them is treated as what it is. `opdef.OpDef` has the traits themselves, `opdef.unsaid`
those that every operator must state.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Affine(enum.Flag):
    """Which maps s x + t an operator f lets through: f(s x + t) = s f(x) + t, channel by channel."""

    NOTHING = 0
    SCALE = enum.auto()
    """s >= 0: f is homogeneous."""
    NEGATIVE = enum.auto()
    """s < 0."""
    SHIFT = enum.auto()
    """t."""
    ALL = SCALE | NEGATIVE | SHIFT


class IntegerUse(enum.Enum):
    """What integers of an operand are for, and so which ones it may hold."""

    INDEX = "index"
    """Positions along the attribute `axis` of input 0."""
    DIVISOR = "divisor"
    EXPONENT = "exponent"


@dataclass(frozen=True)
class Reinterpret:
    """The result is the input, element for element in row-major order."""


@dataclass(frozen=True)
class Join:
    """The result holds the inputs side by side along an axis."""

    axis: int


@dataclass(frozen=True)
class Cut:
    """Each output is a part of the input along an axis, which begins at its start."""

    axis: int
    starts: tuple[int, ...]


Sharing = Reinterpret | Join | Cut
"""How the tensors of an operator may lie in the same memory, so that it costs nothing."""
