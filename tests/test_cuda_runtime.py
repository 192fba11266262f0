"""CUDA modules as users meet them, on a driver without a device (tests/support/fake_cuda)."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_networks
import numpy as np
import pytest
from fake_driver import Context, DLPackArray, FakeDriver
from fake_networks import SHAPE, Case

import convc
from convc.runtime.device_array import DeviceArray
from convc.types import Array

CASES = {"chain": fake_networks.chain, "diamond": fake_networks.diamond, "pair": fake_networks.pair}


@pytest.fixture(scope="module")
def files(folder: Path, chain: Path, pair: Path) -> dict[str, Path]:
    diamond = fake_networks.diamond().write(folder, folder, "diamond.so")
    return {"chain": chain, "diamond": diamond, "pair": pair}


def values(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype("float32")


def inputs(case: Case, seed: int = 0) -> list[Array]:
    return [values(seed + i) for i in range(len(case.inputs))]


def as_list(results: object) -> list[object]:
    return list(results) if isinstance(results, tuple) else [results]


def check(results: object, expected: tuple[Array, ...]) -> None:
    for result, right in zip(as_list(results), expected, strict=True):
        np.testing.assert_allclose(np.asarray(result), right, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_numpy_in_numpy_out(name: str, files: dict[str, Path], driver: FakeDriver) -> None:
    case, module = CASES[name](), convc.load(files[name])
    for seed in range(3):
        results = module(*inputs(case, seed))
        assert all(isinstance(r, np.ndarray) for r in as_list(results))
        check(results, case.compute(*inputs(case, seed)))
    feeds = {t.name: x for t, x in zip(case.inputs, inputs(case), strict=True)}
    check(tuple(module.run(None, feeds)), case.compute(*inputs(case)))
    assert driver.calls("cuGraphExecKernelNodeSetParams_v2") == 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("offer", [lambda a: a, DLPackArray], ids=["interface", "dlpack"])
def test_arrays_on_the_device_are_used_in_place(
    name: str, offer: Callable[..., object], files: dict[str, Path], driver: FakeDriver
) -> None:
    case, module = CASES[name](), convc.load(files[name])
    copies = driver.calls("cuMemcpyHtoDAsync_v2"), driver.calls("cuMemcpyDtoHAsync_v2")
    for seed in range(3):  # other arrays in each call
        given = [driver.array(x) for x in inputs(case, seed)]
        results = module(*map(offer, given))
        assert driver.pending == 0, "without a stream the results are there"
        assert (driver.calls("cuMemcpyHtoDAsync_v2"), driver.calls("cuMemcpyDtoHAsync_v2")) == copies
        assert all(isinstance(r, DeviceArray) for r in as_list(results))
        check(results, case.compute(*inputs(case, seed)))
        copies = driver.calls("cuMemcpyHtoDAsync_v2"), driver.calls("cuMemcpyDtoHAsync_v2")


def test_only_nodes_whose_arrays_moved_are_changed(files: dict[str, Path], driver: FakeDriver) -> None:
    module = convc.load(files["pair"])
    x, y, z = (driver.array(values(i)) for i in range(3))
    out = [driver.array(values()) for _ in range(2)]

    def changed(*arrays: object) -> int:
        before = driver.calls("cuGraphExecKernelNodeSetParams_v2")
        module(*arrays, out=out)
        return driver.calls("cuGraphExecKernelNodeSetParams_v2") - before

    assert changed(x, y) == 3
    assert changed(x, y) == 0
    assert changed(z, y) == 2  # the last of the three kernels takes no input
    check(tuple(o.values for o in out), fake_networks.pair().compute(z.values, y.values))


def test_out_is_written_and_returned(files: dict[str, Path], driver: FakeDriver) -> None:
    module, case = convc.load(files["pair"]), fake_networks.pair()
    x, y = inputs(case)
    out = [driver.array(values()), DLPackArray(driver.array(values()))]
    results = module(x, driver.array(y), out=out)
    assert all(given is got for given, got in zip(out, results, strict=True))
    check((out[0].values, out[1].array.values), case.compute(x, y))  # type: ignore[union-attr]
    single = driver.array(values())
    assert convc.load(files["chain"])(x, out=single) is single
    check(single.values, fake_networks.chain().compute(x))


def test_host_and_device_inputs_mix(files: dict[str, Path], driver: FakeDriver) -> None:
    module, case = convc.load(files["pair"]), fake_networks.pair()
    x, y = inputs(case)
    for given in ((x, driver.array(y)), (driver.array(x), y)):
        results = module(*given)
        assert all(isinstance(r, DeviceArray) for r in results)
        check(results, case.compute(x, y))
    check(module(x, y), case.compute(x, y))


class AnyStream:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@pytest.mark.parametrize(
    "wrap",
    [int, lambda s: SimpleNamespace(cuda_stream=s), lambda s: SimpleNamespace(ptr=s), AnyStream],
    ids=["number", "torch", "cupy", "protocol"],
)
def test_a_call_on_a_stream_does_not_wait(
    wrap: Callable[[int], object], files: dict[str, Path], driver: FakeDriver
) -> None:
    module, case, stream = convc.load(files["chain"]), fake_networks.chain(), driver.stream()
    x, out = DLPackArray(driver.array(values())), driver.array(values())
    module(x, stream=wrap(stream), out=out)
    assert x.streams == [stream]
    assert driver.pending > 0
    driver.synchronise(stream)
    check(out.values, case.compute(values()))


def test_numpy_results_are_there_whatever_the_stream(files: dict[str, Path], driver: FakeDriver) -> None:
    result = convc.load(files["chain"])(values(), stream=driver.stream())
    assert isinstance(result, np.ndarray)
    check(result, fake_networks.chain().compute(values()))


def test_host_inputs_have_been_read_when_a_call_returns(files: dict[str, Path], driver: FakeDriver) -> None:
    module, case, stream = convc.load(files["pair"]), fake_networks.pair(), driver.stream()
    x, y = inputs(case)
    given, there, out = x.copy(), driver.array(y), [driver.array(values()) for _ in range(2)]
    module(given, there, stream=stream, out=out)
    given[...] = 0
    driver.synchronise(stream)
    check(tuple(o.values for o in out), case.compute(x, y))


def test_streams_share_the_workspace_one_after_the_other(files: dict[str, Path], driver: FakeDriver) -> None:
    """The second call's stream is waited for alone; it runs the first call's work on the other one first."""
    module, case = convc.load(files["diamond"]), fake_networks.diamond()
    streams = [driver.stream() for _ in range(3)]
    given = [driver.array(values(i)) for i in range(3)]
    out = [driver.array(values()) for _ in range(3)]
    for x, y, stream in zip(given, out, streams, strict=True):
        module(x, stream=stream, out=y)
    driver.synchronise(streams[2])
    for x, y in zip(given, out, strict=True):
        check(y.values, case.compute(x.values))


class Interface:
    """An array without DLPack."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return self.array.__cuda_array_interface__


@pytest.mark.parametrize("offer", [lambda a: a, Interface], ids=["dlpack", "interface"])
def test_a_producers_stream_is_waited_for(
    offer: Callable[..., object], files: dict[str, Path], driver: FakeDriver
) -> None:
    """The first network's result is an input of the second, on another stream."""
    first, second, one, two = (
        convc.load(files["chain"]),
        convc.load(files["diamond"]),
        driver.stream(),
        driver.stream(),
    )
    x, out = driver.array(values()), driver.array(values())
    second(offer(first(x, stream=one)), stream=two, out=out)
    driver.synchronise(two)
    check(out.values, fake_networks.diamond().compute(*fake_networks.chain().compute(values())))


def test_threads_and_streams_together(files: dict[str, Path], driver: FakeDriver) -> None:
    case, module = fake_networks.diamond(), convc.load(files["diamond"])
    wrong: list[int] = []

    def call(index: int) -> None:
        stream, x = driver.stream(), values(index)
        for turn in range(30):
            given = driver.array(x) if (index + turn) % 2 else x
            found = np.asarray(module(given, stream=stream if index % 3 else None))
            if not np.allclose(found, case.compute(x)[0], rtol=1e-6):
                wrong.append(index)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", CASES)
def test_profile(name: str, files: dict[str, Path], driver: FakeDriver) -> None:
    case, module = CASES[name](), convc.load(files[name])
    for wrap in (lambda x: x, driver.array):
        feeds = {t.name: wrap(x) for t, x in zip(case.inputs, inputs(case), strict=True)}
        times = module.profile(feeds, repeat=3)
        assert len(times) == len(module.manifest.steps)
        assert all(0 < t < 1 for t in times)
    assert driver.calls("cuLaunchKernel") == 6 * len(case.program.launches)
    check(module(*inputs(case, 5)), case.compute(*inputs(case, 5)))


def test_the_callers_context_stays_current(files: dict[str, Path], driver: FakeDriver) -> None:
    with Context(driver):
        module = convc.load(files["chain"])
        module(values())
        assert driver.depth == 1
        del module
        gc.collect()
        assert driver.depth == 1


def test_a_module_may_be_opened_on_several_devices(
    files: dict[str, Path], driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    modules = [convc.load(files["chain"], device=i) for i in (0, 1, 1)]
    for device, module in zip((0, 1, 1), modules, strict=True):
        result = module(driver.array(values(), device=device))
        assert result.device == device
        check(result, fake_networks.chain().compute(values()))


def test_large_shared_memory_is_asked_for(folder: Path, driver: FakeDriver) -> None:
    case = fake_networks.case([("greedy", [fake_networks.IN[0], fake_networks.OUT[0]])], lambda x: (x,))
    case.program.launches[0] = replace(case.program.launches[0], shared_bytes=100_000)
    module = convc.load(case.write(folder, folder, "greedy.so"))
    check(module(values()), (values(),))


def test_a_child_of_fork_ends_in_peace(files: dict[str, Path], driver: FakeDriver) -> None:
    """The tests' driver aborts when a child calls it; a call in the child is refused in words."""
    code = f"""
import os, sys, numpy as np, convc
from convc.errors import DeviceError
module = convc.load({str(files["chain"])!r})
x = np.ones({SHAPE}, "float32")
y = module(x)
child = os.fork()
if not child:
    try:
        module(x)
    except DeviceError as error:
        print(error, flush=True)
    del module
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (module(x) == y).all())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be used across a fork. Load the module in each process" in done.stdout
    assert done.stdout.endswith("\n7 True\n")
