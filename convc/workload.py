"""A node without its names: what lowerings, schedules, the kernel cache and tuning records speak about.

Two nodes with equal workloads run the same kernel. `lowering` and `schedules` never import each other;
they meet through this description and the block names below.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from convc.dtype import FLOAT32, DType
from convc.ir import Attrs, Graph, Node, Step
from convc.ops.conv import ConvAttrs
from convc.ops.conv_pool import ConvMaxPoolAttrs
from convc.types import PLAIN, Layout, TensorType

# Names of the blocks that lowerings create and schedules look up.
PAD = "pad"  # copy of the input inside a zero border, where the kernel makes it itself
PATCHES = "patches"  # im2col's matrix
WEIGHTS = "weights"  # constants stored in fewer bits, as float32
PRODUCT = "product"  # the accumulation over input channels and taps: direct, im2col, gemm
RESAMPLED = "resampled"  # a map after some of its axes were resampled; the number of an axis follows
TASK = "task"  # separable: all that one thread does before it takes something else
OUTPUT = "output"  # the last stage: bias, epilogue, store in the output's layout
INPUT_TRANSFORM = "input_transform"  # winograd and fft: tiles to frequencies; "<name>_<axis>" on one axis
MULTIPLY = "multiply"  # winograd and fft: the batched product in the transformed domain
INVERSE_TRANSFORM = "inverse_transform"  # winograd and fft: back; "<name>_<axis>" for a single axis

Halo = tuple[tuple[int, int], ...]
"""Rows of zeros that a kernel expects around its input: (before, after) for each spatial axis."""


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


@dataclass(frozen=True)
class Workload:
    """Operator, attributes, operand types (with layouts) and epilogue of one node.

    `inputs` are the operator's own `arity` inputs, then the epilogue's operands; `constant` says which of
    them are known at compile time.
    """

    op: str
    attrs: Attrs
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    constant: tuple[bool, ...]
    arity: int
    epilogue: tuple[Step, ...] = ()

    @classmethod
    def of(cls, graph: Graph, node: Node) -> Workload:
        """The workload of a node as it stands in the graph."""
        return cls(
            node.op,
            node.attrs,
            tuple(None if v is None else v.type for v in node.inputs),
            tuple(v.type for v in node.outputs),
            tuple(graph.constant(v) is not None for v in node.inputs),
            node.arity,
            node.epilogue,
        )

    def stored_as(self, inputs: Sequence[Layout | None], outputs: Sequence[Layout]) -> Workload:
        """The same work on tensors stored in other layouts."""
        return replace(
            self,
            inputs=tuple(
                t if t is None or layout is None else t.with_layout(layout)
                for t, layout in zip(self.inputs, inputs, strict=True)
            ),
            outputs=tuple(t.with_layout(layout) for t, layout in zip(self.outputs, outputs, strict=True)),
        )

    @property
    def unplaced(self) -> Workload:
        """The work itself, however its operands are stored."""
        return self.stored_as([PLAIN] * len(self.inputs), [PLAIN] * len(self.outputs))

    @property
    def key(self) -> str:
        """A short name of the work itself: equal for equal work, however its operands are stored."""
        return hashlib.sha256(repr(self.unplaced).encode()).hexdigest()[:24]

    @property
    def layouts(self) -> str:
        """How the operands are stored, as records have it: "16,1>16" (see `Variant`)."""

        def blocks(kinds: Sequence[TensorType | None]) -> str:
            return ",".join("-" if t is None else str(t.layout.block) for t in kinds)

        return f"{blocks(self.inputs)}>{blocks(self.outputs)}"

    def __str__(self) -> str:
        inputs = ", ".join("_" if t is None else str(t) for t in self.inputs)
        steps = "".join(f" | {s.op}" for s in self.epilogue)
        return f"{self.op}({inputs}) {self.attrs}{steps} -> {', '.join(map(str, self.outputs))}"


@dataclass(frozen=True)
class ConvShape:
    """A convolution's workload in the field's letters. All tuples have one entry for each spatial axis.

    With pooling, `output` is what windows cover of the convolution's own result, and `stored` what is left.
    """

    n: int
    ic: int
    oc: int
    input: tuple[int, ...]
    output: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    groups: int
    pool: tuple[int, ...] = ()
    """Windows whose maximum is stored; () for none."""
    dtype: DType = FLOAT32
    """Of maps and weights."""

    @classmethod
    def of(cls, w: Workload) -> ConvShape:
        """Read a `conv` or `conv_max_pool` workload."""
        assert isinstance(w.attrs, ConvAttrs)
        x, weights, y = w.inputs[0], w.inputs[1], w.outputs[0]
        assert x is not None
        assert weights is not None
        a = w.attrs
        pool = a.pool if isinstance(a, ConvMaxPoolAttrs) else ()
        output = tuple(o * p for o, p in zip(y.shape[2:], pool, strict=True)) if pool else y.shape[2:]
        return cls(
            x.shape[0], x.shape[1], y.shape[1], x.shape[2:], output, weights.shape[2:],
            a.strides, a.dilations, a.pads, a.groups, pool, x.dtype,
        )  # fmt: skip

    @property
    def window(self) -> tuple[int, ...]:
        """Outputs on each axis that become one when stored."""
        return self.pool or (1,) * len(self.output)

    @property
    def stored(self) -> tuple[int, ...]:
        """Extents of the result in memory."""
        return tuple(o // p for o, p in zip(self.output, self.window, strict=True))

    @cached_property
    def flops(self) -> int:
        """FLOP of the direct algorithm, a multiply-add counting as 2."""
        return (
            2 * self.n * self.oc * math.prod(self.output) * (self.ic // self.groups) * math.prod(self.kernel)
        )

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.nbytes

    @cached_property
    def input_bytes(self) -> int:
        """Of the plain input."""
        return self.itemsize * self.n * self.ic * math.prod(self.input)

    @cached_property
    def weight_bytes(self) -> int:
        """Of the plain weights."""
        return self.itemsize * self.oc * (self.ic // self.groups) * math.prod(self.kernel)

    @cached_property
    def stored_bytes(self) -> int:
        """Of the plain result in memory."""
        return self.itemsize * self.n * self.oc * math.prod(self.stored)

    @property
    def depthwise(self) -> bool:
        """Whether every input channel makes exactly one output channel."""
        return self.groups == self.ic == self.oc

    @property
    def pointwise(self) -> bool:
        """Whether the kernel is a single tap without padding."""
        return math.prod(self.kernel) == 1 and not any(map(sum, self.pads))

    @property
    def unit_stride(self) -> bool:
        """Whether strides and dilations are all 1."""
        return set(self.strides) | set(self.dilations) == {1}

    def blocks(self, channels: int, layout: Layout) -> int:
        """How many channel blocks `channels` fill."""
        return -(-channels // layout.block)
