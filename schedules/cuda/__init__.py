"""CUDA schedules by name. A lowering names the schedule that knows its blocks."""

from __future__ import annotations

from typing import Any

from convc.schedules.cuda import (
    depthwise,
    fft,
    gemv,
    generic,
    implicit_gemm,
    implicit_gemm_mma,
    implicit_gemm_wgmma,
    winograd,
)

SCHEDULES: dict[str, Any] = {
    "depthwise": depthwise,
    "fft": fft,
    "gemv": gemv,
    "generic": generic,
    "implicit_gemm": implicit_gemm,
    "implicit_gemm_mma": implicit_gemm_mma,
    "implicit_gemm_wgmma": implicit_gemm_wgmma,
    "winograd2": winograd.winograd2,
    "winograd4": winograd.winograd4,
}
"""Modules that offer what `convc.schedules.base.Schedule` describes."""
