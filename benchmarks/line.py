"""A straight line through measured times: a part that is always there, and one for each unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3
"""Points that a line is fitted to; it would pass through any two."""


@dataclass(frozen=True)
class Line:
    """time = constant_ms + ms_per_giga * work / 1e9."""

    constant_ms: float
    ms_per_giga: float

    def at(self, work: int) -> float:
        """Milliseconds for this work."""
        return self.constant_ms + self.ms_per_giga * work / 1e9

    @classmethod
    def fit(cls, work: Sequence[int], times_ms: Sequence[float]) -> Line | None:
        """The line whose deviations relative to the times have the least squares; None for too few points.

        (constant + slope * work) / time should be 1 at each point: a linear system in constant and slope.
        With absolute deviations the longest time alone would decide.
        """
        if len(work) < FEWEST:
            return None
        times = np.asarray(times_ms)
        giga = np.asarray(work) / 1e9
        system = np.stack([1 / times, giga / times], axis=1)
        (constant, slope), *_ = np.linalg.lstsq(system, np.ones_like(times), rcond=None)
        return cls(float(constant), float(slope))
