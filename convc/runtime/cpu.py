"""What the processor at hand can do, learnt without the compiler."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def host_features() -> frozenset[str] | None:
    """Instruction sets of this machine under LLVM's names, or None where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(_llvm_name(flag) for flag in value.split())
    return None


def _llvm_name(flag: str) -> str:
    renamed = {
        "pni": "sse3",
        "abm": "lzcnt",
        "sse4_1": "sse4.1",
        "sse4_2": "sse4.2",
        "lahf_lm": "sahf",
        "cx16": "cx16",
    }
    return renamed.get(flag, flag.replace("_", ""))


def host_machine() -> str:
    """The architecture's name, as in a triple: x86_64, aarch64."""
    return platform.machine()


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
