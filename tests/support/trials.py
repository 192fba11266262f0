"""A trial with a value in every field, and databases of its like."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from convc.tune.database import Database
from convc.tune.trial import Machine, Outcome, Trial, Variant

HERE = Machine('{"kind":"cpu","mcpu":"znver4"}', 2)

TRIAL = Trial(
    layer="aa",
    op="conv",
    workload="conv(float32[1, 64, 56, 56]) | relu -> float32[1, 64, 56, 56]",
    variant=Variant("direct", "16,1>16", '{"oc":28,"ow":16}'),
    version=3,
    machine=HERE,
    outcome=Outcome.OK,
    seconds=0.1 + 0.2,
    low=1e-3,
    high=1.1e-3,
    runs=31,
    error=5e-324,
    predicted=1 / 3,
    message="größer als 'alles'\n\0",
    measured_at="2026-05-09T07:35:25.123456+00:00",
    session="a session",
    number=7,
)


def variant(config: int, lowering: str = "direct") -> Variant:
    return replace(TRIAL.variant, lowering=lowering, config=json.dumps({"oc": config}))


def stored(path: Path) -> list[Trial]:
    with Database.open(path, create=False) as database:
        return database.trials()


def fill(database: Database, *trials: Trial) -> None:
    """Add trials, numbered."""
    for number, trial in enumerate(trials):
        database.add(replace(trial, number=number))
