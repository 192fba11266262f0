"""CPU schedules by name. A lowering names the schedule that knows its blocks."""

from __future__ import annotations

from typing import Any

from convc.schedules.cpu import (
    direct,
    fft,
    generic,
    grouped,
    im2col,
    separable,
    transpose,
    winograd_rows,
)
from convc.schedules.cpu.gemm import GemmSchedule
from convc.schedules.cpu.winograd import WinogradSchedule
from convc.tiling.storage import FLOAT24

SCHEDULES: dict[str, Any] = {
    "direct": direct,
    "fft": fft,
    "gemm": GemmSchedule(),
    "gemm_24bit": GemmSchedule(FLOAT24),
    "generic": generic,
    "grouped": grouped,
    "im2col": im2col,
    "separable": separable,
    "transpose": transpose,
    "winograd2": WinogradSchedule(2),
    "winograd4": WinogradSchedule(4),
    "winograd6": WinogradSchedule(6),
    "winograd2_24bit": WinogradSchedule(2, FLOAT24),
    "winograd4_24bit": WinogradSchedule(4, FLOAT24),
    "winograd_rows": winograd_rows,
}
"""Modules that offer what `convc.schedules.base.Schedule` describes."""
