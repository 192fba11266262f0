"""Measuring candidates: they are built here, in processes, and run at stations, here or elsewhere.

With a station on this machine nothing is built while something is timed: both would be off.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from convc.dtype import FLOAT32
from convc.errors import ConvcError
from convc.evaluate import evaluate
from convc.files import Scratch
from convc.ir import Graph, Value
from convc.target import Target
from convc.tune.proof import write_layer
from convc.tune.station import RUN_SECONDS, TOGETHER, Lost, Module, Result, Station, Unusable
from convc.tune.tasks import Candidate, Task
from convc.tune.trial import Outcome
from convc.tune.trial_module import Spec
from convc.tune.worker import Died, Hung, Worker
from convc.types import Array
from convc.verify import allowed_error, random_inputs

BUILDER_KILLS = 12
"""Times that others may end a builder before its candidate is given up. It takes two seconds to start: who
kills one each 1.5 s meets half of all attempts, a system without memory all of them."""
BUILD_SECONDS = 120.0
LOSSES = 2
"""Machines that a candidate may be at when they are lost, before it is to blame."""

ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "CONVC_CALIBRATION": "nominal"}


class Measurer(Protocol):
    """Measures candidates: here, on other machines, or in a test by a formula."""

    @property
    def width(self) -> int:
        """How many candidates can be timed at once."""
        ...

    def measure(self, task: Task, candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, Result]]:
        """The result of each candidate, as they become known, in any order.

        A candidate that fails is a result. Raises Unusable where the untuned choice does.
        """
        ...


def local_station(run_seconds: float = RUN_SECONDS, environment: Mapping[str, str] | None = None) -> Station:
    """A station on this machine's processor."""
    return Station(Worker("convc.tune.runner:Runner", {**ENVIRONMENT, **(environment or {})}), run_seconds)


class Builders:
    """Makes candidates' modules for a target, several at a time, in processes of their own.

    `network_bytes` are those of all weights of the network; see `trial_module`. With `remote`
    they can be run by TVM's RPC.
    """

    def __init__(
        self,
        target: Target,
        network_bytes: int,
        cache: Path | None = None,
        service: str = "convc.tune.builder:Builder",
        environment: Mapping[str, str] | None = None,
        fast_math: bool = False,
        remote: bool = False,
    ) -> None:
        self._fast_math, self._remote = fast_math, remote
        self._target, self._network_bytes, self._cache = target, network_bytes, cache
        environment = {**ENVIRONMENT, **(environment or {})}
        self._workers = [Worker(service, environment) for _ in range(os.cpu_count() or 1)]

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.close()

    def build(
        self, task: Task, candidates: Sequence[Candidate], paths: Sequence[Path]
    ) -> list[Result | None]:
        """Write each candidate's module to its path; why there is none, where there is none."""
        free = list(self._workers)

        def one(candidate: Candidate, path: Path) -> Result | None:
            worker = free.pop()
            try:
                return self._build(worker, self._spec(task, candidate), path)
            finally:
                free.append(worker)

        with ThreadPoolExecutor(len(self._workers)) as pool:
            return list(pool.map(one, candidates, paths))

    def _build(self, worker: Worker, spec: Spec, path: Path) -> Result | None:
        for _ in range(BUILDER_KILLS):
            try:
                worker.ask("build", spec, path, self._cache, timeout=BUILD_SECONDS)
            except Died as error:
                if not error.killed:
                    return Result(Outcome.BUILD, message=str(error))
            except (ConvcError, Hung) as error:
                return Result(Outcome.BUILD, message=str(error))
            except MemoryError:
                break
            else:
                return None
        return Result(Outcome.MEMORY, message="while it was built")

    def _spec(self, task: Task, candidate: Candidate) -> Spec:
        bound = candidate.lowering.error_bound(candidate.workload, task.weights)
        precision = FLOAT32 if self._target.gpu is None else self._target.gpu.precision
        return Spec(
            candidate.lowering.name,
            candidate.workload,
            asdict(candidate.config),
            task.weights,
            self._target,
            self._network_bytes,
            allowed_error(bound, precision),
            self._fast_math,
            self._remote,
        )


@dataclass
class StationMeasurer:
    """Builds candidates and measures them at stations, which share them out among themselves.

    One that is lost is left, and what it was at goes to the others. Raises ConvcError when none is left.
    """

    builders: Builders
    stations: list[Station]
    _task: Task | None = None
    _reference: Module | None = None
    _layer: Path = Path()
    _count: int = 0
    _folder: Scratch = field(default_factory=Scratch)

    def __enter__(self) -> StationMeasurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.builders.close()
        for station in self.stations:
            station.close()
        self._folder.cleanup()

    @property
    def width(self) -> int:
        """See `Measurer`."""
        return TOGETHER * len(self.stations)

    def measure(self, task: Task, candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, Result]]:
        """See `Measurer`."""
        if self._task is not task:
            self._open(task)
        assert self._reference is not None
        paths = self._paths(len(candidates))
        modules: dict[Path, Candidate] = {}
        for candidate, path, failure in zip(
            candidates, paths, self.builders.build(task, candidates, paths), strict=True
        ):
            if failure is None:
                modules[path] = candidate
            else:
                yield candidate, failure
        made = [Module(path, candidate.predicted) for path, candidate in modules.items()]
        for path, result in _Share(self.stations, self._layer, self._reference, made).run():
            path.unlink()  # it may have as many weights as the layer; who has mapped it still has it
            yield modules[path], result

    def _open(self, task: Task) -> None:
        """Take up a layer: its arrays, and the untuned choice that all are compared with."""
        if self._reference is not None:
            self._reference.path.unlink(missing_ok=True)
            self._layer.unlink(missing_ok=True)
        self._task = self._reference = None
        ((path,), self._layer) = self._paths(1), self._paths(1)[0].with_suffix(".npz")
        inputs, expected = example(task)
        write_layer(self._layer, inputs, expected)
        (failure,) = self.builders.build(task, [task.untuned], [path])
        if failure is not None:
            raise Unusable(failure)
        self._task, self._reference = task, Module(path, task.untuned.predicted)

    def _paths(self, count: int) -> list[Path]:
        """Names that no file has had."""
        self._count += count
        return [Path(self._folder.name) / f"{self._count - i}.so" for i in range(count)]


class _Share:
    """Modules of one layer, shared out among stations."""

    def __init__(
        self, stations: list[Station], layer: Path, reference: Module, modules: Sequence[Module]
    ) -> None:
        self._stations, self._layer, self._reference = stations, layer, reference
        self._parts: queue.SimpleQueue[list[Module]] = queue.SimpleQueue()
        size = max(1, min(TOGETHER, -(-len(modules) // max(len(stations), 1))))
        for start in range(0, len(modules), size):
            self._parts.put(list(modules[start : start + size]))
        self._found: queue.SimpleQueue[tuple[Path, Result] | Exception | None] = queue.SimpleQueue()
        self._losses: dict[Path, int] = {}
        self._reason = ""
        self._left = len(modules)

    def run(self) -> Iterator[tuple[Path, Result]]:
        """The results as they come."""
        while self._left:
            if not self._stations:
                raise ConvcError(
                    f"No machine is left to measure on{self._reason}; what was measured is kept.",
                    hint="Run the same command again.",
                )
            working = list(self._stations)
            for station in working:
                threading.Thread(target=self._work, args=(station,), daemon=True).start()
            ended = 0
            while ended < len(working):
                found = self._found.get()
                if found is None:
                    ended += 1
                elif isinstance(found, Exception):
                    raise found
                else:
                    self._left -= 1
                    yield found

    def _work(self, station: Station) -> None:
        """Measure parts at one station until none is left or the station is lost."""
        try:
            while True:
                try:
                    part = self._parts.get_nowait()
                except queue.Empty:
                    return
                self._measure(station, part)
        except Lost as error:
            self._reason = f": {error}"
            self._stations.remove(station)
            station.close()
        except Exception as error:  # raised again where the results are awaited
            self._found.put(error)
        finally:
            self._found.put(None)

    def _measure(self, station: Station, part: list[Module]) -> None:
        left = {module.path: module for module in part}
        try:
            station.open(self._layer, self._reference)
            for path, result in station.measure(part):
                del left[path]
                self._found.put((path, result))
        except Lost as error:
            for path in list(left):
                self._losses[path] = self._losses.get(path, 0) + 1
                if self._losses[path] >= LOSSES:
                    del left[path]
                    self._found.put((path, Result(Outcome.CRASH, message=f"its machine was lost: {error}")))
            for module in left.values():
                self._parts.put([module])
            raise


def example(task: Task) -> tuple[list[Array], list[Array]]:
    """Random arrays for a layer's computed inputs, and its results in float64 arithmetic."""
    graph = Graph(task.name)
    w = task.workload
    values: list[Value | None] = []
    for index, (kind, data) in enumerate(zip(w.inputs, task.weights, strict=True)):
        if kind is None:
            values.append(None)
        elif data is not None:
            values.append(graph.add_constant(f"constant{index}", data))
        else:
            values.append(graph.add_input(f"input{index}", kind))
    node = graph.add(w.op, values, w.attrs, name="layer", epilogue=w.epilogue, arity=w.arity)
    graph.set_outputs(node.outputs)
    feeds = random_inputs(graph)
    found = evaluate(graph, feeds)
    return list(feeds.values()), [a.astype(v.type.dtype) for a, v in zip(found, node.outputs, strict=True)]
