"""What elementwise operators have in common: the reference is their formula, computed with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from convc.ir.opdef import REGISTRY, Attrs, OpDef
from convc.ops.common import array
from convc.ops.scalar import NUMBERS, Formula
from convc.types import Array


class Elementwise(OpDef[Attrs]):
    """An operator given by a formula on operands that broadcast."""

    formula: ClassVar[Formula]

    def reference(self, attrs: Attrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        arrays = [array(inputs, index) for index in range(self.inputs[1])]
        with np.errstate(all="ignore"):  # log(-1), x / 0 and the like are NaN or infinite by definition
            return (np.asarray(self.formula(NUMBERS, attrs, *arrays)),)


def elementwise_names(operands: int) -> list[str]:
    """The elementwise operators on so many tensors."""
    return sorted(
        name for name, op in REGISTRY.items() if op.elementwise and op.inputs == (operands, operands)
    )
