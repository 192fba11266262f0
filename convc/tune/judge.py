"""Which of two times is shorter, when both wander: intervals of ratios, ties, and the winner of a layer.

A candidate and the untuned choice run in turns, and each round gives a ratio: what slows both down for a
while cancels. The median of the ratios has a confidence interval that assumes nothing of their distribution
(order statistics under the sign test: Conover, Practical Nonparametric Statistics, 3.2). Where intervals
overlap there is no winner by time, and an order that does not depend on noise decides, so that two runs of
the tuner choose alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from convc.tune.trial import Trial

CONFIDENCE = 1.96
"""Standard deviations: 95 %."""


@dataclass(frozen=True)
class Interval:
    """A median and its 95 % confidence interval."""

    middle: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """How far the median may be off, relative to it."""
        return max(self.high - self.middle, self.middle - self.low) / self.middle

    def scaled(self, factor: float) -> Interval:
        """All of it times a factor."""
        return Interval(self.middle * factor, self.low * factor, self.high * factor)


def interval(values: Sequence[float]) -> Interval:
    """The median of independent values, at least one; with fewer than six the interval is their range."""
    ordered = sorted(values)
    reach = CONFIDENCE * math.sqrt(len(ordered)) / 2
    first = max(math.floor(len(ordered) / 2 - reach), 0)
    last = min(math.ceil(len(ordered) / 2 + reach), len(ordered) - 1)
    return Interval(median(ordered), ordered[first], ordered[last])


def ratio(times: Sequence[float], reference: Sequence[float]) -> Interval:
    """How many times as long as the reference something takes, measured in the same rounds."""
    return interval([t / r for t, r in zip(times, reference, strict=True)])


def winner(trials: Iterable[Trial]) -> Trial | None:
    """The best of a layer's trials; None where none succeeded.

    Of those whose intervals reach down to the fastest one's upper end, the first that was measured: where
    times cannot be told apart the untuned choice stays, which is measured before all others.
    """
    good = [t for t in trials if t.ok and t.seconds is not None]
    if not good:
        return None
    fastest = min(good, key=lambda t: (t.seconds, t.variant))
    limit = _end(fastest.high, fastest)
    ties = [t for t in good if _end(t.low, t) <= limit]
    return min(ties, key=lambda t: (t.measured_at, t.number, t.variant))


def _end(bound: float | None, trial: Trial) -> float:
    """An end of a trial's interval; its time where it has none."""
    assert trial.seconds is not None
    return trial.seconds if bound is None else bound
