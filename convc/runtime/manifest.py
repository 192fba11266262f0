"""The manifest of a module file, readable without mapping any of its code.

A module is an ELF shared object, then the weights from a page boundary on, then a JSON text, then a trailer:
where the weights begin, their bytes, and the length of the text as little-endian 64-bit numbers, and the
magic `CONVCMOD`. The dynamic loader ignores what follows its sections, the module's own code maps the
weights, and a file that lost its end is recognised at once.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convc.errors import ModuleError
from convc.formats import MODULE, not_a

MAGIC = b"CONVCMOD"
FORMAT = 1
PAGE = 4096
_TRAILER = struct.Struct("<QQQ8s")


@dataclass(frozen=True)
class Weights:
    """Where a module file holds its weights."""

    offset: int
    nbytes: int


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a module, like onnxruntime's `NodeArg`."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def type(self) -> str:
        """The dtype under its NumPy name."""
        return self.dtype


@dataclass(frozen=True)
class Candidate:
    """One way to compute a layer: its predicted price, its error, or why it was rejected."""

    lowering: str
    predicted_ms: float | None = None
    measured_ms: float | None = None
    error: float | None = None
    rejected: str | None = None


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is computed, and what the alternatives would have cost.

    `reason` says why a candidate that is cheaper by itself was not chosen, where there is one; `measured`
    that a tuning record had a time for the chosen one, and its configuration.
    """

    name: str
    op: str
    workload: str
    chosen: str
    candidates: tuple[Candidate, ...] = ()
    origin: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    flops: int = 0
    reason: str = ""
    measured: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a module file says of itself."""

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    plan: tuple[LayerPlan, ...]
    steps: tuple[str, ...]  # the layer that each step of the program belongs to
    target: dict[str, Any]
    threads: int
    workspace_bytes: int
    weights_bytes: int
    model_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    records: tuple[dict[str, Any], ...] = ()  # the tuning records that the choices followed
    workspace_bound: int = 0  # the most bytes of the workspace alive in one step
    format: int = FORMAT

    def write(self, path: Path, weights: Weights) -> None:
        """End the file with this manifest, in place of one that may be there."""
        text = json.dumps(asdict(self)).encode()
        with path.open("r+b") as file:
            file.seek(weights.offset + weights.nbytes)
            file.write(text + _TRAILER.pack(weights.offset, weights.nbytes, len(text), MAGIC))
            file.truncate()


def read(path: Path) -> Manifest:
    """Read a module's manifest. Raises ModuleError for anything that is not a whole module file."""
    return _decode(path, _read_end(path)[0])


def weights_of(path: Path) -> Weights:
    """Where a module file holds its weights. Raises ModuleError as `read` does."""
    return _read_end(path)[1]


def _read_end(path: Path) -> tuple[bytes, Weights]:
    """The manifest's text, and what the trailer says of the weights."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < _TRAILER.size:
                what, advice = not_a(path, MODULE)
                raise ModuleError(f"{what}.", hint=advice or "Make one with `convc compile`.")
            file.seek(size - _TRAILER.size)
            offset, nbytes, length, magic = _TRAILER.unpack(file.read(_TRAILER.size))
            if magic != MAGIC or length > size - _TRAILER.size:
                what, advice = not_a(path, MODULE)
                raise ModuleError(
                    f"{what}." if advice else f"{what}, or its end is missing.",
                    hint=advice or "Make one with `convc compile`, or copy the file again.",
                )
            file.seek(size - _TRAILER.size - length)
            return file.read(length), Weights(offset, nbytes)
    except OSError as error:
        raise ModuleError(f"Cannot read module '{path}': {error.strerror}.") from error


def _decode(path: Path, text: bytes) -> Manifest:
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ModuleError(
                f"'{path}' has module format {data['format']}, this convc reads format {FORMAT}.",
                hint="Compile the model again with this version.",
            )
        tensors = [
            tuple(TensorInfo(t["name"], tuple(t["shape"]), t["dtype"]) for t in data.pop(k))
            for k in ("inputs", "outputs")
        ]
        plan = tuple(
            LayerPlan(
                **{
                    **p,
                    "candidates": tuple(Candidate(**c) for c in p["candidates"]),
                    "origin": tuple(p["origin"]),
                }
            )
            for p in data.pop("plan")
        )
        return Manifest(
            inputs=tensors[0],
            outputs=tensors[1],
            plan=plan,
            **{**data, "steps": tuple(data["steps"]), "records": tuple(data.get("records", ()))},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModuleError(
            f"The manifest of '{path}' is damaged: {error}.", hint="Compile the model again."
        ) from error
