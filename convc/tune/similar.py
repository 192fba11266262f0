"""What was best for similar layers is tried early: it seeds a search, and never answers for it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from convc.tune.tasks import Candidate, Task
from convc.tune.trial import Variant

NEAREST = 2
"""Similar layers that are asked."""
FAR = 8.0
"""Layers are similar whose extents differ by less than so many powers of two, all taken together."""


def distance(one: str, other: str) -> float:
    """How far two workloads in words are apart, in powers of two; infinite for different operators.

    What counts are the extents of the first two inputs and of the result.
    """
    extents = _extents(one), _extents(other)
    if one.split("(")[0] != other.split("(")[0] or len(extents[0]) != len(extents[1]):
        return math.inf
    return sum(abs(math.log2(a / b)) for a, b in zip(*extents, strict=True))


def _extents(workload: str) -> list[int]:
    shapes = re.findall(r"\[([\d,]+)\]", workload)
    return [max(int(n), 1) for shape in (*shapes[:2], shapes[-1]) for n in shape.split(",")] if shapes else []


def seeds(task: Task, known: Iterable[tuple[str, Variant]]) -> list[Variant]:
    """Variants of a task that resemble the best ones of the most similar layers, given with their workloads.

    The untuned choice is not among them: it is measured anyway.
    """
    here = str(task.workload)
    ordered = sorted(((distance(here, there), variant) for there, variant in known), key=lambda pair: pair)
    near = [variant for far, variant in ordered if far < FAR]
    found = [nearest(task.candidates, variant) for variant in near[:NEAREST]]
    return list(dict.fromkeys(v for v in found if v is not None and v != task.untuned.variant))


def nearest(candidates: Sequence[Candidate], variant: Variant) -> Variant | None:
    """The candidate of the same lowering whose numbers are closest; None where there is none."""
    alike = [c.variant for c in candidates if c.lowering.name == variant.lowering]
    alike = [v for v in alike if v.numbers.keys() == variant.numbers.keys()]
    if not alike:
        return None
    return min(alike, key=lambda v: (_apart(v, variant), v))


def _apart(one: Variant, other: Variant) -> float:
    pairs = [(one.numbers[name], other.numbers[name]) for name in one.numbers]
    return float(sum(abs(np.log2((1 + a) / (1 + b))) for a, b in pairs))
