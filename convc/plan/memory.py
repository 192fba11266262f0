"""The static memory plan: one workspace whose buffers reuse each other's space, and the steps over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from convc.dtype import BFLOAT16
from convc.ir import Graph, Node, Value, opdef
from convc.plan.aliases import concatenated, is_reinterpretation, slices_of_whole
from convc.plan.allocate import ALIGNMENT, Piece, pack
from convc.plan.program import Argument, Clear, Location, Program, Run
from convc.plan.select import Choice
from convc.plan.views import Placement, Region, Root, slice_region
from convc.target import Target
from convc.types import Array, Shape, TensorType
from convc.workload import Halo, Workload, widest


def plan(
    graph: Graph, choices: Mapping[Node, Choice], target: Target, copy: Callable[[TensorType], Choice]
) -> Program:
    """Place every tensor and list the steps. `copy` gives the choice for copying a tensor of some type.

    Where most memory is needed by a layer that works on each channel alone, that layer may run in two halves:
    the first half of its input makes room for the second half of its result.
    """
    halos: dict[Value, Halo] = {}
    for node, choice in choices.items():
        source = node.inputs[0] if node.inputs else None
        if source is not None:
            halos[source] = widest(halos.get(source, ()), choice.lowering.halo(choice.workload, target))
    constants = Constants()

    def planned(halved: frozenset[Node]) -> Program:
        regions = Placement(graph, halos).run()
        planner = _Planner(graph, choices, target, copy, regions, constants, halved)
        for node in graph.nodes:
            planner.emit(node)
        return planner.finish()

    halved: frozenset[Node] = frozenset()
    best = planned(halved)
    while (busiest := best.busiest()) is not None and can_halve(choices[busiest].workload):
        halved |= {busiest}
        other = planned(halved)
        if other.workspace_bytes > HALVING_SAVES * best.workspace_bytes:
            break
        best = other
    return best


HALVING_SAVES = 0.98
"""A layer runs in halves where the workspace shrinks below this part: a second parallel region costs time."""


def can_halve(w: Workload) -> bool:
    """Whether each channel is made from that channel of the only input, and channel blocks divide by two."""
    source = w.inputs[0]
    if len(w.inputs) != 1 or source is None or opdef(w.op).window(w.attrs, w.inputs) is None:
        return False
    if not opdef(w.op).per_channel(w.attrs, w.inputs):
        return False
    return source.layout == w.outputs[0].layout and source.shape[1] % (2 * source.layout.block) == 0


def _half(kind: TensorType) -> TensorType:
    n, c, *spatial = kind.shape
    return replace(kind, shape=(n, c // 2, *spatial))


@dataclass
class Constants:
    """Packed constants with their byte offsets, each once."""

    arrays: list[tuple[int, Array]] = field(default_factory=list)
    nbytes: int = 0
    _places: dict[tuple[Value, str, Workload, int], Location] = field(default_factory=dict)

    def place(self, value: Value, data: Array, choice: Choice, index: int, target: Target) -> Location:
        """Where `choice` finds input `index`, packed as it wants it."""
        key = (value, choice.lowering.name, choice.workload, index)
        if key not in self._places:
            self._places[key] = self.add(choice.lowering.pack(choice.workload, target, index, data))
        return self._places[key]

    def add(self, packed: Array) -> Location:
        """Where a packed array lies, which is put behind the others."""
        packed = np.ascontiguousarray(packed)
        if packed.dtype == BFLOAT16.numpy:
            packed = packed.view("uint16")  # which files and buffers can hold
        offset = -(-self.nbytes // ALIGNMENT) * ALIGNMENT
        self.arrays.append((offset, packed))
        self.nbytes = offset + packed.nbytes
        return Location("weights", offset=offset)


@dataclass
class _Planner:
    graph: Graph
    choices: Mapping[Node, Choice]
    target: Target
    copy: Callable[[TensorType], Choice]
    regions: Mapping[Value, Region]
    constants: Constants
    halved: Set[Node]
    roots: dict[Root, None] = field(default_factory=dict)  # a set in order
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
        if node in self.halved:
            self._run_halves(node)
        else:
            self._run_node(node)

    def _copy(self, node: Node, value: Value, kind: TensorType, into: Region) -> None:
        if self.regions.get(value) == into:
            return
        choice = self.copy(kind)
        data = self.graph.constant(value)
        source: Region | Location
        if data is None:
            source = self.regions[value]
        else:
            source = self.constants.place(value, data, choice, 0, self.target)
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
                tensors.append((self.constants.place(value, data, choice, index, self.target), (), ()))
            else:
                tensors.append((self.regions[value], value.type.physical, halo if index == 0 else ()))
        tensors += [self._plain(value) for value in node.outputs]
        self._run(node, choice, tensors)

    def _run_halves(self, node: Node) -> None:
        """One half of the channels after the other, by the same kernel."""
        choice = self.choices[node]
        w = choice.workload
        kinds = [_half(t) for t in (*w.inputs, *w.outputs) if t is not None]
        half = replace(choice, workload=replace(w, inputs=(kinds[0],), outputs=(kinds[1],)))
        regions = [self.regions[v] for v in (*node.inputs, *node.outputs) if v is not None]
        for number in range(2):
            parts = [
                replace(r, offset=r.offset + number * kind.physical[1] * r.strides[1])
                for r, kind in zip(regions, kinds, strict=True)
            ]
            halos = (choice.lowering.halo(half.workload, self.target), ())
            self._run(node, half, [(r, k.physical, h) for r, k, h in zip(parts, kinds, halos, strict=True)])

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
        return Program(
            [step() for step in self._pending],
            packing.nbytes,
            packing.bound,
            packing.busiest,
            self.constants.arrays,
            self.constants.nbytes,
        )


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
    box = root.box * root.dtype.nbytes
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
    itemsize = root.dtype.nbytes
    location = Location(root.space, root.index, root.offset + start * itemsize)
    return Argument(location, place.compact_strides(tuple(extents)), itemsize)


def _clear(node: Node, root: Root, boxes: range) -> Clear:
    spatial = len(root.halo)
    itemsize = root.dtype.nbytes
    return Clear(
        node,
        Location(root.space, root.index, root.offset + boxes.start * root.box * itemsize),
        outer=len(boxes),
        extent=root.shape[2 : 2 + spatial],
        before=tuple(before for before, _ in root.halo),
        after=tuple(after for _, after in root.halo),
        inner=math.prod(root.shape[2 + spatial :]) * itemsize,
    )
