"""Arrays in a GPU's memory, taken and given: what is refused, who owns them, when memory is used again."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import fake_networks
import numpy as np
import pytest
from fake_driver import DLPackArray, FakeDriver, set_device
from fake_networks import SHAPE

import convc
from convc.errors import InputError
from convc.runtime.device import KEPT
from convc.types import Array


def values() -> Array:
    return np.arange(8, dtype="float32").reshape(SHAPE)


def check(result: object, *expected: Array) -> None:
    np.testing.assert_allclose(np.asarray(result), expected[0], rtol=1e-6)


class OnHost:
    """A capsule that was told that its array is on the CPU."""

    def __init__(self, capsule: object) -> None:
        self.capsule = capsule

    def __dlpack__(self, **_: object) -> object:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def test_a_consumers_stream_waits(chain: Path, driver: FakeDriver) -> None:
    module, mine, theirs = convc.load(chain), driver.stream(), driver.stream()
    x = driver.array(values())
    result = module(x, stream=mine)
    assert result.__dlpack_device__() == (2, 0)
    capsule = result.__dlpack__(stream=theirs)
    assert driver.pending > 0
    set_device(capsule, (1, 0))

    taken = np.from_dlpack(OnHost(capsule))
    driver.synchronise(theirs)
    assert (taken.shape, taken.dtype) == (SHAPE, np.float32)
    assert taken.ctypes.data == result.pointer
    del result, capsule
    gc.collect()
    check(taken, fake_networks.chain().compute(values())[0])  # NumPy keeps the memory


def test_device_arrays_copy_to_numpy(chain: Path, driver: FakeDriver) -> None:
    x = driver.array(values())
    result = convc.load(chain)(x, stream=driver.stream())
    (expected,) = fake_networks.chain().compute(values())
    assert (result.shape, result.dtype, result.nbytes) == (SHAPE, np.float32, expected.nbytes)
    check(result.numpy(), expected)
    host = result.__dlpack__(dl_device=(1, 0))
    assert "dltensor" in repr(host)
    assert np.asarray(result, "float64").dtype == np.float64
    assert "shape=(2, 4), dtype=float32, device=0" in repr(result)
    with pytest.raises(BufferError, match="not copied to device"):
        result.__dlpack__(dl_device=(2, 3))


def test_results_on_one_stream_use_two_memories(chain: Path, driver: FakeDriver) -> None:
    module, x = convc.load(chain), driver.array(values())
    before, places = driver.calls("cuMemAlloc_v2"), set()
    for _ in range(6):
        result = module(x)
        places.add(result.pointer)
    assert driver.calls("cuMemAlloc_v2") - before == len(places) == 2


def test_memory_is_not_taken_over_by_another_stream(chain: Path, driver: FakeDriver) -> None:
    module, x, one, two = convc.load(chain), driver.array(values()), driver.stream(), driver.stream()
    places = [module(x, stream=stream).pointer for stream in (one, two, one, two)]
    assert places[0] == places[2] != places[1] == places[3]


def test_results_that_others_may_use_are_not_written_again(chain: Path, driver: FakeDriver) -> None:
    """What a stream that nobody here knows may read is freed when all streams are done, and not before."""
    module, x, mine, theirs = (
        convc.load(chain),
        driver.array(values()),
        driver.stream(),
        driver.stream(),
    )
    for share in (
        lambda r: r.__dlpack__(stream=theirs),
        lambda r: r.__dlpack__(stream=-1),
        lambda r: r.__cuda_array_interface__,
    ):
        result = module(x, stream=mine)
        share(result)
        before = driver.calls("cuMemFree_v2")
        gc.collect()
        del result
        gc.collect()
        assert driver.calls("cuMemFree_v2") == before + 1
        assert driver.pending == 0


def test_few_memories_are_kept(chain: Path, driver: FakeDriver) -> None:
    module, x = convc.load(chain), driver.array(values())
    held = [module(x) for _ in range(KEPT + 3)]
    before = driver.live
    held.clear()
    assert before - driver.live == 3


def test_memory_outlives_the_module(chain: Path, driver: FakeDriver) -> None:
    module = convc.load(chain)
    result = module(driver.array(values()))
    del module
    gc.collect()
    check(result, fake_networks.chain().compute(values())[0])


def test_an_unused_capsule_frees_its_memory(chain: Path, driver: FakeDriver) -> None:
    result = convc.load(chain)(driver.array(values()))
    capsule = result.__dlpack__(stream=-1)
    before = driver.calls("cuMemFree_v2")
    del result
    assert driver.calls("cuMemFree_v2") == before
    del capsule
    assert driver.calls("cuMemFree_v2") > before


WRONG: dict[str, tuple[Callable[[FakeDriver], object], str]] = {
    "shape": (lambda d: d.array(values()[:1]), r"Input 'x0' has shape \(1, 4\), expected \(2, 4\)\. Shapes"),
    "dtype": (
        lambda d: d.array(values().astype("float64")),
        "Input 'x0' has dtype float64, expected float32",
    ),
    "byte order": (lambda d: d.array(values().astype(">f4")), "has dtype >f4, expected float32"),
    "dlpack": (lambda d: DLPackArray(d.array(values().astype("int8"))), "has dtype int8, expected float32"),
    "alignment": (lambda d: d.array(values(), offset=4), "which is not a multiple of 16. Give a copy"),
    "strides": (lambda d: _changed(d, strides=(4, 8)), r"has strides \(1, 2\), expected a contiguous array"),
    "device": (lambda d: DLPackArray(d.array(values()), 1), "on device 1, and the module on device 0. Move"),
    "host memory": (lambda d: _changed(d, pointer=4096), "at address 0x1000 is not in the memory of a GPU"),
    "elsewhere": (lambda d: Refusing(), r"Input 'x0' cannot be read through DLPack: it needs its gradient"),
}


def _changed(driver: FakeDriver, **changes: object) -> object:
    array = driver.array(values())
    for name, value in changes.items():
        setattr(array, name, value)
    return array


class Refusing:
    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: object) -> object:
        raise BufferError("it needs its gradient")


def test_finalisers_run_in_any_order(chain: Path, driver: FakeDriver) -> None:
    """A reference cycle that holds a module and its results, as the traceback of a failed call does."""
    for share in (False, True):
        cycle: list[object] = [convc.load(chain)]
        result = cycle[0](driver.array(values()))  # type: ignore[operator]
        if share:
            result.__dlpack__(stream=-1)
        cycle += [result, cycle]
        before = driver.live
        del cycle, result
        gc.collect()
        assert driver.live < before


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_refused(case: str, chain: Path, driver: FakeDriver) -> None:
    make, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        convc.load(chain)(make(driver))


def test_wrong_outputs_are_refused(pair: Path, driver: FakeDriver) -> None:
    module, x, y = convc.load(pair), driver.array(values()), driver.array(values())
    good, locked = driver.array(values()), _changed(driver, read_only=True)
    for out, message in (
        ([good], "1 arrays were given in `out` for 2 outputs"),
        ([good, values()], "Output 'y1' is to go into an array that is not on a GPU"),
        ([good, locked], "Output 'y1' is read-only"),
        ([good, good], "Output 'y1' overlaps an input or another output"),
        ([x, good], "Output 'y0' overlaps an input"),
        ([good, driver.array(values()[:1])], r"Output 'y1' has shape \(1, 4\)"),
    ):
        with pytest.raises(InputError, match=message):
            module(x, y, out=out)
