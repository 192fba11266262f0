"""The speed of this machine's cores, caches and memory: measured in two seconds, kept in the user's cache.

`native/calibrate.c` is linked with the runtime into a module like any other, and run in a process of its
own, so that its threads and its memory go when it has ended. Whole figures are kept; targets receive them
in steps of 5 %, since two calibrations of a machine differ by some percent and should make the same choices.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from convc import children
from convc.codegen.cache import ObjectCache, default_folder
from convc.codegen.figures import NOMINAL, VARIABLE, Calibration, checked, read, stand_in
from convc.codegen.link import FLAGS, HEADERS, RUNTIME, append_weights, native_text, runtime_objects
from convc.codegen.machine import linker
from convc.dtype import FLOAT64
from convc.errors import CompileError, ConvcError
from convc.files import Scratch, explained, write_bytes
from convc.progress import Progress
from convc.runtime.cpu import available_cpus
from convc.runtime.elf import note_source
from convc.runtime.manifest import Manifest, TensorInfo
from convc.target import Target

SOURCES = ("calibrate.c", *HEADERS, *(f"{name}.c" for name in RUNTIME))
"""The probe, what it includes, and the runtime whose threads it measures."""

TIMEOUT_SECONDS = 60
MAX_THREADS = 256  # of a module
AGAIN = 2
"""How often to measure again while processors seem to share cores."""


def calibrated(target: Target, progress: Progress) -> Target:
    """A target of this machine with measured speeds, from the cache or newly measured; others as they are.

    A machine that stands in for this one has the speeds that were measured there. Where nothing can be
    measured the target keeps its nominal figures, and `progress` hears why.
    """
    if target.name != "host" or os.environ.get(VARIABLE) == NOMINAL:
        return target
    other = stand_in()
    if other is not None:
        return other.calibration.apply(target)
    path = cached_at(target)
    found = read(path)
    if found is None:
        try:
            with progress.stage("calibrate"), _alone(path):
                found = read(path) or _measure_to(path, target)  # another process may just have finished
        except (ConvcError, OSError) as error:
            progress.notice(f"This machine was not calibrated, nominal figures decide. {error}")
            return target
    return found.apply(target)


def refresh(target: Target) -> tuple[Path, Calibration]:
    """Measure again, whatever the cache holds; the file and what it holds now. Raises as `measure` does."""
    path = cached_at(target)
    with _alone(path):
        return path, _measure_to(path, target)


def cached_at(target: Target) -> Path:
    """The file that holds, or will hold, this machine's calibration for the target's instruction set."""
    digest = hashlib.sha256(json.dumps(machine_key(target), sort_keys=True).encode()).hexdigest()
    return default_folder() / f"calibration-{digest[:16]}.json"


def machine_key(target: Target) -> dict[str, Any]:
    """What a calibration depends on."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cpus(),
        "mcpu": target.mcpu,
        "lanes": target.lanes,
        "caches": [target.l1, target.l2, target.l3],
        "probe": hashlib.sha256("".join(_sources().values()).encode()).hexdigest(),
    }


def _cpu_name() -> str:
    wanted = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
    values: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in wanted:
                values.setdefault(key.strip(), value.strip())
    return " ".join(f"{k}={v}" for k, v in sorted(values.items())) or platform.processor()


def _sources() -> dict[str, str]:
    """The texts of `SOURCES` by file name; a change of any makes older calibrations stale."""
    return {name: native_text(name) for name in SOURCES}


def _measure_to(path: Path, target: Target) -> Calibration:
    """Measure and keep the figures; the file appears whole."""
    found = measure(target)
    for _ in range(AGAIN):
        if found.crowded:  # a hypervisor may put two processors on one core, for some seconds
            found = max(found, measure(target), key=lambda calibration: calibration.flops)
    if found.disturbed:
        raise CompileError(
            "The machine is too busy to be measured.", hint="Run `convc calibrate` when it is idle."
        )
    text = json.dumps({"machine": machine_key(target), "figures": asdict(found)}, indent=1)
    write_bytes(path, text.encode())
    return found


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: two that measure at once would see half a machine each."""
    import fcntl

    with explained(f"Cannot write '{path}'"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def measure(target: Target) -> Calibration:
    """Build the probe for the target's vectors and run it on all processors; takes about two seconds.

    Raises CompileError or TargetError when it cannot be built or run.
    """
    with Scratch() as folder:
        path = folder / "calibrate.so"
        _build(path, replace(target, threads=min(available_cpus(), MAX_THREADS)))
        # `load` needs nothing of the compiler, so that the process starts at once
        program = "import sys, convc.runtime as r; print(r.load(sys.argv[1])().tolist())"
        done = _run([sys.executable, "-c", program, str(path)])
    names = [field.name for field in fields(Calibration)]
    try:
        return checked(dict(zip(names, json.loads(done), strict=True)))
    except ValueError as error:
        raise CompileError(f"Calibration printed '{done.strip()[-200:]}'.") from error


def _build(path: Path, target: Target) -> None:
    """The probe as a module file, for as many threads as the target has."""
    workspace = max(min(4 * target.l3, 512 << 20), target.threads * max(4 * target.l2, 16 << 20))
    constants = {
        "LANES": target.lanes,
        "THREADS": target.threads,
        "L1": target.l1,
        "L2": target.l2,
        "L3": target.l3,
        "WORKSPACE": workspace,
    }
    figures = TensorInfo("figures", (len(fields(Calibration)),), FLOAT64)
    steps = ("prepare", "shared", "arithmetic", "shared", "caches", "shared")
    manifest = Manifest("calibrate", (), (figures,), (), steps, asdict(target), target.threads, workspace, 0)
    for name, text in {**_sources(), "contract.c": note_source(manifest.contract)}.items():
        path.with_name(name).write_text(text)
    cache = ObjectCache.open()
    _run(
        [
            *shlex.split(linker(target)),
            *FLAGS,
            *target.unit.flags,
            *(f"-D{name}={value}UL" for name, value in constants.items()),
            *("-O2", "-shared", "-o", str(path)),
            *(str(path.with_name(name)) for name in ("calibrate.c", "contract.c")),
            *map(str, runtime_objects(target, cache)),
            *("-lm", "-ldl"),
        ]
    )
    manifest.write(path, append_weights((), 0, path))


def _run(command: list[str]) -> str:
    """What a program prints. Raises CompileError with its last words when it fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=children.environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"Calibration took more than {TIMEOUT_SECONDS} s.") from error
    if done.returncode:
        raise CompileError(f"'{command[0]}' failed while calibrating: {done.stderr.strip()[-500:]}")
    return done.stdout
