"""The table of decisions: what it shows of candidates that were priced, measured or refused."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from convc.report.explain import render
from convc.runtime.manifest import Candidate, LayerPlan

DIRECT = Candidate("direct", predicted_ms=0.25, error=2e-6)
WINOGRAD = Candidate("winograd4", predicted_ms=0.125, error=3e-3, rejected="error 3.0e-03 exceeds 0.0001")
FFT = Candidate("fft", rejected="with strides (2, 2) it would compute 4 times too much")
LAYER = LayerPlan(
    "stem", "conv", "conv(...)", "direct", (WINOGRAD, DIRECT, Candidate("im2col", predicted_ms=0.5), FFT)
)
VIEW = LayerPlan("flat", "reshape", "reshape(...)", "view", ())


def text(layers: list[LayerPlan], *, detailed: bool = False) -> list[str]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render(layers, detailed=detailed))
    return [" ".join(line.split()) for line in capture.get().splitlines() if line.strip()]


def test_a_row_for_each_layer() -> None:
    title, _, stem, flat = text([LAYER, VIEW])
    assert title == "layer op chosen predicted ms error others (predicted ms, or why not)"
    assert stem == "stem conv direct 0.250 2e-06 winograd4 (error 3.0e-03 exceeds 0.0001), im2col 0.500"
    assert flat == "flat reshape view"


def test_measured_times_stand_beside_predicted_ones() -> None:
    candidates = tuple(
        replace(c, measured_ms=2 * c.predicted_ms if c.predicted_ms else None) for c in LAYER.candidates
    )
    title, _, stem, flat = text([replace(LAYER, candidates=candidates), VIEW])
    assert title == "layer op chosen predicted ms measured ms error others (measured ms, or why not)"
    assert stem == "stem conv direct 0.250 0.500 2e-06 winograd4 (error 3.0e-03 exceeds 0.0001), im2col 1.000"
    assert flat == "flat reshape view"


def test_says_which_algorithms_spread_nan() -> None:
    assert not any("NaN" in line for line in text([LAYER, VIEW]))
    spread = text([LAYER, replace(LAYER, name="next", chosen="winograd4")])
    assert " ".join(spread).endswith(
        "An infinity or NaN may reach more than what sees it: in winograd4, the outputs of its tile. "
        "By --algo LAYER=direct it does not."
    )


def test_one_layer_shows_every_candidate() -> None:
    rows = text([LAYER], detailed=True)[2:]
    assert rows == [
        "stem winograd4 0.125 3e-03 rejected: error 3.0e-03 exceeds 0.0001",
        "stem direct 0.250 2e-06 chosen",
        "stem im2col 0.500",
        "stem fft rejected: with strides (2, 2) it would compute 4 times too much",
    ]
