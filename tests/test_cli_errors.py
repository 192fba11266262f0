"""Bad input: one clear line on standard error, exit status 2, and nothing left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import Result, convc
from onnx import TensorProto, helper
from other_manifest import write_with

from convc.frontends.builder import Network
from convc.frontends.onnx import to_onnx
from convc.runtime import manifest as manifests

CONVC = (sys.executable, "-I", "-c", "from convc.cli import main; main()")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = Network("small", seed=1)
    x = net.input("image", (1, 3, 8, 8))
    net.output(net.relu(net.conv(x, 16, 3, padding=1, name="first")), "result")
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(to_onnx(net.graph), path)
    return path


@pytest.fixture(scope="module")
def module(model: Path) -> Path:
    out = model.with_suffix(".so")
    subprocess.run([*CONVC, "compile", str(model), "-o", str(out)], capture_output=True, check=True)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where outputs go; must stay empty."""
    path = tmp_path / "out"
    path.mkdir()
    return path


def assert_refused(result: Result, *parts: str) -> None:
    assert result.code == 2, result
    assert result.err.startswith("convc: error: ")
    assert result.err.count("\n") == 1
    assert result.err.endswith("\n")
    assert "Traceback" not in result.err
    for part in parts:
        assert part in result.err, result.err


def assert_compile_refused(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    path: Path,
    *parts: str,
    options: tuple[object, ...] = (),
) -> None:
    assert_refused(convc(capsys, "compile", path, "-o", folder / "m.so", *options), *parts)
    assert not list(folder.iterdir())


def test_truncated_model(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.onnx"
    path.write_bytes(model.read_bytes()[:-200])
    assert_compile_refused(capsys, folder, path, "short.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\x00" * 1000, b"import torch\n" * 50])
def test_file_that_is_not_onnx(
    content: bytes, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    assert_compile_refused(capsys, folder, path, "other.onnx")


def test_absent_model_and_folder_as_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_compile_refused(capsys, folder, tmp_path / "absent.onnx", "absent.onnx")
    assert_compile_refused(capsys, folder, tmp_path, str(tmp_path))


def _external(model: Path, path: Path, location: str) -> None:
    """The model with its first weight in another file."""
    proto = onnx.load(model)
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("location", ["weights.bin", "../secret.bin", "/etc/passwd"])
def test_external_data_absent_or_outside(
    location: str, model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 10_000)
    path = tmp_path / "models" / "external.onnx"
    _external(model, path, location)
    assert_compile_refused(capsys, folder, path, location)


def test_all_unsupported_operators_are_named_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    nodes = [
        helper.make_node("NonMaxSuppression", ["x", "x"], ["a"], name="boxes"),
        helper.make_node("Det", ["x"], ["b"], name="determinant"),
        helper.make_node(
            "MaxPool", ["x"], ["c", "indices"], name="pool", kernel_shape=[2, 2], storage_order=1
        ),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("a", "b", "c", "indices")]
    graph = helper.make_graph(nodes, "odd", [x], outputs)
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    names = ("boxes", "NonMaxSuppression", "determinant", "Det", "pool", "17")
    assert_compile_refused(capsys, folder, path, *names)
    checked = convc(capsys, "check", path)
    assert checked.code == 2
    assert all(name in checked.out for name in names)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--algo", "frist=direct"), ("--algo", "'frist'", "first")),
        (("--algo", "first=quick"), ("no lowering 'quick'", "direct")),
        (("--algo", "first"), ("--algo 'first' is not LAYER=LOWERING",)),
        (("--target", "pentium9"), ("pentium9",)),
        (("--target", "cuda:sm_75"), ("cuda:sm_75", "sm_80, sm_86, sm_89, sm_90")),
        (("--target", "cuda:sm_90", "--precision", "half"), ("--precision 'half'", "float16")),
        (("--precision", "float16"), ("--precision float16", "'host'", "cuda:sm_90")),
        (("--target", "riscv64-linux-gnu:generic-rv64"), ("riscv64",)),
        (("--input-shapes", "image:axb"), ("--input-shapes 'image:axb'",)),
        (("--input-shapes", "picture:1x3x8x8"), ("picture",)),
        (("--max-error", "-1"), ("--max-error",)),
        (("--threads", "0"), ("--threads",)),
        (("--emit", "everything"), ("--emit",)),
        (("--fast",), ("--fast",)),
    ],
)
def test_impossible_options(
    options: tuple[str, ...],
    parts: tuple[str, ...],
    model: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert_compile_refused(capsys, folder, model, *parts, options=options)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--target", "cuda:sm_90", "--emit", "asm"), ("--emit asm", "cuda, ptx, sass")),
        (("--emit", "ptx"), ("--emit ptx", "'host'", "llvm, asm")),
    ],
)
def test_stages_that_a_target_does_not_have(
    options: tuple[str, ...], parts: tuple[str, ...], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(convc(capsys, "compile", model, *options), *parts)


def test_unwritable_outputs(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (tmp_path / "absent" / "m.so", folder, Path("/proc/m.so")):
        assert_refused(convc(capsys, "compile", model, "-o", out), "Cannot write", str(out))
    assert not list(folder.iterdir())


def test_disk_that_is_full(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convc.runtime.manifest import Manifest

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Manifest, "write", write)
    assert_compile_refused(capsys, folder, model, "No space left")


def test_no_c_compiler(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc")
    monkeypatch.setenv("PATH", "")
    assert_compile_refused(capsys, folder, model, "No C compiler", "/nonexistent/cc")


def test_compiler_that_fails(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    assert_compile_refused(capsys, folder, model, "'false' failed", "CC")


def test_failed_verification_leaves_nothing(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convc.judge import Judgement

    monkeypatch.setattr(Judgement, "right", False)
    assert_compile_refused(capsys, folder, model, "off by", "Nothing was written")


def test_old_module_survives_a_failed_compilation(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "m.so").write_bytes(b"old")
    assert_refused(convc(capsys, "compile", model, "-o", folder / "m.so", "--algo", "none=direct"))
    assert (folder / "m.so").read_bytes() == b"old"


INTERRUPTED = """
import os, signal, threading
from convc.codegen import cache
from convc.cli import main

kernels, main_process, get = [], os.getpid(), cache.ObjectCache.get

def interrupted(self, name, write):
    def stopped(path):
        if name.startswith("convc_") and not kernels:
            kernels.append(name)
            os.kill(main_process, signal.SIGINT)
            threading.Event().wait()
        write(path)
    return get(self, name, stopped)

cache.ObjectCache.get = interrupted
main()
"""
"""convc, and Ctrl-C when it begins to make the first kernel, which is never finished."""


def test_interrupt_leaves_nothing(model: Path, folder: Path, tmp_path: Path) -> None:
    """Ctrl-C while kernels are compiled, into an empty cache: at a known stage, however fast that is."""
    _assert_interrupted(INTERRUPTED, model, folder, CONVC_CACHE=str(tmp_path / "cache"))


@pytest.mark.usefixtures("module")  # so that its objects are in the cache
def test_interrupt_while_linking_leaves_nothing(model: Path, folder: Path, tmp_path: Path) -> None:
    """Ctrl-C from the compiler that links: the module is half made by then."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-shared*) kill -INT $PPID;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    _assert_interrupted(CONVC[-1], model, folder, CC=str(compiler))


def _assert_interrupted(program: str, model: Path, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        [*CONVC[:-1], program, "compile", str(model), "-o", str(folder / "m.so")],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 130, done
    assert "Traceback" not in done.stderr
    assert not list(folder.iterdir())


def _run(capsys: pytest.CaptureFixture[str], module: Path, folder: Path, *inputs: str) -> Result:
    options = [option for item in inputs for option in ("--input", item)]
    result = convc(capsys, "run", module, *options, "--output", folder / "y.npz")
    assert not list(folder.iterdir())
    return result


def test_wrong_inputs(module: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.npy"
    np.save(good, np.zeros((1, 3, 8, 8), "float32"))
    np.save(tmp_path / "shape.npy", np.zeros((1, 3, 9, 8), "float32"))
    np.save(tmp_path / "dtype.npy", np.zeros((1, 3, 8, 8)))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "several.npz", a=np.zeros(1), b=np.zeros(1))
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1024), }\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    for inputs, parts in {
        (f"picture={good}",): ("'picture'", "image"),
        (): ("'image'", "float32[1,3,8,8]"),
        (f"image={tmp_path / 'shape.npy'}",): ("(1, 3, 9, 8)", "(1, 3, 8, 8)"),
        (f"image={tmp_path / 'dtype.npy'}",): ("float64", "float32"),
        (f"image={tmp_path / 'text.npy'}",): ("text.npy", "numpy.save"),
        (f"image={tmp_path / 'objects.npy'}",): ("objects.npy",),
        (f"image={tmp_path / 'zip.npy'}",): ("zip.npy", "numpy.save"),
        (f"image={tmp_path / 'several.npz'}",): ("several arrays", "numpy.save"),
        (f"image={tmp_path / 'huge.npy'}",): ("huge.npy",),
        (f"image={tmp_path / 'absent.npy'}",): ("absent.npy",),
        (f"image={tmp_path}",): (str(tmp_path),),
        (str(good),): ("NAME=FILE.npy",),
    }.items():
        assert_refused(_run(capsys, module, folder, *inputs), *parts)
    out = tmp_path / "absent" / "y.npz"
    assert_refused(convc(capsys, "run", module, "--input", f"image={good}", "--output", out), "Cannot write")


def test_module_for_another_machine(module: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = folder.parent / "other.so"
    manifest = manifests.read(module)
    target = {**manifest.target, "mcpu": "future", "features": ["avx9999"]}
    write_with(module, replace(manifest, target=target), other)
    assert_refused(_run(capsys, other, folder), "built for future and needs avx9999")
    assert "future" in convc(capsys, "inspect", other).out  # reading about it is fine
    assert_refused(convc(capsys, "bench", other, "--rounds", 1), "avx9999")


@pytest.mark.parametrize("verb", ["run", "inspect", "explain", "bench"])
def test_file_that_is_no_module(
    verb: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "false.so"
    path.write_bytes(b"\x7fELF" + bytes(500))
    assert_refused(convc(capsys, verb, path), "false.so")
    assert_refused(convc(capsys, verb, tmp_path / "absent.so"), "absent.so")


def test_verify_against_another_model(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Network("other")
    net.output(net.relu(net.input("picture", (1, 4))))
    path = tmp_path / "other.onnx"
    onnx.save(to_onnx(net.graph), path)
    assert_refused(convc(capsys, "verify", module, "--against", path))


def test_unknown_engine_and_missing_model(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(convc(capsys, "bench", module, "--vs", "tensorflow"), "tensorflow", "onnxruntime")
    assert_refused(convc(capsys, "bench", module, "--vs", "onnxruntime"), "--model")
    assert_refused(convc(capsys, "explain", module, "--layer", "frist"), "frist", "first")
    assert_refused(convc(capsys, "explain", module, "--algo", "first=direct"), "MODEL.onnx")
    assert_refused(convc(capsys, "explode"), "explode")


def test_reader_that_goes_away(module: Path) -> None:
    """`convc ... | head -0`: no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [*CONVC, "inspect", str(module), "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert process.returncode == 1
    assert process.stderr == ""
