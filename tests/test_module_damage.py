"""Damaged modules are refused by a typed error or give the right answer: no crash, traceback or large memory.

Each is opened in a child process. `CONVC_DAMAGED=5000 pytest tests/test_module_damage.py -s` tries so many of
each back end in place of some, and prints what came of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGES, Layout, damaged
from fake_driver import FakeDriver

import convc
from convc.verify import random_feeds

COUNT = int(os.environ.get("CONVC_DAMAGED", 150))
BATCH = 500
CHILD = Path(__file__).parent / "support" / "damaged_child.py"


def outcomes(module: Path, count: int, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """What came of `count` damaged copies, by number and kind."""
    data, found = module.read_bytes(), {}
    for first in range(0, count, BATCH):
        place = folder / str(first)
        place.mkdir()
        shutil.copyfile(folder / "case.npz", place / "case.npz")
        for seed in range(first, min(first + BATCH, count)):
            kind, content = damaged(data, seed)
            if content != data:
                (place / f"{seed:05d} {kind}.so".replace(" ", "-")).write_bytes(content)
        found |= _tried(place, environment)
        shutil.rmtree(place)
    return found


def _tried(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """What the child says of each module; one that ends it has crashed, and another child goes on."""
    found: dict[str, str] = {}
    while list(folder.glob("*.so")):
        command = [sys.executable, "-I", str(CHILD), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert told, done.stderr
        found |= {
            name: f"crash {done.returncode}" if what == "begins" else what for name, what in told.items()
        }
        for name in told:
            (folder / name).unlink()
    return found


def assert_harmless(found: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        if "CONVC_DAMAGED" in os.environ:
            print(f"\n{len(found)} damaged modules: {dict(Counter(found.values()))}")
    bad = {name: what for name, what in found.items() if what not in ("refused ok", "right ok")}
    assert not bad
    # only an edit that was meant may pass
    assert not [name for name, what in found.items() if what == "right ok" and "sealed" not in name]


def _case(folder: Path, feeds: dict[str, np.ndarray], outputs: list[np.ndarray]) -> None:
    given = {f"in {name}": array for name, array in feeds.items()}
    np.savez(folder / "case.npz", **given, **{f"out {i}": array for i, array in enumerate(outputs)})


def test_modules_for_the_cpu(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = convc.load(small)
    feeds = random_feeds(module.inputs)
    _case(tmp_path, feeds, module.run(None, feeds))
    found = outcomes(small, COUNT, tmp_path, dict(os.environ))
    assert len(found) > 0.9 * COUNT
    assert_harmless(found, capsys)


def test_modules_for_a_gpu(
    pair: Path, driver: FakeDriver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = convc.load(pair)
    feeds = random_feeds(module.inputs)
    _case(tmp_path, feeds, module.run(None, feeds))
    found = outcomes(pair, COUNT, tmp_path, dict(os.environ))
    assert_harmless(found, capsys)


def test_every_kind_damages(small: Path) -> None:
    data = small.read_bytes()
    assert all(damaged(data, seed)[1] != data for seed in range(len(DAMAGES)))


def test_an_undamaged_module_sealed_anew_is_the_same(small: Path) -> None:
    """The edits that are sealed differ from a whole module in nothing else."""
    data = small.read_bytes()
    assert Layout.of(data).sealed(Layout.of(data).text) == data
