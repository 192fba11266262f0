"""Paths at which there is no file to be read or written, and what the error says of each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _socket(folder: Path) -> Path:
    before = Path.cwd()
    os.chdir(folder)  # the path of a socket has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(before)
    return folder / "socket"


def _link(to: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "link").symlink_to(to)
        return folder / "link"

    return make


def _below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "below"


AWKWARD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "folder": (lambda folder: folder, "folder"),
    "device": (lambda folder: Path("/dev/null"), "device"),
    "pipe": (_pipe, "pipe"),
    "socket": (_socket, "socket"),
    "link to a device": (_link("/dev/null"), "device"),
    "link to a folder": (_link("."), "folder"),
    "link to itself": (_link("link"), "symbolic links"),
    "link into no folder": (_link("absent/file"), "no folder|No such file"),
    "no folder": (lambda folder: folder / "absent" / "file", "no folder|No such file"),
    "below a file": (_below_a_file, "Not a directory|no folder|No such file"),
    "name too long": (lambda folder: folder / ("x" * 300), "File name too long|no file"),
    "name with a NUL": (lambda folder: folder / "a\0b", "null byte|no file"),
}
"""How to make each in a folder, and a pattern of the reason."""


@contextmanager
def ordinary_user() -> Iterator[None]:
    """As somebody whom permissions bind: the superuser gives its powers up meanwhile."""
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
