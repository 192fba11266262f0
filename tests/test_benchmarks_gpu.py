"""The benchmark of GPUs: built here, run by a Python that has NumPy and the folder alone, without a GPU.

The driver is `support/fake_cuda`, and the place of cubins is taken by the emulation of the same CUDA source.
No time is asserted.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_scripts import FOLDER
from cuda_emulator import build_emulation
from fake_driver import build_driver

from convc.codegen import device_build, nvcc
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.runtime import container

GPU = FOLDER / "gpu"
sys.path.append(str(GPU))
store, selection, bundle, build, report = (
    importlib.import_module(name) for name in ("store", "selection", "bundle", "build", "report")
)

Record = dict[str, Any]
NETWORKS = selection.NETWORKS  # before a fixture puts a tiny one in their place


def tiny(batch: int, seed: int | None = 0) -> Graph:
    net = Network("tiny", seed=seed)
    x = net.relu(net.conv(net.input("image", (batch, 3, 8, 8)), 16, 3, padding=1))
    net.output(net.conv(x, 24, 1), "y")
    return net.graph


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tables of what is built, cut to what an emulator runs in a moment, and the emulator as compiler."""
    scratch = tmp_path_factory.mktemp("emulated")

    def compile_cubin(source: str, arch: str, *, fast_math: bool = False) -> nvcc.Cubin:
        library = build_emulation(source, scratch / f"{abs(hash(source)):x}.so")
        return nvcc.Cubin(library.read_bytes(), ())

    emulator = SimpleNamespace(
        compiler_identity=lambda: "emulation",
        compile_cubin=compile_cubin,
        needed_driver=lambda compiler: 13000,
    )
    model = SimpleNamespace(name="tiny", options={}, graph=lambda batch, **options: tiny(batch, **options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_build, "nvcc", emulator)
        patch.setattr(selection, "NETWORKS", (model,))
        patch.setattr(build, "NETWORKS", (model,))
        patch.setattr(selection, "LAYERS_OF", ("tiny",))
        patch.setattr(build, "layers", lambda most: selection.layers(("tiny",), 1))
        patch.setattr(bundle, "MOST_SETS", 3)
        patch.setenv("CONVC_CACHE", str(scratch / "cache"))
        yield scratch


@pytest.fixture(scope="module")
def folder(patched: Path) -> Path:
    """Two checks, a layer and a network."""
    out = patched / "bundle"
    checks = ["--only", "checks", "--cases", "1x1-tiny,softmax-of", "--check-precision", "float16"]
    build.main(["--out", str(out), *checks])
    build.main(["--out", str(out), "--only", "layers,networks", "--batch", "2", "--precision", "float16"])
    return out


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine that has the driver, Python and NumPy."""
    place = tmp_path_factory.mktemp("bare")
    assert np.__file__ is not None
    installed = Path(np.__file__).parents[1]
    for package in installed.glob("numpy*"):
        (place / package.name).symlink_to(package)
    driver = build_driver(place)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "CONVC_LIBCUDA": str(driver)}


def run(folder: Path, bare: dict[str, str], out: Path, *arguments: str) -> tuple[int, str, Record]:
    """`run.py` of the folder itself; its status, what it printed and the record."""
    command = [sys.executable, "-S", "-s", str(folder / "run.py"), "--out", str(out), "--seconds", "0.01"]
    done = subprocess.run(
        [*command, *arguments], env=bare, capture_output=True, text=True, cwd=out.parent, check=False
    )
    assert out.exists(), done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr, json.loads(out.read_text())


@pytest.fixture(scope="module")
def measured(
    folder: Path, bare: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, str, Path]:
    """The whole folder, measured once."""
    out = tmp_path_factory.mktemp("measured") / "results.json"
    status, text, _ = run(folder, bare, out)
    return status, text, out


def test_the_folder_alone_is_enough(measured: tuple[int, str, Path]) -> None:
    status, text, out = measured
    record = json.loads(out.read_text())
    assert status == 0, text
    rows = {row["key"]: row for row in record["rows"]}
    assert {row["kind"] for row in rows.values()} == {"check", "layer", "network"}
    assert "tiny float16 batch 2" in rows
    checked = [row for row in rows.values() if row["kind"] == "check"]
    assert {row["lowering"] for row in checked} >= {"generic", "implicit_gemm_mma", "chosen"}
    for row in rows.values():
        assert not row.get("failed"), row
        if row["kind"] != "network":
            assert 0 <= row["error"] <= row["limit"]
        if row["kind"] != "check":
            figures = row["engines"]["convc"]
            assert 0 < figures["p10_ms"] <= figures["median_ms"] <= figures["p90_ms"]
            assert figures["samples"] >= 10
        if row["kind"] == "network":
            assert [kernel["lowering"] for kernel in row["kernels"] if kernel["step"] == "conv1"] != [""]
            assert all(kernel["ms"] >= 0 for kernel in row["kernels"])
            assert row["tflops"] > 0


def test_the_record_says_where_it_is_from(measured: tuple[int, str, Path]) -> None:
    record = json.loads(measured[2].read_text())
    assert record["benchmark"] == "gpu"
    assert record["command"].startswith("python run.py")
    assert str(measured[2].parent) not in json.dumps(record)
    assert len(record["date"]) == 10
    assert record["machine"]["sm"] == 90
    assert {"device", "driver_cuda", "multiprocessors"} <= record["machine"].keys()
    assert {"python", "numpy"} <= record["versions"].keys()
    assert "torch" not in record["versions"]
    assert record["settings"]["built"]["checks"]["arch"] == "sm_90"


def test_resuming_measures_only_what_is_left(
    measured: tuple[int, str, Path], folder: Path, bare: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    record = json.loads(measured[2].read_text())
    lost = record["rows"].pop()
    kept = [{**row, "kept": True} for row in record["rows"]]
    out.write_text(json.dumps({**record, "rows": kept}))
    status, text, again = run(folder, bare, out, "--resume")
    assert status == 0, text
    assert text.startswith(f"1 of {len(kept) + 1} to do")
    assert [row for row in again["rows"] if row.get("kept")] == kept
    assert again["rows"][-1]["key"] == lost["key"]


def test_a_machine_without_a_gpu_is_told_so(folder: Path, bare: dict[str, str], tmp_path: Path) -> None:
    for variable, value, reason in (
        ("CONVC_LIBCUDA", "libabsent.so.1", "libabsent.so.1"),
        ("FAKE_CUDA_DEVICES", "0", "CUDA_ERROR"),
    ):
        status, text, record = run(folder, {**bare, variable: value}, tmp_path / "results.json")
        assert status == 1
        assert text.count("error: no GPU can be used here: ") == 1
        assert reason in text
        assert "Traceback" not in text
        assert record["rows"] == []


def test_nothing_begins_that_the_budget_would_cut(folder: Path, bare: dict[str, str], tmp_path: Path) -> None:
    status, text, record = run(folder, bare, tmp_path / "results.json", "--budget", "1")
    assert status == 0
    assert record["rows"] == []
    assert "left for --resume" in text


def test_what_is_wrong_fails_and_the_rest_goes_on(folder: Path, bare: dict[str, str], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    path = broken / "index-checks.json"
    index = json.loads(path.read_text())
    entries = [entry for own in index["jobs"].values() for entry in own]
    wrong = next(entry for entry in entries if "conv" in entry)
    wrong["conv"]["relu"] = True  # the module has none
    lost = next(entry for entry in entries if "arrays" in entry)
    lost["file"] = "checks/nothing.xz"
    path.write_text(json.dumps(index))
    status, text, record = run(broken, bare, tmp_path / "results.json", "--only", "checks")
    assert status == 1
    rows = {row["key"]: row for row in record["rows"]}
    assert len(rows) == len(entries)
    assert f"{wrong['limit']:.1e} is allowed (host, device, device, device)" in rows[wrong["key"]]["failed"]
    assert "nothing.xz" in rows[lost["key"]]["failed"]
    assert sum(bool(row.get("failed")) for row in rows.values()) == 2
    assert f"failed: {wrong['key']}" in text


def test_a_process_that_dies_takes_one_job_with_it(
    folder: Path, bare: dict[str, str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    worker = broken / "work.py"
    text = worker.read_text()
    died = "        module = self.load(entry)\n        arrays, expected"
    assert died in text
    killing = "        if 'generic' in entry['key']: __import__('os').kill(__import__('os').getpid(), 9)\n"
    hanging = "        if 'softmax' in entry['key']: time.sleep(60)\n"
    worker.write_text(text.replace(died, killing + hanging + died))
    status, _, record = run(broken, bare, tmp_path / "results.json", "--only", "checks", "--job-seconds", "4")
    assert status == 1
    reasons = {row["key"]: row.get("failed", "") for row in record["rows"]}
    for key, reason in reasons.items():
        expected = (
            "ended with status -9" if "generic" in key else "no result after 4 s" if "softmax" in key else ""
        )
        assert expected in reason
        assert bool(reason) == bool(expected)


def with_torch(bare: dict[str, str], place: Path, text: str) -> dict[str, str]:
    """The machine, with something that is imported as PyTorch."""
    place.mkdir()
    (place / "torch.py").write_text(text)
    return {**bare, "PYTHONPATH": f"{place}{os.pathsep}{bare['PYTHONPATH']}"}


ODD_TORCHES = {
    "class Odd(Exception): pass\nraise Odd('no cuDNN')": "Odd: no cuDNN",
    "import os; os._exit(7)": "its process ended with status 7",
    "import time; time.sleep(60)": "no result after 2 s",
}


@pytest.mark.parametrize("text", ODD_TORCHES)
def test_a_torch_that_fails_or_hangs_costs_no_row(
    text: str, folder: Path, bare: dict[str, str], tmp_path: Path
) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(folder, edited)
    script = edited / "run.py"
    script.write_text(script.read_text().replace('"torch": 90', '"torch": 2'))
    machine = with_torch(bare, tmp_path / "odd", text)
    status, out, record = run(edited, machine, tmp_path / "results.json", "--only", "networks")
    assert status == 0, out
    assert ODD_TORCHES[text] in record["failed"]["torch"]
    assert out.count("Without PyTorch: ") == 1
    (row,) = record["rows"]
    assert not row.get("failed")
    assert row["engines"]["convc"]["median_ms"] > 0


def test_what_matters_most_is_first(folder: Path, bare: dict[str, str], tmp_path: Path) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(folder, edited)
    script = edited / "run.py"
    assert '"model": "resnet50", "precision": "float16"' in script.read_text()
    script.write_text(script.read_text().replace('"model": "resnet50"', '"model": "tiny"'))
    failing = edited / "work.py"
    ceilings = "        if not self.torch:\n            return {}\n        nbytes"
    assert ceilings in failing.read_text()
    failing.write_text(
        failing.read_text().replace(ceilings, "        raise KeyError('copy')\n        nbytes")
    )
    status, out, record = run(edited, bare, tmp_path / "results.json")
    assert status == 0, out
    kinds = [row["kind"] for row in record["rows"]]
    checks = kinds.count("check")
    assert checks > 1
    assert kinds == ["network", *["check"] * checks, *["layer"] * (len(kinds) - checks - 1)]
    assert record["failed"]["ceilings"] == "KeyError: 'copy'"


def test_a_process_that_lost_its_device_is_followed_by_another(
    folder: Path, bare: dict[str, str], tmp_path: Path
) -> None:
    failing = {**bare, "FAKE_CUDA_FAIL": "cuGraphLaunch:6"}  # of each process; a check makes 4 calls
    status, _, record = run(folder, failing, tmp_path / "results.json", "--only", "checks")
    assert status == 1
    failed = [bool(row.get("failed")) for row in record["rows"]]
    assert failed == [False, True, False]
    assert "DeviceError: On the device, launching the network failed" in record["rows"][1]["failed"]


def test_stored_modules_are_the_same_but_for_drawn_weights(folder: Path, tmp_path: Path) -> None:
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        store.unpack(next((folder / "networks").iterdir()), tmp_path / name, seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert len(a) == len(c)
    from convc.runtime import manifest

    assert manifest.read(tmp_path / "a").name == "tiny"


def test_weights_are_drawn_as_they_were_spread(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 100.0, 0.01], np.float32)
    weights = (rng.standard_normal((3, 4000)).astype(np.float32) * spread[:, None]).astype(np.float16)
    small = np.arange(5, dtype=np.float32)
    parts = [(0, weights), (24064, small)]
    module = tmp_path / "module.so"
    code, manifest = b"code" * 1024, b'{"a": 1}'
    module.write_bytes(code + weights.tobytes() + bytes(64) + small.tobytes())
    container.finish(module, container.Weights(4096, 24084), manifest)
    store.pack(module, store.regions_of(parts, carry=False), tmp_path / "stored")
    store.unpack(tmp_path / "stored", tmp_path / "out")
    made, wanted = (tmp_path / "out").read_bytes(), module.read_bytes()
    assert len(made) == len(wanted)
    assert made[:4096] == wanted[:4096]
    assert made[4096 + 24000 : 4096 + 24084] == wanted[4096 + 24000 : 4096 + 24084]
    with container.opened(tmp_path / "out") as drawn_anew:
        drawn_anew.check_weights()
        assert drawn_anew.text() == manifest
    drawn = np.frombuffer(made, np.float16, 12000, 4096).reshape(3, 4000)
    assert not np.array_equal(drawn, weights)
    np.testing.assert_allclose(drawn.astype(np.float32).std(axis=1), spread, rtol=0.1)
    store.pack(module, store.regions_of(parts, carry=True), tmp_path / "stored")
    store.unpack(tmp_path / "stored", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == wanted


def test_noise_is_exact_in_all_precisions_and_normal() -> None:
    values = store.noise((200, 1000), 3, 0.5)
    assert abs(values.std() - 0.5) < 0.01
    assert abs(values.mean()) < 0.01
    assert not (values.view(np.uint32) & 0xFFFF).any()
    assert not np.array_equal(values, store.noise((200, 1000), 4, 0.5))
    np.testing.assert_array_equal(values[0], store.noise((1000,), 3, 0.5))


@pytest.mark.parametrize(
    "name", ["strided-asymmetric", "3d", "groups-8-to-16", "depthwise-5x5-strided", "5-to-33"]
)
def test_the_references_agree(name: str) -> None:
    """The GPU machine's reference of a convolution with convc's own."""
    from convc.evaluate import evaluate

    conv = selection.AWKWARD[name]
    x, weight, bias = conv.operands()
    (expected,) = evaluate(selection.conv_graph(conv), {"x": x})
    assert conv.output == expected.shape
    assert store.relative_error(conv.reference(x, weight, bias), expected) < 1e-12
    assert store.Conv.of(json.loads(json.dumps(vars(conv)))) == conv


def test_layers_of_networks_are_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "NETWORKS", NETWORKS)
    found = {layer.name: layer for layer in selection.layers(most=99)}
    assert found["3x3 64->64 at 56x56"].counts == {"resnet50": 3}
    assert found["3x3 64->64 at 224x224"].counts == {"vgg16": 1}
    assert "3x3 32->32 depthwise at 112x112" in found
    geometries = [layer.geometry for layer in found.values()]
    assert len(set(geometries)) == len(geometries) == len(selection.layers(most=99))
    assert len(selection.layers(most=2)) == 6


def test_the_report_merges_records(measured: tuple[int, str, Path], tmp_path: Path) -> None:
    record = json.loads(measured[2].read_text())
    network = next(row for row in record["rows"] if row["kind"] == "network")
    peer = {**network["engines"]["convc"], "median_ms": 1.0}
    slow = {**network["engines"]["convc"], "median_ms": 2.0}
    later = {**network, "ratio": 2.0, "engines": {"convc": slow, "torch_channels_last": peer}}
    wrong = {"kind": "check", "key": "conv-x float16 mma", "precision": "float16", "failed": "error 1"}
    (tmp_path / "more.json").write_text(json.dumps({**record, "rows": [later, wrong]}))
    text = report.report([measured[2], tmp_path / "more.json"])
    assert "| tiny | 2 |" in text
    assert "2.00" in text
    assert "conv-x float16 mma" in text
    assert record["machine"]["device"] in text
