"""The static memory plan: one workspace whose buffers reuse each other's space, and the steps over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from convc.ir import Graph, Node, Value
from convc.program import Argument, Clear, Location, Program, Run
from convc.select import Choice
from convc.target import Target
from convc.types import Array, Shape, TensorType
from convc.views import (
    Placement,
    Region,
    Root,
    concatenated,
    is_reinterpretation,
    slice_region,
    slices_of_whole,
    widest,
)
from convc.workload import Halo

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector."""


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
    planner.program.workspace_bytes = _allocate(planner.roots)
    return planner.finish()


@dataclass
class _Planner:
    graph: Graph
    choices: Mapping[Node, Choice]
    target: Target
    copy: Callable[[TensorType], Choice]
    regions: Mapping[Value, Region]
    program: Program = field(default_factory=Program)
    roots: list[Root] = field(default_factory=list)
    _packed: dict[tuple[Value, object, int], Location] = field(default_factory=dict)
    _pending: list[tuple[Node, Choice, list[tuple[Region | Location, Shape, Halo]]]] = field(
        default_factory=list
    )

    def emit(self, node: Node) -> None:
        """Append the steps of a node: none where its result already lies in place."""
        starts = concatenated(node)
        if starts:
            for value, start in zip(node.inputs, starts, strict=True):
                assert value is not None
                self._copy(
                    node, value, value.type, slice_region(self.regions[node.output], node, value, start)
                )
            return
        source = node.inputs[0] if node.inputs else None
        if is_reinterpretation(node) and source is not None and source in self.regions:
            here, there = self.regions[source], self.regions[node.output]
            if (here.root, here.offset) == (there.root, there.offset):
                return
        starts = slices_of_whole(node)
        if starts and source is not None and source in self.regions:
            whole = self.regions[source]
            for value, start in zip(node.outputs, starts, strict=True):
                piece = slice_region(whole, node, value, start)
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
        """Note a kernel call and when its roots are alive; locations are known after allocation."""
        outputs = len(choice.workload.outputs)
        for region, _, _ in tensors[-outputs:]:
            assert isinstance(region, Region)
            root = region.root
            if root.space == "workspace" and root.first < 0 and any(map(any, root.halo)):
                self._touch(root)
                self._pending.append((node, choice, [(region, (), ())]))
        for region, _, _ in tensors:
            if isinstance(region, Region):
                self._touch(region.root)
        self._pending.append((node, choice, tensors))

    def _touch(self, root: Root) -> None:
        if root.space != "workspace":
            return
        if root.first < 0:
            root.first = len(self._pending)
            self.roots.append(root)
        root.last = len(self._pending)

    def finish(self) -> Program:
        """Turn the noted calls into steps, now that offsets are known."""
        for node, choice, tensors in self._pending:
            if len(tensors) == 1:
                region = tensors[0][0]
                assert isinstance(region, Region)
                self.program.steps.append(_clear(node, region.root))
            else:
                self.program.steps.append(Run(node, choice, tuple(_argument(*t) for t in tensors)))
        return self.program


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


def _clear(node: Node, root: Root) -> Clear:
    spatial = len(root.halo)
    itemsize = np.dtype(root.dtype).itemsize
    return Clear(
        node,
        Location(root.space, root.index, root.offset),
        outer=math.prod(root.shape[:2]),
        extent=root.shape[2 : 2 + spatial],
        before=tuple(before for before, _ in root.halo),
        after=tuple(after for _, after in root.halo),
        inner=math.prod(root.shape[2 + spatial :]) * itemsize,
    )


def _allocate(roots: list[Root]) -> int:
    """Give each root an offset so that roots alive together do not overlap; returns the workspace's bytes.

    Largest first, each at the lowest offset that is free during its life: a greedy method that comes close
    to the lower bound on networks (Pisarchyk and Lee, arXiv 2001.03288, section 4.2).
    """
    placed: list[Root] = []
    total = 0
    for root in sorted(roots, key=lambda r: (-_bytes(r), r.first)):
        neighbours = sorted(
            (r for r in placed if r.first <= root.last and root.first <= r.last), key=lambda r: r.offset
        )
        offset = 0
        for other in neighbours:
            if offset + _bytes(root) <= other.offset:
                break
            offset = max(offset, other.offset + _bytes(other))
        root.offset = offset
        placed.append(root)
        total = max(total, offset + _bytes(root))
    return total


def _bytes(root: Root) -> int:
    size = root.elements * np.dtype(root.dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT
