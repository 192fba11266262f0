"""Whatever file a user names, what cannot be read or written is a typed error of one line that names it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from awkward_paths import AWKWARD, ordinary_user
from command import convc as command

import convc
from convc.errors import ConvcError, DatabaseError, FileError, ModelError, ModuleError
from convc.report import tuning_page, tuning_plot
from convc.runtime import manifest as manifests
from convc.tune.database import Database
from convc.tune.trial import Machine, Outcome, Trial, Variant

TRIAL = Trial("layer", "conv", "a conv", Variant("direct", "", "{}"), 1, Machine("{}", 1), Outcome.OK, 1e-3)


@pytest.fixture
def module(small: Path) -> convc.Module:
    return convc.load(small)


READERS: dict[str, tuple[Callable[[Path], object], type[ConvcError]]] = {
    "load": (convc.load, ModuleError),
    "compile": (convc.compile, ModelError),
    "read_onnx": (convc.read_onnx, ModelError),
    "open_records": (convc.open_records, DatabaseError),
    "open_records of lines": (lambda path: convc.open_records(_renamed(path, ".jsonl")), DatabaseError),
    "open_records of a module": (lambda path: convc.open_records(_renamed(path, ".so")), ModuleError),
    "Database.open": (lambda path: Database.open(path, create=False), DatabaseError),
    "Database.merge": (lambda path: Database.open(Path(":memory:")).merge(path), DatabaseError),
}
"""What reads a file, from Python, and its error. They are given what is no file: see `AWKWARD`."""


def _renamed(path: Path, suffix: str) -> Path:
    """A link of that suffix to the path, or where there can be none the path with the suffix."""
    try:
        (path.parent / f"renamed{suffix}").symlink_to(path)
    except (OSError, ValueError):
        return path.with_name(path.name + suffix)
    return path.parent / f"renamed{suffix}"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", AWKWARD)
def test_reading_what_is_no_file(
    kind: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    read, error = READERS[reader]
    path = AWKWARD[kind][0](tmp_path / "inner")
    with pytest.raises(error) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert caught.value.message


WRITERS: dict[str, Callable[[convc.Module, Path], object]] = {
    "Module.save": lambda module, path: module.save(path),
    "Database.export": lambda _, path: _database(path).export(path),
    "page": lambda _, path: tuning_page.write(path, [TRIAL]),
    "plot": lambda _, path: tuning_plot.write(path, [TRIAL]),
}
"""What writes a file, from Python."""


def _database(path: Path) -> Database:
    database = Database.open(Path(":memory:"))
    database.add(TRIAL)
    return database


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", ["device", "pipe", "link to a device", "no folder", "folder"])
def test_writing_where_no_file_may_be(kind: str, writer: str, module: convc.Module, tmp_path: Path) -> None:
    make, why = AWKWARD[kind]
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileError, match=re.escape(f"Cannot write '{path}'")) as caught:
        WRITERS[writer](module, path)
    assert re.search(why, str(caught.value))
    assert sorted(tmp_path.iterdir()) == before
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("writer", WRITERS)
def test_writing_through_a_link(writer: str, module: convc.Module, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    WRITERS[writer](module, link)
    assert link.is_symlink()
    assert target.read_bytes() != b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "target"]


VERBS = {
    "compile": ("compile", "absent.onnx", "-o"),
    "run": ("run", "absent.so", "--output"),
    "tune": ("tune", "absent.onnx", "-o"),
    "tune --plot": ("tune", "absent.onnx", "-o", "made.so", "--plot"),
    "tune --html": ("tune", "absent.onnx", "-o", "made.so", "--html"),
    "tune --export-candidates": ("tune", "absent.onnx", "--export-candidates"),
}
"""Commands that write: their work would fail at once, since what they are given is not there."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", ["device", "pipe", "link to a device"])
def test_outputs_are_refused_before_any_work(
    kind: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = AWKWARD[kind][0](tmp_path)
    before = os.lstat(path)
    result = command(capsys, *VERBS[verb], path)
    assert result.code == 2
    assert str(path) in result.err
    assert "absent" not in result.err
    assert result.err.count("\n") == 1
    after = os.lstat(path)
    assert (before.st_ino, before.st_rdev) == (after.st_ino, after.st_rdev)
    assert not list(tmp_path.glob("made*")) + list(tmp_path.glob(".convc-*"))


def test_files_that_may_not_be_read(module: convc.Module, tmp_path_factory: pytest.TempPathFactory) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "secret.so"
        module.save(path)
        path.chmod(0)
        with (
            ordinary_user(),
            pytest.raises(ModuleError, match=r"'.*secret\.so': Permission denied"),
        ):
            manifests.read(path)


def test_a_module_whose_file_has_gone_cannot_be_saved(module: convc.Module, tmp_path: Path) -> None:
    path, out = tmp_path / "one.so", tmp_path / "two.so"
    module.save(path)
    loaded = convc.load(path)
    path.unlink()
    with pytest.raises(FileError, match=rf"Cannot write '{out}': '{path}': No such file"):
        loaded.save(out)
    assert not list(tmp_path.iterdir())
