"""The case table: for every operator the inputs on which type rule, reference, lowerings, schedules and the
importer are tested. A new operator gets its rows here; a test fails while it has none.
"""

from __future__ import annotations

from case import Case
from layer_cases import CONV, CONV_POOL, CONV_TRANSPOSE, LINEAR, NORM, POOL, RESIZE, SEPARABLE
from tensor_cases import BINARY, REDUCE, SHAPE, UNARY

__all__ = ["CASES", "CONV", "CONV_TRANSPOSE", "Case", "cases"]

CASES: list[Case] = [
    *CONV, *CONV_POOL, *CONV_TRANSPOSE, *SEPARABLE, *POOL, *NORM, *LINEAR,
    *UNARY, *BINARY, *REDUCE, *SHAPE, *RESIZE,
]  # fmt: skip


def cases(*ops: str) -> list[Case]:
    """The cases of some operators."""
    return [case for case in CASES if case.op in ops]
