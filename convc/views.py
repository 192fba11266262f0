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

from convc.ir import Graph, Node, Value, opdef
from convc.ops.shape import ConcatAttrs, SliceAttrs, SplitAttrs
from convc.program import Space
from convc.types import PLAIN, Shape, TensorType
from convc.workload import Halo, Workload


@dataclass(eq=False)
class Root:
    """A buffer. `shape` is physical and includes the halo.

    It consists of `boxes`: the maps of one channel block (or channel) in one image, one after the other. A
    slice along channels is a run of boxes. `lives` holds the first and the last step of the program that
    touches a box, for each box that any step touches.
    """

    space: Space
    shape: Shape
    dtype: str
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


def covers(have: Halo, need: Halo) -> bool:
    """Whether a border `have` is at least as wide as `need` everywhere."""
    return all(
        have[axis][side] >= rows if axis < len(have) else rows == 0
        for axis, pair in enumerate(need)
        for side, rows in enumerate(pair)
    )


def widest(a: Halo, b: Halo) -> Halo:
    """The smallest halo that covers both."""
    if not a or not b:
        return a or b
    return tuple((max(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b, strict=True))


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

    def run(self) -> dict[Value, Region]:
        """The region of every value that is not a constant."""
        for index, value in enumerate(self.graph.inputs):
            self.regions[value] = own_root(value.type, "input", index)
        for index, value in enumerate(self.graph.outputs):
            self.regions[value] = own_root(value.type, "output", index)
        self._collect_overwritten()
        self._collect_halos()
        for node in reversed(self.graph.nodes):
            if is_reinterpretation(node):
                self._reinterpret(node)
            elif pieces := slices_of_whole(node):
                self._place_slices(node, pieces)
            for value in node.outputs:
                if value not in self.regions:
                    self.regions[value] = self._own(value)
            if node in self._overwritten:
                self._place_overwritten(node, self._overwritten[node])
            if pieces := concatenated(node):
                self._place_inputs(node, pieces)
        return self.regions

    def _collect_overwritten(self) -> None:
        """Where a result may take the place of an operand, because nothing reads that later.

        An operand that shares its place with others, as part or whole of them, is left alone.
        """
        order = {node: number for number, node in enumerate(self.graph.nodes)}
        for node in self.graph.nodes:
            for index in overwritable(Workload.of(self.graph, node)):
                value = node.inputs[index]
                if value is None or value.producer is None or node.inputs.count(value) > 1:
                    continue
                users = self.graph.users(value)
                if self.graph.is_output(value) or max(map(order.__getitem__, users)) > order[node]:
                    continue
                if not is_view(value.producer) and not any(map(is_view, users)):
                    self._overwritten[node] = value
                    break

    def _collect_halos(self) -> None:
        """A buffer needs the borders that readers of all tensors in it want."""
        self._wanted = dict(self.halos)
        for node in reversed(self.graph.nodes):
            source = node.inputs[0] if node.inputs else None
            if source is not None and slices_of_whole(node) and _axis(node) == 1 and _computed(source):
                for piece in node.outputs:
                    halo = self._wanted.get(source, ())
                    self._wanted[source] = widest(halo, self._wanted.get(piece, ()))
        for node, old in self._overwritten.items():
            halo = self._wanted.get(node.output, ())
            self._wanted[node.output] = widest(halo, self._wanted.get(old, ()))
        for node, old in reversed(self._overwritten.items()):
            self._wanted[old] = self._wanted[node.output]
        for node in self.graph.nodes:
            if concatenated(node) and _axis(node) == 1:
                for value in node.inputs:
                    if value is not None and value in self._wanted:
                        halo = self._wanted.get(node.output, ())
                        self._wanted[node.output] = widest(halo, self._wanted[value])

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
            fits = covers(whole.root.halo if _axis(node) == 1 else (), self._wanted.get(value, ()))
            if self._free(value) and fits:
                self.regions[value] = slice_region(whole, node, value, start)

    def _place_inputs(self, node: Node, starts: tuple[int, ...]) -> None:
        """Let the inputs of a concatenation live in their slices of its result."""
        whole = self._around_inputs(node, starts) or self.regions[node.output]
        self.regions[node.output] = whole
        for value, start in zip(node.inputs, starts, strict=True):
            assert value is not None
            fits = covers(whole.root.halo if _axis(node) == 1 else (), self._wanted.get(value, ()))
            if self._free(value) and fits:
                self.regions[value] = slice_region(whole, node, value, start)

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
        if any(other is not node.output and r.root is own for other, r in self.regions.items()):
            return None
        around = self.regions[first]
        if around.root.space != "workspace" or not covers(
            around.root.halo, self._wanted.get(node.output, ())
        ):
            return None
        for value, start in zip(node.inputs, starts, strict=True):
            assert value is not None
            if self.regions.get(value) != slice_region(around, node, value, start):
                return None
        return around

    def _own_shape(self, node: Node) -> Shape:
        return self._own(node.output).root.shape


def _computed(value: Value) -> bool:
    """Whether a kernel writes the tensor, so that its buffer is free to have a border."""
    return value.producer is not None and not is_reinterpretation(value.producer)


def _axis(node: Node) -> int:
    """The single axis along which a concatenation, split or slice works."""
    attrs = node.attrs
    if isinstance(attrs, SliceAttrs):
        source = node.inputs[0]
        assert source is not None
        cut = [
            a
            for a, (x, y) in enumerate(zip(source.type.shape, node.output.type.shape, strict=True))
            if x != y
        ]
        return cut[0] if cut else 0
    assert isinstance(attrs, ConcatAttrs | SplitAttrs)
    return attrs.axis % node.output.type.rank


def slice_region(whole: Region, node: Node, value: Value, start: int) -> Region:
    """The part of `whole` that `value` is, beginning at index `start` of the node's axis."""
    axis, block = _axis(node), value.type.layout.block
    steps = start // block if axis == 1 else start
    return Region(whole.root, whole.offset + steps * whole.strides[axis], whole.strides)


def border(region: Region, kind: TensorType) -> Halo:
    """The zeros around a tensor: those of its buffer, unless it is a part of the maps there."""
    root = region.root
    around = tuple(e + sum(h) for e, h in zip(kind.physical[2:], root.halo, strict=False))
    return root.halo if root.shape[2 : 2 + len(root.halo)] == around else ()


def overwritable(w: Workload) -> tuple[int, ...]:
    """Inputs in whose place the result may be written: read at the element that is stored next, only there.

    That holds for operands of epilogues, which are read in the block that stores the result, once for each
    element, and for those of elementwise operators.
    """
    first = 0 if opdef(w.op).elementwise else w.arity
    alike = range(first, len(w.inputs)) if len(w.outputs) == 1 else ()
    return tuple(i for i in alike if w.inputs[i] == w.outputs[0] and not w.constant[i])


def is_view(node: Node) -> bool:
    """Whether a node's tensors may share memory without a kernel's doing."""
    return is_reinterpretation(node) or bool(concatenated(node)) or bool(slices_of_whole(node))


def is_reinterpretation(node: Node) -> bool:
    """Whether a node's result is its input, element for element in memory."""
    source = node.inputs[0] if node.inputs else None
    if source is None or node.epilogue or node.op not in ("reshape", "relayout"):
        return False
    return _row_major(source.type) and _row_major(node.output.type)


def _row_major(kind: TensorType) -> bool:
    """Whether memory order is logical order: plain, or full channel blocks of single pixels."""
    if kind.layout == PLAIN:
        return True
    return math.prod(kind.shape[2:]) == 1 and kind.shape[1] % kind.layout.block == 0


def concatenated(node: Node) -> tuple[int, ...]:
    """Where each input begins along the axis, if the result can be made of slices in place; else ()."""
    if node.op != "concat" or node.epilogue:
        return ()
    values = [value for value in node.inputs if value is not None]
    return _starts(node, values, node.output)


def slices_of_whole(node: Node) -> tuple[int, ...]:
    """Where each output begins along the axis, if the outputs can be views of the input; else ()."""
    source = node.inputs[0] if node.inputs else None
    if source is None or node.epilogue:
        return ()
    if isinstance(node.attrs, SplitAttrs):
        return _starts(node, list(node.outputs), source)
    if isinstance(node.attrs, SliceAttrs):
        cut = [
            a
            for a, (x, y) in enumerate(zip(source.type.shape, node.output.type.shape, strict=True))
            if x != y
        ]
        if len(cut) != 1 or any(step != 1 for step in node.attrs.steps):
            return ()
        start = node.attrs.starts[cut[0]]
        aligned = cut[0] != 1 or start % source.type.layout.block == 0
        return (start,) if aligned and node.output.type.layout == source.type.layout else ()
    return ()


def _starts(node: Node, parts: list[Value], whole: Value) -> tuple[int, ...]:
    axis, block = _axis(node), whole.type.layout.block
    starts, position = [], 0
    for part in parts:
        if part.type.layout != whole.type.layout or part.type.dtype != whole.type.dtype:
            return ()
        if axis == 1 and position % block:
            return ()
        starts.append(position)
        position += part.type.shape[axis]
    return tuple(starts)
