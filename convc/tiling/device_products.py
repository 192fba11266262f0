"""Which matrix product a layer is on a GPU: its size, and where in it each result lies.

Lowerings and schedules share this: a lowering writes the product, a schedule makes the loops of the output
those of the product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from convc.target import Target
from convc.tiling.device_gemm import GemmProblem, Grouping, conv_problem, grouping, linear_problem
from convc.tiling.registers import flatten
from convc.workload import ConvShape, Workload

Expr = Any


class Product(Protocol):
    """A layer as a product."""

    @property
    def problem(self) -> GemmProblem:
        """The product's size."""
        ...

    def place(self, index: Sequence[Expr]) -> tuple[Expr | None, Expr, Expr]:
        """Group (None where there is one), row and column of the result at a physical index of the output."""
        ...


@dataclass(frozen=True)
class ConvProduct:
    """A convolution: rows count outputs (n, *spatial), columns the channels of a group."""

    shape: ConvShape
    target: Target

    @property
    def grouping(self) -> Grouping:
        """How the convolution's groups are joined."""
        return grouping(self.shape, self.target.lanes)

    @property
    def problem(self) -> GemmProblem:
        return conv_problem(self.shape, self.target)

    def place(self, index: Sequence[Expr]) -> tuple[Expr | None, Expr, Expr]:
        n, block, *where, lane = index
        channel = block * self.target.lanes + lane
        row = _row([n, *where], (self.shape.n, *self.shape.output))
        size = self.grouping.channels_out
        return (None, row, channel) if self.problem.groups == 1 else (channel // size, row, channel % size)


@dataclass(frozen=True)
class LinearProduct:
    """Rows of a matrix, or of a stack of them, by a constant one."""

    workload: Workload
    target: Target

    @property
    def problem(self) -> GemmProblem:
        return linear_problem(self.workload, self.target)

    def place(self, index: Sequence[Expr]) -> tuple[Expr | None, Expr, Expr]:
        return None, _row(index[:-1], self.workload.outputs[0].shape[:-1]), index[-1]


def product_of(w: Workload, target: Target) -> ConvProduct | LinearProduct:
    """The product that a `conv`, `gemm` or `matmul` workload is."""
    if w.op == "conv":
        return ConvProduct(ConvShape.of(w), target)
    return LinearProduct(w, target)


def problem(w: Workload, target: Target) -> GemmProblem:
    """The size of the product that a workload is."""
    return product_of(w, target).problem


def _row(index: Sequence[Expr], extents: Sequence[int]) -> Expr:
    """The row of a result; an only row is a variable all the same, so that TVM computes whole tiles of it."""
    return flatten(index, extents) if math.prod(extents) > 1 else index[0]
