"""A candidate as a module: one layer, its inputs and results in the caller's memory as they are stored.

    sweep    reads what fills the second caches, as other layers do
    evict    sends the layer's weights back to memory, where the network has more than the last cache keeps
    room     writes the memory of a result, as layers before have: it is in the caches; one for each
    source   writes an input of the layer, as the layer before it would; one for each
    layer    under the candidate

On a GPU there is no sweep, and the layer runs three times: the first finds cold what it has read last time.
The module is like any other, so that it runs wherever `convc.load` does, and whoever runs it owns all memory
that the layer may write. What must be known of it besides stands in the manifest's options, see `Recipe`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from convc.codegen import cuda_link
from convc.codegen.cache import ObjectCache
from convc.codegen.device_build import build_kernels, device_program
from convc.codegen.link import build_objects, distinct_kernels, rpc_objects, runtime_objects, write_module
from convc.dtype import FLOAT32, DType
from convc.ir import Attrs, Node
from convc.lowering.base import Lowering
from convc.lowering.registry import lowerings
from convc.ops.reduce import ReduceAttrs
from convc.plan.memory import Constants
from convc.plan.program import Argument, Evict, Location, Program, Run
from convc.plan.select import Choice, Selector
from convc.runtime.manifest import Manifest, TensorInfo, Weights
from convc.target import Target
from convc.tune.recipe import Recipe, Stored
from convc.types import Array, Shape, TensorType
from convc.workload import Workload

SWEEP_COLUMNS = 1024
KEPT = 0.75
"""Part of the last cache in which a network's weights stay from one run to the next."""


@dataclass(frozen=True)
class Spec:
    """All that a candidate's module is made from; it can be sent to another process.

    `network_bytes` are those of all weights of the network. `tolerance` is the largest error, relative to
    the largest result, that counts as right. A `remote` module can be run by TVM's RPC.
    """

    lowering: str
    workload: Workload
    config: dict[str, int]
    weights: tuple[Array | None, ...]
    target: Target
    network_bytes: int
    tolerance: float
    fast_math: bool = False
    remote: bool = False


DEVICE_RUNS = 3
"""Of the layer in a module for a GPU; the last one counts."""

Packed = dict[tuple[str, Workload, int], Array]
"""Constants as lowerings store them, which is the same for all configurations."""


def build(spec: Spec, path: Path, cache: ObjectCache, packed: Packed | None = None) -> None:
    """Write the candidate's module. Raises ConvcError when its schedule refuses or a compiler fails.

    `packed` has the constants of this layer as earlier candidates stored them, and receives this one's.
    """
    program, inputs, outputs = _program(spec, {} if packed is None else packed)
    write = _write_for_host if spec.target.gpu is None else _write_for_device
    manifest = Manifest(
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
    )
    manifest.write(path, write(spec, program, manifest, path, cache))


Tensors = tuple[TensorInfo, ...]


def _write_for_host(
    spec: Spec, program: Program, manifest: Manifest, path: Path, cache: ObjectCache
) -> Weights:
    symbols, kernels = distinct_kernels(program, spec.target)
    objects = [*runtime_objects(spec.target, cache), *build_objects(kernels, cache, 1, lambda: None)]
    if spec.remote:
        objects += rpc_objects(spec.target, cache)
    return write_module(program, symbols, objects, spec.target, path, manifest.contract)


def _write_for_device(
    spec: Spec, program: Program, manifest: Manifest, path: Path, cache: ObjectCache
) -> Weights:
    symbols, kernels = distinct_kernels(program, spec.target)
    built = build_kernels(kernels, cache, 1, lambda: None, fast_math=spec.fast_math)
    sizes = tuple(map(_nbytes, manifest.inputs)), tuple(map(_nbytes, manifest.outputs))
    launches = device_program(sizes, program, symbols, built, spec.target)
    runtime = cuda_link.runtime_objects(spec.target, cache)
    return cuda_link.write_module(launches, runtime, spec.target, path, manifest.contract)


def _nbytes(info: TensorInfo) -> int:
    return TensorType(info.shape, DType.of(info.dtype)).nbytes


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
    found = (lw for lw in lowerings(spec.target) if lw.name == spec.lowering)
    return next(lw for lw in found if spec.workload.op in lw.ops)


def _program(spec: Spec, packed: Packed) -> tuple[Program, Tensors, Tensors]:
    """The steps, and what the module takes and returns."""
    recipe, selector = _recipe(spec), Selector(spec.target)
    program = Program()
    inputs: list[TensorInfo] = []
    outputs = [TensorInfo(f"result{i}", r.physical, r.dtype) for i, r in enumerate(recipe.results)]
    rows = _swept(spec) // (FLOAT32.nbytes * SWEEP_COLUMNS)
    sources: dict[int, Location] = {}
    for number, result in enumerate(recipe.results):
        place = Location("output", number)
        program.steps.append(_copy(f"room{number}", result, place, place, spec.target))
    for index, stored in recipe.inputs.items():
        sources[index] = Location("output", len(outputs))
        given = Location("input", len(inputs))
        program.steps.append(_copy(f"source{index}", stored, given, sources[index], spec.target))
        inputs.append(TensorInfo(f"input{index}", stored.physical, stored.dtype))
        outputs.append(TensorInfo(f"copy{index}", stored.physical, stored.dtype))
    if rows:
        swept, sums = TensorType((rows, SWEEP_COLUMNS)), TensorType((rows, 1))
        attrs = ReduceAttrs((1,))
        reduce = selector.choose_workload(Workload("reduce_sum", attrs, (swept,), (sums,), (False,), 1))
        places = (Argument(Location("input", len(inputs))), Argument(Location("output", len(outputs))))
        program.steps.insert(0, Run(_node("sweep"), reduce, places))
        inputs.append(TensorInfo("sweep", swept.shape, FLOAT32))
        outputs.append(TensorInfo("swept", sums.shape, FLOAT32))
    runs = DEVICE_RUNS if spec.target.gpu else 1
    program.steps += [_layer(spec, program, sources, packed)] * runs
    if rows and spec.network_bytes > KEPT * spec.target.l3:
        weights = Evict(_node("evict"), Location("weights"), program.weights_bytes)
        program.steps.insert(1, weights)
    if spec.target.gpu is None:
        program.drop_denormals()  # as networks do unless they are asked not to
    return program, tuple(inputs), tuple(outputs)


def _swept(spec: Spec) -> int:
    """Bytes to read before a layer runs: none where all weights of the network stay in the second caches."""
    caches = spec.target.l2 * spec.target.threads
    return 0 if spec.target.gpu or spec.network_bytes <= caches else 2 * caches


def _copy(name: str, stored: Stored, source: Location, result: Location, target: Target) -> Run:
    """Write a tensor anew, perhaps where it is."""
    kind, strides = _by_rows(stored, target)
    work = Workload("relayout", Attrs(), (kind,), (kind,), (False,), 1)
    places = (Argument(place, strides, kind.itemsize) for place in (source, result))
    return Run(_node(name), Selector(target).choose_workload(work), tuple(places))


def _by_rows(stored: Stored, target: Target) -> tuple[TensorType, Shape | None]:
    """A tensor as its source writes it: type and strides.

    On a processor the rows of a map come first, so that each thread writes some rows of every channel, as
    the threads of most layers do: what another core has written takes longer to read.
    """
    shape = stored.physical
    if target.gpu is not None or len(shape) < 4:
        return TensorType(shape, DType.of(stored.dtype)), None
    n, channels, rows, *rest = shape
    row = math.prod(rest)
    return TensorType((rows, n * channels, row), DType.of(stored.dtype)), (row, rows * row, 1)


def _layer(spec: Spec, program: Program, sources: Mapping[int, Location], packed: Packed) -> Run:
    """The call of the layer's kernel; its constants are put into the program."""
    lowering = _lowering(spec)
    choice = Choice(lowering, spec.workload, (), config=spec.config)
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
        key = spec.lowering, spec.workload, index
        if key not in packed:
            packed[key] = lowering.pack(spec.workload, spec.target, index, data)
        arguments.append(Argument(constants.add(packed[key])))
    results = [Argument(Location("output", number)) for number in range(len(spec.workload.outputs))]
    program.weights, program.weights_bytes = constants.arrays, constants.nbytes
    return Run(_node("layer"), choice, (*arguments, *results))


def _node(name: str) -> Node:
    return Node("", (), Attrs(), (), name)
