"""Work on several items at a time that an interrupt ends at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def together(
    work: Callable[[T], R], items: Sequence[T], workers: int, done: Callable[[], None] = lambda: None
) -> list[R]:
    """`work` of each item, in order, on up to `workers` threads; the caller's own calls `done` for each.

    The first error, or an interrupt, ends the call at once, and nothing more is begun. LLVM hears of no
    interrupt, and a pool's threads would be waited for, by the pool and at the end of the interpreter; these
    are not. Nothing is left half made: kernels are moved to their place when they are whole.
    """
    waiting: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[int, R | BaseException, bool]] = queue.SimpleQueue()
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                index, item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put((index, work(item), True))
            except BaseException as error:
                finished.put((index, error, False))

    for entry in enumerate(items):
        waiting.put(entry)
    results: dict[int, R] = {}
    try:
        for _ in range(min(max(workers, 1), len(items))):
            threading.Thread(target=serve, name=ABANDONED, daemon=True).start()
        while len(results) < len(items):
            try:
                index, result, good = finished.get(timeout=LISTENING)
            except queue.Empty:
                continue  # Python looks for signals between two steps of its own
            if not good:
                assert isinstance(result, BaseException)
                raise result
            results[index] = result  # type: ignore[assignment]
            done()
    finally:
        ended.set()
    return [results[index] for index in range(len(items))]


LISTENING = 0.2
"""Seconds of waiting at a time: a signal that the system hands to another thread does not wake the caller."""
ABANDONED = "convc kernel"
"""The name of the threads that an interrupt leaves behind."""


def any_abandoned() -> bool:
    """Whether threads are still at work that nobody waits for."""
    return any(thread.name == ABANDONED for thread in threading.enumerate())
