"""The table of decisions: each layer's algorithm, beside the price and the error of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from convc.runtime.manifest import Candidate, LayerPlan


def to_json(layers: Sequence[LayerPlan]) -> list[dict[str, Any]]:
    """A list of `name`, `op`, `workload`, `chosen`, `candidates` (and origin, flops).

    A candidate has `lowering`, `predicted_ms`, `measured_ms`, `error`, `rejected`; the unknown is null.
    """
    return [asdict(layer) for layer in layers]


def render(layers: Sequence[LayerPlan], *, detailed: bool = False) -> Table:
    """A row for each layer that had a choice, or, `detailed`, one for each candidate."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    if detailed:
        for title in ("layer", "lowering", "predicted ms", "measured ms", "error", ""):
            table.add_column(title, justify="right" if title.endswith("ms") or title == "error" else "left")
        for layer in layers:
            for c in layer.candidates:
                remark = (
                    "chosen"
                    if c.lowering == layer.chosen
                    else f"rejected: {c.rejected}"
                    if c.rejected
                    else ""
                )
                table.add_row(
                    layer.name, c.lowering, _ms(c.predicted_ms), _ms(c.measured_ms), _error(c.error), remark
                )
        return table
    for title in ("layer", "op", "chosen", "predicted ms", "error", "others (predicted ms, or why not)"):
        table.add_column(
            title, justify="right" if title in ("predicted ms", "error") else "left", overflow="fold"
        )
    for layer in layers:
        own = next((c for c in layer.candidates if c.lowering == layer.chosen), Candidate(layer.chosen))
        others = ", ".join(
            f"{c.lowering} {_ms(c.predicted_ms) if c.rejected is None else '(' + c.rejected + ')'}"
            for c in layer.candidates
            if c is not own and (c.rejected is None or c.predicted_ms is not None or len(layers) == 1)
        )
        table.add_row(layer.name, layer.op, layer.chosen, _ms(own.predicted_ms), _error(own.error), others)
    return table


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"
