"""From a network, or from one layer of it, to a stored module and what the GPU machine must know of it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from selection import Case, Layer, conv_graph
from store import Conv, pack, regions_of

from convc.codegen import cuda_link
from convc.codegen.cache import ObjectCache
from convc.codegen.device_build import build_kernels, device_program
from convc.codegen.link import bind
from convc.codegen.machine import resolve
from convc.compilation import Compilation, fusions, plan
from convc.compiler import build
from convc.errors import OptionError
from convc.evaluate import evaluate
from convc.ir import Graph, Node, opdef
from convc.ir.clone import clone
from convc.lowering.registry import CUDA_LOWERINGS
from convc.options import Options
from convc.passes.pipeline import PIPELINE, run_pipeline
from convc.plan.program import Argument, Location, Program, Run
from convc.plan.select import DEFAULT_MAX_ERROR, Choice, Option, Selector
from convc.progress import Progress
from convc.runtime.manifest import Manifest, TensorInfo
from convc.target import Target
from convc.types import Array
from convc.verify import allowed_error

HALF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""What rounding an element of a result to these may change it by, relative to it."""

ALIGNMENT = 256

PRODUCTS = ("conv", "conv_transpose", "gemm", "matmul")

MOST_SETS = 256
"""Launches of a layer in one module, each on an input and an output of its own."""

Entry = dict[str, Any]


@dataclass(frozen=True)
class Bundle:
    """The folder in the making, for one architecture."""

    folder: Path
    arch: str
    cache: ObjectCache
    written: set[str] = field(default_factory=set)
    """Files of inputs and results, which a case's modules share."""

    @property
    def cache_path(self) -> Path | None:
        """What `compiler.build` calls it."""
        value = os.environ.get("CONVC_CACHE")
        return Path(value) if value else None

    def store(self, compilation: Compilation, name: str, *, carry: bool) -> int:
        """Build a module and store it under a name; the bytes that it takes."""
        with tempfile.TemporaryDirectory(prefix="convc-") as scratch:
            path = Path(scratch) / "module.so"
            build(compilation, path, Progress(), verify=False, cache=self.cache_path)
            return pack(path, regions_of(compilation.program.weights, carry), self.folder / name)

    # ---- checks ----

    def check(self, case: Case, precision: str) -> list[Entry]:
        """A module for each lowering that takes the case in a precision, or for the one that is chosen."""
        names = [lw.name for lw in CUDA_LOWERINGS if case.op in lw.ops] if case.forced else [""]
        graph = case.graph()
        feeds = case.feeds(graph)
        found = []
        for lowering in names:
            if case.real and lowering == "generic":
                continue
            algorithms = {"layer": lowering} if lowering else {}
            options = Options(target=f"cuda:{self.arch}", precision=precision, algorithms=algorithms)
            try:
                compilation = plan(graph, options, Progress())
            except OptionError:
                continue  # this lowering does not take the layer
            key = f"{case.name} {precision} {lowering}".strip()
            file = f"checks/{key.replace(' ', '-')}.xz"
            nbytes = self.store(compilation, file, carry=True)
            entry = {"kind": "check", "key": key, "file": file, "precision": precision, "bytes": nbytes}
            entry |= {"lowering": lowering or "chosen", "limit": limit(case, compilation)}
            found.append({**entry, **self.expected(case, graph, feeds)})
        return found

    def expected(self, case: Case, graph: Graph, feeds: Mapping[str, Array]) -> Entry:
        """Where the GPU machine finds the right result: it computes convolutions itself."""
        if case.conv is not None:
            return {"conv": asdict(case.conv)}
        path = self.folder / f"checks/{case.name}.npz"
        if case.name not in self.written:
            self.written.add(case.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            (result,) = evaluate(graph, feeds)
            inputs = {f"input_{name}": array for name, array in feeds.items()}
            np.savez_compressed(path, allow_pickle=False, expected=result.astype(np.float32), **inputs)
        return {"arrays": f"checks/{case.name}.npz"}

    # ---- networks ----

    def network(self, model: Any, batch: int, precision: str) -> list[Entry]:
        """A whole network as users compile it; its weights are drawn again on the GPU machine."""
        graph = model.graph(batch)
        compilation = plan(graph, Options(target=f"cuda:{self.arch}", precision=precision), Progress())
        key = f"{model.name} {precision} batch {batch}"
        file = f"networks/{key.replace(' ', '-')}.xz"
        nbytes = self.store(compilation, file, carry=False)
        program = compilation.program
        entry = {
            "kind": "network",
            "key": key,
            "file": file,
            "model": model.name,
            "options": model.options,
            "batch": batch,
            "precision": precision,
            "bytes": nbytes,
            "flops": flops(graph),
            "weights_bytes": program.weights_bytes,
            "workspace_bytes": program.workspace_bytes,
            "lowerings": _counted(program),
            "limit": allowed_error(DEFAULT_MAX_ERROR, precision),
        }
        return [entry]

    # ---- layers ----

    def layer(self, layer: Layer, batch: int, precision: str) -> list[Entry]:
        """The kernel that a network would have for a layer, launched on many inputs one after the other.

        Inputs and outputs are stored as tensors between layers are. None where the layer becomes another.
        """
        geometry = layer.at(batch)
        target = resolve(f"cuda:{self.arch}", None, precision)
        graph = clone(conv_graph(geometry))
        run_pipeline(graph, (*PIPELINE, *fusions(Options(precision=precision), target)))
        node = next((n for n in graph.nodes if n.op == "conv"), None)
        if node is None:
            return []
        chosen = Selector(target).options(graph, node)
        sets = self._sets(chosen.allowed[0], target)
        program, manifest = self._launches(graph, node, chosen.allowed[0], sets, target)
        key = f"{layer.name} {precision} batch {batch}"
        file = f"layers/{key.replace(' ', '-').replace('/', 's').replace('>', '')}.xz"
        with tempfile.TemporaryDirectory(prefix="convc-") as scratch:
            path = Path(scratch) / "module.so"
            runtime = cuda_link.runtime_objects(target, self.cache)
            weights = cuda_link.write_module(program, runtime, target, path, manifest.contract)
            manifest.write(path, weights)
            nbytes = pack(path, regions_of(program.weights, carry=True), self.folder / file)
        w = chosen.allowed[0].workload
        x, y = w.inputs[0], w.outputs[0]
        assert x is not None
        error = chosen.allowed[0].lowering.error_bound(w, [graph.constant(v) for v in node.inputs])
        entry = {
            "kind": "layer",
            "key": key,
            "file": file,
            "layer": layer.name,
            "counts": layer.counts,
            "batch": batch,
            "precision": precision,
            "bytes": nbytes,
            "conv": asdict(geometry),
            "lowering": chosen.allowed[0].lowering.name,
            "sets": sets,
            "dtype": x.dtype,
            "lanes": [x.layout.block, y.layout.block],
            "flops": geometry.flops,
            "moved_bytes": sum(t.nbytes for t in (*w.inputs, *w.outputs) if t is not None),
            "limit": 2 * error + HALF.get(y.dtype, 0.0),
        }
        return [entry]

    def _sets(self, option: Option, target: Target) -> int:
        """So many inputs and outputs that twice the L2 cache does not hold them."""
        x, y = option.workload.inputs[0], option.workload.outputs[0]
        assert x is not None
        return min(max(math.ceil(2 * target.device.l2 / (x.nbytes + y.nbytes)), 4), MOST_SETS)

    def _launches(
        self, graph: Graph, node: Node, option: Option, sets: int, target: Target
    ) -> tuple[cuda_link.DeviceProgram, Manifest]:
        """The kernel's launches on each of `sets` slices of one input and one output, in a chain."""
        w = option.workload
        x, y = w.inputs[0], w.outputs[0]
        assert x is not None
        choice = Choice(option.lowering, w, ())
        weights, constants = packed(graph, node, option, target)
        end = sum(-(-array.nbytes // ALIGNMENT) * ALIGNMENT for _, array in weights)
        # Bound as in a network, where all tensors lie in the workspace and are aligned.
        inside = Argument(Location("workspace"))
        bound = bind(Run(node, choice, (inside, *constants, inside)), target)
        steps: list[Run | Any] = []
        for i in range(sets):
            first = Argument(Location("input", 0, i * x.nbytes))
            last = Argument(Location("output", 0, i * y.nbytes))
            steps.append(Run(node, choice, (first, *constants, last)))
        symbol = bound.kernel.symbol
        kernels = build_kernels({symbol: bound}, self.cache, 1, lambda: None)
        planned = Program(steps, weights=weights, weights_bytes=end)
        sizes = (sets * x.nbytes,), (sets * y.nbytes,)
        program = device_program(sizes, planned, [symbol] * sets, kernels, target)
        program.launches = [
            replace(launch, after=(i - 1,) if i else ()) for i, launch in enumerate(program.launches)
        ]
        manifest = Manifest(
            name="layer",
            inputs=(TensorInfo("x", (sets, *x.physical), x.dtype),),
            outputs=(TensorInfo("y", (sets, *y.physical), y.dtype),),
            plan=(),
            steps=tuple(f"set {i}" for i in range(sets)),
            target=asdict(target),
            threads=1,
            workspace_bytes=program.workspace_bytes,
            weights_bytes=end,
        )
        return program, manifest


def packed(
    graph: Graph, node: Node, option: Option, target: Target
) -> tuple[list[tuple[int, Array]], list[Argument]]:
    """The constants of a layer as its kernel takes them, with their offsets, and where it finds them."""
    weights: list[tuple[int, Array]] = []
    arguments: list[Argument] = []
    end = 0
    for index, value in enumerate(node.inputs):
        array = graph.constant(value)
        if array is not None:
            stored = option.lowering.pack(option.workload, target, index, array)
            weights.append((end, np.ascontiguousarray(stored)))
            arguments.append(Argument(Location("weights", offset=end)))
            end += -(-stored.nbytes // ALIGNMENT) * ALIGNMENT
    return weights, arguments


def limit(case: Case, compilation: Compilation) -> float:
    """The largest error, relative to the largest output, that is no mistake.

    Twice what the lowerings of all layers predict, whose estimates are for the largest of many outputs and
    may be too low where there are few, and a rounding of what is stored before and behind them. Networks
    are judged as `convc compile` does.
    """
    precision = compilation.options.precision
    if case.op == "network":
        return allowed_error(DEFAULT_MAX_ERROR, precision)
    total = 0.0
    for node, choice in compilation.choices.items():
        if node.op != "relayout":
            weights = [compilation.graph.constant(v) for v in node.inputs]
            total += choice.lowering.error_bound(choice.workload, weights)
    return 2 * total + 2 * HALF.get(compilation.target.device.storage, 0.0)


def flops(graph: Graph) -> int:
    """FLOP of a network's products as it is written down, a multiply-add counting as 2."""
    total = 0
    for node in graph.nodes:
        if node.op in PRODUCTS:
            kinds = [None if v is None else v.type for v in node.operands]
            total += 2 * opdef(node.op).cost(node.attrs, kinds, [v.type for v in node.outputs]).multiply_adds
    return total


def _counted(program: Program) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in program.steps:
        if isinstance(step, Run):
            counts[step.choice.lowering.name] = counts.get(step.choice.lowering.name, 0) + 1
    return counts


__all__ = ["Bundle", "Conv", "Entry"]
