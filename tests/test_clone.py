"""Python started in a clone's root, where `convc/` comes before the installed package; what `convc` shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convc

ROOT = Path(__file__).parents[1]

FORGET_LINKS = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", "")]
"""
"""A clone that was installed as a link is found by its root's finder too, which hides what is looked at."""

PACKAGES = """
import sys, convc, convc.frontends, convc.schedules
assert not {"tvm", "onnx"} & set(sys.modules), "importing convc loads its compiler"
print(*(m.__file__ for m in (convc, convc.frontends, convc.schedules)), sep="\\n")
"""

WORKER = """
from convc.tune.worker import Worker
with Worker("importlib:import_module", arguments=["convc.children"]) as worker:
    print(worker.ask("environment", timeout=60)["PYTHONPATH"])
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a clone, and nothing that says that it was installed."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("convc", "frontends", "schedules"):
        (root / name).symlink_to(ROOT / name)
    return root


def run(clone: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=clone, check=False
    )
    return done.stdout if done.returncode == 0 else done.stderr


def test_all_packages_are_found_in_a_clone(clone: Path) -> None:
    files = run(clone, "-c", FORGET_LINKS + PACKAGES).split()
    expected = ("convc/__init__.py", "frontends/__init__.py", "schedules/__init__.py")
    assert files == [str(clone / name) for name in expected]


def test_child_processes_run_the_clone_too(clone: Path) -> None:
    """They run elsewhere, or do not look into the working folder."""
    assert run(clone, "-c", FORGET_LINKS + WORKER).strip().startswith(str(clone))


def test_the_module_is_the_command(clone: Path) -> None:
    assert run(clone, "-m", "convc", "check", "no.onnx") == "convc: error: There is no file 'no.onnx'.\n"
    assert run(clone, "-m", "convc", "--version") == f"convc, version {convc.__version__}\n"


def test_public_names_are_shown() -> None:
    assert {*convc.__all__, "__version__"} <= set(dir(convc))
    assert convc.__doc__ is not None
    for name in convc.__all__:
        assert f"\n    {name} " in convc.__doc__, f"the docstring of convc does not explain {name}"
        assert getattr(convc, name).__doc__
