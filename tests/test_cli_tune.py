"""`convc tune` as users call it, on a small network and for a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import convc
from convc.cli.main import main
from convc.frontends.builder import Network
from convc.frontends.onnx import to_onnx
from convc.tune import settle


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import onnx

    monkeypatch.setenv("CONVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVC_TUNING_DB", str(tmp_path / "tuning.db"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settle, "MOST_RUNS", settle.LEAST_RUNS)  # whichever network may be faster
    net = Network("small", seed=0)
    x = net.relu(net.conv(net.input("x", (1, 16, 12, 12)), 32, 3, padding=1))
    net.output(net.linear(net.flatten(net.global_average_pool(net.conv(x, 32, 1))), 10))
    path = tmp_path / "network.onnx"
    onnx.save(to_onnx(net.graph), path)
    return path


def call(*arguments: str) -> int:
    try:
        main(arguments)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_from_a_model_to_a_tuned_module(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "corrections", lambda *given: [])  # which depend on what else runs here
    pictures = ("--plot", "p.png", "--html", "p.html")
    arguments = ("tune", str(model), "--threads", "2", "--trials", "8", *pictures, "--json")
    assert call(*arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trials"] == 8
    assert told["withdrawn"] == []
    assert told["measured_ratio"]["low"] <= told["measured_ratio"]["median"]
    module = convc.load("network.so")
    assert module.manifest.verification["error"] <= module.manifest.verification["limit"]
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    assert "winograd" in Path("p.html").read_text()

    assert call(*arguments) == 0  # all of it is known
    assert json.loads(capsys.readouterr().out)["trials"] == 8
    assert call("db", "list", "--json") == 0
    assert [row["trials"] for row in json.loads(capsys.readouterr().out)] == [8]

    command = ("compile", str(model), "--threads", "2", "-o", "again.so", "--tuning-db", "tuning.db")
    assert call(*command) == 0
    text = capsys.readouterr().out
    assert "from records and" in text
    again = convc.load("again.so")
    measured = [p for p in again.plan if p.measured]
    assert measured
    assert f" {len(measured)} from records" in text
    feeds = {i.name: np.ones(i.shape, i.dtype) for i in again.inputs}
    for a, b in zip(again.run(None, feeds), module.run(None, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    Path("tuning.db").unlink()
    assert call("compile", str(model), "--threads", "2", "-o", "third.so", "--tuning-db", "again.so") == 0
    third = convc.load("third.so")
    assert [(p.chosen, p.config) for p in third.plan] == [(p.chosen, p.config) for p in again.plan]
    assert call("explain", "again.so", "--json") == 0
    layers = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert any(c.get("measured_ms") for layer in layers for c in layer["candidates"])


def test_only_the_layers_named_are_tuned(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [p.name for p in convc.compile(model, threads=2, verify=False).plan if p.op == "conv"]
    assert call("tune", str(model), "--threads", "2", "--trials", "4", "--layers", names[0], "--json") == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--layers", "nothing"), "--layers: no layer is named 'nothing'. Close names:"),
        (("--time-budget", "soon"), "'soon' is no time. Give 90s, 5m or 1h30m."),
        (("--time-budget", "0"), "'0' is no time."),
        (("--trials", "0"), "--trials"),
        (("--target", "cuda:sm_90"), "cannot be measured on this machine"),
        (("--target", "haswell"), "cannot be measured on this machine"),
        (("--db", "."), "is a folder, expected a tuning database"),
        (("-o", "nowhere/x.so"), "there is no folder 'nowhere'"),
    ],
)
def test_what_cannot_be_is_one_line(
    flags: tuple[str, ...], words: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("tune", str(model), *flags) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1]
    assert lines[-1].startswith("convc: error: ")
    assert not Path("network.so").exists()


def test_records_must_be_records(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compile", str(model), "--tuning-db", "absent.db") == 2
    assert "There is no tuning database" in capsys.readouterr().err
    assert call("compile", str(model)) == 0
    assert call("compile", str(model), "--tuning-db", "network.so") == 2
    assert "was compiled without tuning records" in capsys.readouterr().err
