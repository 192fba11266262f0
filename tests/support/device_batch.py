"""Many kernels for a GPU at once: compilers start slowly, and a source may hold any number of kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cuda_emulator import build_emulation
from device_jobs import DeviceJob, bits, launch_all
from serial_check import QUICK, serial

from convc.codegen.device import DeviceCode
from convc.codegen.pipeline import PIPELINE, tvm
from convc.types import Array

FIRST = 'extern "C" __global__'


def merged(codes: Sequence[DeviceCode]) -> Iterator[tuple[str, list[int]]]:
    """Sources that together hold the kernels of all codes, and the positions of the codes in each.

    Kernels whose sources begin alike, up to the first kernel, go together; their names must differ.
    """
    groups: dict[str, list[int]] = {}
    for i, code in enumerate(codes):
        if code.launches:
            groups.setdefault(code.source[: code.source.index(FIRST)], []).append(i)
    for head, members in groups.items():
        yield head + "\n".join(codes[i].source[len(head) :] for i in members), members


def libraries(codes: Sequence[DeviceCode], folder: Path) -> list[Path]:
    """For each code a library that emulates its kernels; codes share libraries."""
    found = [folder / "none"] * len(codes)
    for source, members in merged(codes):
        name = hashlib.sha256(source.encode()).hexdigest()[:16]
        library = build_emulation(source, folder / f"{name}.so")
        for i in members:
            found[i] = library
    return found


def emulate_all(
    codes: Sequence[DeviceCode],
    arguments: Sequence[Sequence[Array]],
    folder: Path,
    *,
    seeds: Sequence[int] = (1,),
) -> None:
    """Run the generated source of each code on its arguments, which it changes, once for each seed."""
    for code, library, arrays in zip(codes, libraries(codes, folder), arguments, strict=True):
        for seed in seeds:
            launch_all(code, library, [bits(a) for a in arrays], seed)


def check_emulated(jobs: Sequence[DeviceJob], folder: Path, *, seeds: Sequence[int] = (1,)) -> None:
    """The source of every job gives the right numbers, in several orders of threads."""
    inputs = [job.draw(seed) for seed, job in enumerate(jobs)]
    arguments = [job.arguments(arrays) for job, arrays in zip(jobs, inputs, strict=True)]
    emulate_all([job.code(f"k{i}") for i, job in enumerate(jobs)], arguments, folder, seeds=seeds)
    for job, arrays, stored in zip(jobs, inputs, arguments, strict=True):
        job.assert_right(arrays, job.result(stored[-1]))


def run_serially(functions: Sequence[Any], arguments: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """The arguments of scheduled programs after they ran with loops in place of threads; none in bfloat16."""
    named = {f"k{i}": serial(f).with_attr("global_symbol", f"k{i}") for i, f in enumerate(functions)}
    module = tvm.tirx.build(tvm.IRModule(named), target=QUICK, pipeline=PIPELINE)
    results = []
    for name, arrays in zip(named, arguments, strict=True):
        tensors = [tvm.runtime.tensor(a) for a in arrays]
        module[name](*tensors)
        results.append([t.numpy() for t in tensors])
    return results
