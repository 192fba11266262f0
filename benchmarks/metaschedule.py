#!/usr/bin/env python3
"""The tuner beside TVM's MetaSchedule, which gets 20 times as many trials over the same space.

    python benchmarks/metaschedule.py --models resnet50 --layers 3 --trials 10

The space is that of the layer's untuned lowering: MetaSchedule receives each configuration as a design space
and searches them by evolution under its own cost model, builder and runner, as TVM users would have it. Then
both winners run in turns with the untuned choice under our own measurement. `speed` is our winner relative to
MetaSchedule's.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import models
import record
from options import common, console, files, run, threaded, titled, usage
from tuning import measured, searched

from convc.errors import OptionError

MORE = 20
"""Trials of MetaSchedule for each of ours."""
EACH_TIME = 40


def register() -> None:
    """In MetaSchedule's worker: build as convc does. TVM's own default takes 20 s to import."""
    import tvm_ffi

    @tvm_ffi.register_global_func("convc.build", override=True)
    def build(mod: Any, target: Any, _: Any) -> Any:
        import tvm

        from convc.codegen.pipeline import PIPELINE

        return tvm.tirx.build(mod, target=target, pipeline=PIPELINE)

    @tvm_ffi.register_global_func("convc.export", override=True)
    def export(module: Any) -> str:
        path = str(Path(tempfile.mkdtemp()) / "candidate.so")
        module.export_library(path)
        return path


def evolved(task: Any, target: Any, trials: int) -> Any:
    """The candidate that MetaSchedule finds best in so many trials; None where it finds nothing."""
    import tvm
    import tvm_ffi
    from tvm import s_tir
    from tvm.s_tir import meta_schedule as ms

    from convc.codegen.kernel import llvm_target
    from convc.schedules.registry import schedules

    lowering, work = task.untuned.lowering, task.untuned.workload
    schedule = schedules(target)[lowering.schedule]
    by_hash: dict[int, Any] = {}

    def space(sch: Any) -> list[Any]:
        found = []
        for candidate in task.candidates:
            own = sch.copy()
            schedule.apply(own, work, target, candidate.config)
            by_hash[tvm_ffi.structural_hash(own.mod["main"], map_free_vars=True)] = candidate
            found.append(own)
        return found

    mod = tvm.IRModule({"main": lowering.compute(work, target).with_attr("global_symbol", "main")})
    logging.disable(logging.WARNING)
    builder = ms.builder.LocalBuilder(
        max_workers=os.cpu_count(), timeout_sec=60, f_build="convc.build", f_export="convc.export",
        initializer=register,
    )  # fmt: skip
    runner = ms.runner.LocalRunner(
        timeout_sec=30, evaluator_config=ms.runner.EvaluatorConfig(number=5, repeat=3, min_repeat_ms=0)
    )
    with tempfile.TemporaryDirectory(prefix="convc-") as folder:
        database = ms.tune_tir(
            mod, llvm_target(target), folder, max_trials_global=trials, num_trials_per_iter=EACH_TIME, seed=1,
            num_tuning_cores=1, builder=builder, runner=runner, strategy="evolutionary",
            space=ms.space_generator.ScheduleFn(space, sch_rules=[], postprocs=[], mutator_probs={}),
            task_scheduler="round-robin",
        )  # fmt: skip
        best = database.query_tuning_record(mod, llvm_target(target), "main")
        if best is None:
            return None
        sch = s_tir.Schedule(mod)
        best.trace.apply_to_schedule(sch, remove_postproc=False)
        return by_hash.get(tvm_ffi.structural_hash(sch.mod["main"], map_free_vars=True))


def row_of(measurer: Any, task: Any, target: Any, trials: int) -> dict[str, Any]:
    """Both searches of a layer, and their winners in turns."""
    begin = time.perf_counter()
    mine = searched(measurer, task, trials, [])
    first = min(mine, key=mine.__getitem__)
    between = time.perf_counter()
    other = evolved(task, target, MORE * trials)
    end = time.perf_counter()
    if other is None:
        raise OptionError(f"MetaSchedule measured nothing of '{task.name}'.")
    by_variant = {c.variant: c for c in task.candidates}
    times = measured(measurer, task, [by_variant[v] for v in dict.fromkeys((first, other.variant))])
    return {
        "layer": task.name,
        "workload": str(task.workload),
        "lowering": task.untuned.lowering.name,
        "candidates": len(task.candidates),
        "trials": len(mine),
        "speed": times[other.variant] / times[first],
        "gain": 1 / times[first],
        "gain_of_metaschedule": 1 / times[other.variant],
        "seconds": between - begin,
        "seconds_of_metaschedule": end - between,
    }


def _chosen_tasks(found: Sequence[Any], count: int) -> list[Any]:
    """The dearest layers whose untuned lowering has many configurations, with those alone."""
    own = [
        replace(t, candidates=tuple(c for c in t.candidates if c.lowering is t.untuned.lowering))
        for t in found
    ]
    return [task for task in own if len(task.candidates) >= MORE][:count]


@click.command(help=usage(__doc__))
@files
@threaded
@click.option("--trials", type=click.IntRange(1), default=10, show_default=True)
@click.option("--layers", type=click.IntRange(1), default=4, show_default=True, help="Of each network.")
@common("metaschedule")
def command(
    paths: tuple[Path, ...],
    threads: int,
    trials: int,
    layers: int,
    models: tuple[str, ...],
    output: Path,
    resume: bool,
) -> None:
    """Measure, write the record, print a table."""
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "TVM_NUM_THREADS": str(threads)}
    from layers import plan

    from convc.tune.measurer import Builders, StationMeasurer, local_station
    from convc.tune.tasks import tasks

    networks = _chosen_models(paths, models or (() if paths else ("resnet50",)))
    log = record.begin("metaschedule", {"threads": threads, "trials": trials, "more": MORE}, output, resume)
    columns = ("layer", "candidates", "speed", "gain", "MetaSchedule's", "seconds", "MetaSchedule's ")
    made = titled(f"{trials} trials beside {MORE * trials} of MetaSchedule", columns, left=("layer",))
    for model in networks:
        with tempfile.TemporaryDirectory(prefix="convc-") as folder:
            compilation = plan(model, Path(folder), threads, 1)
        builders = Builders(compilation.target, compilation.program.weights_bytes)
        with StationMeasurer(builders, [local_station()]) as measurer:
            for task in _chosen_tasks(tasks(compilation), layers):
                if any(row["workload"] == str(task.workload) for row in log.rows):
                    continue
                log.rows.append(row_of(measurer, task, compilation.target, trials))
                log.save(output)
                console.print(log.rows[-1])
    for row in log.rows:
        figures = [f"{row[k]:.3f}" for k in ("speed", "gain", "gain_of_metaschedule")]
        figures += [f"{row[k]:.0f}" for k in ("seconds", "seconds_of_metaschedule")]
        made.add_row(row["layer"], str(row["candidates"]), *figures)
    console.print(made)


_chosen_models = models.chosen

if __name__ == "__main__":
    run(command)
