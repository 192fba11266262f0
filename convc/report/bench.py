"""A module's latency, beside that of other engines on the model that it was compiled from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from convc.files import Scratch
from convc.frontends.onnx import constant_inputs
from convc.report.engines import ENGINES, Rounds, Task, error_between, in_turns, ratio, spread_ms
from convc.runtime.manifest import Manifest
from convc.verify import random_feeds

__all__ = ["ENGINES", "Figures", "bench", "to_json"]


@dataclass(frozen=True)
class Figures:
    """Latency of one engine in milliseconds over all its runs, and how it compares.

    `ratio` is this engine's median over convc's, taken round by round; `error` is convc's, relative to this
    engine's largest output. `peak_mb` is the most memory that its process held, the libraries included.
    """

    engine: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    load_s: float
    peak_mb: float
    ratio: float | None = None
    error: float | None = None


def bench(
    module: Path,
    manifest: Manifest,
    model: Path | None,
    engines: Sequence[str],
    *,
    threads: int,
    rounds: int = 3,
) -> list[Figures]:
    """Time a module and, on `model`, other engines. Raises OptionError for one that is not installed."""
    with Scratch() as folder:
        feeds = random_feeds(manifest.inputs)
        np.savez(folder / "convc-feeds.npz", allow_pickle=False, **feeds)
        if model is not None and engines:
            built_in = constant_inputs(model, manifest.options.get("constants", {}))
            np.savez(folder / "feeds.npz", allow_pickle=False, **feeds, **built_in)
        tasks = [
            Task(
                engine,
                str(module if engine == "convc" else model),
                threads,
                str(folder / ("convc-feeds.npz" if engine == "convc" else "feeds.npz")),
                str(folder / f"{engine}.npz"),
            )
            for engine in ("convc", *engines)
        ]
        turns = in_turns(tasks, rounds)
        return [_figures(task.engine, turns, folder) for task in tasks]


def _figures(engine: str, turns: Rounds, folder: Path) -> Figures:
    own = turns[engine]
    p10, p50, p90 = spread_ms(own)
    peer = engine != "convc"
    return Figures(
        engine,
        p50,
        p10,
        p90,
        sum(len(turn.times_s) for turn in own),
        statistics.median(turn.load_s for turn in own),
        max(turn.peak_bytes for turn in own) / 1e6,
        ratio(turns, engine, ["convc"]) if peer else None,
        error_between(folder / "convc.npz", folder / f"{engine}.npz") if peer else None,
    )


def to_json(figures: Sequence[Figures]) -> list[dict[str, object]]:
    """The fields of `Figures`, an object for each engine."""
    return [asdict(f) for f in figures]
