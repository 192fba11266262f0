"""What a formula of the generic lowering is given and what it returns.

A formula turns the operands of one operator into functions, one for each output, from a physical index of
that output to an expression. Most operators need no more. Those with reductions or tables add stages of
their own with `te.compute`; `Generic` wraps the result of the function into the final block, epilogue
included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from convc.lowering.base import Layouts, blocked_like
from convc.lowering.functions import constant, masked
from convc.target import Target
from convc.types import PLAIN, Layout, TensorType
from convc.workload import Workload

Expr = Any
Tensor = Any
Index = Sequence[Expr]
At = Callable[..., Expr]
"""From a physical index to a value."""


@dataclass(frozen=True)
class Operand:
    """One input: its TE tensor, of the physical shape, and its type."""

    tensor: Tensor
    kind: TensorType

    def __call__(self, *index: Expr) -> Expr:
        """The element at a physical index."""
        return self.tensor(*index)

    def at(self, index: Index) -> Expr:
        """The element at a logical index."""
        block = self.kind.layout.block
        if block == 1:
            return self.tensor(*index)
        n, c, *spatial = index
        return self.tensor(n, te.floordiv(c, block), *spatial, te.floormod(c, block))


@dataclass(frozen=True)
class Call:
    """An operator applied to operands."""

    w: Workload
    target: Target
    operands: tuple[Operand | None, ...]

    @property
    def attrs(self) -> Any:
        """The operator's attributes."""
        return self.w.attrs

    @property
    def out(self) -> TensorType:
        """The type of the first output."""
        return self.w.outputs[0]

    @property
    def x(self) -> Operand:
        """The first operand."""
        return self.operand(0)

    def operand(self, index: int) -> Operand:
        """Operand `index`, which the operator's type rule has required."""
        found = self.operands[index]
        assert found is not None
        return found

    def optional(self, index: int) -> Operand | None:
        """Operand `index`, or None when it was left out."""
        return self.operands[index] if index < len(self.operands) else None


Formula = Callable[[Call], Sequence[At]]
LayoutRule = Callable[[Workload, Target], Layouts]


@dataclass(frozen=True)
class Entry:
    """A formula and the layouts that it can work on."""

    formula: Formula
    layouts: LayoutRule


FORMULAS: dict[str, Entry] = {}


def plain(w: Workload, target: Target) -> Layouts:
    """Everything row-major."""
    return Layouts(tuple(None if t is None else PLAIN for t in w.inputs), tuple(PLAIN for _ in w.outputs))


def formula(*ops: str, layouts: LayoutRule = plain) -> Callable[[Formula], Formula]:
    """Decorator: the formula of some operators."""

    def register(function: Formula) -> Formula:
        for op in ops:
            FORMULAS[op] = Entry(function, layouts)
        return function

    return register


def arrives_blocked(w: Workload, target: Target) -> bool:
    """Whether the producer of input 0 has left it in channel blocks, and the output can be in blocks too."""
    x = w.inputs[0]
    assert x is not None
    return x.layout == Layout(target.lanes) and x.rank >= 3 and w.outputs[0].rank == x.rank


def follow(w: Workload, target: Target) -> Layouts:
    """The output stored as input 0 is: for operators that leave the channel axis alone."""
    return blocked_like(w, target, inputs=(0,)) if arrives_blocked(w, target) else plain(w, target)


def spatial(index: Index, layout: Layout) -> tuple[list[Expr], list[Expr], list[Expr]]:
    """Split a physical index: batch and channels (or their block), places, and the lane if there is one."""
    values = list(index)
    return (values[:2], values[2:], []) if layout.block == 1 else (values[:2], values[2:-1], values[-1:])


def logical(index: Index, layout: Layout) -> list[Expr]:
    """The logical index of a physical one."""
    head, places, lane = spatial(index, layout)
    return [*head, *places] if not lane else [head[0], head[1] * layout.block + lane[0], *places]


def relaid(call: Call, index: Index) -> Expr:
    """The first operand at the element that lies at a physical index of the output; 0 beyond the channels."""
    x, out = call.x, call.out
    if x.kind.layout == out.layout:
        return x(*index)
    channels = out.shape[1] if out.rank > 1 else 1
    place = logical(index, out.layout)
    if out.layout.block == 1 or channels % out.layout.block == 0:
        return x.at(place)
    value = x.at([place[0], te.min(place[1], channels - 1), *place[2:]])
    return masked(place[1] < channels, value, constant(0, value))


def unflatten(flat: Expr, shape: Sequence[int]) -> list[Expr]:
    """The row-major index of a flat position."""
    index: list[Expr] = []
    rest = 1
    for axis, extent in reversed(list(enumerate(shape))):
        quotient = te.floordiv(flat, rest)
        index.insert(0, quotient if axis == 0 else te.floormod(quotient, extent))
        rest *= extent
    return index


def flatten(index: Index, shape: Sequence[int]) -> Expr:
    """The flat position of a row-major index."""
    flat: Expr = tirx.const(0, "int32")
    for i, extent in zip(index, shape, strict=True):
        flat = flat * extent + i
    return flat
