"""The memory of outputs: used again when nobody holds it, never before."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import networks
import numpy as np
import pytest

import convc
from convc.errors import InputError
from convc.runtime.arrays import ALIGNMENT, KEPT, Frame, Frames, Reader, address
from convc.runtime.manifest import TensorInfo
from convc.runtime.module import Module
from convc.types import Array
from convc.verify import random_inputs

OUTPUTS = (
    TensorInfo("map", (3, 4), "float32"),
    TensorInfo("count", (), "int64"),
    TensorInfo("none", (0, 5), "bool"),
)


@pytest.fixture(scope="module")
def module() -> Module:
    return convc.compile(networks.residual())


@pytest.fixture(scope="module")
def images() -> list[Array]:
    return [random_inputs(networks.residual(), seed=seed)["image"] for seed in range(3)]


def test_outputs_are_as_declared_and_aligned():
    for info, found in zip(OUTPUTS, Frame(1, OUTPUTS).results(), strict=True):
        assert (found.shape, found.dtype) == (info.shape, info.dtype)
        assert not found.size or found.ctypes.data % ALIGNMENT == 0
        assert found.flags.writeable


@pytest.mark.parametrize(
    "hold",
    [lambda a: a, lambda a: a[1:, ::2].T, memoryview, np.from_dlpack, lambda a: a.view("int32").reshape(-1)],
    ids=["itself", "a view of a view", "a buffer", "DLPack", "another dtype"],
)
def test_a_frame_is_idle_when_nobody_holds_its_outputs(hold: Callable[[Array], object]):
    frame = Frame(1, OUTPUTS)
    assert frame.idle
    held = hold(frame.results()[0])
    assert not frame.idle
    del held
    assert frame.idle


def test_frames_come_back_unless_they_are_held():
    frames = Frames(1, OUTPUTS)
    first = frames.take()
    results = first.results()
    frames.give_back(first)
    second = frames.take()
    assert second is not first
    frames.give_back(second)
    del results
    assert {frames.take(), frames.take()} == {first, second}


def test_no_more_frames_are_kept_than_callers_need():
    frames = Frames(1, OUTPUTS)
    taken = [frames.take() for _ in range(KEPT + 3)]
    assert len(set(taken)) == KEPT + 3
    for frame in taken:
        frames.give_back(frame)
    assert {frames.take() for _ in range(KEPT)} == set(taken[-KEPT:])
    assert frames.take() not in taken


def test_a_loop_that_replaces_its_result_uses_two_memories(module: Module, images: list[Array]):
    places = set()
    for _ in range(6):
        result = module(images[0])
        places.add(address(result))
    assert len(places) == 2


def test_results_that_are_kept_stay_as_they_are(module: Module, images: list[Array]):
    first = [module(image) for image in images]
    copies = copy.deepcopy(first)
    for image in reversed(images):
        module(image)[...] = np.nan
    for kept, expected in zip(first, copies, strict=True):
        np.testing.assert_array_equal(kept, expected)
    assert len({address(kept) for kept in first}) == len(images)


def test_threads_do_not_share_outputs(module: Module, images: list[Array]):
    expected = [module(image) for image in images]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(20):
            if not np.array_equal(module(images[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(images)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_addresses_are_where_numpy_says():
    locked = np.zeros((2, 3))
    locked.setflags(write=False)
    for array in (np.zeros((2, 3), "float32"), np.zeros(()), locked):
        assert address(array) == array.ctypes.data


def test_a_reader_copies_only_what_it_must():
    reader = Reader(TensorInfo("image", (2, 3), "float32"))
    plain = np.ones((2, 3), "float32")
    locked = plain.copy()
    locked.setflags(write=False)
    assert reader.read(plain) is plain
    assert reader.read(locked) is locked
    assert reader.read(np.ones((3, 2), "float32").T).flags.c_contiguous
    swapped = plain.astype(">f4")
    for wrong, message in ((plain[:1], "has shape"), (swapped, "has dtype"), ([[1, 2, 3]] * 2, "has dtype")):
        with pytest.raises(InputError, match=f"Input 'image'.*{message}"):
            reader.read(wrong)
