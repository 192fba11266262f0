"""What a layer's candidates are expected to take: the cost model's price, corrected by what was measured.

The logarithm of measured over predicted time is a Gaussian process over candidates (Rasmussen and Williams,
Gaussian Processes for Machine Learning, 2.2). Three errors add up: one of the whole layer, one of each
lowering, and one that candidates share the more, the nearer their configurations are, numbers being compared
by their logarithms. Few trials thus say something of all candidates, and nothing is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from convc.tune.grid import Grid
from convc.tune.tasks import Candidate
from convc.types import Array

LAYER, LOWERING, CONFIG = 0.30, 0.15, 0.15
"""Standard deviations of the three errors, in natural logarithms: the model's own, as benchmarks show it."""
NOISE = 0.02


class LayerModel:
    """Expected seconds of one layer's candidates; numbers are indices into `candidates`."""

    def __init__(self, candidates: Sequence[Candidate], grid: Grid) -> None:
        self._grid = grid
        self._prices = np.log([max(c.predicted, 1e-9) for c in candidates])
        self._measured: dict[int, float] = {}
        self._posterior: tuple[Array, Array] | None = None

    def learn(self, number: int, seconds: float) -> None:
        """Take a measured time into account."""
        self._measured[number] = math.log(seconds)
        self._posterior = None

    @property
    def best(self) -> float:
        """Seconds of the fastest that was measured; of the untuned choice, as predicted, before."""
        return math.exp(min(self._measured.values(), default=float(self._prices[0])))

    def expected(self) -> Array:
        """Seconds that each candidate is expected to take."""
        found: Array = np.exp(self._means_and_deviations[0])
        return found

    def improvement(self) -> Array:
        """Seconds by which each candidate is expected to beat the best (0 for those measured).

        Expected improvement (Jones et al., Efficient Global Optimization, 1998) of log-normal times.
        """
        means, deviations = self._means_and_deviations
        best = math.log(self.best)
        z = (best - means) / deviations
        gain: Array = math.exp(best) * _normal(z) - np.exp(means + deviations**2 / 2) * _normal(
            z - deviations
        )
        gain[list(self._measured)] = 0.0
        return np.maximum(gain, 0.0, out=gain)

    @property
    def _means_and_deviations(self) -> tuple[Array, Array]:
        """Of the logarithm of each candidate's time."""
        if self._posterior is None:
            self._posterior = self._regress()
        return self._posterior

    def _regress(self) -> tuple[Array, Array]:
        seen = list(self._measured)
        own = LOWERING**2 + CONFIG**2
        if not seen:
            # Candidates are compared with the untuned one, which has the layer's error as well.
            return self._prices, np.full(len(self._prices), math.sqrt(own))
        errors = np.array([self._measured[i] - self._prices[i] for i in seen])
        between = self._covariance[np.ix_(seen, seen)] + NOISE**2 * np.eye(len(seen))
        across = self._covariance[:, seen]
        solved = np.linalg.solve(between, np.column_stack([errors, across.T]))
        means = self._prices + across @ solved[:, 0]
        variances = np.diag(self._covariance) - np.einsum("ij,ji->i", across, solved[:, 1:])
        return means, np.sqrt(np.maximum(variances, NOISE**2))

    @cached_property
    def _covariance(self) -> Array:
        return LAYER**2 + self._grid.alike * (LOWERING**2 + CONFIG**2 * np.exp(-self._grid.distances / 2))


def _normal(z: Array) -> Array:
    """The standard normal distribution function."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
