"""What a machine offers, as plain values. Schedules and cost models take their numbers from here alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from convc.dtype import BFLOAT16, FLOAT16, FLOAT32, DType
from convc.unit import UNITS, Unit


@dataclass(frozen=True)
class Gpu:
    """The limits and nominal speeds of a CUDA device.

    `registers` (of 32 bits), `threads` and `shared_memory` (bytes) belong to one multiprocessor; a block may
    have `block_shared_memory` of them. Peaks are dense FLOP/s, a multiply-add counting as 2: `float32_flops`
    of the CUDA cores, the others of the tensor cores with float32 sums. `l2` is in bytes, bandwidths are in
    bytes a second.
    """

    arch: str  # as the compiler names it: "sm_90"
    name: str
    sms: int
    shared_memory: int
    block_shared_memory: int
    l2: int
    memory_bandwidth: float
    l2_bandwidth: float
    float32_flops: float
    tf32_flops: float
    half_flops: float
    registers: int = 65536
    threads: int = 2048
    warpgroup_gain: float = 0.0  # how much faster wgmma multiplies than mma.sync; 0 where there is no wgmma
    precision: str = FLOAT32  # of products: float32, tf32, float16 or bfloat16

    @property
    def capability(self) -> int:
        """The compute capability as a number: 90 for 9.0."""
        return int("".join(c for c in self.arch if c.isdigit()))

    @property
    def code(self) -> str:
        """The architecture for which code is compiled: with all instructions of this one, where it has
        some."""
        return f"{self.arch}a" if self.warpgroup_gain else self.arch

    @property
    def storage(self) -> DType:
        """The format in which floating-point tensors are kept between layers."""
        return DType.of(self.precision) if self.precision in (FLOAT16, BFLOAT16) else FLOAT32


@dataclass(frozen=True)
class Target:
    """A machine to generate code for: a CPU, or where `gpu` is set a CPU that feeds a CUDA device.

    `flops` is the float32 peak of one core in FLOP/s while all cores run (a multiply-add counts as 2),
    `broadcast_flops` the same where each multiply-add takes a factor of its own from L1, broadcast to all
    lanes, and `unpacked_flops` the same where each weight is also unpacked from 24 bits, for 8 multiply-adds.
    `l1_loads` counts whole vectors that a core loads from L1 in a second.

    Bandwidths are in bytes a second, of plain reads or, for `copy`, bytes read plus bytes written (bytes that
    the cache fetches only to overwrite them are not counted). Those of `l2` and `l3` are for each core while
    all cores run, `memory` is for all threads together, `core_memory` for one core that runs alone.

    Cache sizes are in bytes; `l1` and `l2` belong to one core, `l3` to all.
    """

    name: str
    triple: str
    mcpu: str
    isa: str  # the name of the unit that multiplies and adds, see `convc.unit`
    lanes: int  # float32 lanes of a vector register, and the channel block of the blocked layout
    registers: int  # vector registers
    features: tuple[str, ...]  # instruction sets that the code may use, under LLVM's names
    threads: int
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 16 << 20
    flops: float = 100e9
    broadcast_flops: float = 100e9
    unpacked_flops: float = 75e9
    l1_loads: float = 3.5e9
    l2_bandwidth: float = 100e9
    l2_copy_bandwidth: float = 100e9
    l3_bandwidth: float = 40e9
    l3_copy_bandwidth: float = 40e9
    memory_bandwidth: float = 25e9
    memory_copy_bandwidth: float = 25e9
    core_memory_bandwidth: float = 20e9
    launch_seconds: float = (
        2e-6  # a parallel region, from entry to the last thread's exit; a kernel of a graph
    )
    gpu: Gpu | None = None

    @property
    def unit(self) -> Unit:
        """What multiplies and adds."""
        return UNITS[self.isa]

    @property
    def device(self) -> Gpu:
        """The CUDA device of a target that has one."""
        assert self.gpu is not None
        return self.gpu

    def with_threads(self, threads: int) -> Target:
        """The same machine, running on so many threads."""
        return replace(self, threads=threads)

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector register, or of a block of channels, in float32."""
        return FLOAT32.nbytes * self.lanes

    @property
    def peak(self) -> float:
        """FLOP/s of all threads together."""
        return self.flops * self.threads
