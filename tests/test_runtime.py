"""Modules as users meet them: loading, checking, calling, saving, several threads."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import pytest
from other_manifest import write_with

import convc
from convc.errors import InputError, ModuleError, OptionError
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.runtime import manifest as manifests
from convc.verify import compare, random_inputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("module") / "residual.so"
    convc.compile(networks.residual(), threads=2).save(path)
    return path


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    return random_inputs(networks.residual())


def test_round_trip(saved: Path, feeds: dict[str, np.ndarray]) -> None:
    module = convc.load(saved, threads=1)
    (image,) = module.inputs
    assert (image.name, image.shape, image.dtype) == ("image", (2, 3, 21, 17), "float32")
    expected = evaluate(networks.residual(), feeds)
    assert max(compare(module.run(None, feeds), expected)) < 1e-4
    assert max(compare([module(feeds["image"])], expected)) < 1e-4


def test_strided_misaligned_and_dlpack_inputs_are_handled(saved: Path, feeds: dict[str, np.ndarray]) -> None:
    module = convc.load(saved)
    x = feeds["image"]
    expected = module(x)
    strided = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    assert not strided.flags.c_contiguous
    raw = np.empty(x.nbytes + 1, np.uint8)
    odd = raw[1:].view(np.uint8)
    odd[:] = np.frombuffer(x.tobytes(), np.uint8)
    misaligned = odd.view("float32").reshape(x.shape)
    assert not misaligned.flags.aligned

    class Capsule:
        def __dlpack__(self, **options: object) -> object:
            return x.__dlpack__()

        def __dlpack_device__(self) -> object:
            return x.__dlpack_device__()

    for given in (strided, misaligned, Capsule(), np.asfortranarray(x)):
        np.testing.assert_array_equal(module(given), expected)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (
            {"image": np.zeros((2, 3, 21, 17))},
            r"Input 'image' has dtype float64, expected float32\. .*astype",
        ),
        (
            {"image": np.zeros((1, 3, 21, 17), "float32")},
            r"has shape \(1, 3, 21, 17\), expected \(2, 3, 21, 17\)",
        ),
        ({"picture": np.zeros(1)}, r"no input named 'picture'\. The inputs are image"),
        ({}, r"No array was given for input 'image'"),
    ],
)
def test_wrong_inputs_are_refused(saved: Path, feeds: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convc.load(saved).run(None, feeds)


def test_wrong_output_name(saved: Path, feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="no output named 'nothing'"):
        convc.load(saved).run(["nothing"], feeds)


def test_wrong_thread_count(saved: Path) -> None:
    with pytest.raises(OptionError, match="threads=0"):
        convc.load(saved, threads=0)


def test_truncated_and_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    for name, content in {"short.so": data[:-100], "empty.so": b"", "foreign.so": b"x" * 5000}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ModuleError, match="not a convc module"):
            convc.load(path)
    with pytest.raises(ModuleError, match=r"Cannot read .*No such file"):
        convc.load(tmp_path / "absent.so")


def _with_target(saved: Path, path: Path, **changes: object) -> Path:
    """A copy of the module whose manifest asks for another machine."""
    manifest = manifests.read(saved)
    return write_with(saved, replace(manifest, target={**manifest.target, **changes}), path)


def test_module_for_another_machine_is_a_typed_error(saved: Path, tmp_path: Path) -> None:
    path = _with_target(saved, tmp_path / "future.so", mcpu="future", features=["avx2", "avx9999"])
    lacking = r"built for future and needs avx9999, which this processor lacks\. Compile"
    with pytest.raises(ModuleError, match=lacking):
        convc.load(path)
    path = _with_target(saved, tmp_path / "arm.so", triple="aarch64-linux-gnu")
    with pytest.raises(ModuleError, match="was built for aarch64"):
        convc.load(path)


def test_two_threads_may_call_one_module(saved: Path) -> None:
    module = convc.load(saved, threads=2)
    inputs = [random_inputs(networks.residual(), seed) for seed in range(4)]
    expected = [module.run(None, f)[0] for f in inputs]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(module.run(None, inputs[index])[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_affinity_and_environment_of_the_caller_survive(saved: Path, feeds: dict[str, np.ndarray]) -> None:
    import os

    before = os.sched_getaffinity(0), dict(os.environ)
    convc.load(saved, threads=2).run(None, feeds)
    assert (os.sched_getaffinity(0), dict(os.environ)) == before


def test_running_imports_no_compiler(saved: Path) -> None:
    """Even where torch is installed: a package of that name would be found first, and would be noticed."""
    code = (
        "import sys, json, numpy as np, convc\n"
        f"m = convc.load({str(saved)!r}, threads=2); m(np.zeros((2, 3, 21, 17), 'float32'))\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(json.dumps([sorted({n.split('.')[0] for n in sys.modules} & "
        "{'tvm', 'tvm_ffi', 'torch', 'onnx', 'networkx', 'rich', 'click'}), 'libtvm' in maps]))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], False]


def test_save_replaces_whole_files_or_nothing(saved: Path, tmp_path: Path) -> None:
    module = convc.load(saved)
    with pytest.raises(OptionError, match="Cannot write"):
        module.save(tmp_path / "absent" / "x.so")
    (tmp_path / "x.so").write_bytes(b"old")
    module.save(tmp_path / "x.so")
    assert manifests.read(tmp_path / "x.so") == module.manifest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.so"]


def test_calls_release_their_scratch_memory() -> None:
    """A kernel with several parallel phases keeps its intermediate tensors in scratch: 0.9 MB each here."""
    net = Network("phases", seed=0)
    x = net.input("image", (1, 128, 28, 28))
    net.output(net.conv(x, 128, 3, padding=1, name="conv"))
    module = convc.compile(net.graph, threads=2, algorithms={"conv": "winograd4"})
    feeds = random_inputs(net.graph)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(20):
        module.run(None, feeds)
    before = resident()
    for _ in range(200):
        module.run(None, feeds)
    assert resident() - before < 10 << 20  # 200 leaks of one tensor would take 180 MB
