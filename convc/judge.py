"""Whether an output is right: near the float64 reference, or no farther from it than float32 must be.

An output is first held against the exact reference alone. Where it is too far off, references in float32 with
errors of the size that the network's lowerings make (`convc.rounding`) show how far any program may be off,
element by element. What they do not explain is a miscompilation, but for few elements beside those that they
do explain: where a value lies on a step, each of them crosses it by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from convc.dtype import FLOAT64
from convc.types import Array

FACTOR = 4.0
"""By how much a float may be farther off than the references with errors are at the same element."""
STRAY = 0.5
"""Elements that nothing explains, relative to those explained, that are taken for steps crossed by chance.

A step that one error crosses is crossed by a third or so of others of that size, in each draw."""
HOPELESS = 16
"""Elements that nothing explains after FEW_DRAWS: with so many, and most by far, more draws are useless."""
FEW_DRAWS = 3


@dataclass
class Judgement:
    """One output beside its exact reference.

    `limit` is the error that is allowed anyway, relative to the largest expected value or, `elementwise`, to
    each; integers are to be equal. `spread` is how far references with errors were off, by element.
    """

    found: Array
    expected: Array
    limit: float
    elementwise: bool = False
    spread: Array = field(init=False)

    def __post_init__(self) -> None:
        self._integers = self.found.dtype.kind != "f"
        self._deviation = _distance(self.found, self.expected)
        self.spread = np.zeros(self.expected.shape)
        self._agrees = self._near(self.expected)

    @cached_property
    def scale(self) -> float:
        """The largest finite magnitude expected."""
        return float(_magnitude(self.expected).max(initial=0.0))

    @cached_property
    def _allowed(self) -> Array | float:
        if self._integers:
            return 0.0
        return self.limit * (_magnitude(self.expected) if self.elementwise else self.scale)

    def learn(self, reference: Array) -> None:
        """Take into account a reference with errors."""
        self.spread = np.maximum(self.spread, _distance(reference, self.expected))
        self._agrees |= self._near(reference)

    def _near(self, reference: Array) -> Array:
        """Where the output is what a reference has, or beyond float32 like that."""
        near = _distance(self.found, reference) <= self.limit * _magnitude(reference)
        return np.asarray(near | ~(np.isfinite(reference) | np.isfinite(self.found)))

    @property
    def suspects(self) -> Array:
        """Elements that are farther off than is allowed anyway."""
        return np.asarray(self._deviation > self._allowed)

    @property
    def unexplained(self) -> Array:
        """Those of them that are farther off than float32 must be."""
        bound = self.spread if self._integers else self._allowed + FACTOR * self.spread
        # Where references overflow, a program may do as one of them does, but nothing else.
        beyond = np.where(np.isinf(self.spread), ~self._agrees, self._deviation > bound)
        return np.asarray(self.suspects & beyond)

    @property
    def right(self) -> bool:
        """Whether all that is off is explained, or like what is."""
        left = self.unexplained
        if not left.any():
            return True
        if not self.limit:
            return False  # nearly all elements are explained, but each by itself
        others = self.suspects & ~left
        bound = FACTOR * self.spread[others].max(initial=0.0)
        return bool(left.sum() <= STRAY * others.sum() and (self._deviation[left] <= bound).all())

    @property
    def hopeless(self) -> bool:
        """Whether more references would explain too little."""
        left = int(self.unexplained.sum())
        return left >= HOPELESS and left > 3 * (int(self.suspects.sum()) - left)

    @property
    def amplification(self) -> float:
        """How far off references with errors are, relative to what is expected, in root mean square."""
        finite = np.isfinite(self.spread) & np.isfinite(self.expected)
        size = float(np.linalg.norm(self.expected[finite].astype(FLOAT64)))
        return float(np.linalg.norm(self.spread[finite])) / size if size else 0.0

    @property
    def error(self) -> float:
        """The largest error, relative to the largest expected value: of the elements that need an explanation
        and have none, or else of those that need none."""
        counted = self.unexplained
        if self.right:
            counted = ~self.suspects if self.limit else np.isfinite(self._deviation)
        worst = float(self._deviation[counted].max(initial=0.0))
        if not worst:
            return 0.0
        return worst / self.scale if self.scale else float("inf")


def explain(judgements: Mapping[str, Judgement], references: Iterable[Mapping[str, Array]]) -> None:
    """Hold outputs against references with errors until all are right, or no more would help."""
    if all(j.right for j in judgements.values()):
        return
    for draw, reference in enumerate(references):
        for name, judgement in judgements.items():
            judgement.learn(reference[name])
        if all(j.right or (draw + 1 >= FEW_DRAWS and j.hopeless) for j in judgements.values()):
            return


def _magnitude(array: Array) -> Array:
    """|array| in float64, with 0 where it is not finite."""
    values = np.abs(array.astype(FLOAT64))
    return np.where(np.isfinite(values), values, 0.0)


def _distance(a: Array, b: Array) -> Array:
    """|a - b| by element; 0 where both are NaN or the same infinity, infinite where only one is finite."""
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return np.where(a == b, 0.0, np.maximum(np.abs(a.astype(FLOAT64) - b.astype(FLOAT64)), 1.0))
    a, b = a.astype(FLOAT64), b.astype(FLOAT64)
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.abs(a - b)
    return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.where(np.isnan(far), np.inf, far))
