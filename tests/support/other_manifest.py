"""Modules with another manifest, as if they had been compiled with it."""

from __future__ import annotations

from pathlib import Path

from convc.runtime import manifest as manifests
from convc.runtime.manifest import Manifest


def write_with(module: Path, manifest: Manifest, out: Path) -> Path:
    """A copy of a module whose manifest, and what its code says of it, are others."""
    before = manifests.read(module)
    data = module.read_bytes()
    assert data.count(before.contract.encode()) == 1
    out.write_bytes(data.replace(before.contract.encode(), manifest.contract.encode()))
    manifest.write(out, manifests.weights_of(module))
    return out
