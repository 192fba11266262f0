"""What can go wrong with a GPU: each cause has its type and its words, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import gc
import re
from dataclasses import replace
from pathlib import Path

import fake_networks
import numpy as np
import pytest
from fake_driver import NATIVE, DLPackArray, FakeDriver, compile_c, manifest_of
from fake_networks import IN, OUT, SHAPE, Case

import convc
from convc.errors import (
    DeviceError,
    DeviceMemoryError,
    DriverError,
    ModuleError,
    NoDeviceError,
    OptionError,
    WrongDeviceError,
)
from convc.runtime import manifest as manifests
from convc.runtime.module import Module, missing_for
from convc.types import Array


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A module that needs every function of the driver: with weights and much shared memory."""
    case = fake_networks.pair()
    case.program.launches[0] = replace(case.program.launches[0], shared_bytes=50_000)
    case.program.weights, case.program.weights_bytes = [(0, values())], 64
    return case.write(folder, folder, "whole.so")


def values() -> Array:
    return np.arange(8, dtype="float32").reshape(SHAPE)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (
            "CONVC_LIBCUDA",
            "libabsent.so.1",
            NoDeviceError,
            r"Cannot load '.*chain\.so': The NVIDIA driver was not found: libabsent\.so\.1: .*"
            r"Install the NVIDIA driver",
        ),
        ("FAKE_CUDA_DEVICES", "0", NoDeviceError, "There is no NVIDIA GPU here. .*CUDA_VISIBLE_DEVICES"),
        (
            "FAKE_CUDA_DRIVER",
            "12080",
            DriverError,
            r"supports CUDA 12\.8, and the kernels need 13\.0 or later\. Update the NVIDIA driver",
        ),
        (
            "FAKE_CUDA_SM",
            "80",
            WrongDeviceError,
            r"Kernels for sm_90 do not run on device 0 \(Fake GPU 0\), which is sm_80\. "
            r"Compile with `--target cuda:sm_80`\.",
        ),
        (
            "FAKE_CUDA_FREE",
            "100",
            DeviceMemoryError,
            r"needs 0\.0 MiB \(weights .*, workspace .*, inputs and outputs .*\); device 0 .* of 8192\.0",
        ),
        ("FAKE_CUDA_FAIL", "cuInit:1", DriverError, r"\(cuInit\) failed with CUDA_ERROR_UNKNOWN.*nvidia-smi"),
    ],
)
def test_what_the_machine_lacks(
    name: str,
    value: str,
    error: type[Exception],
    message: str,
    chain: Path,
    driver: FakeDriver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(error, match=message):
        convc.load(chain)
    assert issubclass(error, DeviceError)


@pytest.mark.parametrize(
    ("arch", "sm", "runs"),
    [
        ("sm_80", "86", True),
        ("sm_86", "80", False),
        ("sm_80", "90", False),
        ("sm_90a", "90", True),
        ("sm_100a", "103", False),
        ("sm_100f", "103", True),
        ("sm_120", "120", True),
    ],
)
def test_which_devices_run_which_code(
    arch: str, sm: str, runs: bool, folder: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_SM", sm)
    case = fake_networks.chain()
    case.program.arch = arch
    path = case.write(folder, folder, f"{arch}_{sm}.so")
    manifest = manifest_of(case.program, case.inputs, case.outputs)
    assert (missing_for(manifest) == "") == runs
    if runs:
        convc.load(path)
    else:
        assert missing_for(manifest) == f"was built for {arch}; the GPU here is sm_{sm}"
        with pytest.raises(WrongDeviceError, match=f"for {arch} do not run .* which is sm_{sm}"):
            convc.load(path)


def test_no_gpu_at_hand(folder: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module may be made where it cannot run; calling it tells why, and works once it can."""
    case = fake_networks.chain()
    path = case.write(folder, folder, "later.so")
    manifest = manifests.read(path)
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "0")
    assert missing_for(manifest) == "was built for sm_90; there is no GPU here with a driver that works"
    module = Module(path, manifest, 1, callable_here=False)
    with pytest.raises(NoDeviceError, match="no NVIDIA GPU"):
        module(values())
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "1")
    np.testing.assert_allclose(module(values()), case.compute(values())[0])


@pytest.mark.parametrize("device", [1, -1])
def test_no_such_device(device: int, chain: Path, driver: FakeDriver) -> None:
    with pytest.raises(NoDeviceError, match=f"There is no device {device}: this process sees 1"):
        convc.load(chain, device=device)


def test_a_module_for_the_cpu_has_no_devices_and_no_streams(tmp_path: Path) -> None:
    import networks

    path = tmp_path / "cpu.so"
    convc.compile(networks.residual(), threads=1).save(path)
    with pytest.raises(OptionError, match="runs on the CPU; there is no device 1"):
        convc.load(path, device=1)
    with pytest.raises(OptionError, match=r"calls take no `stream` and no `out`\. Leave them out"):
        convc.load(path)(np.zeros((2, 3, 21, 17), "float32"), stream=3)


def test_an_incomplete_driver(folder: Path, chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = folder / "old.c", folder / "old.so"
    source.write_text("int cuInit(unsigned flags) { return (int)flags; }")
    compile_c(path, [source])
    monkeypatch.setenv("CONVC_LIBCUDA", str(path))
    with pytest.raises(DriverError, match=r"'.*old\.so' lacks the function cuDriverGetVersion\. Update"):
        convc.load(chain)


def test_lost_weights(folder: Path, chain: Path, driver: FakeDriver) -> None:
    """The manifest is there, but weights are fewer than it says."""
    path = folder / "lost.so"
    path.write_bytes(chain.read_bytes())
    manifests.read(chain).write(path, replace(manifests.weights_of(chain), nbytes=8))
    with pytest.raises(ModuleError, match=r"lost\.so' has 8 bytes of weights, its manifest says 128\."):
        convc.load(path)


def test_a_fault_of_a_kernel(folder: Path, driver: FakeDriver, capfd: pytest.CaptureFixture[str]) -> None:
    case = fake_networks.case([("overrun", [IN[0], OUT[0]])], lambda x: (x,))
    module, x = convc.load(case.write(folder, folder, "overrun.so")), driver.array(values())
    with pytest.raises(
        DeviceError, match=r"running the network failed with CUDA_ERROR_ILLEGAL_ADDRESS .*again"
    ):
        module(x)
    with pytest.raises(DeviceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        module(values())
    assert "overrun: wrote beyond its memory" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("cuModuleLoadData", "loading the code of kernel 'kernels' failed"),
        ("cuModuleGetFunction", "finding the kernel 'multiply' failed with CUDA_ERROR_UNKNOWN"),
        ("cuGraphAddKernelNode_v2", "adding to the graph the kernel 'multiply' failed"),
    ],
)
def test_failures_name_the_kernel(
    function: str, message: str, chain: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_FAIL", f"{function}:1")
    with pytest.raises(DeviceError, match=message):
        convc.load(chain)


def entry_points() -> list[str]:
    """Every function of the driver that the runtime uses."""
    return re.findall(r"^  F\((\w+),", (Path(str(NATIVE)) / "driver.h").read_text(), re.MULTILINE)


RELEASES = re.compile("Destroy|Free|Unload|Release|Pop|CtxSynchronize|GetError|PointerGetAttribute")
"""Nobody is told when these fail: things are being given up, or words are looked for."""


@pytest.mark.parametrize("function", [f for f in entry_points() if not RELEASES.search(f)])
def test_every_call_of_the_driver_may_fail(
    function: str, whole: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call in turn, until none is left to fail: an error, nothing left over, and the module goes on."""
    case, failures = fake_networks.pair(), 0
    x, y = driver.array(values()), driver.array(values() + 1)
    before = driver.live
    for number in range(1, 40):
        gc.collect()
        driver.reset()
        monkeypatch.setenv("FAKE_CUDA_FAIL", f"{function}:{number}")
        failed, module = use(whole, x, y)
        monkeypatch.delenv("FAKE_CUDA_FAIL")
        if not failed:
            break
        failures += 1
        assert driver.depth == 0
        if module is not None:
            results = module(x.values, y.values)
            for found, right in zip(results, case.compute(x.values, y.values), strict=True):
                np.testing.assert_allclose(found, right)
            del results
        module = None
        gc.collect()
        assert driver.live == before
    assert failures
    assert not failed


def test_reading_may_fail(chain: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    x = driver.array(values())
    result = convc.load(chain)(x)
    monkeypatch.setenv("FAKE_CUDA_FAIL", f"cuCtxSynchronize:{driver.calls('cuCtxSynchronize') + 1}")
    with pytest.raises(DeviceError, match="copying from the device failed with CUDA_ERROR_UNKNOWN"):
        result.numpy()
    np.testing.assert_allclose(result.numpy(), fake_networks.chain().compute(values())[0])


def test_a_failed_call_leaves_no_work_behind(
    chain: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may free his arrays at once."""
    module = convc.load(chain)
    monkeypatch.setenv("FAKE_CUDA_FAIL", "cuGraphLaunch:1")
    with pytest.raises(DeviceError, match="launching the network failed"):
        module(values())
    assert driver.pending == 0


def test_a_graph_that_was_changed_by_halves(
    pair: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three nodes could not be changed; the same call is right when it is made again."""
    module, x, y = convc.load(pair), driver.array(values()), driver.array(values() + 1)
    out = [driver.array(values()) for _ in range(2)]
    monkeypatch.setenv("FAKE_CUDA_FAIL", "cuGraphExecKernelNodeSetParams_v2:2")
    with pytest.raises(DeviceError, match="changing the arguments of kernel 'multiply' failed"):
        module(x, y, out=out)
    module(x, y, out=out)
    for found, right in zip(out, fake_networks.pair().compute(x.values, y.values), strict=True):
        np.testing.assert_allclose(found.values, right)


def use(path: Path, x: object, y: object) -> tuple[bool, Module | None]:
    """Load and run in every way. Whether that failed, and the module when it was loaded."""
    module = None
    try:
        module = convc.load(path)
        host = np.asarray(x.values), np.asarray(y.values)  # type: ignore[attr-defined]
        module(*host)
        result, _ = module(x, host[1])
        result.__dlpack__(stream=2)
        module(DLPackArray(x), y, stream=2)[0].__dlpack__(stream=1)  # type: ignore[arg-type]
        result.numpy()
        module(host[0], y, stream=2)
        module.profile({"x0": x, "x1": y}, repeat=1)
    except DeviceError as error:
        return " failed with " in error.message, module
    return False, module


@pytest.mark.parametrize("stream", ["0", True, -3, 1.5])
def test_wrong_streams_are_refused(stream: object, chain: Path, driver: FakeDriver) -> None:
    with pytest.raises(OptionError, match=r"is not a CUDA stream\. Give a stream of PyTorch or CuPy"):
        convc.load(chain)(values(), stream=stream)


def test_a_network_without_layers(folder: Path, driver: FakeDriver) -> None:
    empty = Case(replace(fake_networks.chain().program, launches=[], images={}), [], [], lambda: ())
    assert convc.load(empty.write(folder, folder, "empty.so"))() == ()


def test_the_libraries_names_are_those_of_the_toolkits_header() -> None:
    """Where a toolkit is installed: cuda.h knows every function under the name that is looked up."""
    header = Path("/usr/local/cuda/include/cuda.h")
    if not header.exists():
        pytest.skip("no CUDA toolkit")
    text = header.read_text()
    missing = [name for name in entry_points() if not re.search(rf"\b{name}\b", text)]
    assert not missing
    assert ctypes.sizeof(ctypes.c_void_p) == 8
