"""The search of one layer: which candidates to measure next.

Three stages, each giving what the one before has not to give:

    ranked      the untuned choice, what was best for similar layers, and the lowest predicted times
    descent     steps from the best so far: one or two of its numbers changed to the next value that exists
                (coordinate descent, as Droplet does: Canesche et al., TACO 2024); and the lowest
                predicted time of each lowering that was not tried
    evolution   children of the fastest: numbers of two of them mixed, and some changed

and all that is left, where these do not fill a batch. What a stage offers is measured in the order of
expected improvement (see `model`); what is expected to gain nothing is not measured at all. The same
measurements and seed lead to the same steps: a run that was killed finds its way back through what it has
recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from convc.tune.grid import Grid
from convc.tune.model import LayerModel
from convc.tune.tasks import Candidate, Task
from convc.tune.trial import Variant

RANKED = 4
"""Candidates of the first stage, the untuned one included."""
PARENTS = 6
CHILDREN = 64
WORTHWHILE = 0.002
"""Expected improvement, relative to the best time, below which a candidate is not worth its trial."""


class Search:
    """Proposes candidates of a task and hears what came of them."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self._grid = Grid(task.candidates)
        self._model = LayerModel(task.candidates, self._grid)
        self._number = {c.variant: i for i, c in enumerate(task.candidates)}
        self._left = set(range(len(task.candidates)))
        self._seconds: dict[int, float] = {}
        self._first = [0]
        digest = hashlib.sha256(f"{seed} {task.key}".encode()).digest()
        self._random = np.random.default_rng(int.from_bytes(digest[:8], "little"))

    @property
    def best(self) -> float:
        """Seconds of the fastest so far; predicted where nothing was measured."""
        return self._model.best

    @property
    def gain(self) -> float:
        """Seconds by which the next candidate is expected to improve the layer; 0 when the search is over."""
        if not self._left:
            return 0.0
        found = float(self._model.improvement()[sorted(self._left)].max())
        return found if found > WORTHWHILE * self.best or 0 in self._left else 0.0

    def suggest(self, variants: Iterable[Variant]) -> None:
        """Have these proposed next after the untuned choice: they were the best for similar layers."""
        self._first += [self._number[v] for v in variants if v in self._number]

    def propose(self, count: int) -> list[Candidate]:
        """The next candidates, best first; none when nothing is left that is worth a trial."""
        gain = self._model.improvement()
        chosen: dict[int, None] = {}
        for stage in (self._ranked, self._descent, self._evolution, self._rest):
            offered = [i for i in dict.fromkeys(stage()) if i in self._left and i not in chosen]
            if stage != self._ranked:
                offered.sort(key=lambda i: (-gain[i], i))
                offered = [i for i in offered if gain[i] > WORTHWHILE * self.best]
            chosen |= dict.fromkeys(offered[: count - len(chosen)])
        return [self.task.candidates[i] for i in chosen]

    def learn(self, variant: Variant, seconds: float | None) -> None:
        """Hear of a candidate; None for one that failed."""
        number = self._number[variant]
        self._left.discard(number)
        if seconds is not None:
            self._seconds[number] = seconds
            self._model.learn(number, seconds)

    def finish(self) -> None:
        """Nothing that is left is worth a trial."""
        self._left.clear()

    # ---- stages: numbers of candidates

    def _ranked(self) -> Iterator[int]:
        yield from self._first
        if len(self._seconds) < RANKED:
            yield from range(RANKED)  # candidates are sorted by predicted time

    def _descent(self) -> Iterator[int]:
        for number in self._fastest(2):
            yield from self._grid.neighbours(number)
        yield from self._grid.untried(self._seconds)

    def _evolution(self) -> Iterator[int]:
        parents = self._fastest(PARENTS)
        for _ in range(CHILDREN if parents else 0):
            a, b = self._random.choice(parents, 2)
            yield self._grid.child(int(a), int(b), self._random)

    def _rest(self) -> Iterator[int]:
        yield from sorted(self._left)

    def _fastest(self, count: int) -> list[int]:
        return sorted(self._seconds, key=lambda i: (self._seconds[i], i))[:count]
