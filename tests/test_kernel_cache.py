"""The cache of kernels: damage is noticed, a folder that cannot be written serves what it has."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from awkward_paths import ordinary_user

import convc
from convc.codegen import cache as caches
from convc.codegen.cache import ObjectCache
from convc.errors import FileError
from convc.frontends.builder import Network
from convc.progress import Progress
from convc.verify import random_inputs


def writer(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_file_is_made_once(tmp_path: Path) -> None:
    cache = ObjectCache.open(tmp_path)
    path = cache.get("a.o", writer(b"code"))
    assert cache.get("a.o", writer(b"other")) == path == tmp_path / "kernels" / "a.o"
    assert ObjectCache.open(tmp_path).get("a.o", writer(b"other")).read_bytes() == b"code"
    assert (cache.hits, cache.misses, cache.unkept) == (1, 1, "")


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "changed": lambda path, _: path.write_bytes(b"cdoe"),
    "cut": lambda path, _: path.write_bytes(b"cod"),
    "empty": lambda path, _: path.write_bytes(b""),
    "lost": lambda path, _: path.unlink(),
    "hash lost": lambda _, digest: digest.unlink(),
    "hash empty": lambda _, digest: digest.write_bytes(b""),
    "hash of bytes": lambda _, digest: digest.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_made_anew(kind: str, tmp_path: Path) -> None:
    path = ObjectCache.open(tmp_path).get("a.o", writer(b"code"))
    DAMAGE[kind](path, path.with_name("a.o.sha256"))
    cache = ObjectCache.open(tmp_path)
    assert cache.get("a.o", writer(b"code")).read_bytes() == b"code"
    assert cache.get("a.o", writer(b"other")).read_bytes() == b"code"
    assert (cache.hits, cache.misses) == (1, 1)


def test_a_network_is_right_although_all_its_objects_are_damaged(tmp_path: Path) -> None:
    net = Network("one", seed=0)
    net.output(net.relu(net.input("x", (2, 16))))
    feeds = random_inputs(net.graph)
    options = {"threads": 1, "cache": tmp_path, "verify": False}
    expected = convc.compile(net.graph, **options).run(None, feeds)
    objects = list((tmp_path / "kernels").glob("*.o"))
    assert len(objects) >= 2
    for path in objects:
        data = bytearray(path.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        path.write_bytes(data)
    np.testing.assert_array_equal(convc.compile(net.graph, **options).run(None, feeds), expected)


def test_a_folder_that_may_only_be_read_serves_what_it_has(public: Path) -> None:
    kept = ObjectCache.open(public).get("a.o", writer(b"code"))
    kept.parent.chmod(0o555)
    for path in kept.parent.iterdir():
        path.chmod(0o444)
    before = sorted(kept.parent.iterdir())
    with ordinary_user():
        cache = ObjectCache.open(public)
        assert cache.get("a.o", writer(b"other")) == kept
        assert cache.unkept == ""
        made = cache.get("b.o", writer(b"new"))
        assert made.read_bytes() == b"new"
        assert cache.get("b.o", writer(b"other")) == made
        assert cache.unkept == f"Cannot write into '{kept.parent}': Permission denied."
        assert sorted(kept.parent.iterdir()) == before
        del cache
        assert not made.exists()


class Told(Progress):
    """Keeps notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_a_folder_that_cannot_be_made_is_told_and_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    net = Network("one", seed=0)
    net.output(net.relu(net.input("x", (2, 16))))
    progress = Told()
    module = convc.compile(net.graph, threads=1, cache=tmp_path / "file", progress=progress)
    assert module.manifest.verification["error"] < 1e-4
    (notice,) = (n for n in progress.notices if "not kept" in n)
    assert f"'{tmp_path / 'file' / 'kernels'}': Not a directory" in notice


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = ObjectCache.open(tmp_path)
    with pytest.raises(FileError, match=rf"in '{tmp_path}/kernels': No space left on device\. Make room"):
        cache.get("a.o", full)
    del cache
    assert not os.listdir(tmp_path / "kernels")


def test_the_least_recently_used_go_with_their_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObjectCache.open(tmp_path)
    for age, name in ((3, "old.o"), (1, "new.o"), (2, "used.o")):
        path = cache.get(name, writer(bytes(100)))
        os.utime(path, (1e9 - age, 1e9 - age))
    cache.get("used.o", writer(b""))
    monkeypatch.setattr(caches, "LIMIT_BYTES", 250)
    del cache
    ObjectCache.open(tmp_path)
    assert (tmp_path / "kernels" / "old.o").exists(), "the folder was looked at a moment ago"
    long_ago = time.time() - caches.TRIM_INTERVAL_S - 1
    os.utime(tmp_path / "kernels.trimmed", (long_ago, long_ago))
    left = sorted(p.name for p in ObjectCache.open(tmp_path).folder.iterdir())
    assert left == ["new.o", "new.o.sha256", "used.o", "used.o.sha256"]


def test_a_stamp_that_cannot_be_written_does_not_keep_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the stamp may be another user's, while the one of the kernels can be written to."""

    def refuse(self: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    ObjectCache.open(tmp_path).get("a.o", writer(bytes(100)))
    (tmp_path / "kernels.trimmed").unlink()
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(caches, "LIMIT_BYTES", 50)
    assert not list(ObjectCache.open(tmp_path).folder.glob("a.o*"))
