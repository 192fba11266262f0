"""What a module says of itself: its manifest, the JSON text in its file (see `container`).

Nothing of it is believed before it was compared with the file: the text has a checksum, every value the type
that is written here, and what running relies on is what the code was compiled for (`Manifest.contract`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from convc.dtype import DTYPES
from convc.errors import ModuleError
from convc.runtime import container
from convc.runtime.container import PAGE, Weights
from convc.runtime.decode import Entries, FieldsOf, Mismatch, OneOf, Within, decoder
from convc.runtime.elf import contract_of
from convc.target import Target

__all__ = [
    "PAGE", "Candidate", "LayerPlan", "Manifest", "TensorInfo", "Weights", "check", "read", "weights_of"
]  # fmt: skip

FORMAT = 2

CHECKED_AT_LOAD = 16 << 20
"""Bytes of weights that are read when a module is loaded, to see whether they are whole: in 7 ms (Zen 3)."""

RELIED = ("inputs", "outputs", "steps", "target", "threads", "workspace_bytes", "weights_bytes")
"""What of a manifest running relies on; the rest tells how it came about."""

_AGAIN = "Compile the model again."


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a module, like onnxruntime's `NodeArg`."""

    name: str
    shape: tuple[int, ...]
    dtype: Annotated[str, OneOf(DTYPES)]

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
    target: Annotated[dict[str, Any], FieldsOf(Target)]
    threads: Annotated[int, Within(1, 1 << 16)]
    workspace_bytes: int
    weights_bytes: int
    model_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    verification: Annotated[dict[str, Any], Entries(("error", "limit"), float | None)] = field(
        default_factory=dict
    )
    options: dict[str, Any] = field(default_factory=dict)
    records: tuple[dict[str, Any], ...] = ()  # the tuning records that the choices followed
    workspace_bound: int = 0  # the most bytes of the workspace alive in one step
    format: int = FORMAT

    @property
    def contract(self) -> str:
        """A digest of what running relies on. The code has it too, and so is known to be of this manifest."""
        relied = {name: getattr(self, name) for name in RELIED}
        return hashlib.sha256(json.dumps(relied, sort_keys=True, default=asdict).encode()).hexdigest()

    def write(self, path: Path, weights: Weights) -> None:
        """End the file with this manifest, in place of one that may be there."""
        container.finish(path, weights, json.dumps(asdict(self)).encode())


def read(path: Path) -> Manifest:
    """Read a module's manifest, and nothing else of it.

    Raises ModuleError for what is no module file, and for a manifest that is not as it was written or that no
    compiler would write.
    """
    with container.opened(path) as file:
        return _decode(file)


def check(path: Path, manifest: Manifest, *, all_weights: bool = False) -> None:
    """Compare code and weights of a module with its manifest and with their checksums.

    Maps and runs nothing of it. Weights are read where they are few (`CHECKED_AT_LOAD`), or `all_weights`.
    Raises ModuleError as `read` does, and for anything that is not as it was written.
    """
    with container.opened(path) as file:
        try:
            contract = contract_of(file.code())
        except ValueError as error:
            raise ModuleError(f"'{path}' is damaged: {error}.", hint=_AGAIN) from error
        if contract != manifest.contract:
            raise ModuleError(f"The manifest of '{path}' is not the one of its code.", hint=_AGAIN)
        if all_weights or manifest.weights_bytes <= CHECKED_AT_LOAD:
            file.check_weights()


def weights_of(path: Path) -> Weights:
    """Where a module file holds its weights. Raises ModuleError as `read` does."""
    with container.opened(path) as file:
        return file.parts.weights


def _decode(file: container.Container) -> Manifest:
    data = file.json()
    written = data.get("format") if isinstance(data, dict) else None
    if isinstance(written, int) and written != FORMAT:
        raise ModuleError(
            f"'{file.path}' has module format {written}, this convc reads format {FORMAT}.",
            hint="Compile the model again with this version.",
        )
    try:
        manifest: Manifest = decoder(Manifest)(data)
    except Mismatch as error:
        raise ModuleError(f"The manifest of '{file.path}' is damaged: {error}.", hint=_AGAIN) from error
    found = file.parts.weights.nbytes
    if manifest.weights_bytes != found:
        raise ModuleError(
            f"'{file.path}' has {found} bytes of weights, its manifest says {manifest.weights_bytes}.",
            hint=_AGAIN,
        )
    return manifest
