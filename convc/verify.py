"""Does a module compute what its graph says? The judge is the float64 reference of the imported graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convc.draw import random_feeds, random_inputs, several_inputs
from convc.dtype import DType
from convc.errors import VerificationError
from convc.evaluate import evaluate_node, wide
from convc.ir import Graph, Node, Value
from convc.judge import Judgement, explain
from convc.progress import Progress
from convc.runtime.compare import relative_error
from convc.runtime.module import Module
from convc.trial import Trial, arithmetics, by_element
from convc.types import Array

if TYPE_CHECKING:
    from convc.compilation import Compilation

__all__ = [
    "allowed_error",
    "compare",
    "random_feeds",
    "random_inputs",
    "verify_against",
    "verify_compilation",
]

TOLERANCE_FACTOR = 10
"""How much more than one layer a network may be off: errors of layers add up, mostly at random."""
TOLERANCE = 1e-3
"""How far a network may be off of which no more is known."""


def allowed_error(max_error: float, precision: str) -> float:
    """How far a network may be off: by some layers' errors, that of float32 sums being 1e-5 at most."""
    return TOLERANCE_FACTOR * max(max_error, 1e-5, DType.of(precision).rounding)


def compare(found: Sequence[Array], expected: Sequence[Array]) -> list[float]:
    """The relative error of each output."""
    return [relative_error(f, e) for f, e in zip(found, expected, strict=True)]


Probe = Callable[["Compilation", Progress], tuple[Module, Graph]]
"""Makes a module that returns the outputs of every layer of an optimised graph, and gives that graph too."""


def verify_compilation(
    compilation: Compilation,
    module: Module,
    progress: Progress,
    probe: Probe,
    given: Mapping[str, Array] | None = None,
) -> dict[str, Any]:
    """Run the module on random input, or on what is `given` by input name; the figures for its manifest.

    Raises VerificationError, naming the first layer that diverges, when an output is wrong (see `judge`), and
    InputError for arrays that the model does not take.
    """
    options = compilation.options
    limit = allowed_error(options.max_error, options.precision)
    trial = Trial(compilation.source, module, limit)
    try_out(trial, compilation.source, 0, given or {})
    if trial.wrong is not None:
        raise VerificationError(
            f"{trial.complaint} " + (diverging_layer(compilation, probe, trial.feeds, limit) or TOGETHER),
            hint="Nothing was written. A lower --max-error or --algo LAYER=direct avoids inexact lowerings.",
        )
    layer = diverging_layer(compilation, probe, trial.feeds, limit) if trial.amplified else None
    if layer is not None:
        raise VerificationError(
            f"Output '{trial.amplified[0]}' amplifies rounding too much to be compared. {layer}",
            hint="Nothing was written. --algo LAYER=direct avoids inexact lowerings.",
        )
    for notice in trial.notices():
        progress.notice(notice)
    return trial.figures()


TOGETHER = "Each layer by itself agrees; the difference arises where layers share kernels or buffers."


def try_out(trial: Trial, graph: Graph, seed: int, given: Mapping[str, Array]) -> None:
    """Try inputs until every output has been tested or one is wrong."""
    for feeds in several_inputs(graph, seed, given):
        trial.run(feeds)
        if trial.wrong is not None or not trial.untested:
            return
    trial.finish()


def diverging_layer(
    compilation: Compilation, build_probe: Probe, feeds: Mapping[str, Array], limit: float
) -> str | None:
    """Which layer is the first whose own result is off, as a sentence; None where there is none.

    A module that returns the results of all layers shows what each makes of what it read: errors of the
    layers before do not count.
    """
    probe, graph = build_probe(compilation, Progress())
    limit = 0.0 if by_element(probe.manifest) else limit
    found = dict(zip(graph.output_names, probe.run(None, feeds), strict=True))
    known = {**found, **feeds}

    def read(value: Value) -> Array:
        constant = graph.constant(value)
        return wide(known[value.name] if constant is None else constant)

    def named(node: Node, arrays: Sequence[Array]) -> dict[str, Array]:
        return {value.name: array for value, array in zip(node.outputs, arrays, strict=True)}

    for node in graph.nodes:
        operands = [None if v is None else read(v) for v in node.inputs]
        exact = named(node, evaluate_node(graph, node, operands))
        judgements = {name: Judgement(found[name], array, limit) for name, array in exact.items()}
        explain(
            judgements,
            (named(node, evaluate_node(graph, node, operands, a)) for a in arithmetics(probe.manifest)),
        )
        for judgement in judgements.values():
            if not judgement.right:
                error = f"{judgement.error:.1e}"
                return f"The first layer to diverge is '{node.name}' ({node.op}), off by {error}."
    return None


def verify_against(
    module: Module,
    model: Any,
    *,
    seed: int = 1,
    tolerance: float | None = None,
    given: Mapping[str, Array] | None = None,
) -> dict[str, float]:
    """Compare a module with a model on random input; returns the error of each output by name.

    Arrays that are `given` by input name take the place of random ones. Raises VerificationError when names
    or shapes differ or an output is farther off than `tolerance`, or without one than TOLERANCE and rounding
    explain; InputError for arrays that the model does not take.
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
    trial = Trial(graph, module, TOLERANCE if tolerance is None else tolerance, strict=tolerance is not None)
    try_out(trial, graph, seed, given or {})
    if trial.wrong is not None:
        raise VerificationError(
            trial.complaint, hint="Compile the model again: a module is verified before it is written."
        )
    return dict(trial.figures()["errors"])
