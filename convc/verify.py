"""Does a module compute what its graph says? The judge is the float64 reference of the imported graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convc.errors import VerificationError
from convc.evaluate import evaluate, evaluate_values
from convc.ir import Graph
from convc.progress import Progress
from convc.rounding import FLUSHED_SUM, as_stored
from convc.runtime.compare import relative_error
from convc.runtime.manifest import TensorInfo
from convc.runtime.module import Module
from convc.types import ROUNDING, Array

if TYPE_CHECKING:
    from convc.compiler import Compilation

TOLERANCE_FACTOR = 10
"""How much more than one layer a network may be off: errors of layers add up, mostly at random."""


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random arrays for a graph's inputs; see `random_feeds`."""
    return random_feeds([TensorInfo(v.name, v.type.shape, v.type.dtype) for v in graph.inputs], seed)


def random_feeds(inputs: Sequence[TensorInfo], seed: int = 0) -> dict[str, Array]:
    """Standard normal values for floating-point inputs, 0 and 1 for all others, by name."""
    rng = np.random.default_rng(seed)

    def draw(info: TensorInfo) -> Array:
        values = (
            rng.standard_normal(info.shape)
            if info.dtype.startswith("float")
            else rng.integers(0, 2, info.shape)
        )
        return values.astype(info.dtype)

    return {info.name: draw(info) for info in inputs}


def verify_compilation(compilation: Compilation, module: Module) -> dict[str, Any]:
    """Run the module on random input; returns the figures for its manifest.

    Raises VerificationError, naming the first layer that diverges, when the error is too large.
    """
    feeds = random_inputs(compilation.source)
    found = module.run(None, feeds)
    errors = compare(found, evaluate(compilation.source, feeds))
    limit = allowed_error(compilation.options.max_error, compilation.options.precision)
    if max(errors, default=0.0) > limit:
        # What float32 cannot hold no program can return.
        stored = as_stored(bool(module.manifest.options["keep_denormals"]))
        others = compare(found, evaluate(compilation.source, feeds, stored), FLUSHED_SUM)
        errors = list(map(min, errors, others))
    worst = max(errors, default=0.0)
    if worst > limit:
        raise VerificationError(
            f"The module's result is off by {worst:.1e} of the largest output; {limit:.1e} is allowed. "
            + first_divergence(compilation, feeds, limit),
            hint="Nothing was written. A lower --max-error or --algo LAYER=direct avoids inexact lowerings.",
        )
    return {
        "error": worst,
        "limit": limit,
        "errors": dict(zip(compilation.source.output_names, errors, strict=True)),
    }


def allowed_error(max_error: float, precision: str) -> float:
    """How far a network may be off: by some layers' errors, that of float32 sums being 1e-5 at most."""
    return TOLERANCE_FACTOR * max(max_error, 1e-5, ROUNDING[precision])


def compare(found: Sequence[Array], expected: Sequence[Array], negligible: float = 0.0) -> list[float]:
    """The relative error of each output, differences of up to `negligible` left out."""
    return [relative_error(f, e, negligible) for f, e in zip(found, expected, strict=True)]


def first_divergence(compilation: Compilation, feeds: Mapping[str, Array], limit: float) -> str:
    """Which layer is the first whose own result is off, found by returning the results of all."""
    from convc.compiler import build_probe

    probe, graph = build_probe(compilation, Progress())
    found = dict(zip(graph.output_names, probe.run(None, feeds), strict=True))
    for node, arrays in evaluate_values(graph, feeds):
        for value, expected in zip(node.outputs, arrays, strict=True):
            error = relative_error(found[value.name], expected)
            if error > limit:
                return f"The first layer to diverge is '{node.name}' ({node.op}), off by {error:.1e}."
    return "Each layer by itself agrees; the difference arises where layers share buffers."


def verify_against(module: Module, model: Any, *, seed: int = 1, tolerance: float = 1e-3) -> dict[str, float]:
    """Compare a module with a model on random input; returns the error of each output by name.

    Raises VerificationError when names or shapes differ or an error exceeds `tolerance`.
    """
    from convc.frontends.models import graph_of
    from convc.frontends.onnx import read

    model = graph_of(model)
    shapes, built_in = {t.name: t.shape for t in module.inputs}, module.manifest.options.get("constants")
    graph = model if isinstance(model, Graph) else read(model, input_shapes=shapes, constants=built_in)
    ours = {t.name: (t.shape, t.dtype) for t in (*module.inputs, *module.outputs)}
    names = (*(v.name for v in graph.inputs), *graph.output_names)
    theirs = {
        n: (v.type.shape, v.type.dtype) for n, v in zip(names, (*graph.inputs, *graph.outputs), strict=True)
    }
    if ours != theirs:
        raise VerificationError(
            f"The module's inputs and outputs are {ours}, the model's {theirs}.", hint="Compile this model."
        )
    feeds = random_inputs(graph, seed)
    errors = dict(
        zip(graph.output_names, compare(module.run(None, feeds), evaluate(graph, feeds)), strict=True)
    )
    name, worst = max(errors.items(), key=lambda item: item[1])
    if worst > tolerance:
        raise VerificationError(
            f"Output '{name}' is off by {worst:.1e} of its largest value; {tolerance:.1e} is allowed.",
            hint="Compile the model again: a module is verified before it is written.",
        )
    return errors
