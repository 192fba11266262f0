"""Time each candidate of each layer on this machine, alone, with random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from convc.compiler import Compilation, Options, build, lower
from convc.ir import Graph, Node, Value
from convc.progress import Progress
from convc.runtime.manifest import Candidate, LayerPlan
from convc.verify import random_inputs
from convc.workload import Workload

REPEAT = 30


def measured(compilation: Compilation, layers: Sequence[LayerPlan]) -> tuple[LayerPlan, ...]:
    """The plans with `measured_ms` for every candidate that was not refused; equal workloads share."""
    nodes = {node.name: node for node in compilation.graph.nodes}
    seen: dict[tuple[Workload, str], float] = {}

    def time(node: Node, candidate: Candidate) -> Candidate:
        if candidate.predicted_ms is None or len(node.outputs) > 1:
            return candidate
        key = (compilation.choices[node].workload, candidate.lowering)
        if key not in seen:
            seen[key] = _measure(compilation, node, candidate.lowering) * 1e3
        return replace(candidate, measured_ms=seen[key])

    return tuple(
        replace(plan, candidates=tuple(time(nodes[plan.name], c) for c in plan.candidates)) for plan in layers
    )


def _measure(compilation: Compilation, node: Node, lowering: str) -> float:
    """Median seconds of one layer under one lowering."""
    graph = _alone(compilation.graph, node)
    options = Options(algorithms={node.name: lowering}, max_error=float("inf"))
    single = lower(graph, graph, options, compilation.target, Progress())
    with tempfile.TemporaryDirectory(prefix="convc-") as folder:
        module = build(single, Path(folder) / "layer.so", Progress(), verify=False)
        times = module.profile(random_inputs(graph), repeat=REPEAT)
    return sum(t for t, step in zip(times, module.manifest.steps, strict=True) if step == node.name)


def _alone(source: Graph, node: Node) -> Graph:
    """A graph of this node, its computed inputs as inputs, its constants drawn anew."""
    graph = Graph(node.name)
    rng = np.random.default_rng(0)
    inputs: list[Value | None] = []
    for index, value in enumerate(node.inputs):
        if value is None:
            inputs.append(None)
            continue
        data = source.constant(value)
        if data is None:
            inputs.append(
                graph.add_input(f"input{index}", replace(value.type, layout=type(value.type.layout)()))
            )
        elif data.dtype.kind == "f":
            inputs.append(
                graph.add_constant(
                    f"constant{index}", rng.standard_normal(data.shape).astype(data.dtype) * 0.05
                )
            )
        else:
            inputs.append(graph.add_constant(f"constant{index}", data))
    made = graph.add(node.op, inputs, node.attrs, name=node.name, epilogue=node.epilogue, arity=node.arity)
    graph.set_outputs(made.outputs)
    return graph
