"""The static memory plan: one workspace whose buffers reuse each other's space, and the steps over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from convc.aliases import concatenated, is_reinterpretation, slices_of_whole
from convc.allocate import ALIGNMENT, Piece, pack
from convc.ir import Graph, Node, Value
from convc.program import Argument, Clear, Location, Program, Run
from convc.select import Choice
from convc.target import Target
from convc.types import Array, Shape, TensorType
from convc.views import (
    Placement,
    Region,
    Root,
    slice_region,
)
from convc.workload import Halo, Workload, widest


def plan(
    graph: Graph, choices: Mapping[Node, Choice], target: Target, copy: Callable[[TensorType], Choice]
) -> Program:
    """Place every tensor and list the steps. `copy` gives the choice for copying a tensor of some type."""
    halos: dict[Value, Halo] = {}
    for node, choice in choices.items():
        source = node.inputs[0] if node.inputs else None
        if source is not None:
            halos[source] = widest(halos.get(source, ()), choice.lowering.halo(choice.workload, target))
    planner = _Planner(graph, choices, target, copy, Placement(graph, halos).run())
    for node in graph.nodes:
        planner.emit(node)
    return planner.finish()


@dataclass
class _Planner:
    graph: Graph
    choices: Mapping[Node, Choice]
    target: Target
    copy: Callable[[TensorType], Choice]
    regions: Mapping[Value, Region]
    program: Program = field(default_factory=Program)
    roots: dict[Root, None] = field(default_factory=dict)  # a set in order
    _packed: dict[tuple[Value, object, int], Location] = field(default_factory=dict)
    _pending: list[Callable[[], Run | Clear]] = field(default_factory=list)

    def emit(self, node: Node) -> None:
        """Append the steps of a node: none where its result already lies in place."""
        w = Workload.of(self.graph, node)
        starts = concatenated(w)
        if starts:
            for value, start in zip(node.inputs, starts, strict=True):
                assert value is not None
                self._copy(
                    node, value, value.type, slice_region(self.regions[node.output], w, value.type, start)
                )
            return
        source = node.inputs[0] if node.inputs else None
        if is_reinterpretation(w) and source is not None and source in self.regions:
            here, there = self.regions[source], self.regions[node.output]
            if (here.root, here.offset) == (there.root, there.offset):
                return
        starts = slices_of_whole(w)
        if starts and source is not None and source in self.regions:
            whole = self.regions[source]
            for value, start in zip(node.outputs, starts, strict=True):
                piece = slice_region(whole, w, value.type, start)
                if piece != self.regions[value]:
                    self._run(
                        node, self.copy(value.type), [(piece, value.type.physical, ()), self._plain(value)]
                    )
            return
        self._run_node(node)

    def _copy(self, node: Node, value: Value, kind: TensorType, into: Region) -> None:
        if self.regions.get(value) == into:
            return
        choice = self.copy(kind)
        data = self.graph.constant(value)
        source: Region | Location
        source = (
            self.regions[value] if data is None else self._constant(value, choice, 0, kind.layout.pack(data))
        )
        self._run(node, choice, [(source, kind.physical, ()), (into, kind.physical, ())])

    def _plain(self, value: Value) -> tuple[Region, Shape, Halo]:
        return self.regions[value], value.type.physical, ()

    def _run_node(self, node: Node) -> None:
        choice = self.choices[node]
        halo = choice.lowering.halo(choice.workload, self.target)
        tensors: list[tuple[Region | Location, Shape, Halo]] = []
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            data = self.graph.constant(value)
            if data is not None:
                packed = choice.lowering.pack(choice.workload, self.target, index, data)
                tensors.append((self._constant(value, choice, index, packed), (), ()))
            else:
                tensors.append((self.regions[value], value.type.physical, halo if index == 0 else ()))
        tensors += [self._plain(value) for value in node.outputs]
        self._run(node, choice, tensors)

    def _constant(self, value: Value, choice: Choice, index: int, packed: Array) -> Location:
        key = (value, choice.workload, index)
        if key not in self._packed:
            offset = -(-self.program.weights_bytes // ALIGNMENT) * ALIGNMENT
            self.program.weights.append((offset, np.ascontiguousarray(packed)))
            self.program.weights_bytes = offset + packed.nbytes
            self._packed[key] = Location("weights", offset=offset)
        return self._packed[key]

    def _run(self, node: Node, choice: Choice, tensors: list[tuple[Region | Location, Shape, Halo]]) -> None:
        """Note a kernel call and the boxes that it touches; locations are known after allocation."""
        outputs = len(choice.workload.outputs)
        for region, shape, _ in tensors[-outputs:]:
            assert isinstance(region, Region)
            if region.root.space == "workspace" and any(map(any, region.root.halo)):
                self._clear(node, region, shape)
        for region, shape, _ in tensors:
            if isinstance(region, Region):
                self._touch(region.root, region.boxes(shape))
        self._pending.append(
            lambda: Run(node, choice, tuple(_argument(*place) for place in tensors))
        )  # fmt: skip

    def _clear(self, node: Node, region: Region, shape: Shape) -> None:
        """Zero the borders of boxes that are about to be written for the first time."""
        root = region.root
        fresh = sorted(region.boxes(shape) - root.lives.keys())
        for run in _runs(fresh):
            self._touch(root, run)
            self._pending.append(partial(_clear, node, root, run))

    def _touch(self, root: Root, boxes: Iterable[int]) -> None:
        if root.space == "workspace":
            self.roots[root] = None
            root.touch(boxes, len(self._pending))

    def finish(self) -> Program:
        """Allocate; turn the noted calls into steps, now that offsets are known."""
        packing = pack([_pieces(root) for root in self.roots])
        for root, offset in zip(self.roots, packing.offsets, strict=True):
            root.offset = offset
        self.program.workspace_bytes, self.program.workspace_bound = packing.nbytes, packing.bound
        self.program.steps = [step() for step in self._pending]
        return self.program


def _runs(numbers: Iterable[int]) -> list[range]:
    """Ascending numbers as runs of consecutive ones."""
    runs: list[range] = []
    for n in numbers:
        if runs and runs[-1].stop == n:
            runs[-1] = range(runs[-1].start, n + 1)
        else:
            runs.append(range(n, n + 1))
    return runs


def _pieces(root: Root) -> list[Piece]:
    """Neighbouring boxes with equal lives, as runs of bytes."""
    box = root.box * np.dtype(root.dtype).itemsize
    lives: dict[tuple[int, int], list[int]] = {}
    for number in sorted(root.lives):
        lives.setdefault(root.lives[number], []).append(number)
    return [
        Piece(run.start * box, run.stop * box, *life)
        for life, numbers in lives.items()
        for run in _runs(numbers)
    ]


def _argument(place: Region | Location, shape: Shape, halo: Halo) -> Argument:
    """Where a kernel finds a tensor; one that it reads with a halo begins at the halo's corner."""
    if isinstance(place, Location):
        return Argument(place)
    root = place.root
    start = place.offset
    extents = list(shape)
    for axis, (before, after) in enumerate(halo):
        start -= before * place.strides[2 + axis]
        extents[2 + axis] += before + after
    itemsize = np.dtype(root.dtype).itemsize
    location = Location(root.space, root.index, root.offset + start * itemsize)
    return Argument(location, place.compact_strides(tuple(extents)), itemsize)


def _clear(node: Node, root: Root, boxes: range) -> Clear:
    spatial = len(root.halo)
    itemsize = np.dtype(root.dtype).itemsize
    return Clear(
        node,
        Location(root.space, root.index, root.offset + boxes.start * root.box * itemsize),
        outer=len(boxes),
        extent=root.shape[2 : 2 + spatial],
        before=tuple(before for before, _ in root.halo),
        after=tuple(after for _, after in root.halo),
        inner=math.prod(root.shape[2 + spatial :]) * itemsize,
    )
