"""Where a module's time goes: its steps, the slowest first.

    rows = profiled(module, module.profile(feeds))
    rich.print(render(rows))
    json.dumps(to_json(rows))

JSON: a list of steps; each has

| key | meaning |
|---|---|
| `step` | the layer, or what is done for it |
| `algorithm` | how it is computed; empty for steps that compute no layer |
| `ms` | median time of the step |
| `share` | of the time of all steps, from 0 to 1 |
| `gflops` | 1e9 operations of the definition a second, a multiply-add counting as 2; null without any |
| `percent_of_peak` | the same, of the calibrated peak; above 100 where an algorithm does fewer operations |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from convc.runtime.module import Module


@dataclass(frozen=True)
class StepTime:
    """One line of the table; the fields are those of the JSON form."""

    step: str
    algorithm: str
    ms: float
    share: float
    gflops: float | None = None
    percent_of_peak: float | None = None


def profiled(module: Module, seconds: Sequence[float]) -> list[StepTime]:
    """The steps of a module, which take so many seconds each, the slowest first."""
    layers = {layer.name: layer for layer in module.plan}
    whole, peak = sum(seconds), _peak(module)
    rows = []
    for step, time in zip(module.manifest.steps, seconds, strict=True):
        layer = layers.get(step)
        rate = layer.flops / time if layer is not None and layer.flops and time else None
        rows.append(
            StepTime(
                step,
                "" if layer is None else layer.chosen,
                1e3 * time,
                time / whole if whole else 0.0,
                None if rate is None else rate / 1e9,
                None if rate is None or peak is None else 100 * rate / peak,
            )
        )
    return sorted(rows, key=lambda row: -row.ms)


def _peak(module: Module) -> float | None:
    """FLOP/s of the threads that it runs on, as measured for its target; unknown of GPUs."""
    target = module.manifest.target
    return None if target.get("gpu") else target["flops"] * module.threads


def to_json(rows: Sequence[StepTime]) -> list[dict[str, Any]]:
    """The table as plain values for `json.dumps`; the keys are explained above."""
    return [asdict(row) for row in rows]


def render(rows: Sequence[StepTime]) -> Table:
    """The table for a terminal, with a line of totals."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("step", f"{len(rows)} steps", overflow="fold")
    table.add_column("algorithm", overflow="fold")
    table.add_column("ms", f"{sum(row.ms for row in rows):.4f}", justify="right", no_wrap=True)
    for title in ("share", "GFLOP/s", "% of peak"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        rates = ("" if n is None else f"{n:.0f}" for n in (row.gflops, row.percent_of_peak))
        table.add_row(row.step, row.algorithm, f"{row.ms:.4f}", f"{100 * row.share:.1f} %", *rates)
    return table
