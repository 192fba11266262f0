"""Loop nest for `separable`: the tasks that the lowering has made, spread over threads.

    parallel (n, run of rows, kb)               pointwise_depthwise; the other takes all blocks in one task
      first convolution of a task               into scratch: registers over tiles of `pixels`
      second convolution                        registers over tiles of `taps`

Sums: 28 x 1 or 14 x 2 of the 1x1 convolution and 16 of the depthwise one with AVX-512, 13 x 1 or 6 x 2 and 8
with AVX2. The register tiles belong to the tiling, since tiles that overlap are no loops that a schedule
could split; a configuration names the tiling for which the kernel was made.

MobileNet v2 on two Zen 5 cores (2026-11-21, `convc bench mobilenet_v2.so --profile`), expansion and
depthwise together against the two apart with the clearing of the border between them: 0.125 ms and 0.135
(features.2), 0.075 and 0.079 (3), 0.028 and 0.029 (8 to 10), 0.057 and 0.063 (12, 13), 0.038 and 0.047 (15
to 17); the network takes 0.94 of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.target import Target
from convc.tiling.separable import SeparableShape, Tiling, choose
from convc.workload import TASK, Workload


@dataclass(frozen=True)
class SeparableConfig(Tiling, Config):
    """The tiling of a kernel."""


def default(w: Workload, target: Target) -> SeparableConfig:
    """The tiling with the least predicted time."""
    return SeparableConfig(**asdict(choose(SeparableShape.of(w), target)))


def space(w: Workload, target: Target) -> Iterator[SeparableConfig]:
    """The one for which the kernel was made."""
    yield default(w, target)


def apply(sch: Any, w: Workload, target: Target, config: SeparableConfig) -> None:
    """Spread tasks over threads. Raises NotApplicable for another tiling than the kernel's."""
    if config != (made := default(w, target)):
        raise NotApplicable(f"The kernel was made for {made}, not for {config}.")
    sch.parallel(sch.fuse(*sch.get_loops(sch.get_sblock(TASK))))
