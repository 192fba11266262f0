"""The run: which layer is next, what its search proposes, what the measurer finds, what the database keeps.

Time goes to the layer whose next candidate is expected to gain the network most: its expected improvement
times how often the network has it. Candidates that the database knows are not measured again. Since every
step follows from measurements and the seed alone, a run that was killed takes the same path again, at no
cost, up to where it was; or up to where a record was corrected since, see `settle`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from convc.tune.database import Database
from convc.tune.judge import winner
from convc.tune.measurer import Measurer
from convc.tune.progress import LayerState, Status, Watcher
from convc.tune.search import Search
from convc.tune.similar import seeds
from convc.tune.station import Result, Unusable, recorded
from convc.tune.tasks import Candidate, Task
from convc.tune.trial import Machine, Outcome, Trial, Variant


@dataclass(frozen=True)
class Budget:
    """What may be spent: seconds from the start; candidates tried, those that the database had included."""

    seconds: float | None = None
    trials: int | None = None


@dataclass
class Layer:
    """A task in the course of a run: its search, and its trials by variant."""

    task: Task
    search: Search
    trials: dict[Variant, Trial] = field(default_factory=dict)

    @property
    def untuned(self) -> float | None:
        """Measured seconds of the untuned choice."""
        trial = self.trials.get(self.task.untuned.variant)
        return trial.seconds if trial is not None and trial.ok else None

    @property
    def best(self) -> Trial | None:
        """The winner so far."""
        return winner(self.trials.values())

    @property
    def gain(self) -> float:
        """Seconds that the network is expected to gain by the next candidate."""
        return self.task.count * self.search.gain


@dataclass
class Tuner:
    """Tunes the layers of a network on a machine."""

    tasks: Sequence[Task]
    machine: Machine
    database: Database
    measurer: Measurer
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    watcher: Watcher = field(default_factory=Watcher)
    layers: list[Layer] = field(init=False)
    _elsewhere: list[tuple[str, Variant]] = field(init=False)
    _known: dict[tuple[str, Variant], Trial] = field(init=False)
    _start: float = field(init=False, default=0.0)
    _number: int = field(init=False, default=0)
    _session: str = field(init=False, default_factory=lambda: uuid.uuid4().hex[:12])

    def __post_init__(self) -> None:
        self.layers = [Layer(t, Search(t, self.seed)) for t in self.tasks]
        self._elsewhere = [*self.database.examples(self.machine, [t.key for t in self.tasks])]
        self._known = {
            (trial.layer, trial.variant): trial
            for trial in self.database.trials(machine=self.machine, layers=[t.key for t in self.tasks])
        }

    def run(self) -> None:
        """Tune until the budget is spent or nothing is left that promises a gain.

        An interrupt from the keyboard ends the run as a spent budget does: what was measured is kept.
        """
        self._start = time.monotonic()
        self.watcher.begin(self.status())
        try:
            while (layer := self._next()) is not None:
                self._advance(layer)
        except KeyboardInterrupt:
            self.watcher.notice("Interrupted: what was measured is kept.")
        finally:
            self.watcher.end(self.status())

    def _next(self) -> Layer | None:
        """The layer that promises most; None when the run is over."""
        if self.budget.seconds is not None and time.monotonic() - self._start >= self.budget.seconds:
            return None
        if self._left() == 0 or not self.layers:
            return None
        most = max(self.layers, key=lambda layer: layer.gain)
        return most if most.gain > 0 else None

    def _left(self) -> int:
        """How many candidates may be tried next: those that can be timed at once, within the budget."""
        if self.budget.trials is None:
            return self.measurer.width
        return max(0, min(self.measurer.width, self.budget.trials - self._count()))

    def _count(self) -> int:
        return sum(len(layer.trials) for layer in self.layers)

    def _advance(self, layer: Layer) -> None:
        """Have a layer's search propose candidates, and find out about those that are not known."""
        if not layer.trials:
            layer.search.suggest(seeds(layer.task, [*self._found_here(), *self._elsewhere]))
        proposed = layer.search.propose(self._left())
        if not proposed:
            layer.search.finish()
            return
        new = []
        for candidate in proposed:
            trial = self._known.get((layer.task.key, candidate.variant))
            if trial is not None and trial.version == candidate.lowering.version:
                layer.trials[candidate.variant] = trial
            else:
                new.append(candidate)
        # The untuned choice comes first: the others' times are given relative to it.
        anchors = [c for c in new if c is layer.task.untuned]
        try:
            for batch in (anchors, [c for c in new if c is not layer.task.untuned]):
                for candidate, result in self.measurer.measure(layer.task, batch) if batch else ():
                    self._note(layer, candidate, result)
        except Unusable as error:
            for candidate in anchors:
                self._note(layer, candidate, error.result)
            self.watcher.notice(f"'{layer.task.name}' is left as it is: its untuned choice ended as {error}")
            layer.search.finish()
            return
        for candidate in proposed:
            found = layer.trials.get(candidate.variant)
            layer.search.learn(candidate.variant, found.seconds if found is not None and found.ok else None)

    def _found_here(self) -> Iterator[tuple[str, Variant]]:
        """The best of the layers that have been searched for a while."""
        for layer in self.layers:
            if len(layer.trials) > 1 and (best := layer.best) is not None:
                yield best.workload, best.variant

    def _note(self, layer: Layer, candidate: Candidate, result: Result) -> None:
        """Keep what came of a candidate."""
        untuned = candidate is layer.task.untuned
        trial = recorded(self._blank(layer, candidate), result, layer.untuned, untuned=untuned)
        self.database.add(trial)
        layer.trials[candidate.variant] = trial
        self.watcher.trial(trial, self.status())

    def _blank(self, layer: Layer, candidate: Candidate) -> Trial:
        """A candidate's trial before it is known what comes of it."""
        self._number += 1
        task = layer.task
        return Trial(
            layer=task.key,
            op=task.workload.op,
            workload=str(task.workload),
            variant=candidate.variant,
            version=candidate.lowering.version,
            machine=self.machine,
            outcome=Outcome.BUILD,
            predicted=candidate.predicted,
            session=self._session,
            number=self._number,
        )

    # ---- the state, for whoever watches

    def status(self) -> Status:
        """The run at this moment."""
        states = tuple(map(_state, self.layers))
        pairs = list(zip(self.layers, states, strict=True))
        best = [s.best or s.untuned or s.predicted for s in states]
        return Status(
            layers=states,
            elapsed=time.monotonic() - self._start if self._start else 0.0,
            budget=self.budget.seconds,
            trials=self._count(),
            limit=self.budget.trials,
            untuned=sum(s.count * (s.untuned or s.predicted) for s in states),
            best=sum(s.count * b for s, b in zip(states, best, strict=True)),
            predicted_best=sum(
                s.count * (b - layer.search.gain) for (layer, s), b in zip(pairs, best, strict=True)
            ),
        )


def _state(layer: Layer) -> LayerState:
    task, best = layer.task, layer.best
    return LayerState(
        name=task.name,
        layer=task.key,
        op=task.workload.op,
        count=task.count,
        predicted=task.untuned.predicted,
        untuned=layer.untuned,
        best=None if best is None else best.seconds,
        variant=None if best is None else best.variant,
        trials=len(layer.trials),
        failures=sum(not trial.ok for trial in layer.trials.values()),
        space=len(task.candidates),
        done=layer.search.gain == 0,
    )
