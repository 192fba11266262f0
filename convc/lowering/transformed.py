"""What convolutions in a transformed domain share on a GPU: the batched product and its operands.

A kernel is three nests of one function, each a launch: the input's transform, one matrix product for each
frequency (or part of one), and the inverse transform with bias, epilogue and store. See
`tiling.device_transformed` for why they are not one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

from convc.dtype import FLOAT32
from convc.lowering.epilogue import finish
from convc.tiling.device_gemm import GemmProblem
from convc.tiling.device_transformed import STORE, stored_column
from convc.tiling.fft import Pair, as_pair
from convc.types import Array
from convc.workload import MULTIPLY, OUTPUT, ConvShape, Workload

Expr = Any
Buffer = Any

SHARED = "shared.dyn"
"""The scope of buffers that the threads of a block share."""


@dataclass
class Transformed:
    """A kernel under construction: the layer, its product, and how maps are cut into tiles.

    Of `count` tiles on each axis each gives `out` outputs and starts `step` inputs after the one before, the
    first one where the padding does. One spatial axis counts as the second of two.
    """

    w: Workload
    s: ConvShape
    product: GemmProblem
    lanes: int
    out: Pair
    step: Pair
    count: Pair

    def parameters(self) -> None:
        """Declare the function's parameters."""
        w, p = self.w, self.product
        self.inputs: dict[int, Buffer] = {}
        for i, kind in enumerate(w.inputs):
            if kind is not None:
                shape: Sequence[int] = kind.physical
                if i == 1:
                    shape = (p.groups, p.padded_chunks, self.lanes, p.columns)
                elif i == 2 and w.arity > 2:
                    shape = (-(-self.s.oc // self.lanes), self.lanes)
                self.inputs[i] = B.arg(f"input{i}", B.Buffer(shape, FLOAT32))
        self.result = B.arg("out", B.Buffer(w.outputs[0].physical, FLOAT32))

    def between(self) -> tuple[Buffer, Buffer]:
        """V [group, chunk, tile, lane] and M [group, tile, column]."""
        p = self.product
        v = scratch("transformed", (p.groups, p.padded_chunks, p.rows, self.lanes))
        return v, scratch("products", (p.groups, p.m, p.columns))

    def multiply(self, v: Buffer, m: Buffer) -> None:
        """M[g, tile, o] = sum over chunks and lanes of V[g, chunk, tile, lane] * U[g, chunk, lane, o]."""
        p, u = self.product, self.inputs[1]
        sums = scratch("sums", (p.groups, p.rows, p.columns))
        extents = (p.groups, p.rows, p.columns, p.padded_chunks, self.lanes)
        with B.grid(*extents) as loops, B.sblock(MULTIPLY):
            g, t, o, c, i = B.axis.remap("SSSRR", list(loops))
            B.reads([v[g, c, t, i], u[g, c, i, o]])
            B.writes([sums[g, t, o]])
            with B.init():
                B.buffer_store(sums, tirx.const(0.0, FLOAT32), [g, t, o])
            B.buffer_store(sums, sums[g, t, o] + v[g, c, t, i] * u[g, c, i, o], [g, t, o])
        with B.grid(p.groups, p.m, p.columns) as loops, B.sblock(STORE):
            g, t, o = B.axis.remap("SSS", list(loops))
            B.reads([sums[g, t, o]])
            B.writes([m[g, t, stored_column(o)]])
            B.buffer_store(m, sums[g, t, o], [g, t, stored_column(o)])

    def place(self, tile: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, tile row and tile column of a tile's number."""
        down, across = self.count
        return tile // (down * across), tile // across % down, tile % across

    def index(self, n: Expr, block: Expr, i: Expr, j: Expr) -> list[Expr]:
        """The place of a pixel in a blocked tensor; with one spatial axis there is but one row."""
        return [n, block, j] if len(self.s.output) == 1 else [n, block, i, j]

    def corner(self, tile: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, and row and column of the first input of a tile, which may lie ahead of the map."""
        n, down, across = self.place(tile)
        (up, _), (left, _) = ((0, 0), *self.s.pads)[-2:]
        return n, down * self.step[0] - up, across * self.step[1] - left

    def inside(self, first: Expr, offset: int, axis: int) -> list[Expr]:
        """What must hold for input `first + offset` of a tile to lie on the map along an axis."""
        size = as_pair(self.s.input)[axis]
        before = as_pair(tuple(pad for pad, _ in self.s.pads), 0)[axis]
        furthest = (self.count[axis] - 1) * self.step[axis] - before + offset
        conditions = []
        if offset < before:
            conditions.append(first + offset >= 0)
        if furthest >= size:
            conditions.append(first + offset < size)
        return conditions

    def row_inside(self, row: Expr) -> list[Expr]:
        """What must hold for a row of inputs, which depends on the thread, to lie on the map."""
        if len(self.s.input) == 1:
            return []
        return [row >= 0, row < self.s.input[0]]

    def bias(self, block: Expr, lane: Expr, lanes: int) -> Expr | None:
        """The bias of some channels; None without one."""
        if self.w.arity < 3 or self.w.inputs[2] is None:
            return None
        return vector(self.inputs[2], [block, lane], lanes)

    def output(self, pixels: Buffer, where: Sequence[Expr], extents: Sequence[int], at: Any) -> None:
        """out = epilogue(pixels), where a tile's pixel is one of the map's.

        pixels: [*where, row, column, lane], `extents` being those of the last three; at(*where, row, column,
        lane) is the image, channel block, row, column and lane of the result, and what else must hold for it.
        """
        height, width = as_pair(self.s.output)
        operands = {i: (lambda *p, b=b: b[p]) for i, b in self.inputs.items() if i >= self.w.arity}
        with B.grid(*extents) as loops, B.sblock(OUTPUT):
            variables = B.axis.remap("S" * (len(where) + 3), [*where, *loops])
            n, block, i, j, lane, *inside = at(*variables)
            index = [*self.index(n, block, i, j), lane]
            if self.count[0] * self.out[0] > height:
                inside.append(i < height)
            if self.count[1] * self.out[1] > width:
                inside.append(j < width)
            value = finish(pixels[tuple(variables)], self.w, operands, index)
            if not inside:
                B.buffer_store(self.result, value, index)
                return
            # a condition in the body, because a block's own predicate must be affine
            with B.If(tirx.all(*inside)), B.Then():
                B.buffer_store(self.result, value, index)


def scratch(name: str, shape: Sequence[int], scope: str = "global") -> Buffer:
    """A buffer between stages."""
    buffer = B.sblock_alloc_buffer(list(shape), FLOAT32, scope=scope)
    IRBuilder.name(name, buffer)
    return buffer


def vector(buffer: Buffer, index: Sequence[Expr], lanes: int) -> Expr:
    """So many values from `index` on, along the last axis."""
    return buffer.vload(list(index), FLOAT32 if lanes == 1 else f"float32x{lanes}")


def store(buffer: Buffer, value: Expr, index: Sequence[Expr], lanes: int) -> None:
    """Store a value or a vector of them at `index`."""
    *where, last = index
    B.buffer_store(buffer, value, [*where, last if lanes == 1 else tirx.Ramp(last, 1, lanes)])


def constant(value: float, lanes: int) -> Expr:
    """A number, in all lanes of a vector."""
    number = tirx.const(value, FLOAT32)
    return number if lanes == 1 else tirx.Broadcast(number, lanes)


def pack_product(spectrum: Array, p: GemmProblem, lanes: int) -> Array:
    """Weights (group, K, C) as the product reads them: (group, chunk, lane, column), zero beyond K and C."""
    packed = np.zeros((p.groups, p.padded_chunks * lanes, p.columns), FLOAT32)
    packed[:, : spectrum.shape[2], : spectrum.shape[1]] = spectrum.swapaxes(1, 2)
    return packed.reshape(p.groups, p.padded_chunks, lanes, p.columns)
