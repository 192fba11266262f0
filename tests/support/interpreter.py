"""Runs a program in NumPy over its planned memory: layouts, views, borders and reuse, but no generated code.

Memory starts full of NaN and lanes beyond the channels are written as 1e9, so that reading what nobody wrote,
what another step has overwritten, or what no consumer may depend on shows in the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convc.compilation import Compilation
from convc.evaluate import evaluate_node
from convc.ir import Graph, Node
from convc.plan.aliases import overwritable
from convc.plan.program import Argument, Clear, Program, Run
from convc.plan.views import natural_strides
from convc.target import Target
from convc.types import Array, Shape, TensorType
from convc.workload import Halo

POISON = 1e9


def simulate(compilation: Compilation, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a planned network. Raises AssertionError where a step finds its memory in disorder."""
    machine = Machine(compilation.graph, compilation.program, compilation.target)
    for index, value in enumerate(compilation.graph.inputs):
        machine.memory["input", index] = bytearray(np.ascontiguousarray(feeds[value.name]).tobytes())
    for index, value in enumerate(compilation.graph.outputs):
        machine.memory["output", index] = bytearray(b"\xff" * value.type.nbytes)
    for step in compilation.program.steps:
        if isinstance(step, Clear):
            machine.clear(step)
        else:
            machine.run(step)
    return [
        np.frombuffer(machine.memory["output", i], v.type.dtype).reshape(v.type.shape)
        for i, v in enumerate(compilation.graph.outputs)
    ]


class Machine:
    """Memory by space and index, and the steps on it."""

    def __init__(self, graph: Graph, program: Program, target: Target) -> None:
        self.graph = graph
        self.target = target
        self.weights = dict(program.weights)
        self.memory: dict[tuple[str, int], bytearray] = {
            ("workspace", 0): bytearray(b"\xff" * program.workspace_bytes)
        }

    def view(self, argument: Argument, shape: Shape, dtype: str) -> Array:
        """The array in its place. NumPy refuses one that leaves its buffer."""
        place = argument.location
        strides = argument.strides or natural_strides(shape)
        size = np.dtype(dtype).itemsize
        assert place.offset >= 0
        buffer = self.memory[place.space, place.index]
        return np.ndarray(shape, dtype, buffer, place.offset, [s * size for s in strides])

    def read(self, argument: Argument, kind: TensorType, halo: Halo) -> Array:
        """A tensor in logical form, after a look at the zeros around it."""
        if argument.location.space == "weights":
            stored = self.weights[argument.location.offset]
            return kind.layout.unpack(stored, kind.shape)
        view = self.view(argument, enlarged(kind.physical, halo), kind.dtype)
        inside = tuple(slice(b, b + e) for (b, _), e in zip(halo, kind.physical[2:], strict=False))
        inside = (slice(None), slice(None), *inside) if halo else ()
        border = np.ones(view.shape, bool)
        border[inside] = False
        assert not halo or not view[border].any(), f"the border around {kind} is not zero"
        return kind.layout.unpack(view[inside], kind.shape)

    def write(self, argument: Argument, kind: TensorType, array: Array) -> None:
        """Store a logical array, with poison in the lanes beyond its channels."""
        block = kind.layout.block
        stored = kind.layout.pack(array)
        if block > 1 and kind.shape[1] % block:
            stored[:, -1, ..., kind.shape[1] % block :] = POISON
        self.view(argument, kind.physical, kind.dtype)[...] = stored

    def clear(self, step: Clear) -> None:
        """As zero_border does."""
        buffer = self.memory[step.location.space, step.location.index]
        shape = (step.outer, *step.extent, step.inner)
        view = np.ndarray(shape, "uint8", buffer, step.location.offset)
        sides = zip(step.before, step.extent, step.after, strict=True)
        border = np.ones(shape, bool)
        border[(slice(None), *(slice(b, e - a) for b, e, a in sides))] = False
        view[border] = 0

    def run(self, step: Run) -> None:
        """Read the inputs, compute by the reference, write the outputs.

        They must not touch the inputs, but for one that a result may take the place of.
        """
        w = step.choice.workload
        halo = step.choice.lowering.halo(w, self.target)
        kinds = [t for t in w.inputs if t is not None]
        assert len(step.arguments) == len(kinds) + len(w.outputs)
        sources, results = step.arguments[: len(kinds)], step.arguments[len(kinds) :]
        self._disjoint(step, sources, results)
        if w.op == "relayout":
            self.write(results[0], w.outputs[0], self.read(sources[0], kinds[0], halo))
            return
        inputs: list[Any] = []
        given = iter(sources)
        for index, (value, kind) in enumerate(zip(step.node.inputs, w.inputs, strict=True)):
            if value is None or kind is None:
                inputs.append(None)
                continue
            argument = next(given)
            data = self.graph.constant(value)
            inputs.append(data if data is not None else self.read(argument, kind, halo if index == 0 else ()))
        wide = [a.astype("float64") if a is not None and a.dtype.kind == "f" else a for a in inputs]
        node = step.node if w.outputs[0].shape == step.node.output.type.shape else part_of(step)
        for argument, kind, array in zip(
            results, w.outputs, evaluate_node(self.graph, node, wide), strict=True
        ):
            self.write(argument, kind, array.astype(kind.dtype))

    def _disjoint(self, step: Run, sources: tuple[Argument, ...], results: tuple[Argument, ...]) -> None:
        w = step.choice.workload
        kinds = [t for t in w.inputs if t is not None]
        present = [i for i, t in enumerate(w.inputs) if t is not None]
        replaceable = {n for n, i in enumerate(present) if i in overwritable(w)}
        for result, out in zip(results, w.outputs, strict=True):
            written = addresses(result, out)
            for index, (source, kind) in enumerate(zip(sources, kinds, strict=True)):
                if source == result and index in replaceable:
                    continue
                same = (source.location.space, source.location.index) == (
                    result.location.space,
                    result.location.index,
                )
                assert not (same and np.intersect1d(written, addresses(source, kind)).size), (
                    f"{step.node!r} writes over its own input"
                )


def part_of(step: Run) -> Node:
    """The node of a step that makes only some channels, on tensors of that size."""
    w, graph = step.choice.workload, Graph("part")
    inputs = [None if t is None else graph.add_input(f"x{i}", t) for i, t in enumerate(w.inputs)]
    return graph.add(w.op, inputs, w.attrs, epilogue=w.epilogue, arity=w.arity)


def enlarged(shape: Shape, halo: Halo) -> Shape:
    """A physical shape with its border."""
    extents = list(shape)
    for axis, (before, after) in enumerate(halo):
        extents[2 + axis] += before + after
    return tuple(extents)


def addresses(argument: Argument, kind: TensorType) -> Array:
    """Byte offsets of a tensor's elements; a border moves all alike, which does not matter for overlap."""
    shape, size = kind.physical, np.dtype(kind.dtype).itemsize
    offsets = np.full((1,) * len(shape), argument.location.offset)
    for axis, stride in enumerate(argument.strides or natural_strides(shape)):
        steps = np.arange(shape[axis]) * stride * size
        offsets = offsets + steps.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return offsets.ravel()
