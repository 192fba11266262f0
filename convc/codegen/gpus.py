"""CUDA targets: what each generation of devices offers, and targets made from it.

Limits are those of the CUDA C++ Programming Guide (13.0, table of technical specifications per compute
capability), sizes and speeds those of the vendor's data sheets for the device named, dense and with float32
sums. What multiprocessors get from L2 together is the rate at which published products of 128 x 256 tiles
run, times the bytes of their tiles. All figures rank candidates; nothing but speed depends on them.
"""

from __future__ import annotations

from dataclasses import replace

from convc.dtype import BFLOAT16, FLOAT16, FLOAT32, TF32
from convc.errors import OptionError, TargetError
from convc.target import Gpu, Target
from convc.tiling.device_gemm import CHUNK
from convc.unit import CUDA_CORES

PRECISIONS = (FLOAT32, TF32, FLOAT16, BFLOAT16)

_KB, _MB = 1 << 10, 1 << 20

GPUS: dict[str, Gpu] = {
    gpu.arch: gpu
    for gpu in (
        Gpu("sm_80", "A100", 108, 164 * _KB, 163 * _KB, 40 * _MB, 2.0e12, 5.5e12, 19.5e12, 156e12, 312e12),
        Gpu("sm_86", "RTX 3090", 82, 100 * _KB, 99 * _KB, 6 * _MB, 0.94e12, 2.2e12, 35.6e12, 35.6e12, 71e12,
            threads=1536),
        Gpu("sm_89", "RTX 4090", 128, 100 * _KB, 99 * _KB, 72 * _MB, 1.0e12, 4.5e12, 82.6e12, 82.6e12, 165e12,
            threads=1536),
        # The rates of the tensor cores are those of mma.sync, 62 % of what wgmma reaches (Luo et al.,
        # Benchmarking and Dissecting the Nvidia Hopper GPU Architecture, 2024, table 7).
        Gpu("sm_90", "H200", 132, 228 * _KB, 227 * _KB, 50 * _MB, 4.8e12, 9.0e12, 67e12, 307e12, 613e12,
            warpgroup_gain=1.6),
    )
}  # fmt: skip

LAUNCH_SECONDS = 2e-6
"""From one kernel of a CUDA graph to the next that waits for it, about."""


def cuda_target(name: str, host: Target, precision: str) -> Target:
    """The target `cuda:sm_XX`, fed by a CPU of the host's kind.

    Raises TargetError for a generation that convc has no table for.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"--precision '{precision}' is not known.", hint=f"Give {', '.join(PRECISIONS)}.")
    arch = name.partition(":")[2] or present_arch()
    if arch not in GPUS:
        raise TargetError(
            f"Target '{name}': convc generates code for {', '.join(GPUS)}, not '{arch}'.",
            hint="Name the device's generation, as in `--target cuda:sm_90`.",
        )
    gpu = replace(GPUS[arch], precision=precision)
    lanes = CHUNK // gpu.storage.nbytes  # what a thread copies, and a row of ldmatrix
    return replace(
        host,
        name=f"cuda:{arch}",
        isa=CUDA_CORES.name,
        lanes=lanes,
        features=(),
        launch_seconds=LAUNCH_SECONDS,
        gpu=gpu,
    )


def present_arch() -> str:
    """The generation of this machine's first CUDA device."""
    from convc.runtime.gpu import present_capability

    capability = present_capability()
    if capability is None:
        raise TargetError(
            "Target 'cuda': this machine has no CUDA device, or no driver for it.",
            hint="Name the device that the module will run on, as in `--target cuda:sm_90`.",
        )
    return f"sm_{capability}"
