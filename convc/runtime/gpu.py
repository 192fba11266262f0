"""Which GPU is at hand, learnt without opening a module or taking any of its memory."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...


def present_capability(ordinal: int = 0) -> int | None:
    """The compute capability of a device (90 for 9.0), or None without a driver or such a device."""
    opened = _device(ordinal)
    if opened is None:
        return None
    driver, device = opened
    found = ctypes.c_int(), ctypes.c_int()
    for value, attribute in zip(found, (_MAJOR, _MINOR), strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return 10 * found[0].value + found[1].value


def describe_gpu(ordinal: int = 0) -> dict[str, str]:
    """A device's name and the newest CUDA that its driver supports; empty where there is none."""
    opened = _device(ordinal)
    if opened is None:
        return {}
    driver, device = opened
    name, version = ctypes.create_string_buffer(256), ctypes.c_int()
    if driver.cuDeviceGetName(name, 256, device) or driver.cuDriverGetVersion(ctypes.byref(version)):
        return {}
    return {
        "device": name.value.decode(errors="replace"),
        "driver": f"{version.value // 1000}.{version.value % 1000 // 10}",
    }


def _device(ordinal: int) -> tuple[Any, ctypes.c_int] | None:
    """The driver and a device; None where there is no driver that works, or no such device."""
    try:
        driver = ctypes.CDLL(os.environ.get("CONVC_LIBCUDA") or "libcuda.so.1")
    except OSError:
        return None
    device = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), ordinal):
        return None
    return driver, device


def missing_gpu(gpu: Mapping[str, Any]) -> str:
    """What the first GPU lacks to run kernels for another, as the end of a sentence, or "" when nothing.

    The driver's version and free memory are looked at when a module is opened.
    """
    arch = str(gpu["arch"])
    found = present_capability()
    if found is None:
        return f"was built for {arch}; there is no GPU here with a driver that works"
    match = re.fullmatch(r"sm_(\d+)([af]?)", arch)
    wanted = int(match[1]) if match else 0
    fits = found == wanted if arch.endswith("a") else found // 10 == wanted // 10 and found >= wanted
    return "" if fits else f"was built for {arch}; the GPU here is sm_{found}"
