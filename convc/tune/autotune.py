"""Tuning from end to end: a model in, trials in the database, the better of two modules out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convc.arguments import checked_count, checked_number, checked_path
from convc.compilation import Compilation, plan
from convc.compiler import build
from convc.errors import OptionError, TargetError
from convc.files import Scratch, explained
from convc.naming import layer_named
from convc.options import Options
from convc.progress import Progress
from convc.runtime.module import Module
from convc.tune.boards import board_stations
from convc.tune.database import Database
from convc.tune.exchange import Exported, check_absent, export
from convc.tune.judge import Interval
from convc.tune.measurer import Builders, StationMeasurer, local_station
from convc.tune.progress import Status, Watcher
from convc.tune.records import known_as, machine_of, records_of
from convc.tune.search import Search
from convc.tune.settle import Settled, settle
from convc.tune.station import Station
from convc.tune.tasks import Task, tasks
from convc.tune.trial import Trial
from convc.tune.tuner import Budget, Tuner


@dataclass(frozen=True)
class Tuned:
    """What tuning came to.

    `trials` are those of the network's layers on this machine, earlier runs' included, and last the corrected
    ones; `status` was before these. `ratio` is the tuned network's time over the untuned one's, both run in
    turns, None where they do not run on this machine; `kept` says whether the module is the tuned one, which
    it is not where that is slower. `withdrawn` are the workloads whose best trial did not hold in the
    network, see `settle`.
    """

    module: Module
    status: Status
    trials: Sequence[Trial]
    ratio: Interval | None
    kept: bool
    withdrawn: tuple[str, ...] = ()


@explained("Cannot tune")
def autotune(
    model: Any,
    options: Options | None = None,
    *,
    time_budget: float | None = None,
    trials: int | None = None,
    layers: Sequence[str] = (),
    seed: int = 0,
    database: Path | None = None,
    tracker: str | None = None,
    device_key: str | None = None,
    verify: bool = True,
    cache: Path | None = None,
    progress: Progress | None = None,
    watcher: Watcher | None = None,
) -> Tuned:
    """Tune a network for this machine's processor, or that of boards, and compile it with what was found.

    Each trial is kept as soon as it is measured; a run that was interrupted or killed goes on where it was.

    Args:
        model: as for `convc.compile`.
        options: what else `convc.compile` is asked for.
        time_budget: seconds that measuring may take.
        trials: candidates to try in all, those included that the database has of this network.
        layers: names of the layers to tune; none means all.
        seed: of the search.
        database: file of the trials; default `$CONVC_TUNING_DB` or the user's data folder.
        tracker: `HOST:PORT` of a TVM RPC tracker, on whose boards candidates are measured instead of here.
            The target must describe them.
        device_key: what the boards are called there.
        verify: compare the result with the float64 reference.
        cache: folder of compiled kernels, as for `convc.compile`.
        progress: is told of the stages of compilation.
        watcher: is told of every trial.

    Raises:
        ConvcError: a child that says what is wrong with the model, an option, the target or the database.
    """
    progress, options = progress or Progress(), options or Options()
    if time_budget is not None:
        checked_number(time_budget, "time_budget", "60, in seconds")
    if trials is not None:
        checked_count(trials, "trials", "100")
    database, cache = checked_path(database, "database"), checked_path(cache, "cache")
    untuned = plan(model, options, progress)
    stations = _stations(untuned, tracker, device_key)
    found = chosen(tasks(untuned), untuned, layers)
    with Database.open(database) as records:
        builders = Builders(untuned.target, untuned.program.weights_bytes, cache, remote=tracker is not None)
        with StationMeasurer(builders, stations) as measurer:
            machine, budget = machine_of(untuned.target), Budget(time_budget, trials)
            tuner = Tuner(found, machine, records, measurer, budget, seed, watcher or Watcher())
            tuner.run()

        def tuned() -> Compilation:
            # what there is to say of the model was said
            return plan(model, replace(untuned.options, records=records_of(records)), Progress())

        settled = Settled(tuned(), None, ())
        if tracker is None:
            settled = settle(untuned, tuned, {task.key for task in found}, records, progress, cache)
    kept = settled.ratio is None or settled.ratio.middle <= 1.0
    scratch = Scratch()
    path, made = scratch.path / "network.so", settled.compilation if kept else untuned
    module = build(made, path, progress, verify=verify, cache=cache)
    module.own(scratch)
    trials_made = [trial for layer in tuner.layers for trial in layer.trials.values()]
    withdrawn = dict.fromkeys(trial.workload for trial in settled.corrected)
    return Tuned(
        module, tuner.status(), [*trials_made, *settled.corrected], settled.ratio, kept, tuple(withdrawn)
    )


def _stations(compilation: Compilation, tracker: str | None, key: str | None) -> list[Station]:
    """Where candidates are measured. Raises OptionError, and TargetError where they cannot be."""
    name, target = compilation.options.target, compilation.target
    if tracker is not None and key is not None:
        if target.gpu is not None:
            raise TargetError(
                f"Candidates for '{name}' cannot be measured through a tracker: it is a GPU.",
                hint="Measure them on the machine itself, see `convc tune --export-candidates`.",
            )
        return board_stations(tracker, key)
    if tracker is not None or key is not None:
        given, absent = ("tracker", "device-key") if key is None else ("device-key", "tracker")
        raise OptionError(f"--{given} was given without --{absent}.", hint="Give both, or neither.")
    if target.name != "host":
        raise TargetError(
            f"Candidates for '{name}' cannot be measured on this machine.",
            hint="Tune on the machine itself, for the target `host`, or give --tracker and --device-key.",
        )
    return [local_station()]


@explained("Cannot export candidates")
def export_candidates(
    model: Any,
    options: Options,
    folder: Path,
    *,
    count: int,
    layers: Sequence[str] = (),
    seed: int = 0,
    database: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write candidates for another machine into a folder that is made; see `exchange`.

    They are the next ones that `autotune` would measure there, given what the database knows of that machine:
    export, measure and import can be repeated. Arguments and errors as for `autotune`; `count` is for each
    layer.
    """
    check_absent(folder)
    progress = progress or Progress()
    untuned = plan(model, options, progress)
    found = chosen(tasks(untuned), untuned, layers)
    with Database.open(database) as records:
        machine = known_as(machine_of(untuned.target), records)
        searches = [_informed(task, seed, records.trials(machine, [task.key])) for task in found]
    builders = Builders(untuned.target, untuned.program.weights_bytes, cache, fast_math=options.fast_math)
    try:
        with progress.stage("export candidates", len(searches)) as done:
            return export(folder, searches, machine, builders, count, lambda name, candidates: done())
    finally:
        builders.close()


def _informed(task: Task, seed: int, trials: Sequence[Trial]) -> Search:
    """A layer's search after these trials."""
    search = Search(task, seed)
    versions = {c.variant: c.lowering.version for c in task.candidates}
    for trial in trials:
        if versions.get(trial.variant) == trial.version:
            search.learn(trial.variant, trial.seconds if trial.ok else None)
    return search


def chosen(found: Sequence[Task], compilation: Compilation, layers: Sequence[str]) -> list[Task]:
    """The tasks of the layers of these names. Raises OptionError for a name that is no layer's."""
    if isinstance(layers, str):
        raise OptionError(f"layers={layers!r} is one name, not a list.", hint=f"Give [{layers!r}].")
    nodes = [node for name in layers for node in layer_named(name, compilation.layers, "--layers")]
    keys = {compilation.choices[node].workload.key for node in nodes}
    return [task for task in found if not keys or task.key in keys]
