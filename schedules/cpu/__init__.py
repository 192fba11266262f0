"""CPU schedules by name. A lowering names the schedule that knows its blocks."""

from __future__ import annotations

from typing import Any

from convc.schedules.cpu import direct, fft, gemm, generic, im2col, winograd

SCHEDULES: dict[str, Any] = {
    "direct": direct,
    "fft": fft,
    "gemm": gemm,
    "generic": generic,
    "im2col": im2col,
    "winograd2": winograd,
    "winograd4": winograd,
    "winograd6": winograd,
}
"""Modules that offer what `convc.schedules.base.Schedule` describes."""
