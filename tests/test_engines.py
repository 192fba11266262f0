"""Engines in processes of their own: the protocol, the arithmetic of rounds, failures. Asserts no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import convc
from convc.errors import OptionError
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.frontends.onnx import read, to_onnx
from convc.report.engines import Task, Turn, error_between, in_turns, ratio, spread_ms, take_turn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network as model and module, and feeds."""
    folder = tmp_path_factory.mktemp("engines")
    net = Network("tiny", seed=1)
    x = net.input("image", (1, 3, 9, 9))
    net.output(net.relu(net.conv(x, 8, 3, padding=1)), "maps")
    onnx.save(to_onnx(net.graph), folder / "tiny.onnx")
    convc.compile(net.graph, threads=1).save(folder / "tiny.so")
    x = np.random.default_rng(0).standard_normal((1, 3, 9, 9)).astype("float32")
    np.savez(folder / "feeds.npz", image=x)
    return folder


def task(folder: Path, engine: str, **options: object) -> Task:
    path = folder / ("tiny.so" if engine == "convc" else "tiny.onnx")
    fields = {"seconds": 0.01, "warmup": 1, "fewest": 2, **options}
    return Task(engine, str(path), 1, str(folder / "feeds.npz"), str(folder / f"{engine}.npz"), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["convc", "onnxruntime", "openvino"])
def test_a_turn_runs_the_network(folder: Path, engine: str) -> None:
    if engine != "convc":
        pytest.importorskip(engine)
    turn = take_turn(task(folder, engine, fewest=3, most=3))
    assert len(turn.times_s) == 3
    assert min(turn.times_s) > 0
    assert turn.load_s > 0
    assert turn.first_s > 0
    assert 0 < turn.baseline_bytes < turn.peak_bytes
    feeds = dict(np.load(folder / "feeds.npz"))
    (expected,) = evaluate(read(folder / "tiny.onnx"), feeds)
    (found,) = np.load(folder / f"{engine}.npz").values()
    # 27 products and a bias in float32
    np.testing.assert_allclose(found, expected, atol=28 * np.finfo("f4").eps * np.abs(expected).max())


def test_peak_memory_is_the_childs_own(folder: Path) -> None:
    """The parent's memory, which the child has for the moment between fork and exec, must not count."""
    ballast = np.ones(100 << 20, np.uint8)
    turn = take_turn(task(folder, "convc"))
    assert turn.peak_bytes < ballast.nbytes


def test_engines_take_turns(folder: Path) -> None:
    heard: list[str] = []
    tasks = [task(folder, "convc"), task(folder, "onnxruntime")]
    turns = in_turns(tasks, 2, lambda t, _: heard.append(t.engine))
    assert heard == ["convc", "onnxruntime"] * 2
    assert {engine: len(rounds) for engine, rounds in turns.items()} == {"convc": 2, "onnxruntime": 2}
    assert error_between(folder / "convc.npz", folder / "onnxruntime.npz") < 28 * np.finfo("f4").eps


def test_a_loader_of_ones_own_and_products_between(folder: Path, tmp_path: Path) -> None:
    loader = tmp_path / "loader.py"
    loader.write_text("def load(path, threads, feeds):\n    return lambda: [feeds['image'] * threads]\n")
    own = task(folder, "mine", loader=str(loader), product=8)
    assert len(take_turn(own).times_s) >= 2
    (found,) = np.load(folder / "mine.npz").values()
    np.testing.assert_array_equal(found, np.load(folder / "feeds.npz")["image"])


def test_failures_name_the_engine_and_the_cause(folder: Path, tmp_path: Path) -> None:
    loader = tmp_path / "absent.py"
    loader.write_text("import no_such_engine\n")
    with pytest.raises(
        OptionError, match=r"mine could not run .*no_such_engine.* `pip install convc\[bench\]"
    ):
        take_turn(task(folder, "mine", loader=str(loader)))
    (tmp_path / "dead.py").write_text("import os\nos._exit(7)\n")
    with pytest.raises(OptionError, match="mine could not run this network: exit status 7, no message"):
        take_turn(task(folder, "mine", loader=str(tmp_path / "dead.py")))


def turn(*milliseconds: float) -> Turn:
    return Turn(tuple(ms / 1e3 for ms in milliseconds), 0.0, 0.0, 0, 0)


def test_ratios_are_taken_round_by_round() -> None:
    turns = {
        "convc": [turn(2, 1, 9), turn(20), turn(3)],
        "a": [turn(4), turn(10), turn(9)],
        "b": [turn(8), turn(80), turn(4)],
    }
    # rounds: 2/4, 20/10, 3/4
    assert ratio(turns, "convc", ["a", "b"]) == pytest.approx(0.75)
    assert ratio(turns, "b", ["convc"]) == pytest.approx(4)
    assert spread_ms([turn(*range(6)), turn(*range(6, 11))]) == pytest.approx((1, 5, 9))


def test_errors_between_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.array([1.0, 2.0]), np.array([3.0]))
    np.savez(tmp_path / "b.npz", np.array([1.0, 4.0]), np.array([3.0]))
    np.savez(tmp_path / "c.npz", np.array([1.0]), np.array([3.0]))
    assert error_between(tmp_path / "a.npz", tmp_path / "b.npz") == 0.5
    assert error_between(tmp_path / "a.npz", tmp_path / "c.npz") == float("inf")
