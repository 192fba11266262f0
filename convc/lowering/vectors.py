"""Whole vectors of buffers whose last axis holds the lanes, for kernels built statement by statement."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as B

Expr = Any
Buffer = Any


class Vectors:
    """Loads and stores of all lanes at once."""

    @staticmethod
    def load(buffer: Buffer, *index: Expr) -> Expr:
        """The vector of all lanes at `index`."""
        return buffer.vload([*index, 0], f"float32x{int(buffer.shape[-1])}")

    @staticmethod
    def store(buffer: Buffer, value: Expr, *index: Expr) -> None:
        """Store a vector of all lanes at `index`."""
        B.buffer_store(buffer, value, [*index, tirx.Ramp(0, 1, int(buffer.shape[-1]))])
