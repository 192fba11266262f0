"""From launches of kernels to one module file: cubins, tables for the native runtime, weights.

Like a module for CPUs it is an ELF shared object with weights and manifest behind it (see
`runtime.container`). The code in it is `native/cuda/*.c`, which talks to the CUDA driver; what differs from
network to network are tables of constants (`native/cuda/tables.h`) and the cubins, which the assembler
includes as they are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convc.codegen.cache import ObjectCache
from convc.codegen.link import FLAGS, append_weights, native_objects, native_text, run_compiler
from convc.codegen.machine import linker
from convc.errors import CompileError
from convc.files import Scratch
from convc.plan.program import Location
from convc.runtime.container import Weights
from convc.runtime.elf import note_source
from convc.target import Target
from convc.types import Array

RUNTIME = ("driver", "graph", "handle", "memory", "run", "weights")
HEADERS = ("driver.h", "failure.h", "handle.h", "tables.h")
"""The C files of `native/cuda/`."""


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    `image` is the kernel whose cubin holds `function`. `arguments` are its parameters in order, all of them
    pointers. `after` has the indices of the earlier launches that must be done (see `dependencies`), `step`
    the program's step that the launch belongs to. `shared_bytes` is dynamic shared memory.
    """

    image: str
    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[Location, ...]
    after: tuple[int, ...]
    step: int


@dataclass
class DeviceProgram:
    """A network as launches in an order that respects `after`, and what they work on.

    `images` are cubins by kernel, `inputs` and `outputs` the bytes of each, `cuda` the CUDA version that a
    driver must support to load the cubins, as `cuDriverGetVersion` counts (13000 is 13.0).
    """

    arch: str  # "sm_90", or "sm_90a" for code that runs on that very device only
    launches: list[Launch] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    weights: list[tuple[int, Array]] = field(default_factory=list)
    weights_bytes: int = 0
    workspace_bytes: int = 0
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    cuda: int = 13000


# ---- which launches wait for which ----


@dataclass(frozen=True)
class Access:
    """Bytes that a launch reads or writes: `nbytes` from `location` on, all that lies between included."""

    location: Location
    nbytes: int
    writes: bool = False

    def conflicts(self, other: Access) -> bool:
        """Whether the order of the two matters: they share bytes, and one writes."""
        here, there = self.location, other.location
        return (
            (self.writes or other.writes)
            and (here.space, here.index) == (there.space, there.index)
            and here.offset < there.offset + other.nbytes
            and there.offset < here.offset + self.nbytes
        )


def dependencies(accesses: Sequence[Sequence[Access]]) -> list[tuple[int, ...]]:
    """For each launch, given all that it accesses, the earlier launches that it must come after.

    Only those are named that no other one of them already waits for (the transitive reduction): the edges of
    the CUDA graph. Launches that no chain of edges connects may run at the same time.
    """
    found: list[tuple[int, ...]] = []
    behind: list[int] = []  # for each launch, a bit for itself and each one that it waits for
    for index, own in enumerate(accesses):
        after: list[int] = []
        reached = 0
        # Latest first: what an edge reaches lies before it, and so has not been looked at yet.
        for earlier in range(index - 1, -1, -1):
            if reached == (1 << index) - 1:
                break
            if not reached >> earlier & 1 and _any_conflict(own, accesses[earlier]):
                after.append(earlier)
                reached |= behind[earlier]
        found.append(tuple(reversed(after)))
        behind.append(reached | 1 << index)
    return found


def _any_conflict(own: Iterable[Access], others: Sequence[Access]) -> bool:
    return any(a.conflicts(b) for a in own for b in others)


# ---- the tables ----


def compute_capability(arch: str) -> tuple[int, int, bool]:
    """Major and minor number of `sm_90`, and whether code for it runs on that very device only (`sm_90a`).

    Raises CompileError for a name of another form.
    """
    match = re.fullmatch(r"sm_(\d+)(\d)([af]?)", arch)
    if match is None:
        raise CompileError(
            f"'{arch}' is not the name of a GPU architecture.", hint="Such names are like sm_90."
        )
    return int(match[1]), int(match[2]), match[3] == "a"


def tables_source(program: DeviceProgram, folder: Path, contract: str) -> str:
    """C code of the tables and of the manifest's contract.

    `folder` is where the assembler finds the cubins, as IMAGE_NUMBER.cubin.
    """
    symbols = list(program.images)
    functions = _functions(program.launches)
    places = [place for launch in program.launches for place in launch.arguments]
    afters = [index for launch in program.launches for index in launch.after]
    spaces = {"input": "INPUT", "output": "OUTPUT", "workspace": "WORKSPACE", "weights": "WEIGHTS"}
    major, minor, exact = compute_capability(program.arch)
    images = [f"{{{_c_string(symbol)}, image_{i}}}" for i, symbol in enumerate(symbols)]
    kernels = [
        f"{{{symbols.index(image)}, {_c_string(name)}, {shared}}}"
        for (image, name), shared in functions.items()
    ]
    operands = (*program.inputs, *program.outputs)
    return "\n".join(
        [
            native_text("cuda/tables.h"),
            *(_embedded(i, folder) for i in range(len(symbols))),
            _table("Image convc_images", images),
            _table("Function convc_functions", kernels),
            _table("Launch convc_launches", _launch_rows(program.launches, list(functions))),
            _table("Place convc_places", [f"{{{spaces[p.space]}, {p.index}, {p.offset}}}" for p in places]),
            _table("int convc_afters", map(str, afters)),
            _table("int convc_launch_steps", (str(launch.step) for launch in program.launches)),
            _table("uint64_t convc_operand_bytes", map(str, operands)),
            f"const int convc_image_count = {len(symbols)}, convc_function_count = {len(functions)};",
            f"const int convc_launch_count = {len(program.launches)}, convc_place_count = {len(places)};",
            f"const int convc_input_count = {len(program.inputs)};",
            f"const int convc_output_count = {len(program.outputs)};",
            f"const uint64_t convc_workspace_bytes = {program.workspace_bytes};",
            f"const uint64_t convc_weights_bytes = {program.weights_bytes};",
            f"const char convc_arch[] = {_c_string(program.arch)};",
            f"const int convc_sm_major = {major}, convc_sm_minor = {minor}, convc_sm_exact = {int(exact)};",
            f"const int convc_cuda_version = {program.cuda};",
            note_source(contract),
            "",
        ]
    )


def _functions(launches: Sequence[Launch]) -> dict[tuple[str, str], int]:
    """The functions by image and name, and the most shared memory that a launch of each asks for."""
    functions: dict[tuple[str, str], int] = {}
    for launch in launches:
        key = (launch.image, launch.function)
        functions[key] = max(launch.shared_bytes, functions.get(key, 0))
    return functions


def _launch_rows(launches: Sequence[Launch], functions: list[tuple[str, str]]) -> list[str]:
    numbers = {key: number for number, key in enumerate(functions)}
    rows = []
    place = after = 0
    for launch in launches:
        sizes = ", ".join(f"{{{', '.join(map(str, size))}}}" for size in (launch.grid, launch.block))
        ranges = f"{place}, {len(launch.arguments)}, {after}, {len(launch.after)}"
        number = numbers[launch.image, launch.function]
        rows.append(f"{{{number}, {sizes}, {launch.shared_bytes}, {ranges}}}")
        place += len(launch.arguments)
        after += len(launch.after)
    return rows


def _embedded(number: int, folder: Path) -> str:
    """A cubin as constant data; 64 bytes are more alignment than its own headers need."""
    path = _c_string(str(folder / f"image_{number}.cubin"))
    lines = [
        '.pushsection .rodata.cubin, "a"',
        ".balign 64",
        f"image_{number}:",
        f".incbin {path}",
        ".popsection",
    ]
    text = "".join(_c_string(f"{line}\n") for line in lines)
    return f'__asm__({text});\nextern const char image_{number}[] __attribute__((visibility("hidden")));'


def _table(declaration: str, rows: Iterable[str]) -> str:
    """A constant array; one without rows has one of zeros, since C has no empty arrays."""
    return f"const {declaration}[] = {{\n  {', '.join(rows) or '{0}'}}};"


def _c_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


# ---- the file ----


def runtime_objects(target: Target, cache: ObjectCache) -> list[Path]:
    """The runtime of CUDA modules as object files for the host that `target` names."""
    return native_objects("cuda/", RUNTIME, HEADERS, target, cache)


def check_program(program: DeviceProgram) -> None:
    """Raise CompileError for launches without code, out of order, or with arguments beyond what there is."""
    limits = {"input": program.inputs, "output": program.outputs}
    sizes = {"workspace": program.workspace_bytes, "weights": program.weights_bytes}
    for index, launch in enumerate(program.launches):
        where = f"Launch {index} ({launch.function})"
        if launch.image not in program.images:
            raise CompileError(f"{where} is of kernel '{launch.image}', which has no code.")
        if any(not 0 <= earlier < index for earlier in launch.after):
            raise CompileError(f"{where} comes after {launch.after}, not all of them earlier launches.")
        for place in launch.arguments:
            operands = limits.get(place.space)
            if operands is not None and not 0 <= place.index < len(operands):
                raise CompileError(f"{where} takes {place.space} {place.index} of {len(operands)}.")
            size = sizes[place.space] if operands is None else operands[place.index]
            if not 0 <= place.offset <= size:
                raise CompileError(f"{where} takes byte {place.offset} of {size} of {place.space}.")


def write_module(
    program: DeviceProgram, objects: Sequence[Path], target: Target, out: Path, contract: str
) -> Weights:
    """Link tables, cubins and the runtime's `objects`, and append weights.

    The manifest, whose `contract` the code is given, comes last.

    Raises CompileError with the linker's words when that fails, and for a program that is not sound.
    """
    check_program(program)
    with Scratch(out.resolve().parent) as folder:
        for number, image in enumerate(program.images.values()):
            (folder / f"image_{number}.cubin").write_bytes(image)
        tables = folder / "tables.c"
        tables.write_text(tables_source(program, folder, contract))
        options = [*FLAGS, "-O1", "-shared", "-Wl,-z,noexecstack", "-o", str(out)]
        sources = [str(tables), *map(str, dict.fromkeys(objects))]
        run_compiler([*shlex.split(linker(target)), *options, *sources, "-ldl"])
    return append_weights(program.weights, program.weights_bytes, out)
