"""A measurer whose times follow from a formula: the same in every process, and instantly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from convc.tune.judge import Interval
from convc.tune.station import Result
from convc.tune.tasks import Candidate, Task
from convc.tune.trial import Outcome

CLOSE = 0.001
"""Half the width of the intervals, relative to the time."""


def seconds_of(task: Task, candidate: Candidate) -> float:
    """Between 0.7 and 1.4 times what was predicted."""
    digest = hashlib.sha256(f"{task.key} {candidate.variant}".encode()).digest()
    return candidate.predicted * (0.7 + 0.7 * digest[0] / 255)


class FormulaMeasurer:
    """`asked` lists all that was measured; one in `fail_every` fails."""

    width = 4

    def __init__(self, fail_every: int = 0) -> None:
        self.asked: list[tuple[str, Candidate]] = []
        self._fail_every = fail_every

    def measure(self, task: Task, candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, Result]]:
        """See `measurer.Measurer`."""
        reference = seconds_of(task, task.untuned)
        for candidate in candidates:
            self.asked.append((task.key, candidate))
            digest = hashlib.sha256(repr(candidate.variant).encode()).digest()
            if self._fail_every and candidate is not task.untuned and digest[1] % self._fail_every == 0:
                yield candidate, Result(Outcome.CRASH, message="by the formula")
                continue
            seconds = seconds_of(task, candidate)
            ratio = seconds / reference
            relative = Interval(ratio, ratio * (1 - CLOSE), ratio * (1 + CLOSE))
            yield candidate, Result(Outcome.OK, seconds, relative, 9, 1e-7)
