"""Several kernels at a time: results in order, errors and interrupts at once."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from convc.codegen.together import any_abandoned, together


def test_results_are_in_order_however_long_each_takes() -> None:
    heard: list[int] = []
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            second.wait()  # until the next has been done
        if item == 1:
            second.set()
        return 10 * item

    assert together(work, range(5), 2, lambda: heard.append(1)) == [0, 10, 20, 30, 40]
    assert len(heard) == 5
    assert together(work, [], 4) == []


def test_an_interrupt_waits_for_nothing_and_begins_nothing() -> None:
    """Two that never end are at work when it comes; eight wait."""
    release, begun = threading.Event(), []
    both = threading.Barrier(2)

    def work(item: int) -> None:
        begun.append(item)
        if both.wait() == 0:
            os.kill(os.getpid(), signal.SIGINT)
        release.wait()

    with pytest.raises(KeyboardInterrupt):
        together(work, range(10), 2)
    left = [thread for thread in threading.enumerate() if thread.daemon and thread.name == "convc kernel"]
    assert any_abandoned()
    release.set()
    for thread in left:
        thread.join()
    assert sorted(begun) == [0, 1]
    assert not any_abandoned()


def test_the_first_error_ends_the_call() -> None:
    release, begun = threading.Event(), []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("the second")
        release.wait()

    with pytest.raises(ValueError, match="the second"):
        together(work, range(10), 2)
    release.set()
    assert len(begun) <= 3
