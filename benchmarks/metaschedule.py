#!/usr/bin/env python3
"""The tuner beside TVM's MetaSchedule, which gets 20 times as many trials over the same space.

    python benchmarks/metaschedule.py --models resnet50 --layers 3 --trials 10

For each of the dearest layers, every lowering is a task of MetaSchedule, whose design space is a choice among
its configurations; evolution mutates that choice to a neighbour, and MetaSchedule's own cost model, scheduler
of tasks, builder and runner do the rest, as its users would have it. Then the fastest of both run in turns
with the untuned choice, and the fastest of these count. `speed` is our winner relative to MetaSchedule's:
above 1 ours is faster. Left out on both sides are lowerings that make another computation for each
configuration, which MetaSchedule could not search.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import models
import record
from options import common, console, files, run, threaded, titled, usage
from rich.table import Table
from tuning import DEFAULT, FINALISTS, searched, summarise, winners

MORE = 20
"""Trials of MetaSchedule for each of ours."""
BATCH = 40
"""Trials that MetaSchedule measures at a time."""
POPULATION, GENERATIONS = 64, 2
"""Of its evolution. Its defaults, 512 and 4, take minutes a batch: the schedule of each member is applied."""
NUMBERS = 16
"""At least as many as a configuration has."""
Row = dict[str, Any]


def register() -> None:
    """In MetaSchedule's worker: build as convc does. TVM's own default takes 20 s to import."""
    import tvm_ffi

    @tvm_ffi.register_global_func("convc.build", override=True)  # type: ignore[untyped-decorator]
    def build(mod: Any, target: Any, _: Any) -> Any:
        import tvm

        from convc.codegen.pipeline import PIPELINE

        return tvm.tirx.build(mod, target=target, pipeline=PIPELINE)

    @tvm_ffi.register_global_func("convc.export", override=True)  # type: ignore[untyped-decorator]
    def export(module: Any) -> str:
        path = str(Path(tempfile.mkdtemp()) / "candidate.so")
        module.export_library(path)
        return path


def decision(trace: Any) -> int:
    """The number of a candidate, which is all that is decided."""
    return int(trace.get_decision(_sampling(trace)))


def _sampling(trace: Any) -> Any:
    return next(inst for inst in trace.insts if trace.get_decision(inst) is not None)


def _last_block(sch: Any) -> Any:
    return sch.get_child_blocks(sch.get_sblock("root"))[-1]


def cost_model(configs: Mapping[str, Sequence[Any]]) -> Any:
    """MetaSchedule's boosted trees, on the numbers of a configuration.

    Its own features come from an analysis of the program which our kernels' index arithmetic overflows.
    """
    import numpy as np
    from tvm.ir.utils import derived_object
    from tvm.runtime import tensor
    from tvm.s_tir import meta_schedule as ms

    @derived_object
    class Numbers(ms.feature_extractor.PyFeatureExtractor):  # type: ignore[misc]
        """One row of powers of two for each candidate."""

        def extract_from(self, context: Any, candidates: Sequence[Any]) -> list[Any]:
            rows = np.zeros((len(candidates), 1, NUMBERS))
            for row, candidate in zip(rows, candidates, strict=True):
                config = configs[context.task_name][decision(candidate.sch.trace)]
                numbers = np.array(list(asdict(config).values()), float)
                row[0, : len(numbers)] = np.log2(1 + numbers)
            return [tensor(row) for row in rows]

    return ms.cost_model.XGBModel(extractor=Numbers(), num_tuning_cores=1)


def context(name: str, candidates: Sequence[Any], target: Any) -> Any:
    """A lowering as a task of MetaSchedule: which of the candidates is the only decision."""
    import numpy as np
    import tvm
    from tvm.ir.utils import derived_object
    from tvm.s_tir import meta_schedule as ms

    from convc.codegen.kernel import llvm_target
    from convc.schedules.registry import schedules
    from convc.tune.grid import Grid

    lowering, work = candidates[0].lowering, candidates[0].workload
    schedule, grid = schedules(target)[lowering.schedule], Grid(candidates)
    random, count = np.random.default_rng(0), len(candidates)

    def space(sch: Any) -> None:
        number = sch.sample_categorical(list(range(count)), [1 / count] * count)
        sch.annotate(_last_block(sch), "candidate", number)  # a decision without use is dropped

    @derived_object
    class Apply(ms.postproc.PyPostproc):  # type: ignore[misc]
        """Schedules as the candidate says. Not a part of the trace, so that mutations change it."""

        def _initialize_with_tune_context(self, context: Any) -> None:
            pass

        def apply(self, sch: Any) -> bool:
            sch.unannotate(_last_block(sch), "candidate")
            schedule.apply(sch, work, target, candidates[decision(sch.trace)].config)
            return True

        def clone(self) -> Any:
            return Apply()

    @derived_object
    class Neighbour(ms.mutator.PyMutator):  # type: ignore[misc]
        """Takes a candidate nearby, or any where there is none."""

        def _initialize_with_tune_context(self, context: Any) -> None:
            pass

        def apply(self, trace: Any, _: Any = None) -> Any:
            near = grid.neighbours(decision(trace)) or range(count)
            return trace.with_decision(_sampling(trace), int(random.choice(near)), remove_postproc=True)

        def clone(self) -> Any:
            return Neighbour()

    # MetaSchedule counts arithmetic, and has no way to count that of `let`, which this tells it not to do.
    counted = {"global_symbol": "main", "estimated_flops": 1}
    return ms.TuneContext(
        tvm.IRModule({"main": lowering.compute(work, target).with_attrs(counted)}),
        target=llvm_target(target),
        space_generator=ms.space_generator.ScheduleFn(
            space, sch_rules=[], postprocs=[Apply()], mutator_probs={Neighbour(): 1.0}
        ),
        search_strategy=ms.search_strategy.EvolutionarySearch(
            population_size=POPULATION, genetic_num_iters=GENERATIONS, init_min_unmeasured=1
        ),
        task_name=name,
        rand_state=1,
        num_threads=1,
    )


def evolved(task: Any, target: Any, trials: int) -> tuple[int, list[Any]]:
    """How many candidates MetaSchedule measured, and the best that it found, best first."""
    from tvm.s_tir import meta_schedule as ms

    kinds: dict[str, list[Any]] = {}
    for candidate in task.candidates:
        kinds.setdefault(f"{candidate.lowering.name} {candidate.workload.layouts}", []).append(candidate)
    logging.disable(logging.WARNING)
    contexts = [context(name, own, target) for name, own in kinds.items()]
    evaluator = ms.runner.EvaluatorConfig(number=5, repeat=3, min_repeat_ms=0)
    with tempfile.TemporaryDirectory(prefix="convc-") as folder:
        database = ms.tune_tasks(
            tasks=contexts,
            task_weights=[1.0] * len(contexts),
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=BATCH,
            builder=ms.builder.LocalBuilder(
                max_workers=os.cpu_count(), timeout_sec=60, f_build="convc.build", f_export="convc.export",
                initializer=register,
            ),
            runner=ms.runner.LocalRunner(timeout_sec=30, evaluator_config=evaluator),
            task_scheduler="round-robin",
            cost_model=cost_model({name: [c.config for c in own] for name, own in kinds.items()}),
        )  # fmt: skip
        best = []
        for one, candidates in zip(contexts, kinds.values(), strict=True):
            for found in database.get_top_k(database.commit_workload(one.mod), FINALISTS):
                best.append((min(map(float, found.run_secs)), candidates[decision(found.trace)].variant))
        return len(database), [variant for _, variant in sorted(best)]


def row_of(measurer: Any, network: str, task: Any, target: Any, trials: int, known: Any) -> Row:
    """Both searches of a layer, and their winners in turns."""
    begin = time.perf_counter()
    mine = searched(measurer, task, trials, known)
    between = time.perf_counter()
    count, theirs = evolved(task, target, MORE * trials)
    end = time.perf_counter()
    sides = [sorted(mine, key=mine.__getitem__)[:FINALISTS], theirs[:FINALISTS]]
    (first, other), times = winners(measurer, task, sides)
    known.append((str(task.workload), first))
    return {
        "network": network,
        "layer": task.name,
        "workload": str(task.workload),
        "count": task.count,
        "candidates": len(task.candidates),
        "trials": len(mine),
        "trials_of_metaschedule": count,
        "speed": times[other] / times[first],
        "gain": 1 / times[first],
        "gain_of_metaschedule": 1 / times[other],
        "seconds": between - begin,
        "seconds_of_metaschedule": end - between,
        "found": f"{first.lowering} {first.config}",
        "found_by_metaschedule": f"{other.lowering} {other.config}",
    }


def table(rows: Sequence[Row]) -> Table:
    """Every layer, the worst first."""
    columns = ("layer", "candidates", "speed", "gain", "MetaSchedule's", "seconds", "MetaSchedule's ")
    made = titled(f"the tuner beside MetaSchedule with {MORE} times as many trials", columns, left=("layer",))
    for row in sorted(rows, key=lambda r: float(r["speed"])):
        figures = [f"{row[k]:.3f}" for k in ("speed", "gain", "gain_of_metaschedule")]
        figures += [f"{row[k]:.0f}" for k in ("seconds", "seconds_of_metaschedule")]
        made.add_row(f"{row['network']} {row['layer']}", str(row["candidates"]), *figures)
    return made


def _searchable(found: Sequence[Any]) -> list[Any]:
    """The layers whose candidates are schedules of one computation for each lowering, with these alone."""
    from convc.lowering.base import Lowering

    def one(candidate: Any) -> bool:
        return type(candidate.lowering).compute_for is Lowering.compute_for

    own = [replace(t, candidates=tuple(filter(one, t.candidates))) for t in found if one(t.untuned)]
    return [task for task in own if len(task.candidates) > 1]


@click.command(help=usage(__doc__))
@files
@threaded
@click.option("--trials", type=click.IntRange(1), default=10, show_default=True)
@click.option("--layers", type=click.IntRange(1), default=8, show_default=True, help="Of each network.")
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

    networks = _chosen(paths, models or (() if paths else DEFAULT))
    log = record.begin("metaschedule", {"threads": threads, "trials": trials, "more": MORE}, output, resume)
    for model in networks:
        with tempfile.TemporaryDirectory(prefix="convc-") as folder:
            compilation = plan(model, Path(folder), threads, 1)
        builders, known = Builders(compilation.target, compilation.program.weights_bytes), []  # type: ignore[var-annotated]
        with StationMeasurer(builders, [local_station()]) as measurer:
            for task in _searchable(tasks(compilation))[:layers]:
                if any(row["workload"] == str(task.workload) for row in log.rows):
                    continue
                row = row_of(measurer, model.name, task, compilation.target, trials, known)
                log.rows.append(row)
                log.summary = summarise(log.rows)
                log.save(output)
                console.print(f"{row['layer']}: speed {row['speed']:.3f}, gain {row['gain']:.3f}")
    console.print(table(log.rows))
    console.print(log.summary)


_chosen = models.chosen

if __name__ == "__main__":
    run(command)
