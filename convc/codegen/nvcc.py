"""CUDA source to machine code: by nvcc where there is one, else by NVRTC, its form as a library.

Neither needs a GPU. Both give the same image (a cubin, for one architecture) and the assembler's account of
it: registers, spills and shared memory of every function.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from convc.errors import CompileError, TargetError
from convc.files import Scratch

INSTALL = "Install a CUDA toolkit (and set CUDA_HOME), or: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime."
# No optimisation flag: device code is compiled at -O3 unless told otherwise. TVM's C defines what it
# never uses, thousands of warnings that nobody can act on.
FLAGS = ("-std=c++17", "-w")


@dataclass(frozen=True)
class FunctionReport:
    """What the assembler says of one kernel; bytes of spills and stack are for each thread."""

    name: str
    registers: int
    spill_stores: int
    spill_loads: int
    stack_bytes: int
    shared_bytes: int  # static; what a launch asks for comes on top
    barriers: int


@dataclass(frozen=True)
class Cubin:
    """Machine code for one architecture, as cuModuleLoadData takes it."""

    image: bytes
    functions: tuple[FunctionReport, ...]


class _Compiler(Protocol):
    @property
    def identity(self) -> str: ...

    def compile(self, source: str, arch: str, kind: str, flags: Sequence[str]) -> tuple[bytes, str]:
        """The image of that kind ("cubin" or "ptx"), and the log."""


def compile_cubin(source: str, arch: str, *, fast_math: bool = False) -> Cubin:
    """Machine code of CUDA source for `arch` ("sm_80", "sm_90a"); its kernels are `extern "C"`.

    `fast_math` allows flushing denormals and approximate division, roots and transcendentals.
    Raises CompileError with the compiler's words, TargetError where there is no compiler.
    """
    image, log = _compile(source, arch, "cubin", fast_math)
    return Cubin(image, _reports(log))


def compile_ptx(source: str, arch: str, *, fast_math: bool = False) -> str:
    """The same as PTX text."""
    return _compile(source, arch, "ptx", fast_math)[0].rstrip(b"\0").decode()


def compiler_identity() -> str:
    """Which compiler makes the code, with its version: for the keys of caches."""
    return _compiler().identity


def needed_driver(identity: str) -> int:
    """The CUDA version that a driver must support to load a compiler's code, as 1000 times the major number.

    Minor versions do not matter (CUDA Compatibility, "Minor Version Compatibility").
    """
    found = re.search(r"(\d+)\.\d+", identity)
    return 1000 * int(found[1]) if found else 0


def disassemble(image: bytes) -> str:
    """A cubin as SASS text, by cuobjdump or nvdisasm."""
    tool = _tool("cuobjdump") or _tool("nvdisasm")
    if tool is None:
        raise TargetError(
            "Neither cuobjdump nor nvdisasm is in $CUDA_HOME/bin, PATH, /usr/local/cuda/bin or a wheel.",
            hint="Install a CUDA toolkit, or: pip install nvidia-cuda-nvdisasm.",
        )
    with Scratch() as folder:
        path = folder / "code.cubin"
        path.write_bytes(image)
        flags = ["-sass"] if tool.name == "cuobjdump" else ["-c"]
        return _call([str(tool), *flags, str(path)]).stdout


def _compile(source: str, arch: str, kind: str, fast_math: bool) -> tuple[bytes, str]:
    if not re.fullmatch(r"sm_\d+[af]?", arch):
        raise TargetError(f"'{arch}' is not a CUDA architecture; one is written 'sm_90' or 'sm_90a'.")
    flags = [*FLAGS, *(["--use_fast_math"] if fast_math else [])]
    return _compiler().compile(_without_unused_headers(source), arch, kind, flags)


def _without_unused_headers(source: str) -> str:
    """TVM always includes <mma.h> and <cuda.h>; reading them takes nvcc 0.1 s, and wheels lack one."""
    for header, name in (("mma.h", "wmma"), ("cuda.h", "CUtensorMap")):
        if name not in source:
            source = source.replace(f"#include <{header}>", "")
    return source


_PROPERTIES = re.compile(
    r"Function properties for (?P<name>\w+)\s+(?:ptxas\s+\.\s+)?"  # NVRTC marks continued lines
    r"(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\s+"
    r"[^\n]*Used (?P<registers>\d+) registers(?P<rest>[^\n]*)"
)


def _reports(log: str) -> tuple[FunctionReport, ...]:
    """Read what `ptxas -v` prints of entry functions; device functions that were not inlined use no line."""

    def one(found: re.Match[str]) -> FunctionReport:
        shared = re.search(r"(\d+) bytes smem", found["rest"])
        barriers = re.search(r"used (\d+) barriers", found["rest"])
        return FunctionReport(
            found["name"],
            int(found["registers"]),
            int(found["stores"]),
            int(found["loads"]),
            int(found["stack"]),
            int(shared[1]) if shared else 0,
            int(barriers[1]) if barriers else 0,
        )

    return tuple(map(one, _PROPERTIES.finditer(log)))


def _compiler() -> _Compiler:
    nvcc = _find_nvcc()
    if nvcc is not None:
        return _Nvcc(nvcc, _nvcc_version(nvcc, nvcc.stat().st_mtime_ns))
    nvrtc = _load_nvrtc(tuple(sys.path))
    if nvrtc is not None:
        return nvrtc
    raise TargetError(
        "No CUDA compiler: nvcc is not in $CUDACXX, $CUDA_HOME/bin, PATH or /usr/local/cuda/bin, "
        "and libnvrtc.so is neither on the loader's path nor in site-packages/nvidia/*/lib.",
        hint=INSTALL,
    )


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[:4000]
        raise CompileError(f"'{command[0]}' failed: {words}", hint="CONVC_DEBUG=1 shows where it was called.")
    return done


# --- nvcc ---------------------------------------------------------------------------------------------------


def _tool(name: str) -> Path | None:
    """A program of the toolkit, or of the wheels that hold parts of it."""
    homes = [Path(home) / "bin" for home in (os.environ.get("CUDA_HOME"),) if home]
    path = shutil.which(name)
    places = [*homes, *([Path(path).parent] if path else []), Path("/usr/local/cuda/bin")]
    places += [folder.parent / "bin" for folder in _wheel_libraries(sys.path)]
    return next((p / name for p in places if os.access(p / name, os.X_OK)), None)


def _find_nvcc() -> Path | None:
    chosen = os.environ.get("CUDACXX")
    if not chosen:
        return _tool("nvcc")
    found = shutil.which(chosen)
    if found is None:
        raise TargetError(
            f"$CUDACXX names '{chosen}', which is not a program.", hint="Unset it, or " + INSTALL
        )
    return Path(found)


@lru_cache
def _nvcc_version(path: Path, _changed: int) -> str:
    return _call([str(path), "--version"]).stdout.strip().splitlines()[-1]


@dataclass(frozen=True)
class _Nvcc:
    path: Path
    version: str

    @property
    def identity(self) -> str:
        return f"nvcc {self.version} {self.path.resolve()}"

    def compile(self, source: str, arch: str, kind: str, flags: Sequence[str]) -> tuple[bytes, str]:
        with Scratch() as folder:
            (folder / "kernel.cu").write_text(source)
            done = _call(
                [
                    *(str(self.path), f"-arch={arch}", f"--{kind}", "-Xptxas", "-v", *flags),
                    *("-o", str(folder / "image"), str(folder / "kernel.cu")),
                ]
            )
            return (folder / "image").read_bytes(), done.stderr + done.stdout


# --- NVRTC --------------------------------------------------------------------------------------------------


def _wheel_libraries(path: Sequence[str]) -> Iterator[Path]:
    """The folders of libraries in NVIDIA's wheels: nvidia/cu13/lib, nvidia/cuda_nvrtc/lib and such."""
    for entry in path:
        yield from sorted(Path(entry or ".").glob("nvidia/*/lib"), reverse=True)


@lru_cache
def _load_nvrtc(path: tuple[str, ...]) -> _Nvrtc | None:
    wheels = [file for folder in _wheel_libraries(path) for file in sorted(folder.glob("libnvrtc.so.*"))]
    names = [*map(str, wheels), ctypes.util.find_library("nvrtc"), "libnvrtc.so.13", "libnvrtc.so.12"]
    for name in filter(None, names):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return _Nvrtc(name, library, _headers(path))
    return None


def _headers(path: tuple[str, ...]) -> tuple[Path, ...]:
    """Where cuda_fp16.h and its like are: a toolkit's or a wheel's include folder."""
    home = os.environ.get("CUDA_HOME")
    toolkits = [Path(home) if home else None, Path("/usr/local/cuda")]
    places = [folder.parent for folder in _wheel_libraries(path)] + [p for p in toolkits if p]
    return tuple(p / "include" for p in places if (p / "include" / "cuda_fp16.h").exists())[:1]


# The sources' own block for NVRTC reads the CUDA C++ library for these alone; that takes 0.5 s, and the
# library is a wheel of its own.
_SMALL_HEADERS = {
    "cuda/std/cstdint": """#pragma once
namespace cuda { namespace std {
using int8_t = signed char; using int16_t = short; using int32_t = int; using int64_t = long;
using uint8_t = unsigned char; using uint16_t = unsigned short; using uint32_t = unsigned;
using uint64_t = unsigned long;
} }
""",
    "cuda/std/type_traits": """#pragma once
namespace cuda { namespace std {
template <class T, T v> struct integral_constant { static constexpr T value = v; };
template <class A, class B> struct is_same : integral_constant<bool, false> {};
template <class A> struct is_same<A, A> : integral_constant<bool, true> {};
template <class A, class B> inline constexpr bool is_same_v = is_same<A, B>::value;
template <class T> struct is_floating_point
    : integral_constant<bool, is_same_v<T, float> || is_same_v<T, double>> {};
template <class T> struct is_signed : integral_constant<bool, (T(-1) < T(0))> {};
template <class T> struct is_unsigned : integral_constant<bool, (T(-1) > T(0))> {};
template <class T, class... Any> struct among : integral_constant<bool, (is_same_v<T, Any> || ...)> {};
template <class T> struct is_integral
    : among<T, bool, char, signed char, unsigned char, short, unsigned short, int, unsigned, long,
            unsigned long, long long, unsigned long long> {};
template <bool b, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { using type = T; };
template <bool b, class A, class B> struct conditional { using type = A; };
template <class A, class B> struct conditional<false, A, B> { using type = B; };
} }
""",
}


@dataclass(frozen=True)
class _Nvrtc:
    name: str
    library: ctypes.CDLL
    include: tuple[Path, ...]

    @property
    def identity(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"nvrtc {major.value}.{minor.value} {self.name}"

    def compile(self, source: str, arch: str, kind: str, flags: Sequence[str]) -> tuple[bytes, str]:
        options = [f"--gpu-architecture={arch}", "--ptxas-options=-v", *flags]
        options += [f"-I{folder}" for folder in self.include]
        headers = _SMALL_HEADERS
        program = ctypes.c_void_p()
        self._check(
            self.library.nvrtcCreateProgram(
                *(ctypes.byref(program), source.encode(), b"kernel.cu", len(headers)),
                *(_strings(headers.values()), _strings(headers)),
            )
        )
        try:
            failed = self.library.nvrtcCompileProgram(program, len(options), _strings(options))
            log = self._get(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if failed:
                self._check(failed, log.strip()[:4000])
            return self._get(program, kind.upper()), log
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def _get(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self.library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, code: int, log: str = "") -> None:
        if code:
            words = self.library.nvrtcGetErrorString(code).decode()
            missing = "could not open" in log or "cannot open source file" in log
            raise CompileError(f"NVRTC failed: {words}. {log}".strip(), hint=INSTALL if missing else "")


def _strings(texts: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    values = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(values))(*values)
