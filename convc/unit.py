"""What multiplies and adds: rows of facts about vector instructions, which tiles ask."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from convc.dtype import FLOAT32, DType


@dataclass(frozen=True)
class Unit:
    """Instructions that multiply vectors of `a` by vectors of `b` and add the products to vectors of `sum`.

    Attributes:
        lanes: numbers of `sum` that a register holds.
        registers: vector registers.
        fused: whether one instruction multiplies and adds; otherwise one more register holds the product.
        folds_broadcast: whether an operand of it may be a single number in memory that all lanes take; one
            that is used once then needs no register.
        flops_per_cycle: of a current core that has it, a multiply-add counting as 2: a figure for machines
            that cannot be measured.
        architecture: that it belongs to, as triples begin; "" for any.
        features: instruction sets that it takes, under LLVM's names.
        flags: under which a C compiler uses it.
    """

    name: str
    a: DType
    b: DType
    sum: DType
    lanes: int
    registers: int
    fused: bool
    folds_broadcast: bool
    flops_per_cycle: int
    architecture: str = ""
    features: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


VECTORS = (
    Unit(
        "avx512", FLOAT32, FLOAT32, FLOAT32, 16, 32, fused=True, folds_broadcast=True, flops_per_cycle=64,
        architecture="x86_64", features=("avx512f",), flags=("-mavx512f", "-mfma"),
    ),
    Unit(
        "avx2", FLOAT32, FLOAT32, FLOAT32, 8, 16, fused=True, folds_broadcast=False, flops_per_cycle=32,
        architecture="x86_64", features=("avx2", "fma"), flags=("-mavx2", "-mfma"),
    ),
    Unit(
        "neon", FLOAT32, FLOAT32, FLOAT32, 4, 32, fused=True, folds_broadcast=False, flops_per_cycle=16,
        architecture="aarch64",
    ),
    Unit(
        "generic", FLOAT32, FLOAT32, FLOAT32, 4, 16, fused=False, folds_broadcast=False, flops_per_cycle=16,
    ),
)  # fmt: skip
"""The vector units of CPUs in float32, the widest first; LLVM has code of four lanes for any processor."""

CUDA_CORES = Unit(
    "cuda", FLOAT32, FLOAT32, FLOAT32, 1, 255, fused=True, folds_broadcast=False, flops_per_cycle=2
)  # fmt: skip
"""One thread of a CUDA device; what its tensor cores do is said in `schedules/cuda`."""

UNITS = {unit.name: unit for unit in (*VECTORS, CUDA_CORES)}


ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Other names under which LLVM knows architectures."""


def widest(architecture: str, features: Collection[str]) -> Unit:
    """The vector unit to compute with on a CPU of that architecture with those instruction sets."""
    own = ("", ALIASES.get(architecture, architecture))
    return next(u for u in VECTORS if u.architecture in own and {*u.features} <= {*features})
