"""How long calls take on a device: events around many of them, engines in turns, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from driver import DeviceBuffer, Driver
from store import Array

Call = Callable[[], Any]

SAMPLE_MS = 2.0
"""Calls are put on the stream until they take so long: the host is then ahead of the device."""

WARM_S = 0.1
"""Seconds of calls before the first sample: clocks rise."""

ENOUGH = 50
"""Samples of each engine, unless they take more than its seconds."""


@dataclass(frozen=True)
class Figures:
    """The time of a call in ms: median over samples, each the mean of `calls` calls in a row."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    samples: int
    calls: int
    latency_ms: float
    """The host's time from a call to the end of its work, the stream being idle: median."""

    def each(self, count: int) -> Figures:
        """The same for calls that do something `count` times."""
        times = (self.median_ms / count, self.p10_ms / count, self.p90_ms / count)
        return Figures(*times, self.samples, self.calls * count, self.latency_ms / count)


class Memory(Protocol):
    """Arrays on the device, as calls of modules take them."""

    def upload(self, array: Array) -> Any:
        """A copy on the device."""
        ...

    def spread(self, images: Array, count: int, sets: int) -> Any:
        """(sets, count, ...): in each set `count` images, those given in turn."""
        ...

    def poisoned(self, shape: tuple[int, ...], dtype: str) -> Any:
        """An array of bits that are no number."""
        ...

    def read(self, array: Any) -> Array:
        """A copy on the host, when the stream has done everything."""
        ...

    def part(self, array: Any, index: int) -> Array:
        """The same of one index of the first axis."""
        ...


class DriverMemory:
    """Arrays by the driver alone."""

    def __init__(self, driver: Driver, stream: int) -> None:
        self._driver, self._stream = driver, stream

    def upload(self, array: Array) -> DeviceBuffer:
        """A copy on the device."""
        buffer = DeviceBuffer(self._driver, array.shape, str(array.dtype))
        buffer.write(array)
        return buffer

    def spread(self, images: Array, count: int, sets: int) -> DeviceBuffer:
        """See Memory."""
        whole = images[np.arange(count) % len(images)]
        buffer = DeviceBuffer(self._driver, (sets, *whole.shape), str(whole.dtype))
        for index in range(sets):
            buffer.write(whole, index * whole.nbytes)
        return buffer

    def poisoned(self, shape: tuple[int, ...], dtype: str) -> DeviceBuffer:
        """See Memory."""
        buffer = DeviceBuffer(self._driver, shape, dtype)
        buffer.write(np.full(buffer.nbytes, 0xFF, np.uint8))
        return buffer

    def read(self, array: DeviceBuffer) -> Array:
        """See Memory."""
        return array.read(self._stream)

    def part(self, array: DeviceBuffer, index: int) -> Array:
        """See Memory."""
        return np.asarray(self.read(array)[index])


class Stopwatch:
    """Times calls on one stream."""

    def __init__(self, driver: Driver, stream: int) -> None:
        self._driver, self._stream = driver, stream
        self._events = driver.event(), driver.event()

    def sample(self, call: Call, calls: int) -> float:
        """The mean ms of so many calls in a row."""
        first, then = self._events
        self._driver.record(first, self._stream)
        for _ in range(calls):
            call()
        self._driver.record(then, self._stream)
        return self._driver.milliseconds(first, then) / calls

    def latency(self, call: Call) -> float:
        """The host's ms for a call and the end of its work."""
        start = time.perf_counter()
        call()
        self._driver.synchronise(self._stream)
        return (time.perf_counter() - start) * 1e3

    def calls_needed(self, call: Call) -> int:
        """How many make a sample, after a warm-up of 3 calls and WARM_S."""
        for _ in range(3):
            self.sample(call, 1)
        begin, calls = time.perf_counter(), 1
        while True:
            ms = self.sample(call, calls)
            if ms * calls >= SAMPLE_MS and time.perf_counter() - begin > WARM_S:
                return calls
            if ms * calls < SAMPLE_MS:
                calls = min(2 * calls, 256)
            if calls == 256 and time.perf_counter() - begin > WARM_S:
                return calls

    def in_turns(
        self, calls: Mapping[str, Call], seconds: float = 1.0, rounds: int = 5
    ) -> dict[str, Figures]:
        """Time engines in turns, so that what changes with time on the device changes for all of them.

        Each gets `seconds` in all or ENOUGH samples, whichever is less, and two samples of a turn at least.
        """
        counts = {name: self.calls_needed(call) for name, call in calls.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        latencies: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                self.sample(call, counts[name])  # what ran before may have left caches and clocks otherwise
                end = time.perf_counter() + seconds / rounds
                for done in range(ENOUGH // rounds):
                    if done >= 2 and time.perf_counter() > end:
                        break
                    times[name].append(self.sample(call, counts[name]))
                self._driver.synchronise(self._stream)
                latencies[name] += [self.latency(call) for _ in range(3)]
        return {
            name: Figures(
                statistics.median(own),
                float(np.percentile(own, 10)),
                float(np.percentile(own, 90)),
                len(own),
                counts[name],
                statistics.median(latencies[name]),
            )
            for name, own in times.items()
        }
