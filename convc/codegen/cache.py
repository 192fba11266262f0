"""Object files of kernels, kept between compilations."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

LIMIT_BYTES = 1 << 30
"""The cache drops its least recently used files beyond this; a kernel takes some 20 KB."""


def default_folder() -> Path:
    """`$CONVC_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("CONVC_CACHE") or platformdirs.user_cache_dir("convc", appauthor=False))


@dataclass
class ObjectCache:
    """Files under content-derived names. Any number of processes may share a folder: files appear whole."""

    folder: Path
    hits: int = 0
    misses: int = 0

    @classmethod
    def open(cls, folder: Path | None = None) -> ObjectCache:
        """The cache in `folder` (default: see `default_folder`), made if absent, trimmed if large."""
        place = (folder or default_folder()) / "kernels"
        place.mkdir(parents=True, exist_ok=True)
        cache = cls(place)
        cache._trim()
        return cache

    def get(self, name: str, write: Callable[[Path], None]) -> Path:
        """The file of that name; `write` makes it if it is not there."""
        path = self.folder / name
        if path.exists():
            self.hits += 1
            os.utime(path)
            return path
        self.misses += 1
        handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=path.suffix)
        os.close(handle)
        try:
            write(Path(temporary))
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        return path

    def _trim(self) -> None:
        files = []
        for path in self.folder.iterdir():
            try:
                stat = path.stat()
            except FileNotFoundError:  # another process trims as well
                continue
            files.append((stat.st_atime, stat.st_size, path))
        excess = sum(size for _, size, _ in files) - LIMIT_BYTES
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
