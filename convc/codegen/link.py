"""From a program to one module file: C for the steps, objects of kernels and runtime, weights, manifest."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from convc.codegen.cache import ObjectCache
from convc.codegen.kernel import Kernel, View, build, object_file
from convc.codegen.machine import linker
from convc.codegen.together import together
from convc.errors import CompileError, OptionError
from convc.files import Scratch
from convc.lowering.base import Lowering
from convc.plan.program import Clear, Evict, Location, Program, Run
from convc.plan.select import Choice
from convc.runtime.container import PAGE, Weights
from convc.runtime.elf import note_source
from convc.schedules.base import Config
from convc.schedules.registry import schedules
from convc.target import Target
from convc.types import Array

FLAGS = ("-fPIC", "-pthread", "-fvisibility=hidden")
RUNTIME = ("floats", "run", "scratch", "services", "threads")
HEADERS = ("network.h", "services.h")
"""The C files of `native/`: the part of every module that is not generated."""


@dataclass(frozen=True)
class BoundKernel:
    """A kernel together with the lowering and the schedule that make its code."""

    kernel: Kernel
    lowering: Lowering
    schedule: Any

    def inspect(self, form: str) -> str:
        """The kernel as `llvm` or `asm` text."""
        module = build(self.kernel, self.lowering, self.schedule)
        return str(module.inspect_source({"llvm": "ll", "asm": "asm"}[form]))


def configuration(choice: Choice, target: Target) -> Config:
    """How the kernel of a choice is scheduled: as its tuning record says, or as the schedule itself would.

    Raises OptionError for a record that is of no use.
    """
    default: Config = schedules(target)[choice.lowering.schedule].default(choice.workload, target)
    if choice.config is None:
        return default
    try:
        return replace(default, **choice.config)
    except TypeError as error:
        raise OptionError(
            f"A tuning record of '{choice.lowering.name}' has the configuration {dict(choice.config)}, "
            f"which is not one of {type(default).__name__}.",
            hint="Compile without --tuning-db, or remove the record with `convc db prune`.",
        ) from error


def bind(run: Run, target: Target) -> BoundKernel:
    """The kernel that a step calls."""
    choice = run.choice
    schedule = schedules(target)[choice.lowering.schedule]
    config = configuration(choice, target)
    views = tuple(View(a.strides, a.alignment) for a in run.arguments)
    kernel = Kernel(choice.lowering.name, choice.lowering.schedule, choice.workload, config, views, target)
    return BoundKernel(kernel, choice.lowering, schedule)


def distinct_kernels(program: Program, target: Target) -> tuple[list[str], dict[str, BoundKernel]]:
    """The symbol that each step calls ("" for clearing), and the kernels by symbol."""
    symbols: list[str] = []
    kernels: dict[str, BoundKernel] = {}
    for step in program.steps:
        if not isinstance(step, Run):
            symbols.append("")
            continue
        bound = bind(step, target)
        symbols.append(bound.kernel.symbol)
        kernels.setdefault(bound.kernel.symbol, bound)
    return symbols, kernels


def build_objects(
    kernels: dict[str, BoundKernel], cache: ObjectCache, workers: int, done: Callable[[], None]
) -> list[Path]:
    """Compile all kernels, several at a time: LLVM works outside Python's lock. `done` hears of each."""

    def one(bound: BoundKernel) -> Path:
        return object_file(bound.kernel, bound.lowering, bound.schedule, cache)

    return together(one, list(kernels.values()), workers, done)


def runtime_objects(target: Target, cache: ObjectCache) -> list[Path]:
    """The runtime of modules for CPUs, see `native_objects`."""
    return native_objects("", RUNTIME, HEADERS, target, cache)


def rpc_objects(target: Target, cache: ObjectCache) -> list[Path]:
    """What a TVM RPC server can call in a module for CPUs, see `native/rpc.c`."""
    return native_objects("", ("rpc",), ("network.h",), target, cache)


def native_objects(
    folder: str, names: Sequence[str], headers: Sequence[str], target: Target, cache: ObjectCache
) -> list[Path]:
    """C files of `native/FOLDER` as objects, from the cache where this compiler has made them before."""
    compiler = shlex.split(linker(target))
    where = Path(shutil.which(compiler[0]) or compiler[0])
    identity = repr((compiler, where.resolve(), where.stat().st_mtime_ns, FLAGS))
    shared = {name: native_text(folder + name) for name in headers}
    texts = {name: {**shared, f"{name}.c": native_text(f"{folder}{name}.c")} for name in names}
    return [_native_object(name, texts[name], compiler, identity, cache) for name in names]


def _native_object(
    name: str, texts: dict[str, str], compiler: list[str], identity: str, cache: ObjectCache
) -> Path:

    def write(path: Path) -> None:
        with Scratch() as folder:
            for file, text in texts.items():
                (folder / file).write_text(text)
            run_compiler([*compiler, *FLAGS, "-O2", "-c", "-o", str(path), str(folder / f"{name}.c")])

    digest = hashlib.sha256((identity + repr(sorted(texts.items()))).encode()).hexdigest()
    return cache.get(f"runtime_{name}_{digest[:24]}.o", write)


def native_text(name: str) -> str:
    """A file of `native/`, by its path there."""
    return resources.files("convc.codegen").joinpath("native").joinpath(name).read_text()


def network_source(program: Program, symbols: Sequence[str], contract: str) -> str:
    """C code of the network: one function a step, the table that the runtime walks, and the contract."""
    arities = {
        s: len(step.arguments)
        for s, step in zip(symbols, program.steps, strict=True)
        if isinstance(step, Run)
    }
    lines = [native_text("network.h")]
    lines += [
        f"extern int {symbol}({', '.join(['void *'] * count)});" for symbol, count in sorted(arities.items())
    ]
    for index, (step, symbol) in enumerate(zip(program.steps, symbols, strict=True)):
        if isinstance(step, Run):
            places = (_pointer(argument.location) for argument in step.arguments)
            call = f"return {symbol}({', '.join(places)});"
        elif isinstance(step, Evict):
            call = f"evict({_pointer(step.location)}, {step.nbytes}); return 0;"
        else:
            call = _clear_call(step)
        lines.append(f"static int step_{index}(const Call *call) {{ {call} }}")
    steps = ", ".join(f"step_{i}" for i in range(len(program.steps)))
    lines += [
        f"const Step convc_steps[] = {{ {steps or '0'} }};",
        f"const int convc_step_count = {len(program.steps)};",
        f"const size_t convc_workspace_bytes = {program.workspace_bytes};",
        f"const int convc_keeps_denormals = {int(program.keeps_denormals)};",
        f"const size_t convc_weights_bytes = {program.weights_bytes};",
        note_source(contract),
    ]
    return "\n".join(lines) + "\n"


def _pointer(place: Location) -> str:
    base = {
        "input": f"call->inputs[{place.index}]",
        "output": f"call->outputs[{place.index}]",
        "workspace": "call->workspace",
        "weights": "call->weights",
    }[place.space]
    return f"(void *)({base} + {place.offset})"


def _clear_call(step: Clear) -> str:
    def array(values: Sequence[int]) -> str:
        return f"(const int64_t[]){{{', '.join(map(str, values))}}}"

    return (
        f"zero_border(call->workspace + {step.location.offset}, {step.outer}, {len(step.extent)}, "
        f"{array(step.extent)}, {array(step.before)}, {array(step.after)}, {step.inner}); return 0;"
    )


def write_module(
    program: Program,
    symbols: Sequence[str],
    objects: Sequence[Path],
    target: Target,
    out: Path,
    contract: str,
) -> Weights:
    """Link code and append weights; `objects` are the kernels' and the runtime's.

    The manifest, whose `contract` the code is given, comes last.

    Raises CompileError with the linker's words when that fails.
    """
    compiler = shlex.split(linker(target))
    with Scratch(out.parent) as folder:
        (folder / "network.c").write_text(network_source(program, symbols, contract))
        sources = [str(folder / "network.c"), *map(str, dict.fromkeys(objects))]
        run_compiler(
            [
                *compiler,
                *FLAGS,
                "-O1",
                "-shared",
                "-Wl,-z,noexecstack",
                "-Wl,-z,nodelete",  # see native/services.c
                "-o",
                str(out),
                *sources,
                "-lm",
                "-ldl",
            ]
        )
    return append_weights(program.weights, program.weights_bytes, out)


def append_weights(constants: Sequence[tuple[int, Array]], nbytes: int, out: Path) -> Weights:
    """Write the constants behind the code, from a page boundary on, to be paged in on demand."""
    with out.open("ab") as file:
        start = -(-file.tell() // PAGE) * PAGE
        file.truncate(start)
        for offset, array in constants:
            file.seek(0, os.SEEK_END)
            file.write(bytes(start + offset - file.tell()))
            file.write(array.reshape(-1).view("uint8").data)  # NumPy offers no buffer of bfloat16
    return Weights(start, nbytes)


def run_compiler(command: Sequence[str]) -> None:
    """Run a C compiler. Raises CompileError with its words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(
            f"'{command[0]}' failed: {done.stderr.strip()[-2000:]}",
            hint="Is the C compiler complete? Try another by setting CC.",
        )
