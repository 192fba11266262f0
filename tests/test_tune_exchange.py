"""Candidates that travel as files: exported, measured by the script alone, and taken in again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import emulated_builder
import numpy as np
import pytest
from fake_driver import FakeDriver

from convc.compilation import Compilation, plan
from convc.compiler import Options
from convc.errors import DatabaseError, OptionError
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.progress import Progress
from convc.tune.autotune import export_candidates
from convc.tune.database import Database
from convc.tune.exchange import export, plain_weights
from convc.tune.judge import winner
from convc.tune.measurer import Builders
from convc.tune.records import known_as, machine_of, open_records
from convc.tune.search import Search
from convc.tune.tasks import tasks
from convc.tune.trial import Machine, Outcome, Trial

COUNT = 3


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine that has Python and NumPy."""
    place = tmp_path_factory.mktemp("bare")
    assert np.__file__ is not None
    for package in Path(np.__file__).parents[1].glob("numpy*"):
        (place / package.name).symlink_to(package)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(place)}


def small() -> Graph:
    net = Network("small", seed=0)
    x = net.relu(net.conv(net.input("x", (1, 16, 12, 12)), 32, 3, padding=1))
    net.output(net.relu(net.conv(x, 32, 1)))
    return net.graph


def measure(folder: Path, out: Path, bare: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-S", "-s", str(folder / "measure.py"), "--out", str(out), *arguments]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, cwd=out.parent, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lines(path: Path) -> list[Trial]:
    return [Trial.from_json(json.loads(line)) for line in path.read_text().splitlines()[1:]]


def test_there_and_back(tmp_path: Path, bare: dict[str, str]) -> None:
    options = Options(threads=2)
    folder, out, db = tmp_path / "candidates", tmp_path / "results.jsonl", tmp_path / "tuning.db"
    made = export_candidates(small(), options, folder, count=COUNT, database=db, cache=tmp_path)
    assert made.failures == ()
    assert "0 measured" in measure(folder, out, bare, "--budget", "0")
    text = measure(folder, out, bare)
    assert f"{made.candidates} measured" in text
    found = lines(out)
    assert len(found) == made.candidates
    assert {t.outcome for t in found} == {Outcome.OK}
    assert all(t.seconds and t.low is not None and t.low <= t.seconds for t in found)
    assert {t.machine for t in found} == {machine_of(plan(small(), options, Progress()).target)}

    whole = out.read_text()
    out.write_text(whole[: len(whole) * 2 // 3])  # the last line is cut
    assert f"{made.candidates} measured" not in measure(folder, out, bare)
    again = lines(out)
    assert {(t.layer, t.variant) for t in again} == {(t.layer, t.variant) for t in found}
    assert len(again) == len(found)

    with Database.open(db) as database, out.open("rb") as file:
        assert database.import_lines(file) == made.candidates
    planned = plan(small(), replace(options, records=open_records(db)), Progress())
    assert sum(choice.config is not None for choice in planned.choices.values()) >= 2

    second = tmp_path / "more"
    export_candidates(small(), options, second, count=COUNT, database=db, cache=tmp_path)
    index = json.loads((second / "index.json").read_text())
    known = {(t.layer, t.variant.lowering, t.variant.config) for t in found}
    for layer in index["layers"]:
        for candidate in layer["candidates"][1:]:  # the untuned choice is there again, to compare with
            variant = candidate["variant"]
            assert (layer["key"], variant["lowering"], variant["config"]) not in known


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"exists\. Give the name of a folder to be made"):
        export_candidates(small(), Options(threads=2), tmp_path, count=2, database=tmp_path / "db")


def test_results_that_are_none_are_refused(tmp_path: Path) -> None:
    with Database.open(tmp_path / "db") as database:
        with pytest.raises(DatabaseError, match="line 2"):
            database.import_lines(['{"format": "convc tuning records", "version": 1}\n', "{}\n"])
        assert database.trials() == []


def gpu_network() -> Graph:
    net = Network("small", seed=0)
    x = net.input("x", (1, 16, 6, 6))
    net.output(net.relu(net.conv(x, 24, 3, padding=1)))
    return net.graph


def gpu_plan(records: Path | None = None) -> Compilation:
    found = None if records is None else open_records(records)
    options = Options(target="cuda:sm_90", precision="float16", records=found)
    return plan(gpu_network(), options, Progress())


def searches(compilation: Compilation, names: Sequence[str]) -> list[Search]:
    """Of the convolution, with the lowerings named, a candidate or two of each."""
    (task,) = (t for t in tasks(compilation) if t.workload.op == "conv")
    others = [c for name in names for c in [d for d in task.candidates[1:] if d.lowering.name == name][:2]]
    return [Search(replace(task, candidates=(task.untuned, *others)), 0)]


def test_the_same_for_a_gpu(
    tmp_path: Path, bare: dict[str, str], driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for sm_90 is measured on a driver with emulated kernels, and its results are followed."""
    planned = gpu_plan()
    paths = {"PYTHONPATH": str(Path(emulated_builder.__file__).parent)}
    builders = Builders(planned.target, 0, tmp_path, "emulated_builder:Builder", paths)
    folder, out, db = tmp_path / "candidates", tmp_path / "results.jsonl", tmp_path / "tuning.db"
    machine = machine_of(planned.target)
    chosen = searches(planned, ["implicit_gemm_mma", "generic"])
    try:
        made = export(folder, chosen, machine, builders, 5, lambda name, count: None)
    finally:
        builders.close()
    assert made.failures == ()
    assert made.candidates >= 4
    measure(folder, out, {**bare, "CONVC_LIBCUDA": str(driver.path)})
    found = lines(out)
    assert [t.outcome for t in found] == [Outcome.OK] * made.candidates, [t.message for t in found]
    assert {t.machine.features["device"] for t in found} == {"Fake GPU 0"}
    assert all(t.error is not None and t.error < 1e-2 for t in found)

    best = winner(found)
    assert best is not None
    faster = replace(best, seconds=1e-9, low=1e-9, high=1e-9, session="later", measured_at="2099-01-01")
    with Database.open(db) as database:
        for trial in (*found, faster):
            database.add(trial)
        assert known_as(machine, database) == found[0].machine
        assert known_as(Machine(machine.target.replace("90", "80"), 1), database) != found[0].machine
    tuned = gpu_plan(db)
    (choice,) = (c for n, c in tuned.choices.items() if n.op == "conv")
    assert choice.lowering.name == best.variant.lowering
    assert choice.config == dict(best.variant.numbers)


def test_weights_of_an_export_have_few_values_and_the_size_of_the_network(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 32, 3, 3)).astype("float32") * 0.05
    plain = plain_weights(weights)
    assert (plain.shape, plain.dtype) == (weights.shape, weights.dtype)
    assert len(np.unique(plain)) == 4
    assert np.abs(plain).mean() == pytest.approx(np.abs(weights).mean(), rel=0.02)
    counts = np.arange(6, dtype="int64")
    np.testing.assert_array_equal(plain_weights(counts), counts)
