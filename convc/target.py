"""What a machine offers, as plain values. Schedules and cost models take their numbers from here alone."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Target:
    """A CPU to generate code for.

    `flops` is the float32 peak of one core in FLOP/s (a multiply-add counts as 2). Bandwidths are in bytes
    a second: `l2_bandwidth`, `l3_bandwidth` for each core, `memory_bandwidth` for all cores together.
    Cache sizes are in bytes; `l1` and `l2` belong to one core, `l3` to all.
    """

    name: str
    triple: str
    mcpu: str
    isa: str  # "avx512", "avx2" or "generic"
    lanes: int  # float32 lanes of a vector register, and the channel block of the blocked layout
    registers: int  # vector registers
    features: tuple[str, ...]  # instruction sets that the code may use, under LLVM's names
    threads: int
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 16 << 20
    flops: float = 100e9
    l2_bandwidth: float = 100e9
    l3_bandwidth: float = 40e9
    memory_bandwidth: float = 25e9
    launch_seconds: float = 2e-6  # a parallel region, from entry to the last thread's exit

    def with_threads(self, threads: int) -> Target:
        """The same machine, running on so many threads."""
        return replace(self, threads=threads)

    @property
    def peak(self) -> float:
        """FLOP/s of all threads together."""
        return self.flops * self.threads
