"""Where every tensor lives, up to the final offsets: roots are buffers, regions are views of them.

Reshaping, flattening, concatenation and splitting cost nothing where the tensor can be a view: the producer
of a concatenation's input writes straight into its slice. A tensor whose reader pads lives in the interior
of a root with a border of zeros (a halo).

The walk goes backward, so the buffer that a tensor ends up in is known before its producer is visited.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from convc.dtype import DType
from convc.ir import Graph, Node, Value
from convc.plan.aliases import (
    axis_of,
    concatenated,
    is_reinterpretation,
    is_view,
    overwritable,
    slices_of_whole,
)
from convc.plan.program import Space
from convc.types import Shape, TensorType
from convc.workload import Halo, Workload, covers, widest


@dataclass(eq=False)
class Root:
    """A buffer. `shape` is physical and includes the halo.

    It consists of `boxes`: the maps of one channel block (or channel) in one image, one after the other. A
    slice along channels is a run of boxes. `lives` holds the first and the last step of the program that
    touches a box, for each box that any step touches.
    """

    space: Space
    shape: Shape
    dtype: DType
    index: int = 0
    halo: Halo = ()
    offset: int = 0
    lives: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def boxes(self) -> int:
        """How many boxes there are; tensors without spatial axes are a single one."""
        return math.prod(self.shape[:2]) if len(self.shape) > 2 else 1

    @property
    def box(self) -> int:
        """Elements of a box, halo included."""
        return math.prod(self.shape[2:]) if len(self.shape) > 2 else math.prod(self.shape)

    def touch(self, boxes: Iterable[int], step: int) -> None:
        """Note that a step reads or writes these boxes; steps come in order."""
        for box in boxes:
            self.lives[box] = (self.lives[box][0] if box in self.lives else step, step)


@dataclass(frozen=True)
class Region:
    """A tensor inside a root: offset and strides in elements, one stride for each physical axis."""

    root: Root
    offset: int
    strides: Shape

    def boxes(self, shape: Shape) -> set[int]:
        """The boxes of the root in which a tensor of this physical shape lies."""
        if not shape:
            return {0}
        if 0 in shape:
            return set()
        span = sum((extent - 1) * stride for extent, stride in zip(shape[1:], self.strides[1:], strict=True))
        starts = (self.offset + image * self.strides[0] for image in range(shape[0]))
        return {b for s in starts for b in range(s // self.root.box, (s + span) // self.root.box + 1)}

    def compact_strides(self, shape: Shape) -> Shape | None:
        """The strides, or None if a tensor of this physical shape is contiguous here.

        Axes of extent 1 are never stepped along; giving them the stride of a contiguous tensor lets
        kernels be shared.
        """
        strides: list[int] = []
        step = 1
        for extent, stride in zip(reversed(shape), reversed(self.strides), strict=True):
            strides.append(step if extent == 1 else stride)
            step = strides[-1] * extent
        found = tuple(reversed(strides))
        return None if found == natural_strides(shape) else found


def natural_strides(shape: Shape) -> Shape:
    """Strides in elements of a contiguous array."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def own_root(kind: TensorType, space: Space, index: int = 0, halo: Halo = ()) -> Region:
    """A new root for a tensor, and the region of the tensor in its interior."""
    shape = list(kind.physical)
    for axis, (before, after) in enumerate(halo):
        shape[2 + axis] += before + after
    root = Root(space, tuple(shape), kind.dtype, index, halo)
    strides = natural_strides(root.shape)
    start = sum(before * strides[2 + axis] for axis, (before, _) in enumerate(halo))
    return Region(root, start, strides)


@dataclass
class Placement:
    """Assigns regions. `halos` are the borders that readers of a value need (see Lowering.halo)."""

    graph: Graph
    halos: Mapping[Value, Halo]
    regions: dict[Value, Region] = field(default_factory=dict)
    _wanted: dict[Value, Halo] = field(default_factory=dict)
    _overwritten: dict[Node, Value] = field(default_factory=dict)
    _works: dict[Node, Workload] = field(default_factory=dict)

    def run(self) -> dict[Value, Region]:
        """The region of every value that is not a constant."""
        for index, value in enumerate(self.graph.inputs):
            self.regions[value] = own_root(value.type, "input", index)
        for index, value in enumerate(self.graph.outputs):
            self.regions[value] = own_root(value.type, "output", index)
        self._collect_overwritten()
        self._collect_halos()
        for node in reversed(self.graph.nodes):
            if is_reinterpretation(self._work(node)):
                self._reinterpret(node)
            elif pieces := slices_of_whole(self._work(node)):
                self._place_slices(node, pieces)
            for value in node.outputs:
                if value not in self.regions:
                    self.regions[value] = self._own(value)
            if node in self._overwritten:
                self._place_overwritten(node, self._overwritten[node])
            if pieces := concatenated(self._work(node)):
                self._place_inputs(node, pieces)
        return self.regions

    def _collect_overwritten(self) -> None:
        """Where a result may take the place of an operand, because nothing reads that later.

        An operand that shares its place with others, as part or whole of them, is left alone.
        """
        order = {node: number for number, node in enumerate(self.graph.nodes)}
        for node in self.graph.nodes:
            for index in overwritable(self._work(node)):
                value = node.inputs[index]
                if value is None or value.producer is None or node.inputs.count(value) > 1:
                    continue
                users = self.graph.users(value)
                if self.graph.is_output(value) or max(map(order.__getitem__, users)) > order[node]:
                    continue
                if not any(is_view(self._work(other)) for other in (value.producer, *users)):
                    self._overwritten[node] = value
                    break

    def _collect_halos(self) -> None:
        """A buffer needs the borders that readers of all tensors in it want."""
        self._wanted = dict(self.halos)
        for node in reversed(self.graph.nodes):
            source = node.inputs[0] if node.inputs else None
            if (
                source is not None
                and slices_of_whole(self._work(node))
                and axis_of(self._work(node)) == 1
                and self._computed(source)
            ):
                for piece in node.outputs:
                    halo = self._wanted.get(source, ())
                    self._wanted[source] = widest(halo, self._wanted.get(piece, ()))
        for node, old in self._overwritten.items():
            halo = self._wanted.get(node.output, ())
            self._wanted[node.output] = widest(halo, self._wanted.get(old, ()))
        for node, old in reversed(self._overwritten.items()):
            self._wanted[old] = self._wanted[node.output]
        for node in self.graph.nodes:
            if concatenated(self._work(node)) and axis_of(self._work(node)) == 1:
                for value in node.inputs:
                    if value is not None and value in self._wanted:
                        halo = self._wanted.get(node.output, ())
                        self._wanted[node.output] = widest(halo, self._wanted[value])

    def _work(self, node: Node) -> Workload:
        if node not in self._works:
            self._works[node] = Workload.of(self.graph, node)
        return self._works[node]

    def _computed(self, value: Value) -> bool:
        """Whether a kernel writes a value, which can leave a border around it."""
        return value.producer is not None and not is_reinterpretation(self._work(value.producer))

    def _own(self, value: Value) -> Region:
        return own_root(value.type, "workspace", halo=self._wanted.get(value, ()))

    def _needs_halo(self, value: Value) -> bool:
        return not covers((), self._wanted.get(value, ()))

    def _free(self, value: Value) -> bool:
        return value not in self.regions and self.graph.constant(value) is None

    def _reinterpret(self, node: Node) -> None:
        """Share one region between a tensor and its reshape, whichever has a place already."""
        source, result = node.inputs[0], node.output
        assert source is not None
        if self._needs_halo(source) or self._needs_halo(result) or self.graph.constant(source) is not None:
            return
        if self._free(result) and self._free(source):
            self.regions[result] = self._own(result)
        known, other = (source, result) if self._free(result) else (result, source)
        if not self._free(other):
            return
        region = self.regions[known]
        if region.compact_strides(known.type.physical) is None:
            self.regions[other] = Region(region.root, region.offset, natural_strides(other.type.physical))

    def _place_overwritten(self, node: Node, value: Value) -> None:
        """Let an operand that is needed no more live where the result will."""
        region = self.regions[node.output]
        fits = covers(border(region, node.output.type), self._wanted.get(value, ()))
        if fits and region.root.space == "workspace" and self._free(value):
            self.regions[value] = region

    def _place_slices(self, node: Node, starts: tuple[int, ...]) -> None:
        """Let the outputs of a split be views of its input."""
        source = node.inputs[0]
        assert source is not None
        if self.graph.constant(source) is not None:
            return
        if self._free(source):
            self.regions[source] = self._own(source)
        whole = self.regions[source]
        for value, start in zip(node.outputs, starts, strict=True):
            fits = covers(
                whole.root.halo if axis_of(self._work(node)) == 1 else (), self._wanted.get(value, ())
            )
            if self._free(value) and fits:
                self.regions[value] = slice_region(whole, self._work(node), value.type, start)

    def _place_inputs(self, node: Node, starts: tuple[int, ...]) -> None:
        """Let the inputs of a concatenation live in their slices of its result."""
        whole = self._around_inputs(node, starts) or self.regions[node.output]
        self.regions[node.output] = whole
        for value, start in zip(node.inputs, starts, strict=True):
            assert value is not None
            fits = covers(
                whole.root.halo if axis_of(self._work(node)) == 1 else (), self._wanted.get(value, ())
            )
            if self._free(value) and fits:
                self.regions[value] = slice_region(whole, self._work(node), value.type, start)

    def _around_inputs(self, node: Node, starts: tuple[int, ...]) -> Region | None:
        """The region around inputs that already lie side by side in a larger concatenation (DenseNet)."""
        first = node.inputs[0]
        own = self.regions[node.output].root
        if (
            first is None
            or first not in self.regions
            or own.space != "workspace"
            or own.shape != self._own_shape(node)
        ):
            return None
        around = self.regions[first]
        if around.root.space != "workspace" or not covers(
            around.root.halo, self._wanted.get(node.output, ())
        ):
            return None
        for value, start in zip(node.inputs, starts, strict=True):
            assert value is not None
            if self.regions.get(value) != slice_region(around, self._work(node), value.type, start):
                return None
        # last, since this looks at all values
        shared = any(other is not node.output and r.root is own for other, r in self.regions.items())
        return None if shared else around

    def _own_shape(self, node: Node) -> Shape:
        return self._own(node.output).root.shape


def slice_region(whole: Region, w: Workload, part: TensorType, start: int) -> Region:
    """The part of `whole` that begins at index `start` of the axis along which `w` joins or cuts."""
    axis, block = axis_of(w), part.layout.block
    steps = start // block if axis == 1 else start
    return Region(whole.root, whole.offset + steps * whole.strides[axis], whole.strides)


def border(region: Region, kind: TensorType) -> Halo:
    """The zeros around a tensor: those of its buffer, unless it is a part of the maps there."""
    root = region.root
    around = tuple(e + sum(h) for e, h in zip(kind.physical[2:], root.halo, strict=False))
    return root.halo if root.shape[2 : 2 + len(root.halo)] == around else ()
