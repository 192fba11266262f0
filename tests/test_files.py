"""Files are written whole or not at all, only where files may be; what killed processes leave is cleared."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from awkward_paths import AWKWARD, ordinary_user

from convc.errors import FileError
from convc.files import Scratch, destination, replacing, sweep, write_bytes


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("kind", AWKWARD)
def test_what_is_no_file_is_refused_before_any_work(kind: str, tmp_path: Path) -> None:
    make, why = AWKWARD[kind]
    path = make(tmp_path)
    with pytest.raises(FileError) as caught, replacing(path):
        pytest.fail("the block has begun")
    message = str(caught.value)
    shown = str(path).replace("\0", "\\x00")
    assert message.startswith(f"Cannot write '{shown}'")
    assert re.search(why, message)
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["device", "pipe", "socket", "link to a device"])
def test_what_is_no_file_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    path = AWKWARD[kind][0](tmp_path)
    before = os.lstat(path)
    with pytest.raises(FileError):
        write_bytes(path, b"new")
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode, before.st_rdev) == (after.st_ino, after.st_mode, after.st_rdev)


def test_a_link_leads_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, chain = tmp_path / "there" / "file", tmp_path / "link", tmp_path / "chain"
    link.symlink_to("there/file")
    chain.symlink_to("link")
    write_bytes(chain, b"first")  # the link is broken: its file is made
    assert (link.is_symlink(), chain.is_symlink(), target.read_bytes()) == (True, True, b"first")
    write_bytes(link, b"second")
    assert (link.is_symlink(), target.read_bytes()) == (True, b"second")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chain", "link", "there"]
    assert sorted(p.name for p in target.parent.iterdir()) == ["file"]


def test_permissions_are_those_of_the_file_before_or_of_any_new_one(tmp_path: Path) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "new", b"")
        with replacing(tmp_path / "module", executable=True) as path:
            path.touch()
        (tmp_path / "old").touch(0o604)
        (tmp_path / "old").chmod(0o604)
        write_bytes(tmp_path / "old", b"")
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("new", "module", "old")] == [0o640, 0o750, 0o604]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError("x")])
def test_an_error_leaves_what_was_there(error: Exception, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with replacing(path) as new:
            new.write_bytes(b"half")
            raise error

    refused = isinstance(error, OSError)
    message = re.escape(f"Cannot write '{path}': No space left on device.") if refused else "x"
    with pytest.raises(FileError if refused else KeyError, match=message):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_another_file_that_an_error_is_about_is_named(tmp_path: Path) -> None:
    path, absent = tmp_path / "file", tmp_path / "absent"
    with pytest.raises(FileError, match=f"Cannot write '{path}': '{absent}': No such file"), replacing(path):
        absent.read_bytes()


def test_write_protected_files_and_folders(public: Path) -> None:
    (public / "file").touch()
    (public / "file").chmod(0o444)
    with ordinary_user(), pytest.raises(FileError, match=r"file': it is write-protected\."):
        destination(public / "file")
    public.chmod(0o555)
    with ordinary_user():
        with (
            pytest.raises(FileError, match=r"Cannot write '.*new': Permission denied\."),
            replacing(public / "new"),
        ):
            pass
        with pytest.raises(FileError, match=rf"Cannot write into '{public}': Permission denied\."):
            Scratch(public)


# ---- what killed processes leave ----

LEAVES = """
import sys, time
from pathlib import Path
from convc.files import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.path / "half").write_bytes(bytes(1000))
print(scratch.name, flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", LEAVES, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    write_bytes(tmp_path / "file", b"while it lives")
    assert (left / "half").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (left / "half").exists()
    write_bytes(tmp_path / "file", b"when it is gone")
    assert os.listdir(tmp_path) == ["file"]


def test_folders_in_use_and_those_of_other_names_stay(tmp_path: Path) -> None:
    for name in (".convc-", ".convc-mine", ".convc-too_long_", "convc-abcdefgh"):
        (tmp_path / name).mkdir()
    (tmp_path / ".convc-12345678").touch()  # a file
    (tmp_path / ".convc-abcdefgh").symlink_to(tmp_path / ".convc-mine")
    scratch = Scratch(tmp_path)
    before = set(tmp_path.iterdir())
    assert scratch.path in before
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == before
    scratch.cleanup()
    assert set(tmp_path.iterdir()) == before - {scratch.path}


def test_a_scratch_folder_goes_with_its_object_but_not_with_a_fork(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    child = os.fork()
    if not child:
        scratch.cleanup()
        os._exit(0)
    os.waitpid(child, 0)
    assert scratch.path.is_dir()
    del scratch
    assert not os.listdir(tmp_path)
