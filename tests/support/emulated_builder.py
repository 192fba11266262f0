"""A builder of modules for a GPU whose machine code is the emulation of the same CUDA source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cuda_emulator import build_emulation, emulator_identity

from convc.codegen import device_build, nvcc
from convc.codegen.cache import ObjectCache
from convc.tune.trial_module import Spec, build


@dataclass(frozen=True)
class Emulator:
    """A compiler whose machine code the fake driver runs."""

    folder: Path

    @staticmethod
    def compiler_identity() -> str:
        return emulator_identity()

    @staticmethod
    def needed_driver(identity: str) -> int:
        return 12000

    def compile_cubin(self, source: str, arch: str, *, fast_math: bool = False) -> nvcc.Cubin:
        library = build_emulation(source, self.folder / f"{abs(hash(source)):x}.so")
        return nvcc.Cubin(library.read_bytes(), ())


class Builder:
    """The service."""

    def build(self, spec: Spec, path: Path, cache: Path | None) -> None:
        """Write a candidate's module."""
        with TemporaryDirectory() as name:
            device_build.nvcc = Emulator(Path(name))  # type: ignore[assignment]
            build(spec, path, ObjectCache.open(cache))
