"""A candidate as a module: one layer, its inputs and results in the caller's memory as they are stored.

    sweep    reads as many bytes as the network has weights: the layer's own are as cold as in the network
    source   writes an input of the layer, as the layer before it would; one for each
    layer    under the candidate

The module is like any other, so that it runs wherever `convc.load` does, and whoever runs it owns all memory
that the layer may write. What must be known of it besides stands in the manifest's options, see `Recipe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from convc.codegen.cache import ObjectCache
from convc.codegen.link import build_objects, distinct_kernels, runtime_objects, write_module
from convc.ir import Attrs, Node, Value
from convc.lowering.base import Lowering
from convc.lowering.registry import lowerings
from convc.memory import Constants
from convc.ops.reduce import ReduceAttrs
from convc.program import Argument, Location, Program, Run
from convc.runtime.manifest import Manifest, TensorInfo
from convc.select import Choice, Selector
from convc.target import Target
from convc.tune.recipe import Recipe, Stored
from convc.types import Array, TensorType
from convc.workload import Workload

SWEEP_COLUMNS = 1024


@dataclass(frozen=True)
class Spec:
    """All that a candidate's module is made from; it can be sent to another process.

    `tolerance` is the largest error, relative to the largest result, that counts as right.
    """

    lowering: str
    workload: Workload
    config: dict[str, int]
    weights: tuple[Array | None, ...]
    target: Target
    sweep_bytes: int
    tolerance: float


def build(spec: Spec, path: Path, cache: ObjectCache) -> None:
    """Write the candidate's module. Raises ConvcError when its schedule refuses or a compiler fails."""
    program, inputs, outputs = _program(spec)
    symbols, kernels = distinct_kernels(program, spec.target)
    objects = [*runtime_objects(spec.target, cache), *build_objects(kernels, cache, 1, lambda: None)]
    weights = write_module(program, symbols, objects, spec.target, path)
    Manifest(
        name=spec.lowering,
        inputs=inputs,
        outputs=outputs,
        plan=(),
        steps=tuple(step.node.name for step in program.steps),
        target=asdict(spec.target),
        threads=spec.target.threads,
        workspace_bytes=program.workspace_bytes,
        weights_bytes=program.weights_bytes,
        options={"trial": asdict(_recipe(spec))},
    ).write(path, weights)


def _recipe(spec: Spec) -> Recipe:
    w = spec.workload
    halo = _lowering(spec).halo(w, spec.target)
    inputs = {
        index: Stored(kind.shape, kind.dtype, kind.layout.block, halo if index == 0 else ())
        for index, kind in enumerate(w.inputs)
        if kind is not None and not w.constant[index]
    }
    return Recipe(inputs, tuple(Stored(t.shape, t.dtype, t.layout.block) for t in w.outputs), spec.tolerance)


def _lowering(spec: Spec) -> Lowering:
    return next(lw for lw in lowerings(spec.target) if lw.name == spec.lowering)


def _program(spec: Spec) -> tuple[Program, tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The steps, and what the module takes and returns."""
    recipe, selector = _recipe(spec), Selector(spec.target)
    program = Program()
    inputs: list[TensorInfo] = []
    outputs = [TensorInfo(f"result{i}", r.physical, r.dtype) for i, r in enumerate(recipe.results)]
    rows = spec.sweep_bytes // (4 * SWEEP_COLUMNS)
    sources: dict[int, Location] = {}
    for index, stored in recipe.inputs.items():
        kind = TensorType(stored.physical, stored.dtype)
        copy = selector.choose_workload(Workload("relayout", Attrs(), (kind,), (kind,), (False,), 1))
        sources[index] = Location("output", len(outputs))
        given = Argument(Location("input", len(inputs)), itemsize=kind.itemsize)
        program.steps.append(Run(_node(f"source{index}"), copy, (given, Argument(sources[index]))))
        inputs.append(TensorInfo(f"input{index}", stored.physical, stored.dtype))
        outputs.append(TensorInfo(f"copy{index}", stored.physical, stored.dtype))
    if rows:
        swept, sums = TensorType((rows, SWEEP_COLUMNS)), TensorType((rows, 1))
        attrs = ReduceAttrs((1,))
        reduce = selector.choose_workload(Workload("reduce_sum", attrs, (swept,), (sums,), (False,), 1))
        places = (Argument(Location("input", len(inputs))), Argument(Location("output", len(outputs))))
        program.steps.insert(0, Run(_node("sweep"), reduce, places))
        inputs.append(TensorInfo("sweep", swept.shape, "float32"))
        outputs.append(TensorInfo("swept", sums.shape, "float32"))
    program.steps.append(_layer(spec, program, sources))
    return program, tuple(inputs), tuple(outputs)


def _layer(spec: Spec, program: Program, sources: Mapping[int, Location]) -> Run:
    """The call of the layer's kernel; its constants are put into the program."""
    choice = Choice(_lowering(spec), spec.workload, (), config=spec.config)
    constants = Constants()
    arguments = []
    for index, kind in enumerate(spec.workload.inputs):
        if kind is None:
            continue
        if index in sources:
            arguments.append(Argument(sources[index], itemsize=kind.itemsize))
            continue
        data = spec.weights[index]
        assert data is not None
        arguments.append(Argument(constants.place(Value("", kind), data, choice, index, spec.target)))
    results = [Argument(Location("output", number)) for number in range(len(spec.workload.outputs))]
    program.weights, program.weights_bytes = constants.arrays, constants.nbytes
    return Run(_node("layer"), choice, (*arguments, *results))


def _node(name: str) -> Node:
    return Node("", (), Attrs(), (), name)
