"""How far results are from what they should be."""

from __future__ import annotations

import numpy as np

from convc.types import Array


def relative_error(found: Array, expected: Array) -> float:
    """Largest difference, relative to the largest expected magnitude; infinite where nan meets a number."""
    if not expected.size:
        return 0.0
    found, expected = found.astype("float64"), expected.astype("float64")
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):  # of infinities
        difference = np.where(same, 0.0, np.abs(found - expected))
    if not np.isfinite(difference).all():
        return float("inf")
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    worst = float(difference.max())
    if worst == 0.0:
        return 0.0
    return worst / scale if scale else float("inf")
