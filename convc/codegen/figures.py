"""What was measured of a machine, and the files that hold it.

`convc calibrate --json` prints such a file. CONVC_CALIBRATION names one of another machine that is to stand
in for this one, so that choices made there can be repeated here.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from convc.errors import TargetError
from convc.target import Target

VARIABLE = "CONVC_CALIBRATION"
"""Set to `nominal`, this environment variable makes choices that do not depend on the machine's speed; set to
a file, choices are made as for the machine that the file describes."""
NOMINAL = "nominal"

SHARED = 0.6
_STEPS = 48
"""Figures are rounded to so many steps a decade, 4.9 % apart (the E48 series of preferred numbers)."""


@dataclass(frozen=True)
class Calibration:
    """What was measured, in the order in which `native/calibrate.c` reports it.

    `clock` in Hz and the peak `core_flops` are of a core that runs alone. The others are the fields of
    `Target`, with `memory_bandwidth` for all processors that the process may use.
    """

    clock: float
    core_flops: float
    flops: float
    broadcast_flops: float
    unpacked_flops: float
    l1_loads: float
    l2_bandwidth: float
    l2_copy_bandwidth: float
    l3_bandwidth: float
    l3_copy_bandwidth: float
    core_memory_bandwidth: float
    memory_bandwidth: float
    memory_copy_bandwidth: float
    launch_seconds: float

    @property
    def crowded(self) -> bool:
        """Whether a core does much less while all run: processors are threads of one core, if only now."""
        return self.flops < 0.75 * self.core_flops

    @property
    def disturbed(self) -> bool:
        """Whether other programs held some of the cores all the time: cores seem not to work together.

        Two threads that share a core have half of its peak each, and a launch takes some microseconds.
        """
        return (
            self.flops < 0.4 * self.core_flops
            or self.memory_bandwidth < 0.5 * self.core_memory_bandwidth
            or self.launch_seconds > 50e-6
        )

    def apply(self, target: Target) -> Target:
        """The target with these figures, rounded.

        A thread alone has its core for itself.

        Threads draw from memory what one alone draws, times SHARED of their number, even where more was
        measured: a hypervisor that moves cores between chiplets changes the sum by a factor of two within
        seconds (Zen 5, 45 and 100 GB/s), and counting on too much costs more than counting on too little.
        """
        speeds: dict[str, Any] = {
            k: rounded(v) for k, v in asdict(self).items() if k not in ("clock", "core_flops")
        }
        if target.threads == 1:
            lone = self.core_flops / self.flops
            speeds |= {name: rounded(lone * getattr(self, name)) for name in _OF_A_CORE}
        shared = max(1.0, SHARED * target.threads)
        for name in ("memory_bandwidth", "memory_copy_bandwidth"):
            speeds[name] = min(speeds[name], shared * speeds["core_memory_bandwidth"])
        return replace(target, **speeds)


_OF_A_CORE = ("flops", "broadcast_flops", "unpacked_flops", "l1_loads", "l2_bandwidth", "l2_copy_bandwidth")


def rounded(figure: float) -> float:
    """The nearest of 48 steps a decade, to three digits."""
    return float(f"{10 ** (round(_STEPS * math.log10(figure)) / _STEPS):.2e}")


def read(path: Path) -> Calibration | None:
    """A calibration that was written before; None where there is none, or none that makes sense."""
    try:
        return checked(json.loads(path.read_text())["figures"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def checked(figures: dict[str, Any]) -> Calibration:
    """Figures as they were written or printed. Raises ValueError or TypeError where they make no sense."""
    found = Calibration(**figures)
    if not all(isinstance(v, float) and math.isfinite(v) and v > 0 for v in asdict(found).values()):
        raise ValueError(f"impossible figures: {figures}")
    return found


@dataclass(frozen=True)
class StandIn:
    """A machine that takes the place of this one: LLVM's name of its CPU, its processors, the bytes of its
    three levels of cache, and its speed."""

    mcpu: str
    cores: int
    caches: tuple[int, int, int]
    calibration: Calibration


def stand_in() -> StandIn | None:
    """The machine that CONVC_CALIBRATION names, None where it names none.

    Raises TargetError for a file that does not describe one.
    """
    value = os.environ.get(VARIABLE, "")
    if value in ("", NOMINAL):
        return None
    try:
        return _stand_in(json.loads(Path(value).read_text(encoding="utf-8")))
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except KeyError as error:
        wrong = f"has no {error}"
    except (ValueError, TypeError) as error:
        wrong = f"does not describe a machine: {error}"
    raise TargetError(
        f"{VARIABLE}: '{value}' {wrong}.",
        hint=f"Name a file that `convc calibrate --json` wrote, or `{NOMINAL}`.",
    )


def _stand_in(text: Any) -> StandIn:
    machine = text["machine"]
    mcpu, cores, (l1, l2, l3) = machine["mcpu"], machine["cores"], machine["caches"]
    if not isinstance(mcpu, str) or any(type(n) is not int or n < 1 for n in (cores, l1, l2, l3)):
        raise ValueError(f"impossible machine: {machine}")
    return StandIn(mcpu, cores, (l1, l2, l3), checked(text["figures"]))
