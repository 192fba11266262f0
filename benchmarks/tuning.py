#!/usr/bin/env python3
"""How close the tuner comes to the best in few trials, layer by layer.

    python benchmarks/tuning.py                                   # ResNet-50 and MobileNet v2
    python benchmarks/tuning.py --trials 10 --random 500 FOLDER   # every network of a folder

For each distinct layer: so many random candidates are measured, and a search of `--trials` candidates is made
that knows nothing of them, only of the layers before it. The fastest of each are measured again, since the
least of many times is partly luck, and the fastest of these count. `speed` is the search's winner
relative to that of the random ones: above 1 it is faster. Candidates and how they are timed:
convc/tune/trial_module.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click
import models
import numpy as np
import record
from options import Progress, common, console, files, run, threaded, titled, usage
from rich.table import Table

from convc.errors import OptionError

DEFAULT = ("resnet50", "mobilenet_v2")
FINALISTS = 4
"""Of each side."""
FINALS = 3
"""Times that they are measured."""
Row = dict[str, Any]


def measured(measurer: Any, task: Any, candidates: Sequence[Any]) -> dict[Any, float]:
    """The time of each candidate that works, relative to the untuned choice."""
    found = measurer.measure(task, candidates)
    return {c.variant: result.relative.middle for c, result in found if result.relative is not None}


def drawn(task: Any, count: int) -> list[Any]:
    """So many different candidates, or all."""
    order = np.random.default_rng(0).permutation(len(task.candidates))[:count]
    return [task.candidates[i] for i in order]


def searched(measurer: Any, task: Any, trials: int, known: Sequence[tuple[str, Any]]) -> dict[Any, float]:
    """What a search of so many trials measures, after hints from other layers."""
    from convc.tune.search import Search
    from convc.tune.similar import seeds

    search = Search(task, 0)
    search.suggest(seeds(task, known))
    found: dict[Any, float] = {}
    tried = 0
    while tried < trials and (batch := search.propose(min(4, trials - tried))):
        tried += len(batch)
        times = measured(measurer, task, batch)
        found |= times
        for candidate in batch:
            relative = times.get(candidate.variant)
            seconds = None if relative is None else relative * task.untuned.predicted
            search.learn(candidate.variant, seconds)
    return found


def winners(measurer: Any, task: Any, sides: Sequence[Sequence[Any]]) -> tuple[list[Any], dict[Any, float]]:
    """The fastest variant of each side, and the times of all: medians of several measurements in turns.

    A side of which nothing works has the untuned choice.
    """
    by_variant = {c.variant: c for c in task.candidates}
    untuned = task.untuned.variant
    every = [by_variant[v] for v in dict.fromkeys(v for side in sides for v in side)]
    rounds = [measured(measurer, task, every) for _ in range(FINALS)]
    times = {v: median(found[v] for found in rounds) for v in set.intersection(*map(set, rounds))}
    times.setdefault(untuned, 1.0)
    best = [min((v for v in side if v in times), key=times.__getitem__, default=untuned) for side in sides]
    return best, times


def compared(measurer: Any, network: str, task: Any, trials: int, random: int, known: Any) -> Row:
    """One layer's row."""
    sample = measured(measurer, task, drawn(task, random))
    mine = searched(measurer, task, trials, known)
    sides = [sorted(found, key=found.__getitem__)[:FINALISTS] for found in (mine, sample)]
    (first, best), times = winners(measurer, task, sides)
    known.append((str(task.workload), first))
    return {
        "network": network,
        "layer": task.name,
        "workload": str(task.workload),
        "count": task.count,
        "candidates": len(task.candidates),
        "random": len(sample),
        "trials": len(mine),
        "speed": times[best] / times[first],
        "gain": 1 / times[first],
        "gain_of_random": 1 / times[best],
        "found": f"{first.lowering} {first.config}",
        "best_of_random": f"{best.lowering} {best.config}",
    }


def table(rows: Sequence[Row]) -> Table:
    """Every layer, the worst first."""
    columns = ("layer", "times", "candidates", "speed", "gain", "of random", "found")
    made = titled("the search's winner beside that of random candidates", columns, left=("layer", "found"))
    for row in sorted(rows, key=lambda r: float(r["speed"])):
        figures = (f"{row['speed']:.3f}", f"{row['gain']:.3f}", f"{row['gain_of_random']:.3f}")
        place = f"{row['network']} {row['layer']}"
        made.add_row(place, str(row["count"]), str(row["candidates"]), *figures, row["found"])
    return made


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The least and the mean speed, and the gain over untuned."""
    speeds, gains = zip(*((row["speed"], row["gain"]) for row in rows), strict=True)
    return {"layers": len(speeds), "least": min(speeds), "mean": fmean(speeds), "mean_gain": fmean(gains)}


@click.command(help=usage(__doc__))
@files
@threaded
@click.option("--trials", type=click.IntRange(1), default=10, show_default=True)
@click.option("--random", type=click.IntRange(1), default=500, show_default=True)
@common("tuning")
def command(
    paths: tuple[Path, ...],
    threads: int,
    trials: int,
    random: int,
    models: tuple[str, ...],
    output: Path,
    resume: bool,
) -> None:
    """Measure, write the record, print a table."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from tempfile import TemporaryDirectory

    from layers import plan

    from convc.tune.measurer import Builders, StationMeasurer, local_station
    from convc.tune.tasks import tasks

    networks = _chosen(paths, models or (() if paths else DEFAULT))
    log = record.begin("tuning", {"threads": threads, "trials": trials, "random": random}, output, resume)
    seen = {row["workload"] for row in log.rows}
    for model in networks:
        with TemporaryDirectory(prefix="convc-") as folder:
            compilation = plan(model, Path(folder), threads, 1)
        todo = [task for task in tasks(compilation) if str(task.workload) not in seen]
        progress, known = Progress(len(todo)), []  # type: ignore[var-annotated]
        console.print(f"{model.name}: {len(todo)} layers that were not seen before")
        builders = Builders(compilation.target, compilation.program.weights_bytes)
        with StationMeasurer(builders, [local_station()]) as measurer:
            for task in todo:
                row = compared(measurer, model.name, task, trials, random, known)
                seen.add(row["workload"])
                log.rows.append(row)
                log.summary = summarise(log.rows)
                log.save(output)
                progress.row(
                    f"{row['layer']}: speed {row['speed']:.3f}, gain {row['gain']:.3f}, {row['found']}"
                )
    if not log.rows:
        raise OptionError("No layer has several candidates.")
    console.print(table(log.rows))
    console.print(log.summary)


_chosen = models.chosen

if __name__ == "__main__":
    run(command)
