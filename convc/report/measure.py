"""Time each candidate of each layer on this machine, caches being as in the network.

All candidates of a layer are put into one module and run in turns:

    sweep; source -> layer under candidate 1 -> copy; sweep; source -> layer under candidate 2 -> copy; ...

`source` writes the layer's inputs just before, as the layer's producer does: they lie where a network leaves
them. `sweep` reads as many bytes of other weights as the network has, up to twice the last cache: a layer's
weights are as cold as they are when a network comes round again, from memory in ResNet-50, from the last
cache in SqueezeNet. `copy` takes the result, so that it goes to a workspace and not to memory that was never
touched. Only the layer's own step counts, not conversions of layout. Its time is the median of 7 to 50 runs
(3 of a very slow one) in a process of its own.

That is the time of a `cold` layer, which choices are judged by. A `warm` one follows on itself,

    source -> layer -> layer -> layer

with the same operands, and the last run counts: what a kernel is capable of when the caches hold all that
they can of what it touches, as benchmarks of single layers report it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from convc import children
from convc.compilation import Compilation, lower
from convc.compiler import build
from convc.dtype import FLOAT32
from convc.errors import CompileError
from convc.evaluate import evaluate
from convc.files import Scratch
from convc.ir import Graph, Node, Value
from convc.ops.linear import GemmAttrs
from convc.options import Options
from convc.progress import Progress
from convc.runtime.compare import relative_error
from convc.runtime.manifest import Candidate, LayerPlan
from convc.types import PLAIN, Array, TensorType
from convc.verify import random_inputs
from convc.workload import Workload

SECONDS = 0.5
"""Time that the runs of one layer's module shall take."""

SWEEP_COLUMNS = 1024

WARM_RUNS = 3
"""The second finds weights and input in the caches, the third what the result is written to as well."""

_CHILD = Path(__file__).with_name("profile_child.py")


@dataclass(frozen=True)
class Trial:
    """One candidate, measured: seconds a run; the error against float64, if that was computed.

    `warm_seconds` is of a run that follows on another, where that was asked for; `config` is its schedule's.
    """

    seconds: float
    error: float | None = None
    warm_seconds: float | None = None
    config: dict[str, Any] = field(default_factory=dict)


def measured(compilation: Compilation, layers: Sequence[LayerPlan]) -> tuple[LayerPlan, ...]:
    """The plans with `measured_ms` for every candidate that was not refused; equal workloads share."""
    nodes = {node.name: node for node in compilation.graph.nodes}
    seen: dict[tuple[Workload, tuple[str, ...]], Mapping[str, Trial]] = {}
    plans = []
    for plan in layers:
        node = nodes[plan.name]
        names = candidates(node, plan)
        key = (compilation.choices[node].workload.unplaced, names)
        if key not in seen:
            seen[key] = measure(compilation, node, names) if names else {}
        plans.append(replace(plan, candidates=tuple(_with_time(c, seen[key]) for c in plan.candidates)))
    return tuple(plans)


def _with_time(candidate: Candidate, trials: Mapping[str, Trial]) -> Candidate:
    trial = trials.get(candidate.lowering)
    return candidate if trial is None else replace(candidate, measured_ms=1e3 * trial.seconds)


def candidates(node: Node, plan: LayerPlan) -> tuple[str, ...]:
    """The lowerings of a layer that can be measured: all that can compute it, whatever their error."""
    if len(node.outputs) > 1:
        return ()
    return tuple(sorted(c.lowering for c in plan.candidates if c.predicted_ms is not None))


def measure(
    compilation: Compilation,
    node: Node,
    lowerings: Sequence[str],
    *,
    errors: bool = False,
    warm: Collection[str] = (),
) -> dict[str, Trial]:
    """Time one layer under each of the lowerings, with its own weights and drawn inputs.

    `errors` compares each result with the float64 reference too; the lowerings in `warm` are timed warm as
    well. Raises CompileError when the module crashes.
    """
    warm = [name for name in lowerings if name in warm]
    graph = _trials(compilation, node, lowerings, warm)
    algorithms = {_layer(name): name for name in lowerings}
    algorithms |= {_layer(name, run): name for name in warm for run in range(1, WARM_RUNS + 1)}
    options = Options(algorithms=algorithms, max_error=float("inf"))
    feeds = random_inputs(graph)
    single = lower(graph, graph, options, compilation.target, Progress())
    with Scratch() as folder:
        module = build(single, folder / "layer.so", Progress(), verify=False)
        np.savez(folder / "feeds.npz", allow_pickle=False, **feeds)
        times = _profile(folder, compilation.target.threads, node.name)
        seconds: dict[str, float] = defaultdict(float)
        for step, time in zip(module.manifest.steps, times, strict=True):
            seconds[step] += time
        found = _errors(compilation, node, lowerings, feeds, folder / "outputs.npz") if errors else {}
    configs = {plan.name: plan.config for plan in module.manifest.plan}
    # A layer that became a view of its input has no step, and there is nothing to compare.
    return {
        name: Trial(
            seconds[_layer(name)],
            found.get(name),
            seconds.get(_layer(name, WARM_RUNS)),
            configs.get(_layer(name), {}),
        )
        for name in lowerings
        if seconds.get(_layer(name), 0.0) > 0
    }


def _layer(lowering: str, run: int = 0) -> str:
    """The name of the layer under one lowering: cold, or the warm `run`, counted from 1."""
    return f"{lowering}.layer" + f".warm{run}" * (run > 0)


def _profile(folder: Path, threads: int, layer: str) -> list[float]:
    arguments = ("layer.so", str(threads), "feeds.npz", "outputs.npz", str(SECONDS))
    done = subprocess.run(
        [sys.executable, str(_CHILD), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=children.environment(),
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}, no message"])[-1]
        raise CompileError(f"Layer '{layer}' could not be measured: {last}")
    times: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return times


def _trials(
    compilation: Compilation, node: Node, lowerings: Sequence[str], warm: Collection[str] = ()
) -> Graph:
    """Every candidate between sweep, source and copy; one output for each lowering, then the sweeps'."""
    graph = Graph(node.name)
    rows = max(
        1,
        min(compilation.program.weights_bytes, 2 * compilation.target.l3) // (FLOAT32.nbytes * SWEEP_COLUMNS),
    )
    vector = graph.add_input("sweep", TensorType((1, rows)))
    others = graph.add_constant("sweep.weight", np.zeros((rows, SWEEP_COLUMNS), FLOAT32))
    inputs = _inputs(graph, compilation.graph, node)
    outputs, swept = [], []
    for lowering in lowerings:
        swept.append(graph.add("gemm", [vector, others], GemmAttrs(), name=f"{lowering}.sweep").output)
        outputs.append(_chain(graph, compilation.graph, node, inputs, lowering))
        if lowering in warm:
            operands = _operands(graph, compilation.graph, node, inputs, f"{lowering}.warm")
            for run in range(1, WARM_RUNS + 1):
                _again(graph, node, operands, _layer(lowering, run))  # nobody reads its result
    graph.set_outputs([*outputs, *swept])
    return graph


def _inputs(graph: Graph, source: Graph, node: Node) -> list[Value | None]:
    """Inputs of the trial graph for the layer's computed inputs; None where it has a constant or nothing."""
    return [
        None
        if value is None or source.constant(value) is not None
        else graph.add_input(f"input{index}", value.type.with_layout(PLAIN))
        for index, value in enumerate(node.inputs)
    ]


def _chain(graph: Graph, source: Graph, node: Node, inputs: Sequence[Value | None], lowering: str) -> Value:
    """Source, layer and copy for one candidate; the copy's result."""
    operands = _operands(graph, source, node, inputs, lowering)
    return _copy(graph, _again(graph, node, operands, _layer(lowering)), f"{lowering}.copy")


def _again(graph: Graph, node: Node, operands: Sequence[Value | None], name: str) -> Value:
    """The layer on operands of the trial graph."""
    made = graph.add(node.op, operands, node.attrs, name=name, epilogue=node.epilogue, arity=node.arity)
    return made.output


def _operands(
    graph: Graph, source: Graph, node: Node, inputs: Sequence[Value | None], prefix: str
) -> list[Value | None]:
    """What the layer reads: its constants, and its computed inputs written anew."""
    operands: list[Value | None] = []
    for index, (value, given) in enumerate(zip(node.inputs, inputs, strict=True)):
        data = source.constant(value)
        if data is not None:
            operands.append(graph.add_constant(f"{prefix}.constant{index}", data))
        else:
            operands.append(None if given is None else _copy(graph, given, f"{prefix}.source{index}"))
    return operands


def _copy(graph: Graph, value: Value, name: str) -> Value:
    """Write the value anew: its negative, which no pass or plan takes for the value itself."""
    return graph.add("neg", [value], name=name).output if value.type.is_float else value


def _errors(
    compilation: Compilation,
    node: Node,
    lowerings: Sequence[str],
    feeds: Mapping[str, Array],
    outputs: Path,
) -> dict[str, float]:
    """The error of each lowering's result against the float64 reference of the same chain."""
    graph = Graph(node.name)
    inputs = _inputs(graph, compilation.graph, node)
    graph.set_outputs([_chain(graph, compilation.graph, node, inputs, "reference")])
    (expected,) = evaluate(graph, {v.name: feeds[v.name] for v in graph.inputs})
    with np.load(outputs) as file:
        found = [file[name] for name in file.files]
    return {name: relative_error(f, expected) for name, f in zip(lowerings, found, strict=False)}
