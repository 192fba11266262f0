"""The command line for a GPU, on a machine that has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import convc

from convc.codegen import device_build, nvcc
from convc.compiler import compile
from convc.errors import UnsupportedError
from convc.frontends.builder import Network
from convc.frontends.onnx import to_onnx

SM_90 = ("--target", "cuda:sm_90", "--precision", "float16")


class Blank:
    """A CUDA compiler whose code nobody runs."""

    @staticmethod
    def compiler_identity() -> str:
        return "blank 13.0"

    @staticmethod
    def needed_driver(identity: str) -> int:
        return nvcc.needed_driver(identity)

    @staticmethod
    def compile_cubin(source: str, arch: str, *, fast_math: bool = False) -> nvcc.Cubin:
        return nvcc.Cubin(f"{arch} {fast_math}".encode(), ())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = Network("body", seed=1)
    x = net.input("image", (1, 16, 28, 28))
    x = net.relu(net.conv(x, 64, 3, padding=1, name="first"))
    x = net.conv(x, 64, 3, padding=1, groups=64, name="second")
    net.output(net.linear(net.flatten(net.global_average_pool(x)), 10, name="head"), "scores")
    path = tmp_path_factory.mktemp("model") / "body.onnx"
    onnx.save(to_onnx(net.graph), path)
    return path


def test_explain_names_the_kernels_and_why_not_others(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = convc(capsys, "explain", model, *SM_90, "--json")
    layers = {layer["name"]: layer for layer in json.loads(done.out)}
    assert layers["first"]["chosen"].startswith("implicit_gemm_")
    assert layers["second"]["chosen"] == "depthwise"
    refused = {c["lowering"]: c["rejected"] for c in layers["first"]["candidates"]}
    assert "not float16" in refused["implicit_gemm"]


def test_measuring_needs_the_machine(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = convc(capsys, "explain", model, *SM_90, "--measure")
    assert done.code == 2
    assert "--measure" in done.err


def test_emitted_source_has_tensor_cores_only_where_asked(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = convc(capsys, "compile", model, *SM_90, "--emit", "cuda").out
    single = convc(capsys, "compile", model, "--target", "cuda:sm_90", "--emit", "cuda").out
    assert 'extern "C" __global__' in half
    assert "convc_wgmma_float16" in half or "convc_mma_float16(" in half
    assert "convc_mma_float32((" not in single
    assert "convc_wgmma" not in single


def test_a_module_for_another_machine(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device_build, "nvcc", Blank)
    monkeypatch.setenv("CONVC_LIBCUDA", str(tmp_path / "no-driver.so"))
    out = tmp_path / "body.so"
    done = convc(capsys, "compile", model, *SM_90, "--fast-math", "-o", out)
    assert done.code == 0, done.err
    assert "not verified" in done.out
    assert "does not run on this machine" in done.err
    text = convc(capsys, "inspect", out).out
    assert "cuda:sm_90" in text
    assert "float16" in text
    np.save(tmp_path / "image.npy", np.zeros((1, 16, 28, 28), "float32"))
    ran = convc(capsys, "run", out, "--input", f"image={tmp_path / 'image.npy'}")
    assert ran.code == 2
    assert "driver" in ran.err


def test_bfloat16_is_a_precision_and_no_dtype_of_models() -> None:
    net = Network("half", seed=0)
    x = net.unary("cast", net.input("x", (1, 8)), name="narrow", dtype="bfloat16")
    net.output(net.unary("cast", x, dtype="float32"))
    for target in ("host", "cuda:sm_90"):
        with pytest.raises(UnsupportedError, match=r"'narrow' .*bfloat16.*--precision bfloat16"):
            compile(net.graph, target=target)
