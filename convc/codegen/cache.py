"""Object files of kernels, kept between compilations.

Beside each file stands the hash of its bytes: a file that was damaged, or lost its end when a disk was full,
is noticed and made anew. Where the folder cannot be written to, its files serve all the same, and what is
made anew lies elsewhere for as long as the cache is open.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from convc.errors import FileError
from convc.files import Scratch, explained, reason

LIMIT_BYTES = 1 << 30
"""The cache drops its least recently used files beyond this; a kernel takes some 20 KB."""

TRIM_INTERVAL_S = 600
"""Seconds between two looks at all files, which take 0.3 s where there are 10,000."""

HASH_SUFFIX = ".sha256"


def default_folder() -> Path:
    """`$CONVC_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("CONVC_CACHE") or platformdirs.user_cache_dir("convc", appauthor=False))


@dataclass
class ObjectCache:
    """Files under content-derived names. Any number of processes may share a folder: files appear whole.

    `unkept` says why what was made anew is not kept in the folder; "" where it is, or nothing was.
    """

    folder: Path
    hits: int = 0
    misses: int = 0
    unkept: str = ""
    _scratch: Scratch | None = None
    _elsewhere: dict[str, Path] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, folder: Path | None = None) -> ObjectCache:
        """The cache in `folder` (default: see `default_folder`), made if absent, trimmed if large.

        Whether it is large is looked up every `TRIM_INTERVAL_S`.
        """
        cache = cls(Path(folder or default_folder()) / "kernels")
        with contextlib.suppress(OSError):  # `get` finds out, where it matters
            cache.folder.mkdir(parents=True, exist_ok=True)
            if cache._due():
                cache._trim()
        return cache

    def get(self, name: str, write: Callable[[Path], None]) -> Path:
        """The file of that name; `write` makes it if it is not there, or not as it was made.

        It is there for as long as the cache is open. Raises FileError where it can be made nowhere.
        """
        path = self.folder / name
        if self._is_sound(path):
            self.hits += 1
            return path
        if name in self._elsewhere:
            return self._elsewhere[name]
        self.misses += 1
        hint = "Make room on the disk, or name other folders with TMPDIR and CONVC_CACHE."
        with explained(f"Cannot keep the code of a kernel in '{self.folder}'", hint=hint):
            fresh = self._workplace() / f"{self.misses}_{threading.get_ident()}_{name}"
            write(fresh)
            return self._keep(fresh, path)

    def _keep(self, fresh: Path, path: Path) -> Path:
        """Put a file that was made into the folder, with its hash; where it lies from now on."""
        if not self.unkept:
            try:
                hashed = _hash_of(fresh)
                hashed.write_text(_digest(fresh))
                os.replace(fresh, path)
                os.replace(hashed, _hash_of(path))
                return path
            except OSError as error:
                self.unkept = reason(error)
        self._elsewhere[path.name] = fresh
        return fresh

    def _workplace(self) -> Path:
        """Where files grow: in the folder, to be moved within it, or else among the temporary files."""
        with self._lock:
            if self._scratch is None:
                try:
                    self._scratch = Scratch(self.folder)
                except FileError as error:
                    self.unkept = error.message
                    self._scratch = Scratch()
            return self._scratch.path

    def _is_sound(self, path: Path) -> bool:
        """Whether the file is there and as it was made; if so it counts as used."""
        try:
            sound = _hash_of(path).read_text() == _digest(path)
        except (OSError, ValueError):
            return False
        with contextlib.suppress(OSError):  # the folder is another user's
            os.utime(path)
        return sound

    def _due(self) -> bool:
        """Whether the last look at all files is long past; if so the next interval begins now."""
        stamp = self.folder.with_suffix(".trimmed")
        with contextlib.suppress(FileNotFoundError):
            if 0 <= time.time() - stamp.stat().st_mtime < TRIM_INTERVAL_S:
                return False
        with contextlib.suppress(OSError):  # the folder above is another user's
            stamp.touch()
        return True

    def _trim(self) -> None:
        files = []
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process trims as well
                continue
            if stat.S_ISREG(status.st_mode) and path.suffix != HASH_SUFFIX:
                files.append((status.st_atime, status.st_size, path))
        excess = sum(size for _, size, _ in files) - LIMIT_BYTES
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            _hash_of(path).unlink(missing_ok=True)
            excess -= size


def _hash_of(path: Path) -> Path:
    """Where the hash of a file stands."""
    return path.with_name(path.name + HASH_SUFFIX)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
