"""Random legal ONNX graphs over awkward shapes, with inputs, outputs and the error that each may have.

How far off an output may be, the nodes themselves say: run again with noise on each one's result, as large as
the error that the compiler allows itself there, the outputs move by what they may be off. Steps (rounding,
comparisons, positions of maxima) have only operands that no rounding has touched, `Value.exact`: no error
moves them to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from random_drawing import ROUNDING, Drawing, Illegal, Value, model_of, session
from random_moves import MOVES
from random_operators import OPERATORS

from convc.types import Array

NOISES = 3
MARGIN = 6
"""Of the largest displacement seen in so many runs with noise, what no run exceeds."""


@dataclass(frozen=True)
class RandomGraph:
    """A model, its inputs, what onnxruntime makes of them, and by how much each output may differ from it."""

    seed: int
    model: onnx.ModelProto
    feeds: dict[str, Array]
    expected: list[Array]
    tolerances: list[float]

    def __str__(self) -> str:
        return f"{self.seed}: {' '.join(n.op_type for n in self.model.graph.node)}"

    def wrong(self, results: Sequence[Array]) -> str:
        """What is wrong with the results of a compiled module; "" if nothing is."""
        for info, found, expected, tolerance in zip(
            self.model.graph.output, results, self.expected, self.tolerances, strict=True
        ):
            if found.shape != expected.shape or found.dtype != expected.dtype:
                return f"{info.name} is {found.dtype}{found.shape}, not {expected.dtype}{expected.shape}"
            off = np.abs(found.astype(np.float64) - expected.astype(np.float64))
            if not (off <= tolerance).all():
                where = np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape)
                return (
                    f"{info.name}{list(map(int, where))} is {found[where]}, not {expected[where]}; "
                    f"{tolerance:.1e} allowed"
                )
        return ""


FAMILIES = (*OPERATORS, *MOVES)
WEIGHTS = np.array([weight for weight, _ in FAMILIES])
MOST = 12
"""Nodes of a graph."""


def draw(seed: int) -> RandomGraph:
    """The graph of this seed."""
    drawing = Drawing(np.random.default_rng(seed))
    count = drawing.whole(2, MOST)
    while len(drawing.nodes) < count:
        before = len(drawing.nodes), dict(drawing.weights), dict(drawing.inputs), list(drawing.values)
        try:
            _, family = FAMILIES[drawing.rng.choice(len(FAMILIES), p=WEIGHTS / WEIGHTS.sum())]
            family(drawing)
            if len(drawing.nodes) > MOST:
                raise Illegal("too many nodes")
        except Illegal:
            size, drawing.weights, drawing.inputs, drawing.values = before
            del drawing.nodes[size:], drawing.steps[size:]
    return _finished(seed, drawing)


def _finished(seed: int, drawing: Drawing) -> RandomGraph:
    """The graph: its outputs are what nobody reads, and now and then something that somebody does."""
    read = {name for node in drawing.nodes for name in node.input}
    made = [v for v in drawing.values if v.name not in drawing.inputs]
    outputs = [v for v in made if v.name not in read or drawing.chance(0.15)]
    inputs = {n: a for n, a in drawing.inputs.items() if n in read}
    kind = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        drawing.nodes,
        f"random{seed}",
        [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info(v.name, kind(v.array.dtype), v.shape) for v in outputs],
        [numpy_helper.from_array(a, n) for n, a in drawing.weights.items() if n in read],
    )
    model = model_of(graph)
    expected = session(model).run([v.name for v in outputs], inputs)
    return RandomGraph(seed, model, inputs, expected, _tolerances(drawing, outputs))


def _tolerances(drawing: Drawing, outputs: Sequence[Value]) -> list[float]:
    """For each output the displacement that noise on all results brings about."""
    moved = [ROUNDING * float(np.abs(v.array).max()) if v.is_float else 0.0 for v in outputs]
    fixed = {**drawing.weights, **drawing.inputs}
    for _ in range(NOISES):
        arrays = dict(fixed)
        for step in drawing.steps:
            results = step.session.run(None, {n: arrays[n] for n in step.inputs})
            for name, result in zip(step.outputs, results, strict=True):
                arrays[name] = _noisy(drawing.rng, result, step.error)
        for i, value in enumerate(outputs):
            if value.is_float:
                moved[i] = max(moved[i], float(np.abs(arrays[value.name] - value.array).max()))
    return [MARGIN * m for m in moved]


def _noisy(rng: np.random.Generator, array: Array, error: float) -> Array:
    if array.dtype != np.float32 or not error:
        return array
    noise = error * np.abs(array).max() * rng.uniform(-1, 1, array.shape)
    return np.asarray(array + noise, np.float32)
