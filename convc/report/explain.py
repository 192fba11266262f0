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
    """A row for each layer that had a choice, or, `detailed`, one for each candidate.

    Below stands which of the chosen algorithms spread infinities and NaN.
    """
    table = _candidates(layers) if detailed else _decisions(layers)
    table.caption, table.caption_justify = _spreading(layers), "left"
    return table


def _spreading(layers: Sequence[LayerPlan]) -> str | None:
    """A remark on what non-finite input does, or None where it reaches no more than it should."""
    from convc.lowering.registry import CUDA_LOWERINGS, LOWERINGS  # imports TVM

    chosen = {layer.chosen for layer in layers}
    reached = {
        lw.name: lw.spreads for lw in (*LOWERINGS, *CUDA_LOWERINGS) if lw.spreads and lw.name in chosen
    }
    if not reached:
        return None
    what = "; ".join(f"in {name}, {text}" for name, text in sorted(reached.items()))
    return f"An infinity or NaN may reach more than what sees it: {what}. By --algo LAYER=direct it does not."


def _candidates(layers: Sequence[LayerPlan]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("layer", "lowering", "predicted ms", "measured ms", "error", ""):
        table.add_column(title, justify="right" if title.endswith("ms") or title == "error" else "left")
    for layer in layers:
        for c in layer.candidates:
            rejected = f"rejected: {c.rejected}" if c.rejected else ""
            remark = layer.reason or "chosen" if c.lowering == layer.chosen else rejected
            table.add_row(
                layer.name, c.lowering, _ms(c.predicted_ms), _ms(c.measured_ms), _error(c.error), remark
            )
    return table


def _decisions(layers: Sequence[LayerPlan]) -> Table:
    """The prices are measured ones where there are any; then the choice's stands beside its prediction."""
    measured = any(c.measured_ms is not None for layer in layers for c in layer.candidates)
    kind = "measured" if measured else "predicted"
    numbers = ("predicted ms", *(("measured ms",) if measured else ()), "error")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("layer", "op", "chosen", *numbers, f"others ({kind} ms, or why not)"):
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    for layer in layers:
        own = next((c for c in layer.candidates if c.lowering == layer.chosen), Candidate(layer.chosen))
        others = ", ".join(
            f"{c.lowering} {_price(c) if c.rejected is None else '(' + c.rejected + ')'}"
            for c in layer.candidates
            if c is not own and (c.rejected is None or c.predicted_ms is not None or len(layers) == 1)
        )
        others += f" ({layer.reason})" if layer.reason else ""
        prices = (_ms(own.predicted_ms), *((_ms(own.measured_ms),) if measured else ()))
        table.add_row(layer.name, layer.op, layer.chosen, *prices, _error(own.error), others)
    return table


def _price(candidate: Candidate) -> str:
    """Milliseconds, measured if they were."""
    return _ms(candidate.predicted_ms if candidate.measured_ms is None else candidate.measured_ms)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"
