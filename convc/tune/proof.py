"""Is a candidate right, and does it keep to its memory? The same questions wherever it runs.

Needs NumPy and convc's runtime, nothing of the compiler.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import ModuleError
from convc.runtime import manifest as manifests
from convc.runtime.compare import relative_error
from convc.tune.recipe import Recipe
from convc.types import Array

STRIP = 1 << 16
"""Bytes before and behind each tensor that are watched."""
MARK = 0xA5
"""What they hold."""
NO_RESULT = 0xFF
"""Bytes that results consist of before a run: of floating-point numbers, `nan`."""


@dataclass(frozen=True)
class Proof:
    """What one run of a candidate showed.

    `error` is the largest error of the results relative to the largest of them, `allowed` what it may be;
    `stray` says where the candidate wrote beside its results, "" for nowhere; `seconds` is of the first run.
    """

    error: float
    allowed: float
    stray: str
    seconds: float


class Loaded(ABC):
    """A candidate's module, ready to run, with memory for all that it reads and writes.

    Tensors that it writes have the numbers of the module's outputs: results, then copies of the inputs.
    """

    def __init__(self, path: Path, inputs: Sequence[Array]) -> None:
        self.manifest = manifests.read(path)
        self.recipe = Recipe.from_json(self.manifest.options["trial"])
        self.given = [
            np.ascontiguousarray(s.pack(a)) for s, a in zip(self.recipe.inputs.values(), inputs, strict=True)
        ]

    @abstractmethod
    def seconds(self) -> float:
        """Run once; the seconds of the layer. Raises MemoryError."""

    @abstractmethod
    def spoil(self) -> None:
        """Put into all tensors that are written what is no result."""

    @abstractmethod
    def tensor(self, number: int) -> Array:
        """What a tensor holds."""

    @abstractmethod
    def intact(self, number: int) -> bool:
        """Whether nothing was written beside a tensor."""

    def prove(self, expected: Sequence[Array]) -> Proof:
        """Run once on memory that holds no result, and look at what became of it."""
        self.spoil()
        seconds = self.seconds()
        return Proof(self.error(expected), self.recipe.tolerance, self._stray(), seconds)

    def again(self, expected: Sequence[Array]) -> float:
        """The largest error of the results of another run."""
        self.seconds()
        return self.error(expected)

    def error(self, expected: Sequence[Array]) -> float:
        """The largest error of the results that are there now."""
        pairs = enumerate(zip(self.recipe.results, expected, strict=True))
        return max(relative_error(stored.unpack(self.tensor(i)), right) for i, (stored, right) in pairs)

    def _stray(self) -> str:
        results = len(self.recipe.results)
        for number, given in enumerate(self.given, results):
            if self.tensor(number).tobytes() != given.tobytes():
                return "an input was changed"
        for number in range(len(self.manifest.outputs)):
            if not self.intact(number):
                return "beside a result" if number < results else "beside an input"
        return ""


def write_layer(path: Path, inputs: Sequence[Array], expected: Sequence[Array]) -> None:
    """Keep a layer's computed inputs and its results as `read_layer` reads them, row-major."""
    arrays = {f"input{i}": a for i, a in enumerate(inputs)}
    np.savez(path, allow_pickle=False, **arrays, **{f"result{i}": a for i, a in enumerate(expected)})


def read_layer(path: Path) -> tuple[list[Array], list[Array]]:
    """The inputs and results that `write_layer` kept. Raises ModuleError."""
    try:
        with np.load(path) as file:
            found: dict[str, Any] = dict(file)
    except (OSError, ValueError) as error:
        raise ModuleError(f"The arrays of a layer, '{path}', cannot be read: {error}.") from error
    inputs = [found[f"input{i}"] for i in range(sum(name.startswith("input") for name in found))]
    return inputs, [found[f"result{i}"] for i in range(len(found) - len(inputs))]
