"""Does a module compute what its graph says? The judge is the float64 reference of the imported graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convc.errors import VerificationError
from convc.evaluate import evaluate, evaluate_values
from convc.ir import Graph
from convc.runtime.module import Module
from convc.types import Array, TensorType

if TYPE_CHECKING:
    from convc.compile import Compilation

TOLERANCE_FACTOR = 10
"""A network may be off by this much more than one of its layers: errors of layers add up, mostly at random."""


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Standard normal values for floating-point inputs, 0 and 1 for all others."""
    rng = np.random.default_rng(seed)

    def draw(kind: TensorType) -> Array:
        values = rng.standard_normal(kind.shape) if kind.is_float else rng.integers(0, 2, kind.shape)
        return values.astype(kind.dtype)

    return {value.name: draw(value.type) for value in graph.inputs}


def relative_error(found: Array, expected: Array) -> float:
    """Largest difference, relative to the largest expected magnitude; infinite where nan meets a number."""
    if not expected.size:
        return 0.0
    found, expected = found.astype("float64"), expected.astype("float64")
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    difference = np.where(same, 0.0, np.abs(found - expected))
    if not np.isfinite(difference).all():
        return float("inf")
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    worst = float(difference.max())
    return worst if worst == 0.0 else worst / scale if scale else float("inf")


def verify_compilation(compilation: Compilation, module: Module) -> dict[str, Any]:
    """Run the module on random input; returns the figures for its manifest.

    Raises VerificationError, naming the first layer that diverges, when the error is too large.
    """
    feeds = random_inputs(compilation.source)
    errors = compare(module.run(None, feeds), evaluate(compilation.source, feeds))
    limit = TOLERANCE_FACTOR * max(compilation.options.max_error, 1e-5)
    worst = max(errors, default=0.0)
    if worst > limit:
        raise VerificationError(
            f"The module's result is off by {worst:.1e} of the largest output; {limit:.1e} is allowed. "
            + first_divergence(compilation, feeds, limit),
            hint="Nothing was written. A lower --max-error or --algo LAYER=direct avoids an inexact lowering.",
        )
    return {"error": worst, "limit": limit, "errors": dict(zip(compilation.source.output_names, errors, strict=True))}


def compare(found: Sequence[Array], expected: Sequence[Array]) -> list[float]:
    """The relative error of each output."""
    return [relative_error(f, e) for f, e in zip(found, expected, strict=True)]


def first_divergence(compilation: Compilation, feeds: Mapping[str, Array], limit: float) -> str:
    """Which layer is the first whose own result is off, found by compiling the graph with all of them returned."""
    from convc.compile import Progress, build_probe

    probe, graph = build_probe(compilation, Progress())
    found = dict(zip(graph.output_names, probe.run(None, feeds), strict=True))
    for node, arrays in evaluate_values(graph, feeds):
        for value, expected in zip(node.outputs, arrays, strict=True):
            error = relative_error(found[value.name], expected)
            if error > limit:
                return f"The first layer to diverge is '{node.name}' ({node.op}), off by {error:.1e}."
    return "Each layer by itself agrees; the difference arises where layers share buffers."
