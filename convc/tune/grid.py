"""Candidates as points: a lowering's configurations lie on a grid with holes, its axes being their numbers.

The values that occur on an axis, in order, are its steps. Not every combination exists: tiles must divide
what they cover and fit the registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property

import numpy as np

from convc.tune.tasks import Candidate
from convc.types import Array

MUTATION = 0.2
"""Probability that a child differs from its parents in a number."""


class Grid:
    """The candidates of a layer; numbers are indices into the sequence given."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        kinds: dict[tuple[str, str], list[int]] = {}
        for number, candidate in enumerate(candidates):
            kinds.setdefault((candidate.lowering.name, candidate.workload.layouts), []).append(number)
        self._members = [np.array(members) for members in kinds.values()]
        self._kind = np.zeros(len(candidates), int)
        self._row = np.zeros(len(candidates), int)
        self._values: list[Array] = []
        self._steps: list[Array] = []
        for kind, members in enumerate(self._members):
            self._kind[members], self._row[members] = kind, np.arange(len(members))
            rows = [list(asdict(candidates[number].config).values()) for number in members]
            values = np.array(rows, float).reshape(len(rows), -1)
            steps = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in values.T]
            self._values.append(values)
            self._steps.append(np.array(steps, int).reshape(values.shape[1], -1).T)

    @cached_property
    def alike(self) -> Array:
        """Whether two candidates have the same lowering and layouts."""
        found: Array = self._kind[:, None] == self._kind[None, :]
        return found

    @cached_property
    def distances(self) -> Array:
        """Squared distance of two candidates that are alike, in powers of two; 0 for others."""
        found = np.zeros(self.alike.shape)
        for members, values in zip(self._members, self._values, strict=True):
            points = np.log2(1.0 + values)
            found[np.ix_(members, members)] = ((points[:, None] - points[None]) ** 2).sum(axis=2)
        return found

    def neighbours(self, number: int) -> list[int]:
        """Candidates at most one step away on each of at most two axes."""
        steps = self._steps[self._kind[number]]
        apart = np.abs(steps - steps[self._row[number]])
        near = (apart.max(axis=1, initial=0) == 1) & (apart.sum(axis=1) <= 2)
        return [int(n) for n in self._members[self._kind[number]][near]]

    def untried(self, tried: Iterable[int]) -> list[int]:
        """The first candidate of each lowering and layouts of which none was tried."""
        seen = {self._kind[number] for number in tried}
        return [int(members[0]) for kind, members in enumerate(self._members) if kind not in seen]

    def child(self, a: int, b: int, random: np.random.Generator) -> int:
        """A candidate between two, or beside the first where they are not alike."""
        kind = self._kind[a]
        steps = self._steps[kind]
        wanted = steps[self._row[a]].copy()
        if self._kind[b] == kind:
            mixed = random.random(len(wanted)) < 0.5
            wanted[mixed] = steps[self._row[b]][mixed]
        moved = random.random(len(wanted)) < MUTATION
        wanted += moved * random.choice([-1, 1], len(wanted))
        nearest = np.abs(steps - wanted).sum(axis=1)
        return int(self._members[kind][np.argmin(nearest)])
