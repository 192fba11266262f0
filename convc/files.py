"""Files that convc writes: whole or not at all, and only where a file may be.

What is written grows in a folder `.convc-*` beside its destination, and is put there in one step. The folder
is locked for as long as its owner lives, so that what a killed process left is known by having no lock: the
next one that works beside it clears it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from convc.errors import ConvcError, FileError

_PREFIX = ".convc-"
_SCRATCH = re.compile(r"\.convc-[a-z0-9_]{8}")  # as `tempfile` makes names

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
"""What may be in a file's place, by the type in its mode."""


# ---- errors of the system ----


def reason(error: OSError | ValueError) -> str:
    """What the system says, in words; a path that Python itself refuses has no number."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


@contextlib.contextmanager
def explained(what: str, kind: type[ConvcError] = FileError, hint: str = "") -> Iterator[None]:
    """Raise `kind` in place of an OSError: what cannot be done, which file it is about, and why.

    A broken pipe passes: who reads our output has gone, which is not the fault of a file.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise kind(f"{what}: {_place(error, what)}{reason(error)}.", hint=hint) from error


def _place(error: OSError, what: str) -> str:
    """The file that an error is about, where the user knows it and has not been told of it."""
    name = str(error.filename or "")
    told = re.search(rf"{re.escape(name)}(?=['\s]|$)", what)
    return "" if not name or told or _PREFIX in name else f"'{name}': "


def kind_of(mode: int) -> str:
    """What a file mode is of, where that is no regular file; else "" (see `os.stat`)."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


@contextlib.contextmanager
def reading(path: Path, kind: type[ConvcError]) -> Iterator[BinaryIO]:
    """A regular file, open to be read as bytes. Raises `kind` for what cannot be read, and in the block."""
    what = f"Cannot read '{path}'"
    try:
        other = kind_of(path.stat().st_mode)
        if other:  # to open a pipe would wait for its writer
            raise kind(f"{what}: it is {other}.", hint="Give the name of a file.")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise kind(f"{what}: {reason(error)}.") from error
    with file, explained(what, kind):
        yield file


# ---- folders for what is not finished ----


class Scratch:
    """A folder of a process's own, hidden in `parent` (default: the system's folder for temporary files).

    It is removed at the end of a `with`, by `cleanup`, or with this object. Raises FileError where it cannot
    be made; `what` begins the message.
    """

    def __init__(self, parent: Path | None = None, what: str = "") -> None:
        place = parent if parent is not None else Path(tempfile.gettempdir())
        hint = "Give a folder that exists and is yours."
        with explained(what or f"Cannot write into '{place}'", hint=hint):
            sweep(place)
            self.name, lock = _locked_folder(place)
        self.path = Path(self.name)
        self._finalizer = weakref.finalize(self, _remove, self.name, lock, os.getpid())

    def cleanup(self) -> None:
        """Remove the folder with all that is in it."""
        self._finalizer()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.cleanup()


def _locked_folder(parent: Path) -> tuple[str, int]:
    """A new folder and the descriptor that holds its lock."""
    while True:
        name = tempfile.mkdtemp(dir=parent, prefix=_PREFIX)
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked
            lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(OSError):  # a file system without locks: there nothing is swept either
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(name):
                return name, lock
            os.close(lock)


def _remove(name: str, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # a child of fork has this object too
        shutil.rmtree(name, ignore_errors=True)
    os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the scratch folders in `parent` whose owners are gone."""
    for entry in os.scandir(parent):
        if not _SCRATCH.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):  # its owner removes it just now, or it is another user's
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(lock)


# ---- files ----


def destination(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` would make or replace: links lead to what they name, as for `open`.

    Raises FileError for what is no regular file, and for a place where no file can be.
    """
    what = f"Cannot write '{os.fspath(path)}'"
    try:
        place = Path(os.path.realpath(path))
        mode = _mode(path)
        there = place.parent.is_dir()
        writable = mode is None or os.access(place, os.W_OK, effective_ids=True)
    except (OSError, ValueError) as error:
        raise FileError(f"{what}: {reason(error)}.", hint="Give another file.") from error
    if mode is not None and kind_of(mode):
        raise FileError(f"{what}: it is {kind_of(mode)}.", hint="Give the name of a file.")
    if not there:
        raise FileError(
            f"{what}: there is no folder '{place.parent}'.", hint="Give a folder that exists, or make it."
        )
    if not writable:
        raise FileError(f"{what}: it is write-protected.", hint="Give another file.")
    return place


def _mode(path: str | os.PathLike[str]) -> int | None:
    """The mode of what is at the end of all links, None where nothing is."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, executable: bool = False) -> Iterator[Path]:
    """A path to write a file to, which takes the place of `path` when the block ends without an error.

    It keeps the permissions of the file that it replaces; a new one has those that the user gives new files,
    and may be executed if `executable`. Raises FileError at once where nothing can be written, and in place
    of an OSError of the block.
    """
    place = destination(path)
    what = f"Cannot write '{os.fspath(path)}'"
    with Scratch(place.parent, what) as folder, explained(what):
        temporary = folder / place.name
        yield temporary
        _take_permissions(temporary, place, executable)
        os.replace(temporary, place)


def _take_permissions(temporary: Path, place: Path, executable: bool) -> None:
    if place.exists():
        temporary.chmod(stat.S_IMODE(place.stat().st_mode))
    elif executable:
        mode = stat.S_IMODE(temporary.stat().st_mode)
        temporary.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file. Raises FileError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
