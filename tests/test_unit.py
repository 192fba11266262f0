"""The units that multiply and add: which one a CPU has, and what that makes of its tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convc.codegen.machine import resolve
from convc.dtype import FLOAT32
from convc.tiling.winograd import fits_registers
from convc.unit import UNITS, VECTORS, widest


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("znver4", "avx512"),
        ("haswell", "avx2"),
        ("x86-64", "generic"),
        ("aarch64-linux-gnu:cortex-a72", "neon"),
        ("aarch64-linux-gnu:neoverse-n1", "neon"),
        ("arm64-apple-darwin:apple-m1", "neon"),
        ("amd64-linux-gnu:znver4", "avx512"),
    ],
)
def test_a_cpu_has_the_widest_that_it_knows(name: str, unit: str) -> None:
    target = resolve(name, 1)
    assert target.unit is UNITS[unit]
    assert (target.lanes, target.registers) == (target.unit.lanes, target.unit.registers)
    assert target.vector_bytes == target.unit.lanes * FLOAT32.nbytes


def test_a_feature_that_is_missing_leaves_a_narrower_one() -> None:
    assert widest("x86_64", ["avx2"]).name == "generic"
    assert widest("aarch64", ["avx512f"]).name == "neon"
    assert widest("riscv64", []).name == "generic"


def test_the_widest_come_first() -> None:
    assert [unit.lanes for unit in VECTORS] == sorted((unit.lanes for unit in VECTORS), reverse=True)


def test_a_fused_multiply_add_needs_no_register_for_products() -> None:
    """30 sums, a vector of weights and the broadcast fill 32 registers."""
    neon = resolve("aarch64-linux-gnu:cortex-a72", 1)
    assert fits_registers(30, 1, neon)
    assert not fits_registers(31, 1, neon)
    assert not fits_registers(30, 1, replace(neon, isa="generic"))
    assert fits_registers(31, 1, replace(neon, isa="avx512"))
