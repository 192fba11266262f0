"""The compiler from end to end: the road that `convc compile` takes, readable as one page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import convc.codegen.pipeline
import convc.ops
from convc import arguments
from convc.codegen import cuda_link
from convc.codegen.cache import ObjectCache
from convc.codegen.device_build import build_kernels, device_program
from convc.codegen.link import (
    build_objects,
    configuration,
    distinct_kernels,
    runtime_objects,
    write_module,
)
from convc.compilation import Compilation, lower, pipeline, plan
from convc.dtype import FLOAT32
from convc.files import Scratch, explained
from convc.ir import Graph, opdef
from convc.ir.clone import clone
from convc.options import Options, keeps_denormals
from convc.passes.pipeline import run_pipeline
from convc.plan.program import Run
from convc.plan.select import DEFAULT_MAX_ERROR, MEASURES, Records
from convc.progress import Progress
from convc.runtime.manifest import LayerPlan, Manifest, TensorInfo, Weights
from convc.runtime.module import Module
from convc.types import Array, Shape
from convc.verify import verify_compilation
from convc.workload import Workload

VIEW = "view"


def compile(
    model: Any,
    *,
    target: str = "host",
    threads: int | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    constants: Mapping[str, Any] | None = None,
    algorithms: Mapping[str, str] | None = None,
    max_error: float = DEFAULT_MAX_ERROR,
    error_measure: str = MEASURES[0],
    precision: str = FLOAT32,
    fast_math: bool = False,
    keep_denormals: bool = False,
    records: Records | None = None,
    verify: bool = True,
    verify_inputs: Mapping[str, Array] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Module:
    """Compile a network to a native module and check it against the float64 reference.

    Args:
        model: path of an ONNX file, an `onnx.ModelProto`, or a convc `Network` or `Graph`.
        target: `host`, an LLVM CPU name, `TRIPLE:CPU`, or for a GPU `cuda:sm_90` and its like.
        threads: threads that the module runs on unless `load` says otherwise; default all processors.
        input_shapes: shapes for inputs with symbolic dimensions, by name; those of a `Network` are fixed.
        constants: inputs of an ONNX model that are built in, by name: numbers, lists or arrays.
        algorithms: lowering by layer name, to overrule the choice.
        max_error: largest error of a layer, relative to its largest output, that a lowering may have.
        error_measure: `layer`, or `element`: each element's error is to be in proportion to the magnitudes of
            its own terms, which fast algorithms do not offer.
        precision: of a GPU's products, `float32`, `tf32`, `float16` or `bfloat16`; inputs and outputs are as
            the model has them, sums are float32.
        fast_math: let the CUDA compiler approximate divisions, roots and transcendental functions, and flush
            denormal numbers.
        keep_denormals: compute with numbers below 1.2e-38 too, for which processors take some hundred cycles;
            otherwise they are zero on CPUs. GPUs keep them at no cost.
        records: times measured on the target, see `convc.open_records`; the model decides where it has
            none.
        verify: compare with the float64 reference of the whole graph on random input.
        verify_inputs: arrays to do that with instead, by input name; others are drawn.
        cache: folder of compiled kernels; default `$CONVC_CACHE` or the user's cache folder.
        progress: is told of stages and notices.

    Raises:
        ConvcError: a child that says what is wrong with the model, an option, the target or the result.
    """
    progress = progress or Progress()
    options = Options(
        target,
        threads,
        input_shapes or {},
        constants or {},
        algorithms or {},
        max_error,
        error_measure,
        precision=precision,
        fast_math=fast_math,
        keep_denormals=keep_denormals,
        records=records,
    )
    cache = arguments.checked_path(cache, "cache")
    compilation = plan(model, options, progress)
    scratch = Scratch()
    path = scratch.path / "network.so"
    module = build(compilation, path, progress, verify=verify, verify_inputs=verify_inputs, cache=cache)
    module.own(scratch)
    return module


@explained("Cannot compile")
def build(
    compilation: Compilation,
    path: Path,
    progress: Progress,
    *,
    verify: bool = True,
    verify_inputs: Mapping[str, Array] | None = None,
    cache: Path | None = None,
) -> Module:
    """Machine code: compile the kernels, link, verify. Raises VerificationError when results are off."""
    target = compilation.target
    manifest, objects = describe(compilation), ObjectCache.open(cache)
    generate = _write_cpu_module if target.gpu is None else _write_cuda_module
    weights = generate(compilation, path, objects, progress, manifest.contract)
    if objects.unkept:
        progress.notice(f"What was compiled is not kept for another time. {objects.unkept}")
    manifest.write(path, weights)
    runnable = target.name == "host" or _runs_here(manifest)
    if verify and runnable:
        with progress.stage("verify"):
            runs = Module(path, manifest, target.threads)
            figures = verify_compilation(compilation, runs, progress, build_probe, verify_inputs)
        manifest = replace(manifest, verification=figures)
    elif verify:
        progress.notice(f"Not verified: code for {target.name} does not run on this machine.")
    manifest.write(path, weights)
    return Module(path, manifest, target.threads, callable_here=runnable)


def _write_cpu_module(
    compilation: Compilation, path: Path, cache: ObjectCache, progress: Progress, contract: str
) -> Weights:
    """Kernels as objects, linked with the runtime."""
    target, program = compilation.target, compilation.program
    symbols, kernels = distinct_kernels(program, target)
    with progress.stage("compile kernels", len(kernels)) as done:
        workers = os.cpu_count() or 1
        objects = [*runtime_objects(target, cache), *build_objects(kernels, cache, workers, done)]
    with progress.stage("link"):
        return write_module(program, symbols, objects, target, path, contract)


def _write_cuda_module(
    compilation: Compilation, path: Path, cache: ObjectCache, progress: Progress, contract: str
) -> Weights:
    """Kernels as cubins, beside a runtime that launches them."""
    target, program, options = compilation.target, compilation.program, compilation.options
    symbols, kernels = distinct_kernels(program, target)
    with progress.stage("compile kernels", len(kernels)) as done:
        built = build_kernels(kernels, cache, os.cpu_count() or 1, done, fast_math=options.fast_math)
    with progress.stage("link"):
        values = compilation.graph.inputs, compilation.graph.outputs
        inputs, outputs = (tuple(v.type.nbytes for v in own) for own in values)
        launches = device_program((inputs, outputs), program, symbols, built, target)
        runtime = cuda_link.runtime_objects(target, cache)
        return cuda_link.write_module(launches, runtime, target, path, contract)


def build_probe(compilation: Compilation, progress: Progress) -> tuple[Module, Graph]:
    """A module that returns the outputs of every layer of the optimised graph, and that graph."""
    graph = clone(compilation.source)
    run_pipeline(graph, pipeline(compilation.options))
    values = [value for node in graph.nodes for value in node.outputs]
    graph.set_outputs(values)
    ops = {node.name: node.op for node in graph.nodes}  # layers that were joined are apart here
    options = replace(
        compilation.options,
        algorithms={
            p.name: p.chosen for p in layer_plans(compilation) if p.chosen != VIEW and ops.get(p.name) == p.op
        },
    )
    probe = lower(clone(graph), clone(graph), options, compilation.target, progress)
    scratch = Scratch()
    module = build(probe, scratch.path / "probe.so", progress, verify=False)
    module.own(scratch)
    return module, graph


def describe(compilation: Compilation) -> Manifest:
    """The manifest of a compilation, before verification."""
    graph, target = compilation.graph, compilation.target
    return Manifest(
        name=graph.name,
        inputs=tuple(TensorInfo(v.name, v.type.shape, v.type.dtype) for v in graph.inputs),
        outputs=tuple(
            TensorInfo(n, v.type.shape, v.type.dtype)
            for n, v in zip(graph.output_names, graph.outputs, strict=True)
        ),
        plan=layer_plans(compilation),
        steps=tuple(
            step.node.name if isinstance(step, Run) else f"{step.node.name} (clear border)"
            for step in compilation.program.steps
        ),
        target=asdict(target),
        threads=target.threads,
        workspace_bytes=compilation.program.workspace_bytes,
        workspace_bound=compilation.program.workspace_bound,
        weights_bytes=compilation.program.weights_bytes,
        model_sha256=compilation.model_sha256,
        versions={
            "convc": convc.__version__,
            **{p: metadata.version(p) for p in ("apache-tvm", "numpy", "onnx")},
        },
        options={
            "constants": {
                name: np.asarray(value).tolist() for name, value in compilation.options.constants.items()
            },
            "algorithms": dict(compilation.options.algorithms),
            "max_error": compilation.options.max_error,
            "error_measure": compilation.options.error_measure,
            "precision": compilation.options.precision,
            "keep_denormals": keeps_denormals(compilation.options, target),
        },
        records=() if compilation.options.records is None else compilation.options.records.answers(),
    )


def layer_plans(compilation: Compilation) -> tuple[LayerPlan, ...]:
    """How each layer is computed, in order, without the conversions that layout assignment inserted.

    A layer without a step is a `view`: its result lies where its input's producer wrote it.
    """
    computed = {step.node for step in compilation.program.steps}
    return tuple(
        LayerPlan(
            name=node.name,
            op=node.op,
            workload=str(choice.workload),
            chosen=choice.lowering.name if node in computed else VIEW,
            candidates=choice.candidates if node in computed else (),
            origin=node.origin,
            config=asdict(configuration(choice, compilation.target)) if node in computed else {},
            flops=_flops(choice.workload),
            reason=choice.reason,
            measured=choice.config is not None and node in computed,
        )
        for node in compilation.layers
        for choice in (compilation.choices[node],)
    )


def _flops(w: Workload) -> int:
    return 2 * opdef(w.op).cost(w.attrs, w.inputs[: w.arity], w.outputs).multiply_adds


def _runs_here(manifest: Manifest) -> bool:
    from convc.runtime.module import missing_for

    return not missing_for(manifest)
