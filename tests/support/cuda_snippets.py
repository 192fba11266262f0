"""Small CUDA kernels for tests of the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuda_emulator import build_emulation, run
from numpy.typing import NDArray


def kernel(body: str, parameters: str = "float* a") -> str:
    """Source of a kernel `f`."""
    return f'extern "C" __global__ void f({parameters}) {{\n{body}\n}}\n'


def launch(
    folder: Path,
    source: str,
    block: Sequence[int],
    *arrays: NDArray[Any],
    function: str = "f",
    grid: Sequence[int] = (1,),
    shared: int = 0,
) -> None:
    """Build a source in a folder and run one of its kernels on arrays, which it changes."""
    run(build_emulation(source, folder / "kernel.so"), function, grid, block, shared, arrays)
