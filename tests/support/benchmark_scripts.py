"""The scripts of `benchmarks/` as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(FOLDER))


def script(name: str) -> ModuleType:
    """A script of the folder under a name of its own: `networks` is also a module of the tests."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


scaling = script("scaling")


def point(axis: str, size: int, ms: float, threads: int = 1) -> Any:
    return scaling.Point(axis, size, 1, threads, size * size, ms, ms, ms, 10)
