"""Loop nest for `separable`: the tasks that the lowering has made, spread over threads.

    parallel (n, run of rows, kb)               pointwise_depthwise; the other takes all blocks in one task
      first convolution of a task               into scratch: registers over tiles of `pixels`
      second convolution                        registers over tiles of `taps`

Sums: 28 x 1 or 14 x 2 of the 1x1 convolution and 16 of the depthwise one with AVX-512, 13 x 1 or 6 x 2 and 8
with AVX2. Tiles that overlap are no loops that a schedule could split: the lowering makes the kernel for the
configuration, which is its tiling.

MobileNet v2 on two Zen 5 cores (2026-11-21, `convc bench mobilenet_v2.so --profile`), expansion and
depthwise together against the two apart with the clearing of the border between them: 0.125 ms and 0.135
(features.2), 0.075 and 0.079 (3), 0.028 and 0.029 (8 to 10), 0.057 and 0.063 (12, 13), 0.038 and 0.047 (15
to 17); the network takes 0.94 of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from heapq import nsmallest
from typing import Any

from convc.schedules.base import Config
from convc.target import Target
from convc.tiling.separable import SeparableShape, Tiling, candidates, choose, seconds
from convc.workload import TASK, Workload

MOST = 500
"""Configurations of a layer; maps of 256 x 256 pixels have thousands."""


@dataclass(frozen=True)
class SeparableConfig(Tiling, Config):
    """The tiling of a kernel."""


def default(w: Workload, target: Target) -> SeparableConfig:
    """The tiling with the least predicted time."""
    return SeparableConfig(**asdict(choose(SeparableShape.of(w), target)))


def space(w: Workload, target: Target) -> Iterator[SeparableConfig]:
    """The best of what the untuned choice is made from, and of the same with smaller register tiles."""
    s = SeparableShape.of(w)
    priced = nsmallest(MOST, candidates(s, target, smaller=True), key=lambda t: seconds(s, t, target))
    for tiling in priced:
        yield SeparableConfig(**asdict(tiling))


def price(w: Workload, target: Target, config: SeparableConfig) -> float:
    """Predicted seconds."""
    return seconds(SeparableShape.of(w), config, target)


def apply(sch: Any, w: Workload, target: Target, config: SeparableConfig) -> None:
    """Spread tasks over threads."""
    sch.parallel(sch.fuse(*sch.get_loops(sch.get_sblock(TASK))))
