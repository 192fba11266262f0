"""Where candidates run: a process on this machine or another, which any of them may take down.

A layer's candidates run once each with all their memory watched; those that are right are then timed in turns
with the untuned choice. Needs nothing of the compiler: a station also stands on machines that have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from convc.errors import ConvcError
from convc.tune.judge import Interval, interval, ratio
from convc.tune.proof import Proof
from convc.tune.trial import Outcome, Trial
from convc.tune.worker import Died, Gone, Hung, Worker

RUN_SECONDS = 10.0
"""After these, and fifty times what it is predicted to take, a candidate is given up."""
PATIENCE = 50.0

FIRST_RUNS, MOST_RUNS = 9, 45
CLEARLY_SLOWER = 1.05
"""A candidate whose interval lies above this ratio to the untuned choice is not measured further."""
EXACT = 0.01
"""Nor is one whose interval is this narrow, relative to its median."""
TOGETHER = 4
"""Candidates that take turns: more would have the untuned choice wait too long between its runs."""


MOST_MAPPED = 1 << 30
"""Bytes of modules after which the process is replaced: none of them can be unmapped."""

KILLS = 5
"""How often the process may be killed under a candidate before it counts as one that lacks memory."""


@dataclass(frozen=True)
class Result:
    """What came of a candidate: `seconds` as measured, and `relative` to the untuned choice beside it."""

    outcome: Outcome
    seconds: float | None = None
    relative: Interval | None = None
    runs: int = 0
    error: float | None = None
    message: str = ""


EXACTLY = Interval(1.0, 1.0, 1.0)


def recorded(blank: Trial, result: Result, anchor: float | None, *, untuned: bool) -> Trial:
    """A trial with what came of it.

    Its time is that of the untuned choice, `anchor` in seconds, times the ratio of both; that choice's own
    is what was measured.
    """
    trial = replace(
        blank,
        outcome=result.outcome,
        runs=result.runs,
        error=result.error,
        message=result.message,
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    if result.outcome is not Outcome.OK:
        return trial
    relative = EXACTLY if untuned else result.relative
    anchor = result.seconds if untuned else anchor
    assert relative is not None
    assert anchor is not None
    times = relative.scaled(anchor)
    return replace(trial, seconds=times.middle, low=times.low, high=times.high)


class Unusable(Exception):
    """A layer's untuned choice does not work, so that nothing can be compared with it; see `result`."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{result.outcome.value}: {result.message}")
        self.result = result


class Lost(Gone):
    """The machine of a station is gone; what it was asked for is not known."""


@dataclass(frozen=True)
class Module:
    """A candidate's module, and the seconds that it is predicted to take."""

    path: Path
    predicted: float


class Station:
    """Measures on one machine, by a service such as `runner.Runner` in a worker."""

    def __init__(self, worker: Worker, run_seconds: float = RUN_SECONDS) -> None:
        self._worker = worker
        self._run_seconds = run_seconds
        self._kills: dict[Path, int] = {}
        self._mapped = 0
        self._layer: Path | None = None
        self._reference: Module | None = None

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def describe(self) -> dict[str, str]:
        """What times depend on there and a target does not tell. Raises Lost."""
        try:
            found: dict[str, str] = self._worker.ask("describe", timeout=self._run_seconds)
        except (Died, Hung, ConvcError) as error:
            raise Lost(str(error)) from error
        return found

    def open(self, layer: Path, reference: Module) -> None:
        """Take up a layer, given by its arrays and its untuned choice. Raises Unusable and Lost."""
        if (self._layer, self._reference) != (layer, reference):
            self._layer, self._reference = layer, reference
            self._begin()

    def measure(self, modules: Sequence[Module]) -> Iterator[tuple[Path, Result]]:
        """What came of each of the candidates, in any order. Raises Unusable and Lost."""
        if self._mapped > MOST_MAPPED:
            self._worker.restart()
        proven: dict[Path, Proof] = {}
        waiting = list(modules)
        while waiting or (proven and not self._worker.running):
            if not self._worker.running:
                self._begin()
                waiting = [module for module in modules if module.path in proven] + waiting
                proven.clear()  # the process that held them is gone
            module = waiting.pop(0)
            found = self._attempt(module)
            if found is None:
                waiting.insert(0, module)
            elif isinstance(found, Proof):
                proven[module.path] = found
            else:
                yield module.path, found
        paths = list(proven)
        for start in range(0, len(paths), TOGETHER):
            yield from self._time(paths[start : start + TOGETHER], proven)

    def _begin(self) -> None:
        """Have the process, which may be a new one, hold the layer and the untuned choice."""
        assert self._reference is not None
        self._mapped = 0
        found = None
        while found is None:
            try:
                self._worker.ask("open", self._layer, timeout=self._run_seconds)
            except (Died, Hung, ConvcError) as error:
                if self._was_killed(error, self._reference.path):
                    continue
                raise Lost(str(error)) from error
            found = self._attempt(self._reference)
        if isinstance(found, Result):
            raise Unusable(found)

    def _was_killed(self, error: Exception, path: Path) -> bool:
        """Whether somebody else ended the process, and the candidate that it ran deserves another try."""
        if not isinstance(error, Died) or not error.killed:
            return False
        self._kills[path] = self._kills.get(path, 0) + 1
        return self._kills[path] < KILLS

    def _attempt(self, module: Module) -> Proof | Result | None:
        """Run a candidate once. None where somebody killed the process meanwhile."""
        patience = self._run_seconds + PATIENCE * module.predicted
        self._mapped += module.path.stat().st_size
        try:
            proof: Proof = self._worker.ask("prove", module.path, timeout=patience)
        except (Died, Hung, MemoryError, ConvcError) as error:
            return None if self._was_killed(error, module.path) else _failure(error)
        if proof.stray:
            return Result(Outcome.OUT_OF_BOUNDS, error=proof.error, message=f"it wrote {proof.stray}")
        if not proof.error <= proof.allowed:
            message = f"off by {proof.error:.1e} of the largest result, {proof.allowed:.1e} is allowed"
            return Result(Outcome.WRONG, error=proof.error, message=message)
        return proof

    def _time(self, paths: Sequence[Path], proven: Mapping[Path, Proof]) -> Iterator[tuple[Path, Result]]:
        """Time proven candidates in turns with the untuned choice, until each is clear enough."""
        assert self._reference is not None
        times: dict[Path, list[float]] = {path: [] for path in paths}
        reference: dict[Path, list[float]] = {path: [] for path in paths}
        left = list(paths)
        while left:
            patience = self._run_seconds + PATIENCE * FIRST_RUNS * sum(proven[path].seconds for path in left)
            try:
                rows = self._worker.ask("time", [self._reference.path, *left], FIRST_RUNS, timeout=patience)
                errors = self._worker.ask("errors", left, timeout=patience)
            except (Died, Hung, MemoryError, ConvcError) as error:
                yield from self._apart(left, proven, error)
                return
            done: list[tuple[Path, Result]] = []
            for path, row, found in zip(left, rows[1:], errors, strict=True):
                times[path] += row
                reference[path] += rows[0]
                relative = ratio(times[path], reference[path])
                if not found <= proven[path].allowed:
                    message = f"later runs were off by {found:.1e} of the largest result"
                    done.append((path, Result(Outcome.WRONG, error=found, message=message)))
                elif _clear(relative, len(times[path])):
                    seconds = interval(times[path]).middle
                    done.append((path, Result(Outcome.OK, seconds, relative, len(times[path]), found)))
            yield from done
            finished = [path for path, _ in done]
            done_with = [path for path in finished if path != self._reference.path]
            with suppress(Died, Hung):  # which the next request will tell
                self._worker.ask("forget", done_with, timeout=self._run_seconds)
            left = [path for path in left if path not in finished]

    def _apart(
        self, paths: Sequence[Path], proven: Mapping[Path, Proof], error: Exception
    ) -> Iterator[tuple[Path, Result]]:
        """After one of several candidates ended the process: each by itself, to find which."""
        if len(paths) == 1 and not self._was_killed(error, paths[0]):
            yield paths[0], _failure(error)
            return
        for path in paths:
            yield from self.measure([Module(path, proven[path].seconds)])


def _clear(relative: Interval, runs: int) -> bool:
    return runs >= MOST_RUNS or relative.low > CLEARLY_SLOWER or relative.width <= EXACT


def _failure(error: Exception) -> Result:
    """What it means that the process could not answer."""
    if isinstance(error, Hung):
        return Result(Outcome.TIMEOUT, message=str(error))
    if isinstance(error, MemoryError):
        return Result(Outcome.MEMORY, message=str(error))
    if isinstance(error, Died) and error.killed:
        return Result(Outcome.MEMORY, message="it was killed each time, perhaps for want of memory")
    return Result(Outcome.CRASH, message=str(error))
