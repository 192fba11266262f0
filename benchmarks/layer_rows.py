"""The figures of one layer under all lowerings, and what they amount to over networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

EXACT = ("direct", "im2col")
"""Lowerings that do the multiplications of the definition: their percent of peak is the machine's."""


@dataclass(frozen=True)
class Tried:
    """One lowering of a layer; `error` is measured against float64, None where it was not run."""

    lowering: str
    predicted_ms: float | None
    measured_ms: float | None
    error: float | None
    rejected: str | None


@dataclass(frozen=True)
class LayerRow:
    """A distinct layer; `counts` says how often it occurs in each network, `name` where it was seen first."""

    name: str
    op: str
    workload: str
    flops: int
    chosen: str
    tried: tuple[Tried, ...]
    counts: dict[str, int] = field(default_factory=dict)
    failed: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> LayerRow:
        """From JSON; what `to_json` adds is computed anew."""
        known = {k: v for k, v in fields.items() if k in cls.__dataclass_fields__}
        return cls(**{**known, "tried": tuple(Tried(**t) for t in fields["tried"])})

    def to_json(self) -> dict[str, Any]:
        """The fields, and the figures that a reader looks for."""
        best = self.best
        return {
            **asdict(self),
            "chosen_ms": self.chosen_ms,
            "best": None if best is None else best.lowering,
            "regret": self.regret,
        }

    @property
    def key(self) -> tuple[str, str]:
        """What makes a layer distinct: its work, and the choice, which neighbours' layouts may change."""
        return self.workload, self.chosen

    @property
    def chosen_ms(self) -> float | None:
        """The time of the untuned choice."""
        return next((t.measured_ms for t in self.tried if t.lowering == self.chosen), None)

    @property
    def best(self) -> Tried | None:
        """The fastest of those whose error was allowed, the choice included."""
        allowed = [t for t in self.tried if t.rejected is None or t.lowering == self.chosen]
        timed = [t for t in allowed if t.measured_ms is not None]
        return min(timed, key=lambda t: t.measured_ms or 0.0, default=None)

    @property
    def regret(self) -> float | None:
        """How much longer the choice takes than the best, as a share of the best."""
        best = self.best
        if best is None or not best.measured_ms or self.chosen_ms is None:
            return None
        return self.chosen_ms / best.measured_ms - 1

    def exact_ms(self) -> float | None:
        """The faster of the direct forms."""
        times = [t.measured_ms for t in self.tried if t.lowering in EXACT and t.measured_ms is not None]
        return min(times, default=None)


def totals(rows: Iterable[tuple[LayerRow, int]], peak: float) -> dict[str, Any]:
    """Sums over layers, each so many times. `peak` is in FLOP/s.

    `regret` is over all layers, `regret_of_choices` over those that had a choice; `exact_share_of_peak` is
    the mean over convolutions of the speed of the better direct form, `exact_share_of_time` that of their
    sums.
    """
    weighed = [(row, count) for row, count in rows if row.regret is not None]
    choices = [(r, n) for r, n in weighed if sum(t.measured_ms is not None for t in r.tried) > 1]
    exact = [(row.flops, row.exact_ms(), count) for row, count in weighed if row.op == "conv"]
    direct = [(flops * n, ms * n, n) for flops, ms, n in exact if ms]
    seconds = sum(ms for _, ms, _ in direct) / 1e3
    return {
        "layers": sum(count for _, count in weighed),
        "chosen_ms": _chosen(weighed),
        "best_ms": _best(weighed),
        "regret": _regret(weighed),
        "regret_of_choices": _regret(choices),
        "exact_share_of_peak": (
            sum(1e3 * f / ms / peak * n for f, ms, n in direct) / sum(n for *_, n in direct)
            if direct
            else None
        ),
        "exact_share_of_time": sum(f for f, *_ in direct) / seconds / peak if direct else None,
    }


Weighed = Sequence[tuple[LayerRow, int]]


def _chosen(weighed: Weighed) -> float:
    return sum((row.chosen_ms or 0.0) * count for row, count in weighed)


def _best(weighed: Weighed) -> float:
    return sum((row.best.measured_ms or 0.0) * count for row, count in weighed if row.best)


def _regret(weighed: Weighed) -> float | None:
    return _chosen(weighed) / _best(weighed) - 1 if _best(weighed) else None


def time_lost(row: LayerRow) -> float:
    """Milliseconds that the choice costs over all occurrences."""
    weighed = [(row, sum(row.counts.values()))]
    return _chosen(weighed) - _best(weighed)


def summarise(rows: Sequence[LayerRow], peak: float) -> dict[str, Any]:
    """The totals of each network and of all."""
    names = dict.fromkeys(name for row in rows for name in row.counts)
    found = {n: totals([(r, r.counts[n]) for r in rows if n in r.counts], peak) for n in names}
    return {
        "all": totals([(row, sum(row.counts.values())) for row in rows], peak),
        "networks": found,
        "failed": [row.name for row in rows if row.failed],
    }
