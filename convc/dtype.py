"""Number formats: what elements of tensors and operands of products are."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from convc.errors import TypeRuleError


class Kind(Enum):
    """What the bits of a number mean."""

    FLOAT = "f"
    SIGNED = "i"
    UNSIGNED = "u"
    TRUTH = "b"


class DType(str):
    """A number format.

    It is a string, its name: it prints, compares and is written to JSON as that, and TVM takes it as it is;
    NumPy too, but for bfloat16 (see `numpy`). There is one object of each; `DType.of` finds it.

    Attributes:
        bits: that a number takes in memory.
        kind: what they mean.
        rounding: largest relative error of a number that is rounded to it; 0 for integers. Tensor cores cut
            tf32 off where others round.
    """

    bits: int
    kind: Kind
    rounding: float

    def __new__(cls, name: str, bits: int, kind: Kind, rounding: float = 0.0) -> DType:
        """Make a format known."""
        made = super().__new__(cls, name)
        made.bits, made.kind, made.rounding = bits, kind, rounding
        _KNOWN[name] = made
        return made

    @staticmethod
    def of(name: str) -> DType:
        """The format of that name, tf32 too. Raises TypeRuleError for one that is not known."""
        return _KNOWN[name] if name in _KNOWN else DType.stored(name)

    @staticmethod
    def stored(name: str) -> DType:
        """The format of that name, which tensors can have. Raises TypeRuleError for any other."""
        if name not in DTYPES:
            raise TypeRuleError(f"The dtype '{name}' is unknown.", hint=f"Known are: {', '.join(DTYPES)}.")
        return _KNOWN[name]

    @property
    def nbytes(self) -> int:
        """Bytes of a number."""
        return -(-self.bits // 8)

    @property
    def is_float(self) -> bool:
        """Whether its numbers are floating-point numbers."""
        return self.kind is Kind.FLOAT

    @property
    def sums(self) -> DType:
        """The format in which its products are summed: float32 at least where it is a floating-point one."""
        return FLOAT32 if self.is_float and self.bits < FLOAT32.bits else self

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """NumPy's dtype; bfloat16 is one that the package ml_dtypes adds."""
        if self == "bfloat16":
            import ml_dtypes

            found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return found
        return np.dtype(str(self))

    def __str__(self) -> str:
        return str.__str__(self)

    def __copy__(self) -> DType:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> DType:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return DType.of, (str(self),)


_KNOWN: dict[str, DType] = {}

FLOAT32 = DType("float32", 32, Kind.FLOAT, 2.0**-24)
FLOAT64 = DType("float64", 64, Kind.FLOAT, 2.0**-53)
FLOAT16 = DType("float16", 16, Kind.FLOAT, 2.0**-11)
BFLOAT16 = DType("bfloat16", 16, Kind.FLOAT, 2.0**-8)
INT8, INT16, INT32, INT64 = (DType(f"int{bits}", bits, Kind.SIGNED) for bits in (8, 16, 32, 64))
UINT8, UINT16, UINT32, UINT64 = (DType(f"uint{bits}", bits, Kind.UNSIGNED) for bits in (8, 16, 32, 64))
BOOL = DType("bool", 1, Kind.TRUTH)

DTYPES = (
    FLOAT32, FLOAT64, FLOAT16, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, BOOL, BFLOAT16,
)  # fmt: skip
"""Those that tensors can have."""

TF32 = DType("tf32", 32, Kind.FLOAT, 2.0**-10)
"""What tensor cores make of float32 operands."""
