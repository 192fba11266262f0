"""What a tuning run tells of itself: its state after each trial, and each layer's course read from trials."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from convc.tune.trial import Machine, Trial, Variant


@dataclass(frozen=True)
class LayerState:
    """One distinct layer of the network. Times are seconds; `layer` is the key that its trials have.

    `name` is the user's name of the first node that has it, `count` how often the network has it. `predicted`
    and `untuned` are the untuned choice's time, as the model sees it and as measured; `best` is the measured
    time of `variant`, the best so far. `trials` (failures included) are this run's, of `space` candidates;
    `done` says that none is left to try.
    """

    name: str
    layer: str
    op: str
    count: int
    predicted: float
    untuned: float | None = None
    best: float | None = None
    variant: Variant | None = None
    trials: int = 0
    failures: int = 0
    space: int = 0
    done: bool = False

    @property
    def gain(self) -> float | None:
        """How many times as fast as untuned the best is; None until both were measured."""
        return self.untuned / self.best if self.untuned and self.best else None

    @property
    def weight(self) -> float:
        """Seconds that the network spends on it untuned: what makes one layer matter more than another."""
        return self.count * (self.untuned or self.predicted)


@dataclass(frozen=True)
class Status:
    """The whole run at one moment. Times are seconds, `budget` and `limit` what may be spent in all.

    `untuned`, `best` and `predicted_best` are sums over the network's tuned layers, each as often as it
    occurs: untuned (measured where that is known, else predicted), with the best so far, and what the model
    still hopes for.
    """

    layers: tuple[LayerState, ...]
    elapsed: float
    budget: float | None
    trials: int
    limit: int | None
    untuned: float
    best: float
    predicted_best: float

    @property
    def gain(self) -> float:
        """How many times as fast as untuned the layers are together."""
        return self.untuned / self.best if self.best > 0 else 1.0

    @property
    def predicted_gain(self) -> float:
        """The gain that the model hopes for."""
        return self.untuned / self.predicted_best if self.predicted_best > 0 else 1.0

    @property
    def failures(self) -> int:
        """Trials that gave no time."""
        return sum(state.failures for state in self.layers)

    @property
    def rate(self) -> float:
        """Trials a second."""
        return self.trials / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the budget or, at this rate, the limit is used up; None where nothing tells."""
        ends = [self.budget - self.elapsed] if self.budget is not None else []
        if self.limit is not None and self.rate > 0:
            ends.append((self.limit - self.trials) / self.rate)
        return max(0.0, min(ends)) if ends else None


class Watcher:
    """Told what happens while a network is tuned; this one keeps quiet."""

    def begin(self, status: Status) -> None:
        """Before the first trial."""

    def trial(self, trial: Trial, status: Status) -> None:
        """After each trial; `status` includes it."""

    def notice(self, text: str) -> None:
        """Something the user should know."""

    def end(self, status: Status) -> None:
        """After the last trial."""


@dataclass(frozen=True)
class Point:
    """A trial that gave a time; `place` counts all trials of all layers from 1, in order of time."""

    place: int
    trial: Trial
    seconds: float


@dataclass(frozen=True)
class Course:
    """How the tuning of one layer went on one machine.

    `untuned` is the state's measured time or, without one, that of the first trial that worked; `weight` is
    what the network spends on the layer untuned, in seconds.
    """

    name: str
    op: str
    count: int
    untuned: float | None
    weight: float
    trials: tuple[Trial, ...]
    points: tuple[Point, ...]

    @property
    def best(self) -> Trial | None:
        """The fastest trial."""
        return min(self.points, key=lambda point: point.seconds).trial if self.points else None

    @property
    def steps(self) -> list[Point]:
        """The trials that were faster than untuned and than all before them."""
        found: list[Point] = []
        fastest = self.untuned or 0.0
        for point in self.points:
            if point.seconds < fastest:
                found.append(point)
                fastest = point.seconds
        return found

    @property
    def seconds(self) -> float | None:
        """The least time known, which is the untuned one where no trial was faster."""
        return self.steps[-1].seconds if self.steps else self.untuned


def courses(trials: Sequence[Trial], layers: Sequence[LayerState] = ()) -> list[Course]:
    """The course of each layer on each machine, those on which the network spends most (untuned) first.

    `layers` tell names and counts; a layer without a state goes by its workload and counts once. A time is of
    one version of a schedule only: give trials of the current ones.
    """
    states = {state.layer: state for state in layers}
    groups: dict[tuple[str, Machine | None], list[tuple[int, Trial]]] = {}
    ordered = sorted(trials, key=lambda trial: (trial.measured_at, trial.number))
    for place, trial in enumerate(ordered, 1):
        groups.setdefault((trial.layer, trial.machine), []).append((place, trial))
    several = len({machine for _, machine in groups}) > 1
    tried = {layer for layer, _ in groups}
    groups.update({(layer, None): [] for layer in states if layer not in tried})
    found = [_course(states.get(key[0]), group, several) for key, group in groups.items()]
    return sorted(found, key=lambda course: -course.weight)


def _course(state: LayerState | None, group: Sequence[tuple[int, Trial]], several: bool) -> Course:
    trials = tuple(trial for _, trial in group)
    points = tuple(Point(place, t, t.seconds) for place, t in group if t.ok and t.seconds)
    first = points[0].seconds if points else None
    if state is None:
        name, op, count, untuned = trials[0].workload or trials[0].layer, trials[0].op, 1, first
    else:
        name, op, count = state.name, state.op, state.count
        untuned = first if several else state.untuned or first  # a state is of one machine only
    if several and trials:
        name += f" @{trials[0].machine.digest[:6]}"
    weight = count * (untuned or (state.predicted if state else 0.0))
    return Course(name, op, count, untuned, weight, trials, points)


def together(found: Sequence[Course]) -> list[tuple[int, float]]:
    """Seconds of all layers together at the start (place 0) and after each trial that improved one."""
    news: list[tuple[int, float]] = []
    total = 0.0
    for course in found:
        before = course.untuned or 0.0
        total += course.count * before
        for point in course.steps:
            news.append((point.place, course.count * (before - point.seconds)))
            before = point.seconds
    line = [(0, total)]
    for place, saved in sorted(news):
        total -= saved
        line.append((place, total))
    return line


def agreement(found: Sequence[Course], lowering: str | None = None) -> float | None:
    """How well the model ranks the trials of a layer (those by one lowering): the median over the layers.

    Over all layers at once the coefficient would only say that large layers take longer than small ones.
    """
    each = (
        rank_correlation([p for p in course.points if lowering in (None, p.trial.variant.lowering)])
        for course in found
    )
    known = [value for value in each if value is not None]
    return statistics.median(known) if known else None


def rank_correlation(points: Sequence[Point]) -> float | None:
    """Spearman's coefficient of predicted and measured times, ties share a rank; None below 3 trials."""
    pairs = [(p.trial.predicted, p.seconds) for p in points if p.trial.predicted is not None]
    if len(pairs) < 3:
        return None
    predicted, measured = (_ranks(values) for values in zip(*pairs, strict=True))
    try:
        return statistics.correlation(predicted, measured)
    except statistics.StatisticsError:  # all are equal
        return None


def _ranks(values: Sequence[float]) -> list[int]:
    """Twice the mean rank of each value."""
    ordered = sorted(values)
    return [bisect_left(ordered, value) + bisect_right(ordered, value) for value in values]
