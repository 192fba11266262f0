"""Threads of modules: how many run, who shares them, and that the caller's surroundings stay as they were."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import networks
import pytest

import convc

NATIVE = resources.files("convc.codegen").joinpath("native")
TASK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int32), ctypes.c_void_p)


class Pool:
    """`threads.c` by itself, driven from Python: a loop's tasks are Python functions."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def begin(self, threads: int) -> None:
        self._library.begin_call(threads)

    def end(self) -> None:
        self._library.end_call()

    def loop(self, failing: int | None = None) -> tuple[int, list[tuple[int, int, int]]]:
        """Run one parallel loop: its status, and (id, number of tasks, thread) of each task, by id."""
        seen: list[tuple[int, int, int]] = []

        def task(number: int, environment: Any, data: Any) -> int:
            seen.append((number, environment[2], threading.get_native_id()))  # behind a pointer of 8 bytes
            return -1 if number == failing else 0

        status = self._library.parallel_launch(TASK(task), None, 0)
        return status, sorted(seen)

    def widths(self) -> int:
        """The number of tasks of a loop, each of which ran once, on a thread of its own."""
        status, tasks = self.loop()
        assert status == 0
        assert [t[0] for t in tasks] == list(range(len(tasks)))
        assert {t[1] for t in tasks} == {len(tasks)}
        assert len({t[2] for t in tasks}) == len(tasks)
        assert tasks[0][2] == threading.get_native_id()
        return len(tasks)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    library = tmp_path_factory.mktemp("pool") / "threads.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = ["-shared", "-fPIC", "-pthread", "-O2", "-Wall", "-Wextra", "-Werror", "-Wl,-z,nodelete"]
    subprocess.run([*compiler, *flags, "-o", str(library), str(NATIVE / "threads.c")], check=True)
    return Pool(library)


@pytest.fixture
def two_processors() -> Iterator[None]:
    """At most two processors for this process."""
    before = os.sched_getaffinity(os.getpid())
    os.sched_setaffinity(os.getpid(), sorted(before)[:2])
    yield
    os.sched_setaffinity(os.getpid(), before)


@pytest.mark.parametrize("threads", [1, 2, 7, 3])
def test_a_call_alone_has_exactly_its_threads(pool: Pool, threads: int) -> None:
    pool.begin(threads)
    assert [pool.widths() for _ in range(3)] == [threads] * 3
    pool.end()
    assert pool.widths() == 1  # outside of calls


def test_the_same_part_goes_to_the_same_thread(pool: Pool) -> None:
    """What a thread wrote in one loop is in its caches in the next, and in the next call."""
    workers = set()
    for _ in range(3):
        pool.begin(3)
        workers |= {tuple(t[2] for t in pool.loop()[1]) for _ in range(3)}
        pool.end()
    assert len(workers) == 1


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_failed_task_is_reported_once(pool: Pool, failing: int) -> None:
    before = os.sched_getaffinity(0), dict(os.environ)
    pool.begin(3)
    assert pool.loop(failing)[0] != 0
    assert pool.loop()[0] == 0
    pool.end()
    assert (os.sched_getaffinity(0), dict(os.environ)) == before


def test_calls_at_once_share_the_processors(pool: Pool, two_processors: None) -> None:
    """A second call gets no worker; the first gives its own back, and takes one again when it next begins."""
    with ThreadPoolExecutor(1) as other:
        pool.begin(2)
        assert pool.widths() == 2
        other.submit(pool.begin, 2).result()
        assert other.submit(pool.widths).result() == 1
        assert pool.widths() == 1
        other.submit(pool.end).result()
        assert pool.widths() == 1  # what others do between their calls should not wake workers each time
        pool.end()
        pool.begin(2)
        assert pool.widths() == 2
        pool.end()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 4, reason="needs four processors")
def test_calls_at_once_have_their_threads_where_there_are_processors(pool: Pool) -> None:
    with ThreadPoolExecutor(1) as other:
        pool.begin(2)
        other.submit(pool.begin, 2).result()
        assert (pool.widths(), other.submit(pool.widths).result()) == (2, 2)
        other.submit(pool.end).result()
        pool.end()


def test_workers_run_where_their_caller_may(pool: Pool) -> None:
    """Anywhere there, or each on one processor of its own where the call takes them all."""
    every = os.sched_getaffinity(0)
    for allowed in (every, {min(every)}):
        for threads in (2, len(allowed), len(allowed) + 1):
            os.sched_setaffinity(0, allowed)
            try:
                pool.begin(threads)
                places = [os.sched_getaffinity(t[2]) for t in pool.loop()[1][1:]]
                pool.end()
                assert os.sched_getaffinity(0) == allowed
            finally:
                os.sched_setaffinity(0, every)
            if threads == len(allowed):
                assert all(len(place) == 1 for place in places)
                assert len(set.union(set(), *places)) == len(places)
            else:
                assert all(place == allowed for place in places)


def test_workers_take_no_signals(pool: Pool) -> None:
    pool.begin(2)
    worker = pool.loop()[1][1][2]
    pool.end()
    status = Path(f"/proc/self/task/{worker}/status").read_text()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    assert blocked & 0x7FFFFFFF == 0x7FFFFFFF & ~(1 << 8 | 1 << 18)  # all but SIGKILL and SIGSTOP


def test_calls_from_many_threads(pool: Pool) -> None:
    def calls(threads: int) -> None:
        for _ in range(30):
            pool.begin(threads)
            assert all(1 <= pool.widths() <= threads for _ in range(5))
            pool.end()

    with ThreadPoolExecutor(6) as callers:
        list(callers.map(calls, [1, 2, 3, 2, 4, 2]))
    pool.begin(2)
    assert pool.widths() == 2
    pool.end()


PRELUDE = """
import os, sys, threading
from pathlib import Path
import numpy as np
import convc

def workers():
    return sum(p.read_text() == "convc\\n" for p in Path("/proc/self/task").glob("*/comm"))

image = np.random.default_rng(0).standard_normal((2, 3, 21, 17), "float32")
"""


def run_in_fresh_process(code: str, *arguments: object) -> str:
    command = [sys.executable, "-I", "-c", PRELUDE + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of one network: to the loader they are different modules."""
    module = convc.compile(networks.residual(), threads=2)
    paths = [tmp_path_factory.mktemp("modules") / f"{name}.so" for name in "ab"]
    for path in paths:
        module.save(path)
    return paths


def test_modules_of_a_process_share_their_workers(saved: list[Path]) -> None:
    code = """
a, b = sys.argv[1:]
for path, threads in ((a, 1), (a, 3), (b, 2), (b, 4), (a, 2)):
    convc.load(path, threads=threads)(image)
    print(workers(), end=" ")
"""
    assert run_in_fresh_process(code, *saved) == "0 2 2 3 3 "


def test_workers_outlive_the_module_that_started_them(saved: list[Path]) -> None:
    code = """
import ctypes, _ctypes
first = convc.load(sys.argv[1], threads=3)
expected = first(image)
handle = ctypes.CDLL(sys.argv[1])._handle
del first
for _ in range(2):
    _ctypes.dlclose(handle)
assert np.array_equal(convc.load(sys.argv[2], threads=3)(image), expected)
print(workers())
"""
    assert run_in_fresh_process(code, *saved) == "2\n"


def test_a_child_of_fork_starts_its_own_workers(saved: list[Path]) -> None:
    """Also when it is born while another thread of the parent is in a call, and holds workers and locks."""
    code = """
import warnings
warnings.simplefilter("ignore")
modules = [convc.load(path, threads=3) for path in sys.argv[1:]]
expected = modules[0](image)
stop = threading.Event()

def call():
    while not stop.is_set():
        modules[1](image)

caller = threading.Thread(target=call)
caller.start()
for _ in range(20):
    if not (child := os.fork()):
        before = workers()
        good = all(np.array_equal(m(image), expected) for m in modules for _ in range(3))
        os._exit(0 if good and before == 0 and workers() == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
caller.join()
assert np.array_equal(modules[0](image), expected)
"""
    run_in_fresh_process(code, *saved)
