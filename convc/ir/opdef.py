"""What the IR knows of an operator: one definition that serves every user of it.

The definitions themselves are in `convc.ops`; importing that package fills the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from convc.errors import GraphError
from convc.ir.fields import Fields, Window, met
from convc.ir.traits import Affine, IntegerUse, Sharing
from convc.types import Array, Shape, TensorType


@dataclass(frozen=True)
class Attrs:
    """Base of every operator's attributes: hashable values of fixed types (numbers, str, bool, tuples)."""


@dataclass(frozen=True)
class Cost:
    """Work of one node. A multiply-add counts once; elementwise operations and comparisons are `other`."""

    multiply_adds: int = 0
    parameters: int = 0
    other: int = 0


A = TypeVar("A", bound=Attrs)


class OpDef(ABC, Generic[A]):
    """Attributes, type rule, float64 reference, cost and traits of one operator.

    `inputs` is (fewest, most); an absent optional input is None. The reference receives floating-point
    arrays as float64 and integers in their own dtype.
    """

    name: ClassVar[str]
    attrs: ClassVar[type[Attrs]] = Attrs
    inputs: ClassVar[tuple[int, int]] = (1, 1)

    # What it computes.
    formula: ClassVar[Callable[..., Any] | None] = None
    """Of an elementwise operator: the output at an index of the (broadcast) inputs at that index.

    `formula(m, attrs, *operands)` with scalars and functions of `convc.ops.scalar`.
    """
    instructions: ClassVar[int] = 4
    """About how many vector instructions an elementwise operator takes for a vector of results."""
    linear: ClassVar[bool] = False
    """Whether outputs are sums of products of the inputs, of which rounding loses a part of the terms."""
    weighted: ClassVar[bool] = False
    """Whether it is linear in input 0, by weights that input 1 holds."""
    moves: ClassVar[bool] = False
    """Whether outputs hold values of the inputs and no others, perhaps in another dtype."""
    exact: ClassVar[bool] = False
    """Whether results need no rounding: they are elements of an input, or numbers as short as those."""
    finite: ClassVar[bool]
    """Whether finite inputs give finite results, as long as they are of a size that no product overflows."""
    commutative: ClassVar[bool] = False
    """Whether two operands may change places."""
    neutral: ClassVar[float | None] = None
    """The number that as second operand leaves the first as it is."""
    zeroed_by: ClassVar[tuple[int, ...]] = ()
    """Operands of which a zero takes away what the others hold at its index."""
    idempotent: ClassVar[bool] = False
    """Whether it leaves its own results as they are."""
    integers: ClassVar[Mapping[int, IntegerUse]] = {}
    """Inputs whose integers are more than numbers."""

    # How its kernel is made.
    copies_layout: ClassVar[bool] = False
    """Whether it is a copy into another layout: no layer, for users; passes put it where layouts meet."""
    ends_in_epilogue: ClassVar[bool] = False
    """Whether its kernel has arithmetic of its own, so that elementwise readers are computed at its end."""
    channel_operands: ClassVar[tuple[int, ...]] = ()
    """Inputs (C,) that hold one number for each channel of the output."""
    statistics: ClassVar[tuple[int, ...]] = ()
    """Inputs that were measured on data and not learned: no parameters, for those who count."""

    @abstractmethod
    def infer(self, attrs: A, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Types of the outputs, in plain layout. Raises TypeRuleError, quoting the values that do not fit."""

    @abstractmethod
    def reference(self, attrs: A, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The outputs by definition, in float64 for floating-point inputs; written for clarity."""

    def terms(self, attrs: A, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """For a linear operator: sums of the magnitudes of the terms that the outputs are sums of."""
        return self.reference(attrs, [None if a is None else np.abs(a) for a in inputs])

    def cost(self, attrs: A, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        """Work of one evaluation. By default one operation for each output element."""
        return Cost(other=sum(t.size for t in outputs))

    @property
    def elementwise(self) -> bool:
        """Whether the output at an index depends on the (broadcast) inputs at that index alone."""
        return self.formula is not None

    @property
    def rearranges(self) -> bool:
        """Whether values come to lie elsewhere, and nothing else happens to them."""
        return self.moves and not self.elementwise

    # Traits that depend on attributes or types.

    def monotone(self, attrs: A) -> bool:
        """Whether a unary elementwise operator never decreases: max(f(a), f(b)) = f(max(a, b)).

        For all a and b: it is defined for every number, and makes NaN of NaN.
        """
        return False

    def passes(self, attrs: A) -> Affine:
        """The maps by channel that may be applied to input 0 instead of the output."""
        return Affine.NOTHING

    def identity(self, attrs: A) -> bool:
        """Whether the result is input 0, given that the two have the same type."""
        return False

    def per_channel(self, attrs: A, inputs: Sequence[TensorType | None]) -> bool:
        """Whether each channel of a sample, on axis 1, is made from that channel of that sample alone."""
        return self.elementwise

    def window(self, attrs: A, inputs: Sequence[TensorType | None]) -> Window | None:
        """The sliding window over the spatial axes of input 0, or None where there is none."""
        return None

    def gathers(self, attrs: A, inputs: Sequence[TensorType | None]) -> bool:
        """Whether neighbours in the output come from inputs that are no neighbours of each other."""
        window = self.window(attrs, inputs)
        return window is not None and window.strides[-1] > 1

    def sharing(
        self, attrs: A, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Sharing | None:
        """How inputs and outputs may lie in the same memory."""
        return None

    def seams(
        self, attrs: A, inputs: Sequence[TensorType | None], output: TensorType
    ) -> tuple[int, tuple[int, ...]]:
        """An axis of the output as it is stored, and where along it the definition changes: at a border, say.

        A kernel that is cut there needs no choice inside a part. () for none.
        """
        return 0, ()

    def receptive(self, attrs: A, operands: Sequence[tuple[TensorType, Fields]], out: Shape) -> Fields:
        """Receptive fields of the outputs, given those of all inputs that are there (see `fields`).

        By default those of the window; of an elementwise operator, those of its operands where they meet.
        Any other operator has a rule of its own.
        """
        window = self.window(attrs, [kind for kind, _ in operands])
        if window is not None:
            return window.after(operands[0][1])
        return met([(kind.shape, fields) for kind, fields in operands], out)


REGISTRY: dict[str, OpDef[Any]] = {}


def register(op: type[OpDef[Any]]) -> type[OpDef[Any]]:
    """Class decorator: make an operator known under its name.

    Raises TypeError for one that leaves something unsaid that users of operators ask: `finite`; `monotone`
    where it is elementwise with one input; `receptive` where neither a window nor equal indices give it.
    """
    if missing := unsaid(op):
        raise TypeError(f"The operator '{op.name}' does not say: {', '.join(missing)} (see convc.ir.opdef).")
    REGISTRY[op.name] = op()
    return op


def unsaid(op: type[OpDef[Any]]) -> list[str]:
    """The traits that an operator has to state and does not."""
    elementwise = op.formula is not None
    own: dict[str, bool] = {
        "finite": hasattr(op, "finite"),
        "monotone": not (elementwise and op.inputs == (1, 1)) or op.monotone is not OpDef.monotone,
        "receptive": elementwise or op.window is not OpDef.window or op.receptive is not OpDef.receptive,
    }
    return [name for name, said in own.items() if not said]


def opdef(name: str) -> OpDef[Any]:
    """The definition of an operator. Raises GraphError for an unknown name."""
    if name not in REGISTRY:
        raise GraphError(f"Unknown operator '{name}'.", hint=f"Known are: {', '.join(sorted(REGISTRY))}.")
    return REGISTRY[name]
