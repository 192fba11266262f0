"""A program for a GPU: kernels to cubins, steps to launches over one arena of device memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from convc.codegen import nvcc
from convc.codegen.cache import ObjectCache
from convc.codegen.cuda_link import Access, DeviceProgram, Launch, dependencies
from convc.codegen.device import ALIGNMENT, DeviceCode, KernelLaunch, Scratch, generate
from convc.codegen.kernel import viewed
from convc.codegen.link import BoundKernel
from convc.codegen.together import together
from convc.errors import CompileError
from convc.plan.program import Argument, Location, Program, Run
from convc.target import Target
from convc.types import TensorType


@dataclass(frozen=True)
class DeviceKernel:
    """A kernel's launches and scratch memory, and the machine code of its functions."""

    code: DeviceCode
    image: bytes


_GENERATING = threading.Lock()
"""TVM's registry of tensor intrinsics belongs to the whole process, and its passes call back into Python."""


def device_code(bound: BoundKernel) -> DeviceCode:
    """CUDA source of a kernel, and how to launch it."""
    kernel = bound.kernel
    with _GENERATING:
        func = viewed(kernel, bound.lowering, bound.schedule)
        return generate(func, kernel.symbol, kernel.target.device)


def build_kernels(
    kernels: Mapping[str, BoundKernel],
    cache: ObjectCache,
    workers: int,
    done: Callable[[], None],
    *,
    fast_math: bool = False,
) -> dict[str, DeviceKernel]:
    """Compile all kernels, several at a time: the CUDA compiler is another process. `done` hears of each."""
    compiler = nvcc.compiler_identity()

    def one(bound: BoundKernel) -> DeviceKernel:
        return _build(bound, cache, compiler, fast_math)

    return dict(zip(kernels, together(one, list(kernels.values()), workers, done), strict=True))


def _build(bound: BoundKernel, cache: ObjectCache, compiler: str, fast_math: bool) -> DeviceKernel:
    symbol = bound.kernel.symbol

    def write_code(path: Path) -> None:
        path.write_text(device_code(bound).to_json())

    code = DeviceCode.from_json(cache.get(f"{symbol}.json", write_code).read_text())
    if not code.launches:
        return DeviceKernel(code, b"")

    def write_image(path: Path) -> None:
        arch = bound.kernel.target.device.code
        path.write_bytes(nvcc.compile_cubin(code.source, arch, fast_math=fast_math).image)

    digest = hashlib.sha256(f"{compiler} {fast_math} {code.source}".encode()).hexdigest()
    return DeviceKernel(code, cache.get(f"{symbol}_{digest[:16]}.cubin", write_image).read_bytes())


def device_program(
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    program: Program,
    symbols: Sequence[str],
    kernels: Mapping[str, DeviceKernel],
    target: Target,
) -> DeviceProgram:
    """The launches of all steps. `sizes` are the bytes of the inputs and of the outputs.

    Scratch memory lies behind the planned workspace, see `_Scratch`.
    """
    needs = [kernels[symbol].code.scratch_bytes for symbol in symbols if symbol]
    scratch = _Scratch.behind(program.workspace_bytes, needs)
    planner = _Launches(scratch)
    for number, (step, symbol) in enumerate(zip(program.steps, symbols, strict=True)):
        if not isinstance(step, Run):
            raise CompileError(f"'{step.node.name}' clears a border, which no kernel for a GPU asks for.")
        planner.add(number, step, symbol, kernels[symbol].code)
    order = dependencies(planner.accesses)
    return DeviceProgram(
        target.device.code,
        [replace(launch, after=after) for launch, after in zip(planner.launches, order, strict=True)],
        {symbol: kernel.image for symbol, kernel in kernels.items() if kernel.code.launches},
        program.weights,
        program.weights_bytes,
        scratch.start + scratch.nbytes,
        *sizes,
        nvcc.needed_driver(nvcc.compiler_identity()),
    )


SCRATCH_BYTES = 64 << 20
"""Scratch memory beyond what one kernel needs: less than this is given to keep steps apart."""


@dataclass
class _Scratch:
    """Memory between the launches of a kernel: a ring, so that kernels side by side do not share any."""

    start: int
    nbytes: int
    used: int = 0

    @classmethod
    def behind(cls, start: int, needs: Sequence[int]) -> _Scratch:
        """Room for all needs at once, if that is little, and for the greatest in any case."""
        whole = max(min(sum(needs), SCRATCH_BYTES), max(needs, default=0))
        return cls(-(-start // ALIGNMENT) * ALIGNMENT, whole)

    def take(self, nbytes: int) -> int:
        """The offset of so many bytes."""
        if self.used + nbytes > self.nbytes:
            self.used = 0
        self.used += nbytes
        return self.start + self.used - nbytes


@dataclass
class _Launches:
    """The launches so far, and what each reads and writes."""

    scratch: _Scratch
    launches: list[Launch] = field(default_factory=list)
    accesses: list[list[Access]] = field(default_factory=list)

    def add(self, number: int, step: Run, symbol: str, code: DeviceCode) -> None:
        w = step.choice.workload
        kinds = [t for t in (*w.inputs, *w.outputs) if t is not None]
        written = len(kinds) - len(w.outputs)
        scratch = self.scratch.take(code.scratch_bytes)
        for launch in code.launches:
            places = tuple(_location(a, step.arguments, scratch) for a in launch.arguments)
            self.launches.append(_launch(number, symbol, launch, places))
            region = Access(Location("workspace", offset=scratch), code.scratch_bytes, writes=True)
            self.accesses.append(
                [
                    region if isinstance(a, Scratch) else _access(a, step.arguments, kinds, written)
                    for a in launch.arguments
                ]
            )


def _launch(number: int, symbol: str, launch: KernelLaunch, places: tuple[Location, ...]) -> Launch:
    return Launch(symbol, launch.function, launch.grid, launch.block, launch.shared_bytes, places, (), number)


def _location(argument: int | Scratch, arguments: Sequence[Argument], scratch: int) -> Location:
    if isinstance(argument, Scratch):
        return Location("workspace", offset=scratch + argument.offset)
    return arguments[argument].location


def _access(
    argument: int, arguments: Sequence[Argument], kinds: Sequence[TensorType], written: int
) -> Access:
    """What a launch may touch of a tensor: all up to its last element."""
    given, kind = arguments[argument], kinds[argument]
    nbytes = kind.nbytes
    if given.strides is not None:
        last = sum((e - 1) * s for e, s in zip(kind.physical, given.strides, strict=True))
        nbytes = (last + 1) * kind.itemsize
    return Access(given.location, nbytes, writes=argument >= written)
