"""The kernels of separable convolutions as TIR: the tensor between the convolutions is a task's scratch.

    pointwise_depthwise                                 depthwise_pointwise

    for n, run of rows, kbs             task            for n, run of rows
      zero the border of hidden                           for kb, patch
      for patch                                             sums += x * w            taps
        sums[kbs] += x * w              channels            hidden[kb, patch] = between(sums + bias)
        hidden[kbs, patch] = between(sums + bias)         for kbs, patch
      for kb, patch                                         sums[kbs] += hidden * w  channels
        sums += hidden * w              taps                y[kbs, patch] = epilogue(sums + bias)
        y[kb, patch] = epilogue(sums + bias)

On the left, a task of more than one row may go row by row (`Tiling.stream`): the rows of `hidden` that an
output row needs first, then that row. A patch is a register tile of pixels (`tiling.separable.cover`); kbs
are neighbouring channel blocks whose sums share the inputs that are broadcast. While panels of the 1x1
convolution's weights are used, the next ones are fetched into L1: they are used by few tiles each and come
from L3, where hardware prefetching starts anew with every panel (960 channels of 7 x 7 pixels, 2 threads:
0.051 ms without, 0.039 with).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

from convc.dtype import FLOAT32
from convc.ir import opdef
from convc.lowering.direct import locate
from convc.lowering.elementwise import elementwise
from convc.lowering.epilogue import finish
from convc.lowering.vectors import Vectors
from convc.ops.separable import SeparableAttrs
from convc.target import Target
from convc.tiling.registers import Channels
from convc.tiling.separable import Patch, SeparableShape, Tiling, Walk, cover
from convc.types import Shape
from convc.workload import TASK, Workload

Expr = Any
Buffer = Any
At = tuple[Expr, Expr]
Place = Callable[[Expr, Expr], At]
"""Row and column on a map of a patch's pixel."""

DEPTHWISE, POINTWISE, DEPTHWISE_BIAS, POINTWISE_BIAS = 1, 2, 3, 4
TO_L1 = 3  # llvm.prefetch's locality


@dataclass
class _Kernel(Vectors):
    """What is built, and its parameters by input index."""

    w: Workload
    shape: SeparableShape
    tiling: Tiling
    target: Target
    params: dict[int, Buffer]
    out: Buffer

    @property
    def lanes(self) -> int:
        return self.target.lanes

    def blocks(self, channels: int) -> int:
        return -(-channels // self.lanes)

    def scratch(self, name: str, *shape: int) -> Buffer:
        buffer = B.sblock_alloc_buffer([*shape, self.lanes], FLOAT32)
        IRBuilder.name(name, buffer)
        return buffer

    def clear(self, buffer: Buffer, *index: Expr) -> None:
        self.store(buffer, tirx.Broadcast(tirx.const(0.0, FLOAT32), self.lanes), *index)

    def cleared_sums(self, patch: Patch) -> Buffer:
        """A vector for each pixel of a patch; these become registers, since every index is a constant."""
        sums = self.scratch("sums", len(patch.pixels))
        _unrolled(patch, lambda t, i, j: self.clear(sums, t))
        return sums

    def biased(self, bias: int, value: Expr, kb: Expr, lane: Expr) -> Expr:
        there = bias < self.w.arity and bias in self.params
        return value + self.params[bias][kb, lane] if there else value


def build(
    w: Workload, shape: SeparableShape, tiling: Tiling, target: Target, params: dict[int, Shape]
) -> Any:
    """The unscheduled PrimFunc. `params` are the shapes, as stored, of the inputs that are there."""
    with IRBuilder() as ib, B.prim_func(s_tir=True):
        B.func_name("main")
        buffers = {i: B.arg(f"input{i}", B.Buffer(s, FLOAT32)) for i, s in params.items()}
        out = B.arg("out", B.Buffer(w.outputs[0].physical, FLOAT32))
        k = _Kernel(w, shape, tiling, target, buffers, out)
        (_depthwise_pointwise if shape.depthwise_first else _pointwise_depthwise)(k)
    return ib.get().with_attr("global_symbol", "main")


@contextmanager
def _task(k: _Kernel, *blocks: int) -> Iterator[tuple[Expr, ...]]:
    """The loops over tasks: images, runs of output rows and, where given, channel blocks.

    Gives the image, the run's first row and the block. The last run ends with the map, and may overlap.
    """
    height, rows = k.shape.depthwise.output[0], k.tiling.rows
    with B.grid(k.shape.depthwise.n, -(-height // rows), *blocks) as loops, B.sblock(TASK):
        n, run, *rest = B.axis.remap("S" * len(loops), list(loops))
        first = run * rows if height % rows == 0 else tirx.min(run * rows, height - rows)
        B.reads([b[tuple(slice(0, e) for e in b.shape)] for b in k.params.values()])
        wide = [slice(b * k.tiling.blocks, (b + 1) * k.tiling.blocks) for b in rest]
        written = (n, *(wide or [slice(0, k.out.shape[1])]), slice(first, first + rows))
        B.writes([k.out[written]])
        yield n, first, *rest


@contextmanager
def _places(patch: Patch) -> Iterator[Place]:
    """The loops over a patch's places; gives the position of its pixels."""
    with _walk(patch.down) as down, _walk(patch.across) as right:
        yield lambda i, j: (i + down, j + right)


def _unrolled(patch: Patch, body: Callable[[Expr, Expr, Expr], None]) -> None:
    """Code for each pixel of a patch, of which `body` gets the number and the place in the patch.

    A rectangle is left as loops to unroll, which TVM's passes handle faster than what they unroll to.
    """
    if patch.rectangle is None:
        for t, (i, j) in enumerate(patch.pixels):
            body(t, i, j)
        return
    height, width = patch.rectangle
    with B.unroll(height) as i, B.unroll(width) as j:
        body(i * width + j, i, j)


@contextmanager
def _walk(walk: Walk) -> Iterator[Expr]:
    if walk.count == 1:
        yield 0
        return
    with B.serial(walk.count) as t:
        start = t * walk.step
        yield start if (walk.count - 1) * walk.step == walk.last else tirx.min(start, walk.last)


def _moved(place: Place, down: Expr, right: Expr = 0) -> Place:
    def moved(i: Expr, j: Expr) -> At:
        row, column = place(i, j)
        return row + down, column + right

    return moved


def _depthwise_pointwise(k: _Kernel) -> None:
    d, rows, cols = k.shape.depthwise, k.tiling.rows, k.shape.cols
    wide, last = k.blocks(d.oc), k.blocks(k.shape.pointwise.oc)
    with _task(k) as (n, first):
        hidden = k.scratch("hidden", wide, rows, cols)
        with B.serial(wide) as kb:
            for patch in cover(rows, cols, k.tiling.taps):
                with _places(patch) as place:
                    at = _moved(place, first)
                    sums = _taps(k, patch, kb, at, lambda i, j: k.load(k.params[0], n, kb, i, j))
                    _between(k, patch, sums, DEPTHWISE_BIAS, kb, hidden, kb, place)
        with B.serial(last // k.tiling.blocks) as kbs:
            for patch in cover(rows, cols, k.tiling.pixels):
                with _places(patch) as place:
                    parts = _channels(k, patch, kbs, place, lambda *at: hidden[at])
                    for b, sums in enumerate(parts):
                        kb = kbs * k.tiling.blocks + b
                        _output(k, patch, sums, POINTWISE_BIAS, n, kb, _moved(place, first))


def _pointwise_depthwise(k: _Kernel) -> None:
    d, rows, blocks = k.shape.depthwise, k.tiling.rows, k.tiling.blocks
    with _task(k, k.blocks(d.oc) // blocks) as (n, first, kbs):
        hidden = k.scratch("hidden", blocks, k.shape.rows(rows), k.shape.cols)
        expand = _Expand(k, hidden, n, kbs, first * d.strides[0] - d.pads[0][0])

        def contract(start: Expr, count: int) -> None:
            with _walk(Walk(blocks, 1, blocks - 1)) as b:
                kb = kbs * blocks + b
                for patch in cover(count, d.output[1], k.tiling.taps):
                    with _places(patch) as place:
                        at = _moved(place, start)
                        sums = _taps(k, patch, kb, at, lambda i, j: k.load(hidden, b, i, j))
                        _output(k, patch, sums, DEPTHWISE_BIAS, n, kb, _moved(place, first + start))

        if not k.tiling.stream:
            expand.rows()
            contract(0, rows)
            return
        span, stride = k.shape.rows(1), d.strides[0]
        fresh = min(span, stride)  # rows that an output row needs and the one before it did not
        if span > fresh:
            with B.serial(span - fresh) as i:
                expand.row(i)
        with B.serial(rows) as r:
            with B.serial(fresh) as i:
                expand.row(r * stride + span - fresh + i)
            contract(r, 1)


@dataclass
class _Expand:
    """The 1x1 convolution of the rows that a task needs, and zeros around.

    Row i of `hidden` belongs to row i + `top` of the input.
    """

    k: _Kernel
    hidden: Buffer
    n: Expr
    kbs: Expr
    top: Expr

    @property
    def columns(self) -> tuple[int, int]:
        """The first column that is no border, and their number."""
        left = self.k.shape.depthwise.pads[1][0]
        return left, min(self.k.shape.pointwise.output[1], self.k.shape.cols - left)

    def row(self, i: Expr) -> None:
        """One row, which may lie in the border."""
        at = i + self.top
        with B.If(tirx.all(at >= 0, at < self.k.shape.pointwise.output[0])):
            with B.Then():
                self._clear_ends(i)
                self._product(i, 1)
            with B.Else():
                self._clear_row(i)

    def rows(self) -> None:
        """All rows, the task being the whole map."""
        rows, before = self.k.shape.rows(self.k.tiling.rows), self.k.shape.depthwise.pads[0][0]
        inside = min(self.k.shape.pointwise.output[0], rows - before)
        with B.serial(rows) as i, B.If(tirx.all(i >= before, i < before + inside)):
            with B.Then():
                self._clear_ends(i)
            with B.Else():
                self._clear_row(i)
        self._product(before, inside)

    def _clear_ends(self, i: Expr) -> None:
        left, width = self.columns
        for b in range(self.k.tiling.blocks):
            for j in (*range(left), *range(left + width, self.k.shape.cols)):
                self.k.clear(self.hidden, b, i, j)

    def _clear_row(self, i: Expr) -> None:
        with B.grid(self.k.tiling.blocks, self.k.shape.cols) as (b, j):
            self.k.clear(self.hidden, b, i, j)

    def _product(self, start: Expr, count: int) -> None:
        left, width = self.columns
        k, x = self.k, self.k.params[0]

        def read(*at: Expr) -> Expr:
            index = (self.n, *at)
            return x[index]

        for patch in cover(count, width, k.tiling.pixels):
            with _places(patch) as place:
                at = _moved(place, start + self.top)
                parts = _channels(k, patch, self.kbs, at, read)
                to = _moved(place, start, left)
                for b, sums in enumerate(parts):
                    kb = self.kbs * k.tiling.blocks + b
                    _between(k, patch, sums, POINTWISE_BIAS, kb, self.hidden, b, to)


def _channels(k: _Kernel, patch: Patch, kbs: Expr, place: Place, read: Callable[..., Expr]) -> list[Buffer]:
    """Sums of a patch over the 1x1 convolution's channels, for each of the neighbouring output blocks.

    `read` takes block, row, column and lane of the input.
    """
    blocks = k.tiling.blocks
    sums = [k.cleared_sums(patch) for _ in range(blocks)]
    weights = k.params[POINTWISE]
    c = Channels.of(k.shape.pointwise, k.lanes)
    with B.grid(c.steps, c.inner) as (step, inner):
        block, lane = locate(c, kbs, step, inner)
        vectors = []
        for b in range(blocks):
            vectors.append(B.bind(k.load(weights, kbs * blocks + b, step, 0, 0, inner)))
            ahead = tirx.BufferLoad(weights, [(kbs + 1) * blocks + b, step, 0, 0, inner, 0])
            fetch = tirx.call_llvm_intrin("void", "llvm.prefetch", tirx.address_of(ahead), 0, TO_L1, 1)
            B.evaluate(fetch)

        def add(t: Expr, i: Expr, j: Expr) -> None:
            value = tirx.Broadcast(read(block, *place(i, j), lane), k.lanes)
            for part, vector in zip(sums, vectors, strict=True):  # blocks inside pixels, or LLVM spills
                k.store(part, k.load(part, t) + value * vector, t)

        _unrolled(patch, add)
    return sums


def _taps(k: _Kernel, patch: Patch, kb: Expr, place: Place, read: Callable[[Expr, Expr], Expr]) -> Buffer:
    """Sums of a patch over the depthwise convolution's taps; `read` takes row and column of its input."""
    d = k.shape.depthwise
    sums = k.cleared_sums(patch)
    with B.serial(d.kernel[0]) as kh:
        for kw in range(d.kernel[1]):
            vector = B.bind(k.load(k.params[DEPTHWISE], kb, kh, kw))

            def add(t: Expr, i: Expr, j: Expr, kw: int = kw, vector: Expr = vector) -> None:
                row, column = place(i, j)
                value = read(
                    row * d.strides[0] + kh * d.dilations[0], column * d.strides[1] + kw * d.dilations[1]
                )
                k.store(sums, k.load(sums, t) + value * vector, t)

            _unrolled(patch, add)
    return sums


def _between(
    k: _Kernel, patch: Patch, sums: Buffer, bias: int, kb: Expr, hidden: Buffer, block: Expr, place: Place
) -> None:
    """hidden[block, place] = between(sums + bias[kb])."""
    attrs = k.w.attrs
    assert isinstance(attrs, SeparableAttrs)

    def store(t: Expr, i: Expr, j: Expr) -> None:
        with B.vectorized(k.lanes) as lane:
            value = k.biased(bias, sums[t, lane], kb, lane)
            for name, arguments in attrs.between:
                value = elementwise(name, opdef(name).attrs(*arguments), value)
            B.buffer_store(hidden, value, [block, *place(i, j), lane])

    _unrolled(patch, store)


def _output(k: _Kernel, patch: Patch, sums: Buffer, bias: int, n: Expr, kb: Expr, place: Place) -> None:
    """out[n, kb, place] = epilogue(sums + bias)."""
    operands = {i: lambda *at, b=b: b[at] for i, b in k.params.items() if i >= k.w.arity}

    def store(t: Expr, i: Expr, j: Expr) -> None:
        with B.vectorized(k.lanes) as lane:
            index = [n, kb, *place(i, j), lane]
            value = k.biased(bias, sums[t, lane], kb, lane)
            B.buffer_store(k.out, finish(value, k.w, operands, index), index)

    _unrolled(patch, store)
