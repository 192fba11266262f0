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
    try:
        driver = ctypes.CDLL(os.environ.get("CONVC_LIBCUDA") or "libcuda.so.1")
    except OSError:
        return None
    device, found = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), ordinal):
        return None
    for value, attribute in zip(found, (_MAJOR, _MINOR), strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return 10 * found[0].value + found[1].value


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
