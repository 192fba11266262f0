"""A network that can be given to the engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convc.types import Shape


@dataclass(frozen=True)
class Ready:
    """A model file, and the shapes of its inputs."""

    path: Path
    shapes: dict[str, Shape]
