"""Loop nest for `winograd_rows`: the tasks that the lowering has made, spread over threads.

    parallel (n, run of rows)
      for row, c                                of the input that the run sees
        V[row, c, *, tiles] = B^T d             straight-line code, a vector holds tiles
      for row, group of tiles, kbs
        for f
          sums[tiles, blocks] = 0               in registers
          for kh, c: sums += V * U              a broadcast, a vector of weights
          M[f, *] = sums
        for tile, kb
          y = epilogue(A^T M + bias)            straight-line code, a vector holds channels

Registers: tiles * blocks sums, `blocks` vectors of weights and a broadcast: 14 x 2 of the 32 of AVX-512,
6 x 2 of the 16 of AVX2. For 7x7 stride 2, 3 to 64 channels at 224x224, M of a register tile takes 23 KB, the
7 rows of V that it reads 17 KB, and U 70 KB, which come from L2 at 9 bytes a cycle; V of a task fills up to
a quarter of L2. A row need not be a whole number of register tiles, so that no schedule could split its loop:
the lowering makes the kernel for the configuration, which is its tiling.

Two Zen 5 cores (2026-11-21), against `direct`: 0.293 ms and 0.529 for that layer, 0.207 and 0.298 for 11x11
stride 4, 3 to 64 at 224x224. The product takes 72 % of the time at 90 % of peak, the inverse 20 %, the
input's transform 8 %. In networks, where outputs go to memory, the first takes 0.35 ms and `direct` 0.50.
Outputs are stored in bursts, which products do not hide: 3x3 stride 1, 3 to 64 at 224x224, takes 0.309 ms and
`direct` 0.375 while the output is in L3, but 0.63 and 0.41 in VGG-16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from convc.schedules.base import Config
from convc.target import Target
from convc.tiling.winograd_rows import Tiling, candidates, choose, seconds
from convc.workload import TASK, ConvShape, Workload


@dataclass(frozen=True)
class WinogradRowsConfig(Tiling, Config):
    """The tiling of a kernel."""


def default(w: Workload, target: Target) -> WinogradRowsConfig:
    """The tiling with the least predicted time."""
    return WinogradRowsConfig(**asdict(choose(ConvShape.of(w), target)))


def space(w: Workload, target: Target) -> Iterator[WinogradRowsConfig]:
    """Every tiling that the untuned choice is made from."""
    for tiling in candidates(ConvShape.of(w), target):
        yield WinogradRowsConfig(**asdict(tiling))


def price(w: Workload, target: Target, config: WinogradRowsConfig) -> float:
    """Predicted seconds."""
    return seconds(ConvShape.of(w), config, target)


def apply(sch: Any, w: Workload, target: Target, config: WinogradRowsConfig) -> None:
    """Spread tasks over threads."""
    sch.parallel(sch.fuse(*sch.get_loops(sch.get_sblock(TASK))))
