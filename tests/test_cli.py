"""The command line from a model to results, verb by verb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import convc

from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.frontends.onnx import read, to_onnx

CANDIDATE_KEYS = {"lowering", "predicted_ms", "measured_ms", "error", "rejected"}


def network() -> onnx.ModelProto:
    """A 3x3 body in which Winograd is the best choice, after a strided stem."""
    net = Network("body", seed=1)
    x = net.input("image", (1, 3, 56, 56))
    x = net.relu(net.conv(x, 64, 3, stride=2, padding=1, name="stem"))
    x = net.relu(net.conv(x, 64, 3, padding=1, name="body"))
    x = net.global_average_pool(x)
    net.output(net.linear(net.flatten(x), 10, name="head"), "scores")
    return to_onnx(net.graph)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "body.onnx"
    onnx.save(network(), path)
    return path


@pytest.fixture(scope="module")
def module(model: Path) -> Path:
    """The model compiled by the console script, as a user does."""
    out = model.with_suffix(".so")
    command = [
        sys.executable,
        "-I",
        "-c",
        "from convc.cli import main; main()",
        "compile",
        str(model),
        "-o",
        str(out),
    ]
    done = subprocess.run([*command, "--threads", "2"], capture_output=True, text=True, check=True)
    assert "layers, error" in done.stdout
    return out


def test_compile_writes_one_file_that_others_may_run(module: Path) -> None:
    assert {p.name for p in module.parent.iterdir()} >= {"body.onnx", "body.so"}
    assert not [p for p in module.parent.iterdir() if p.name.startswith(".")]
    assert module.stat().st_mode & 0o444 == 0o444


def test_compile_json(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.so"
    done = convc(capsys, "compile", model, "-o", out, "--json", "--threads", 1)
    report = json.loads(done.out)
    assert done.code == 0
    assert report["module"] == str(out)
    assert 0 < report["verification"]["error"] < report["verification"]["limit"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.so"]


def test_compile_without_verification(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = convc(capsys, "compile", model, "-o", tmp_path / "m.so", "--no-verify")
    assert done.code == 0
    assert "not verified" in done.out
    assert "verified     no" in convc(capsys, "inspect", tmp_path / "m.so").out


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("graph", r"conv(%"),
        ("lowered", "workspace "),
        ("tir", "@T.prim_func"),
        ("llvm", "define dllexport i32 @convc_"),
        ("asm", ".globl"),
    ],
)
def test_emit(
    stage: str,
    sign: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = convc(capsys, "compile", model.resolve(), "--emit", stage)
    assert done.code == 0
    assert sign in done.out
    assert not list(tmp_path.iterdir())


def test_run_computes_what_the_model_says(
    module: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 56, 56)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "y.npz"
    done = convc(capsys, "run", module, "--input", f"image={tmp_path / 'x.npy'}", "--output", out)
    assert (done.code, done.out) == (0, f"scores: float32[1, 10] -> {out}\n")
    (expected,) = evaluate(read(model), {"image": x})
    np.testing.assert_allclose(np.load(out)["scores"], expected, atol=1e-4 * np.abs(expected).max())


def test_verify(module: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = convc(capsys, "verify", module, "--against", model, "--json")
    assert done.code == 0
    assert 0 < json.loads(done.out)["errors"]["scores"] < 1e-4
    strict = convc(capsys, "verify", module, "--against", model, "--tolerance", 1e-12)
    assert strict.code == 2
    assert "Output 'scores' is off by" in strict.err


def test_inspect(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = convc(capsys, "inspect", module).out
    for part in ("image: float32[1, 3, 56, 56]", "scores: float32[1, 10]", "2 threads", "error"):
        assert part in text
    manifest = json.loads(convc(capsys, "inspect", module, "--json").out)
    assert manifest["name"] == "body"
    assert len(manifest["model_sha256"]) == 64
    assert manifest["verification"]["error"] > 0


def explained(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, dict[str, object]]:
    done = convc(capsys, "explain", *arguments, "--json")
    assert done.code == 0, done.err
    return {layer["name"]: layer for layer in json.loads(done.out)}


def test_explain_json_is_the_promised_table(
    module: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (module, model):
        layers = explained(capsys, path)
        for layer in layers.values():
            assert {"name", "op", "workload", "chosen", "candidates"} <= layer.keys()
            assert all(c.keys() == CANDIDATE_KEYS for c in layer["candidates"])  # type: ignore[attr-defined]
        assert str(layers["body"]["chosen"]).startswith("winograd")
        assert not str(layers["stem"]["chosen"]).startswith("winograd")
        table = {c["lowering"]: c for c in layers["stem"]["candidates"]}  # type: ignore[attr-defined]
        assert "tiles of 13x13 inputs" in table["winograd6"]["rejected"]
    errors = {c["lowering"]: c["error"] for c in explained(capsys, model)["body"]["candidates"]}  # type: ignore[attr-defined]
    assert errors["winograd6"] > errors["winograd4"] > errors["winograd2"] > 0


def test_explain_as_text(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = convc(capsys, "explain", module).out
    assert "body" in text
    assert "direct" in text
    one = convc(capsys, "explain", module, "--layer", "stem").out
    assert "chosen" in one
    assert "rejected: tiles of 13x13 inputs" in one


def test_algo_changes_the_choice(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(capsys, model, "--algo", "body=im2col")["body"]["chosen"] == "im2col"
    out = tmp_path / "m.so"
    assert convc(capsys, "compile", model, "-o", out, "--algo", "body=fft").code == 0
    assert explained(capsys, out)["body"]["chosen"] == "fft"


def test_small_max_error_rejects_winograd_and_says_why(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = explained(capsys, model, "--max-error", 1e-7)["body"]
    assert layer["chosen"] in ("direct", "im2col")
    table = {c["lowering"]: c["rejected"] for c in layer["candidates"]}  # type: ignore[attr-defined]
    assert "exceeds 1e-07" in table["winograd4"]
    assert "exceeds 1e-07" in convc(capsys, "explain", model, "--max-error", 1e-7, "--layer", "body").out


def test_measure_times_every_candidate(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = explained(capsys, model, "--measure", "--threads", 1)
    for candidate in layers["body"]["candidates"]:  # type: ignore[attr-defined]
        assert (candidate["measured_ms"] is None) == (candidate["predicted_ms"] is None)
        assert candidate["measured_ms"] is None or candidate["measured_ms"] > 0


def test_summary_and_check(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    totals = json.loads(convc(capsys, "summary", model, "--json").out)["totals"]
    assert totals["parameters"] == 64 * 28 + 64 * 577 + 650
    text = convc(capsys, "summary", model).out
    assert "conv 3x3 / 2" in text
    done = convc(capsys, "check", model)
    assert done.code == 0
    assert "convc can compile this model." in done.out


def test_bench(module: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = convc(capsys, "bench", module, "--rounds", 1, "--model", model, "--vs", "onnxruntime", "--json")
    assert done.code == 0, done.err
    ours, theirs = json.loads(done.out)
    assert (ours["engine"], theirs["engine"]) == ("convc", "onnxruntime")
    assert 0 < ours["p10_ms"] <= ours["median_ms"] <= ours["p90_ms"]
    assert theirs["ratio"] > 0
    assert theirs["error"] < 1e-4


def test_profile(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = convc(capsys, "bench", module, "--profile").out
    assert text.split("\n")[1].split() == ["step", "algorithm", "ms", "share", "GFLOP/s", "%", "of", "peak"]
    rows = json.loads(convc(capsys, "bench", module, "--profile", "--json").out)
    manifest = json.loads(convc(capsys, "inspect", module, "--json").out)
    assert sorted(row["step"] for row in rows) == sorted(manifest["steps"])
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    layers = {layer["name"]: layer for layer in manifest["plan"]}
    peak = manifest["target"]["flops"] * manifest["threads"]
    convolutions = [row for row in rows if layers.get(row["step"], {}).get("flops")]
    assert convolutions
    for row in convolutions:
        layer = layers[row["step"]]
        assert row["algorithm"] == layer["chosen"]
        assert row["gflops"] == pytest.approx(layer["flops"] / row["ms"] / 1e6)
        assert row["percent_of_peak"] == pytest.approx(1e11 * row["gflops"] / peak)
    refused = convc(capsys, "bench", module, "--profile", "--vs", "onnxruntime")
    assert refused.code == 2
    assert "--profile shows convc's own steps. Leave out --vs or --profile." in refused.err


def test_symbolic_shapes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    symbolic = onnx.load(model)
    dims = symbolic.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_param, dims[2].dim_param = "batch", "height"
    path = tmp_path / "symbolic.onnx"
    onnx.save(symbolic, path)
    refused = convc(capsys, "summary", path)
    assert refused.code == 2
    assert "height" in refused.err
    assert "--input-shapes" in refused.err
    out = tmp_path / "m.so"
    shape = ("--input-shapes", "image:1x3x40x56")
    done = convc(capsys, "compile", path, "-o", out, *shape, "--threads", 1, "--no-verify")
    assert done.code == 0, done.err
    manifest = json.loads(convc(capsys, "inspect", out, "--json").out)
    assert manifest["inputs"][0]["shape"] == [1, 3, 40, 56]
    assert manifest["threads"] == 1


@pytest.mark.parametrize(
    "verb", ["compile", "run", "verify", "explain", "summary", "check", "inspect", "bench"]
)
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = convc(capsys, verb, "--help")
    assert done.code == 0
    assert f"{verb} [OPTIONS]" in done.out


def test_list_of_verbs_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    text = convc(capsys, "--help").out
    assert all(verb in text for verb in ("compile", "bench", "inspect"))
    assert "0.1" in convc(capsys, "--version").out


def test_running_a_module_imports_no_compiler(module: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 56, 56), "float32"))
    code = (
        "import sys\nfrom convc.cli import main\n"
        f"main(['run', {str(module)!r}, '--input', 'image={tmp_path / 'x.npy'}'])\n"
    )
    code += "print(sorted({'tvm', 'onnx', 'networkx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_inputs_to_verify_with(
    model: Path, module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--verify-input`: the arrays of a file, at compilation and against the model."""
    given = tmp_path / "x.npz"
    np.savez(given, image=np.full((1, 3, 56, 56), 0.5, "float32"))
    out = tmp_path / "m.so"
    for command in (["compile", model, "-o", out, "--threads", 2], ["verify", module, "--against", model]):
        done = convc(capsys, *command, "--verify-input", given)
        assert (done.code, "error " in done.out) == (0, True)
        (tmp_path / "y.npz").write_bytes(b"PK")
        broken = convc(capsys, *command, "--verify-input", tmp_path / "y.npz")
        assert broken.code == 2
        assert "--verify-input: cannot read" in broken.err
