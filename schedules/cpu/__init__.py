"""CPU schedules by name. A lowering names the schedule that knows its blocks."""

from __future__ import annotations

from typing import Any

from convc.schedules.cpu import (
    direct,
    fft,
    gemm,
    generic,
    grouped,
    im2col,
    separable,
    transpose,
    winograd_rows,
)
from convc.schedules.cpu.winograd import WinogradSchedule

SCHEDULES: dict[str, Any] = {
    "direct": direct,
    "fft": fft,
    "gemm": gemm,
    "generic": generic,
    "grouped": grouped,
    "im2col": im2col,
    "separable": separable,
    "transpose": transpose,
    "winograd2": WinogradSchedule(2),
    "winograd4": WinogradSchedule(4),
    "winograd6": WinogradSchedule(6),
    "winograd_rows": winograd_rows,
}
"""Modules that offer what `convc.schedules.base.Schedule` describes."""
