"""From a target's name to its description: LLVM knows the instruction sets, the system its caches."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from convc.codegen.figures import VARIABLE, StandIn, stand_in
from convc.codegen.gpus import cuda_target
from convc.codegen.pipeline import tvm
from convc.dtype import FLOAT32
from convc.errors import OptionError, TargetError
from convc.runtime.cpu import available_cpus, host_features, host_machine
from convc.target import Target
from convc.unit import Unit, widest

from tvm.target import codegen as llvm  # isort: skip

# Instruction sets that generated code may use and that a loader can look for.
_CHECKED = (
    "sse4.2", "avx", "avx2", "fma", "f16c", "bmi2",
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16",
    "neon", "sve", "sve2",
)  # fmt: skip

# From the newest on: what any CPU of a generation has.
_GENERATIONS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")

_NOMINAL_GHZ = 3.5
# Two cores of CPUs that were at hand, for code that is compiled on another machine. Zen 5: an EPYC, as
# `convc calibrate` printed on 2026-11-21, memory between its two states (45 and 100 GB/s, as the hypervisor
# places the cores on one chiplet or two). Zen 4: peak measured, the rest set by the width of its data paths
# and by what kernels reached.
_KNOWN = {
    "znver4": {
        "flops": 113e9, "broadcast_flops": 113e9, "unpacked_flops": 95e9, "l1_loads": 3.5e9,
        "l2_bandwidth": 100e9, "l2_copy_bandwidth": 100e9, "l3_bandwidth": 60e9, "l3_copy_bandwidth": 50e9,
        "memory_bandwidth": 50e9, "memory_copy_bandwidth": 45e9, "core_memory_bandwidth": 30e9,
        "launch_seconds": 5e-7,
    },
    "znver5": {
        "flops": 240e9, "broadcast_flops": 231e9, "unpacked_flops": 195e9, "l1_loads": 7.0e9,
        "l2_bandwidth": 175e9, "l2_copy_bandwidth": 175e9, "l3_bandwidth": 100e9, "l3_copy_bandwidth": 90e9,
        "memory_bandwidth": 75e9, "memory_copy_bandwidth": 75e9, "core_memory_bandwidth": 40e9,
        "launch_seconds": 3e-7,
    },
}  # fmt: skip


def resolve(name: str, threads: int | None = None, precision: str = FLOAT32) -> Target:
    """The target called `host`, an LLVM CPU name (`haswell`), `TRIPLE:CPU` or `cuda:sm_XX`, with nominal
    speeds.

    `calibrate.calibrated` puts what was measured on this machine in their place. Raises TargetError for names
    that LLVM does not know and kinds that convc has no code for, OptionError for a precision that the target
    does not have.
    """
    if name.split(":")[0] == "cuda":
        return cuda_target(name, resolve("host", 1), precision)
    if precision != FLOAT32:
        raise OptionError(
            f"--precision {precision}: target '{name}' computes in float32.",
            hint="Other precisions need a GPU, such as `--target cuda:sm_90`.",
        )
    if name == "host":
        other = stand_in()
        return this_machine(threads) if other is None else _standing_in(other, threads)
    triple, _, mcpu = name.rpartition(":")
    triple = triple or _host_triple()
    if not _is_known(mcpu, triple):
        raise TargetError(
            f"Target '{name}': LLVM knows no CPU '{mcpu}' for {triple}.",
            hint="Give `host`, a CPU name such as `haswell` or `znver4`, or TRIPLE:CPU.",
        )
    return _target(name, triple, mcpu, threads or available_cpus())


def this_machine(threads: int | None = None) -> Target:
    """The machine at hand, whatever stands in for it."""
    triple = _host_triple()
    return _target("host", triple, _host_cpu(triple), threads or available_cpus(), **_host_caches())


def _standing_in(other: StandIn, threads: int | None) -> Target:
    """Another machine in the place of this one: vectors are as long, registers as many and caches as large as
    there, so that choices are the same. The code keeps to instructions that both have: LLVM makes two of a
    vector that is too long for this machine."""
    triple = _host_triple()
    if not _is_known(other.mcpu, triple):
        raise TargetError(
            f"{VARIABLE} describes a '{other.mcpu}', which is no CPU for {triple}.",
            hint="Compile for it by name, with `--target TRIPLE:CPU`.",
        )
    l1, l2, l3 = other.caches
    target = _target("host", triple, other.mcpu, threads or other.cores, l1=l1, l2=l2, l3=l3)
    here = host_features()
    both = set(target.features) if here is None else here & set(target.features)
    mcpu = _covered(_GENERATIONS, triple, both)
    return replace(target, mcpu=mcpu, features=_checked_features(mcpu, triple))


def _target(name: str, triple: str, mcpu: str, threads: int, **caches: Any) -> Target:
    features = _checked_features(mcpu, triple)
    unit = widest(triple.split("-")[0], features)
    return Target(
        name=name,
        triple=triple,
        mcpu=mcpu,
        isa=unit.name,
        lanes=unit.lanes,
        registers=unit.registers,
        features=features,
        threads=threads,
        **_nominal_speeds(mcpu, unit),
        **caches,
    )


def _nominal_speeds(mcpu: str, unit: Unit) -> dict[str, Any]:
    """The figures of a known CPU, or the arithmetic that its instruction set suggests."""
    if mcpu in _KNOWN:
        return _KNOWN[mcpu]
    flops = unit.flops_per_cycle * _NOMINAL_GHZ * 1e9
    # a guess: 13 to 19 instructions that unpack 4 vectors of weights share some ports with 32 multiply-adds
    unpacked = 0.75 * flops
    return {
        "flops": flops,
        "broadcast_flops": flops,
        "unpacked_flops": unpacked,
        "l1_loads": 2 * _NOMINAL_GHZ * 1e9,
    }


def _host_triple() -> str:
    return f"{host_machine()}-linux-gnu"


def _host_cpu(triple: str) -> str:
    """The name of this machine's CPU, or a generation that it surely covers.

    A virtual machine may hide instructions that its CPU's name promises.
    """
    return _covered((str(llvm.llvm_get_system_cpu()), *_GENERATIONS), triple, host_features())


def _covered(names: Sequence[str], triple: str, present: Collection[str] | None) -> str:
    """The first of the names whose instruction sets are all present."""
    for mcpu in names:
        if _is_known(mcpu, triple) and (present is None or {*_checked_features(mcpu, triple)} <= {*present}):
            return mcpu
    return "x86-64" if triple.startswith("x86_64") else "generic"


def _is_known(mcpu: str, triple: str) -> bool:
    try:
        return bool(llvm.llvm_is_valid_cpu(mcpu, triple))
    except (RuntimeError, ValueError):  # LLVM has no back end for the triple
        return False


def _checked_features(mcpu: str, triple: str) -> tuple[str, ...]:
    target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": mcpu})
    features = {str(feature) for feature in llvm.llvm_get_cpu_features(target)}
    return tuple(name for name in _CHECKED if name in features)


def _host_caches() -> dict[str, int]:
    """Sizes of the data caches, as the Linux kernel reports them."""
    sizes = {}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = ((index / f).read_text().strip() for f in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            sizes[f"l{level}"] = int(size[:-1]) << 10
    return {k: v for k, v in sizes.items() if k in ("l1", "l2", "l3")}


def linker(target: Target) -> str:
    """The C compiler that links modules for a target: `$CC`, `cc`, or a cross compiler by the triple's name.

    Raises TargetError when there is none.
    """
    import shutil

    machine = target.triple.split("-")[0]
    names = [os.environ["CC"]] if os.environ.get("CC") else []
    names += ["cc", "gcc", "clang"] if machine == host_machine() else [f"{machine}-linux-gnu-gcc"]
    for candidate in names:
        if shutil.which(candidate.split()[0]):
            return candidate
    raise TargetError(
        f"No C compiler was found to link for {target.triple} (looked for {', '.join(names)}).",
        hint="Install one, or set CC.",
    )
