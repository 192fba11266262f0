"""Which schedules a target has."""

from __future__ import annotations

from typing import Any

from convc.schedules import cpu, cuda
from convc.target import Target


def schedules(target: Target) -> dict[str, Any]:
    """The schedules for a target's kernels, by name."""
    return cpu.SCHEDULES if target.gpu is None else cuda.SCHEDULES
