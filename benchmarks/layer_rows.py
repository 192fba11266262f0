"""The figures of one layer under all lowerings, and what they amount to over networks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CONVOLUTIONS = ("conv", "conv_max_pool")

EXACT = ("direct", "im2col")
"""Lowerings that do the multiplications of the definition: their percent of peak is the machine's."""

STATES = ("cold", "warm")
"""What the caches hold when a layer begins: what a network leaves there, or all of its own that fits."""

WEAK = 0.9
"""A direct form below this share of peak is worth a look."""


@dataclass(frozen=True)
class Tried:
    """One lowering of a layer; `error` is measured against float64, None where it was not run.

    `measured_ms` is cold, `warm_ms` None where that was not asked for, as in records from before it was.
    """

    lowering: str
    predicted_ms: float | None
    measured_ms: float | None
    error: float | None
    rejected: str | None
    warm_ms: float | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def ms(self, state: str) -> float | None:
        """The time in one of `STATES`."""
        return self.measured_ms if state == "cold" else self.warm_ms


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

    def exact(self, state: str) -> Tried | None:
        """The faster of the direct forms in one of `STATES`."""
        timed = [t for t in self.tried if t.lowering in EXACT and t.ms(state) is not None]
        return min(timed, key=lambda t: t.ms(state) or 0.0, default=None)

    def exact_share(self, state: str, peak: float) -> float | None:
        """Its speed as a share of `peak` (FLOP/s); None for what is no convolution."""
        best = self.exact(state)
        ms = None if best is None else best.ms(state)
        return 1e3 * self.flops / ms / peak if ms and self.op in CONVOLUTIONS else None

    @property
    def shape(self) -> str:
        """Input and weights of a convolution, and its strides, as in `1x64x56x56 * 64x64x3x3 / 1x1`."""
        sizes = [found.replace(",", "x") for found in re.findall(r"\[([\d,]+)\]", self.workload)[:2]]
        strides = re.search(r"strides=\(([\d, ]+)\)", self.workload)
        return " * ".join(sizes) + (f" / {strides[1].replace(', ', 'x')}" if strides else "")


Weighed = Sequence[tuple[LayerRow, int]]


def totals(rows: Iterable[tuple[LayerRow, int]], peak: float) -> dict[str, Any]:
    """Sums over layers, each so many times. `peak` is in FLOP/s.

    `regret` is over all layers, `regret_of_choices` over those that had a choice, both cold; `direct_forms`
    tells for each state how near to peak the better direct form of each convolution comes: `mean` over
    layers, `by_time` all their work over all their time.
    """
    weighed = [(row, count) for row, count in rows if row.regret is not None]
    choices = [(r, n) for r, n in weighed if sum(t.measured_ms is not None for t in r.tried) > 1]
    return {
        "layers": sum(count for _, count in weighed),
        "chosen_ms": _chosen(weighed),
        "best_ms": _best(weighed),
        "regret": _regret(weighed),
        "regret_of_choices": _regret(choices),
        "direct_forms": {state: _shares(weighed, state, peak) for state in STATES},
    }


def _shares(weighed: Weighed, state: str, peak: float) -> dict[str, float] | None:
    """Shares of peak of the direct forms; None where none was timed."""
    shares = [(row.exact_share(state, peak), row.flops * n, n) for row, n in weighed]
    timed = [(share, flops, n) for share, flops, n in shares if share]
    if not timed:
        return None
    return {
        "mean": sum(share * n for share, _, n in timed) / sum(n for *_, n in timed),
        "by_time": sum(flops for _, flops, _ in timed) / sum(flops / share for share, flops, _ in timed),
    }


def weak(rows: Iterable[LayerRow], peak: float) -> list[LayerRow]:
    """Convolutions whose direct forms are below `WEAK` of peak in a state, by the time above peak, cold."""
    found = [
        row
        for row in rows
        if any((share := row.exact_share(state, peak)) and share < WEAK for state in STATES)
    ]
    return sorted(found, key=lambda row: _above_peak(row, peak), reverse=True)


def _above_peak(row: LayerRow, peak: float) -> float:
    """Seconds over all occurrences that the direct form takes beyond its work at peak."""
    share = row.exact_share("cold", peak) or 1.0
    return sum(row.counts.values()) * row.flops / peak * (1 / share - 1)


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
