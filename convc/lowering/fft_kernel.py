"""The FFT convolution kernel as TIR: straight-line transforms around a batched product.

    for g                                          groups of tiles
      for cb, t                                    channel blocks, tiles of the group
        input_transform_rows     r[j, i]           real transform of each row i
        input_transform_ends,
        input_transform_columns  v[f]              transform of each column j
      multiply                   m[f] += v[f] u[f]     over input channels
      for kb, t
        inverse_transform_ends,
        inverse_transform_columns  q[i, j]         back along columns: only the rows that are kept
        inverse_transform_rows     y[i]            back along rows, cropped
        output                                     bias, epilogue, store of the pixels that exist

A depthwise convolution transforms each column forward and back at once, and the product is made as the
backward transform reads it. Columns 0 and tile / 2 of a real tile's spectrum are real: these "ends" take a
real transform along the height. Transforms run on vectors of `lanes` channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

from convc.dtype import FLOAT32
from convc.lowering.epilogue import finish
from convc.lowering.vectors import Vectors
from convc.tiling import dft
from convc.tiling.fft import Tiling, as_pair
from convc.types import TensorType
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, MULTIPLY, OUTPUT, ConvShape, Workload

Expr = Any
Buffer = Any


@dataclass
class _Scratch:
    """Buffers between the stages. Lowering shrinks each to the part that is alive at one time."""

    rows: Buffer
    kept: Buffer
    pixels: Buffer


@dataclass
class _Kernel(Vectors):
    """What is built, and its parameters."""

    w: Workload
    shape: ConvShape
    tiling: Tiling
    lanes: int
    params: dict[int, Buffer]
    out: Buffer

    @property
    def in_blocks(self) -> int:
        return -(-self.shape.ic // self.lanes)

    @property
    def out_blocks(self) -> int:
        return -(-self.shape.oc // self.lanes)

    @property
    def channels(self) -> tuple[int, int]:
        """Extents of the two loops over input channels."""
        return self.in_blocks, min(self.lanes, self.shape.ic)

    def scratch(self, name: str, *shape: int) -> Buffer:
        buffer = B.sblock_alloc_buffer([self.tiling.groups, *shape, self.lanes], FLOAT32)
        IRBuilder.name(name, buffer)
        return buffer

    def region(self, buffer: Buffer, *index: Expr) -> Any:
        """All lanes of a part of a buffer."""
        where = (*index, slice(0, self.lanes))
        return buffer[where]

    def zero(self) -> Expr:
        return tirx.Broadcast(tirx.const(0.0, FLOAT32), self.lanes)

    def place(self, tile: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, tile row and tile column of a tile's number."""
        down, across = self.tiling.count
        return tile // (down * across), tile // across % down, tile % across

    def pixel(self, n: Expr, block: Expr, i: Expr) -> tuple[Expr, ...]:
        """The index of a row of pixels in a blocked tensor; 1-D tensors have no rows."""
        return (n, block) if len(self.shape.output) == 1 else (n, block, i)


Where = tuple[Expr, Expr, Expr]
"""Loops around a stage: group, tile in the group, channel block."""

Read = Callable[[_Kernel, Buffer, Where, Expr], tuple[Expr, Expr]]
"""Reads the real and imaginary part of one frequency of the product."""


def build(w: Workload, shape: ConvShape, tiling: Tiling, lanes: int, params: dict[int, TensorType]) -> Any:
    """The unscheduled PrimFunc. `params` are the inputs that are there, by index, in the shapes stored."""
    with IRBuilder() as ib, B.prim_func(s_tir=True):
        B.func_name("main")
        buffers = {i: B.arg(f"input{i}", B.Buffer(kind.shape, kind.dtype)) for i, kind in params.items()}
        out = B.arg("out", B.Buffer(w.outputs[0].physical, w.outputs[0].dtype))
        k = _Kernel(w, shape, tiling, lanes, buffers, out)
        s = _Scratch(
            rows=k.scratch("rows", tiling.group, k.in_blocks, tiling.columns, tiling.inputs[0], 2),
            kept=k.scratch("kept", tiling.group, k.out_blocks, tiling.out[0], tiling.columns, 2),
            pixels=k.scratch("pixels", tiling.group, k.out_blocks, *tiling.out),
        )
        with B.serial(tiling.groups) as g:
            (_depthwise if shape.depthwise else _dense)(k, s, g)
    return ib.get().with_attr("global_symbol", "main")


def _dense(k: _Kernel, s: _Scratch, g: Expr) -> None:
    tiling = k.tiling
    spectrum = k.scratch("spectrum", tiling.frequencies, tiling.parts, k.in_blocks, tiling.group)
    product = k.scratch("product", tiling.frequencies, tiling.parts, k.out_blocks, tiling.group)
    with B.grid(k.in_blocks, tiling.group) as (cb, t):
        _rows(k, s, (g, t, cb))
        for ends in (True, False):
            with B.serial(_column_range(tiling, ends=ends)[0]) as column:
                _columns(k, s, (g, t, cb), column, spectrum, ends=ends)
    (_three_products if tiling.products == 3 else _four_products)(k, spectrum, product, g)
    read = _gauss_sums if tiling.products == 3 else _plain_parts
    with B.grid(k.out_blocks, tiling.group) as (kb, t):
        for ends in (True, False):
            with B.serial(_column_range(tiling, ends=ends)[0]) as column:
                _inverse_columns(k, s, (g, t, kb), column, product, read, ends=ends)
        _finish(k, s, (g, t, kb))


def _depthwise(k: _Kernel, s: _Scratch, g: Expr) -> None:
    """A column of the spectrum is transformed back at once: it never leaves the first cache."""
    tiling = k.tiling
    columns = [
        k.scratch(name, tiling.frequencies, tiling.parts, k.in_blocks, tiling.group)
        for name in ("end", "column")
    ]
    with B.grid(k.in_blocks, tiling.group) as (cb, t):
        _rows(k, s, (g, t, cb))
        for ends, spectrum in zip((True, False), columns, strict=True):
            with B.serial(_column_range(tiling, ends=ends)[0]) as column:
                _columns(k, s, (g, t, cb), column, spectrum, ends=ends)
                _inverse_columns(k, s, (g, t, cb), column, spectrum, _times_weights, ends=ends)
        _finish(k, s, (g, t, cb))


def _finish(k: _Kernel, s: _Scratch, where: Where) -> None:
    with B.serial(k.tiling.out[0]) as row:
        _inverse_row(k, s, where, row)
        _output(k, s, where, row)


def _rows(k: _Kernel, s: _Scratch, where: Where) -> None:
    """rows[g, t, cb, j, i] = real transform along the width of row i of the tile.

    The spectrum of a single pixel is real everywhere; the zeros beside it are read all the same, except
    those of the ends, whose transform along the height takes real values.
    """
    tiling, x = k.tiling, k.params[0]
    with B.serial(tiling.inputs[0]) as row, B.sblock(f"{INPUT_TRANSFORM}_rows"):
        g, t, cb, i = B.axis.remap("SSSS", [*where, row])
        n, down, across = k.place(tirx.min(g * tiling.group + t, tiling.tiles - 1))
        line = k.pixel(n, cb, down * tiling.out[0] + i)
        left = across * tiling.out[1]
        B.reads(k.region(x, *line, slice(left, left + tiling.inputs[1])))
        B.writes(k.region(s.rows, g, t, cb, slice(0, tiling.columns), i, slice(0, 2)))

        def store(position: int, value: Expr | None) -> None:
            slot, part = tiling.slot(position // 2), position % 2
            if part == 0 or slot >= tiling.real_columns:
                k.store(s.rows, k.zero() if value is None else value, g, t, cb, slot, i, part)

        program = dft.real_forward(tiling.tile[1], tiling.inputs[1])
        program.run(lambda j: k.load(x, *line, left + j), store, B.bind)


def _column_range(tiling: Tiling, *, ends: bool) -> tuple[int, Callable[[Expr], tuple[Expr, Expr]], int]:
    """How many columns; slot and first frequency of the c-th; frequencies of each."""
    if ends:
        height = tiling.real_height
        return tiling.real_columns, lambda c: (c, c * height), height
    height, before = tiling.tile[0], tiling.real_columns * tiling.real_height
    return (
        tiling.columns - tiling.real_columns,
        lambda c: (c + tiling.real_columns, before + c * height),
        height,
    )


def _columns(k: _Kernel, s: _Scratch, where: Where, column: Expr, spectrum: Buffer, *, ends: bool) -> None:
    """spectrum[g, f, :, cb, t] = transform along the height; Gauss' trick wants the sum as a third part."""
    tiling = k.tiling
    _, locate, height = _column_range(tiling, ends=ends)
    program = (dft.real_forward if ends else dft.complex_forward)(tiling.tile[0], tiling.inputs[0])
    with B.sblock(f"{INPUT_TRANSFORM}_{'ends' if ends else 'columns'}"):
        g, t, cb, c = B.axis.remap("SSSS", [*where, column])
        j, first = locate(c)
        B.reads(k.region(s.rows, g, t, cb, j, slice(0, tiling.inputs[0]), slice(0, 1 if ends else 2)))
        B.writes(k.region(spectrum, g, slice(first, first + height), slice(0, tiling.parts), cb, t))
        halves: dict[int, Expr] = {}

        def load(position: int) -> Expr:
            return k.load(s.rows, g, t, cb, j, *((position, 0) if ends else (position // 2, position % 2)))

        def store(position: int, value: Expr | None) -> None:
            f, part = first + position // 2, position % 2
            halves[position] = k.zero() if value is None else value
            k.store(spectrum, halves[position], g, f, part, cb, t)
            if tiling.products == 3 and position ^ 1 in halves:
                k.store(spectrum, halves[position] + halves[position ^ 1], g, f, 2, cb, t)

        program.run(load, store, B.bind)


def _three_products(k: _Kernel, spectrum: Buffer, product: Buffer, g: Expr) -> None:
    """product[f, p, kb, t] = sum over c of spectrum[f, p, c, t] weights[f, p, kb, c], for each part p."""
    tiling, u = k.tiling, k.params[1]
    loops = (tiling.frequencies, 3, k.out_blocks, tiling.group, k.lanes, *k.channels)
    with B.grid(*loops) as (f, p, kb, t, lane, co, ci), B.sblock(MULTIPLY):
        g, f, p, kb, t, lane, co, ci = B.axis.remap("SSSSSSRR", [g, f, p, kb, t, lane, co, ci])
        B.reads([spectrum[g, f, p, co, t, ci], u[f, p, kb, co * k.lanes + ci, lane]])
        B.writes([product[g, f, p, kb, t, lane]])
        with B.init():
            B.buffer_store(product, tirx.const(0.0, FLOAT32), [g, f, p, kb, t, lane])
        term = spectrum[g, f, p, co, t, ci] * u[f, p, kb, co * k.lanes + ci, lane]
        B.buffer_store(product, product[g, f, p, kb, t, lane] + term, [g, f, p, kb, t, lane])


def _four_products(k: _Kernel, spectrum: Buffer, product: Buffer, g: Expr) -> None:
    """product[f, p, kb, t] = part p of the sum over c of spectrum[f, :, c, t] weights[f, :, kb, c]."""
    tiling, u = k.tiling, k.params[1]
    loops = (tiling.frequencies, k.out_blocks, tiling.group, 2, k.lanes, *k.channels, 2)
    with B.grid(*loops) as (f, kb, t, p, lane, co, ci, q), B.sblock(MULTIPLY):
        g, f, kb, t, p, lane, co, ci, q = B.axis.remap("SSSSSSRRR", [g, f, kb, t, p, lane, co, ci, q])
        B.reads([spectrum[g, f, q, co, t, ci], u[f, kb, co * k.lanes + ci, 0:2, lane]])
        B.writes([product[g, f, p, kb, t, lane]])
        with B.init():
            B.buffer_store(product, tirx.const(0.0, FLOAT32), [g, f, p, kb, t, lane])
        weight = u[f, kb, co * k.lanes + ci, (p + q) % 2, lane]
        signed = tirx.Select(tirx.all(p == 0, q == 1), tirx.const(-1.0, FLOAT32) * weight, weight)
        B.buffer_store(
            product,
            product[g, f, p, kb, t, lane] + spectrum[g, f, q, co, t, ci] * signed,
            [g, f, p, kb, t, lane],
        )


def _plain_parts(k: _Kernel, source: Buffer, where: Where, f: Expr) -> tuple[Expr, Expr]:
    g, t, kb = where
    return k.load(source, g, f, 0, kb, t), k.load(source, g, f, 1, kb, t)


def _gauss_sums(k: _Kernel, source: Buffer, where: Where, f: Expr) -> tuple[Expr, Expr]:
    """x_r (u_i - u_r), x_i (u_r + u_i) and (x_r + x_i) u_r give the parts of x u with two additions."""
    g, t, kb = where
    first, second, third = (B.bind(k.load(source, g, f, p, kb, t)) for p in range(3))
    return third - second, third + first


def _times_weights(k: _Kernel, source: Buffer, where: Where, f: Expr) -> tuple[Expr, Expr]:
    re, im = (B.bind(v) for v in _plain_parts(k, source, where, f))
    _, _, cb = where
    u_re, u_im = (B.bind(k.load(k.params[1], cb, f, p)) for p in range(2))
    return re * u_re - im * u_im, re * u_im + im * u_re


def _inverse_columns(
    k: _Kernel, s: _Scratch, where: Where, column: Expr, source: Buffer, read: Read, *, ends: bool
) -> None:
    """kept[g, t, kb, i, j] = inverse transform along the height, of the rows i that the output keeps."""
    tiling = k.tiling
    _, locate, height = _column_range(tiling, ends=ends)
    program = (dft.real_backward if ends else dft.complex_backward)(tiling.tile[0], tiling.out[0])
    with B.sblock(f"{INVERSE_TRANSFORM}_{'ends' if ends else 'columns'}"):
        g, t, kb, c = B.axis.remap("SSSS", [*where, column])
        j, first = locate(c)
        reads = k.region(source, g, slice(first, first + height), slice(0, tiling.parts), kb, t)
        B.reads(
            reads,
            *(
                [k.region(k.params[1], kb, slice(first, first + height), slice(0, 2))]
                if k.shape.depthwise
                else []
            ),
        )
        B.writes(k.region(s.kept, g, t, kb, slice(0, tiling.out[0]), j, slice(0, 2)))
        values: dict[int, tuple[Expr, Expr]] = {}

        def load(position: int) -> Expr:
            if position // 2 not in values:
                values[position // 2] = read(k, source, (g, t, kb), first + position // 2)
            return values[position // 2][position % 2]

        def store(position: int, value: Expr | None) -> None:
            k.store(
                s.kept, value, g, t, kb, *((position, j, 0) if ends else (position // 2, j, position % 2))
            )

        program.run(load, store, B.bind)


def _inverse_row(k: _Kernel, s: _Scratch, where: Where, row: Expr) -> None:
    """pixels[g, t, kb, i] = inverse transform along the width, cropped."""
    tiling = k.tiling
    with B.sblock(f"{INVERSE_TRANSFORM}_rows"):
        g, t, kb, i = B.axis.remap("SSSS", [*where, row])
        B.reads(k.region(s.kept, g, t, kb, i, slice(0, tiling.columns), slice(0, 2)))
        B.writes(k.region(s.pixels, g, t, kb, i, slice(0, tiling.out[1])))
        dft.real_backward(tiling.tile[1], tiling.out[1]).run(
            lambda position: k.load(s.kept, g, t, kb, i, tiling.slot(position // 2), position % 2),
            lambda j, value: k.store(s.pixels, value, g, t, kb, i, j),
            B.bind,
        )


def _output(k: _Kernel, s: _Scratch, where: Where, row: Expr) -> None:
    """out[n, kb, oh, ow] = epilogue(pixels + bias), where the pixel exists."""
    tiling = k.tiling
    height, width = as_pair(k.shape.output)
    with B.grid(tiling.out[1], k.lanes) as (j, lane), B.sblock(OUTPUT):
        g, t, kb, i, j, lane = B.axis.remap("SSSSSS", [*where, row, j, lane])
        tile = g * tiling.group + t
        n, down, across = k.place(tile)
        oh, ow = down * tiling.out[0] + i, across * tiling.out[1] + j
        index = [*k.pixel(n, kb, oh), ow, lane]
        value = s.pixels[g, t, kb, i, j, lane]
        if 2 in k.params and k.w.arity > 2:
            value = value + k.params[2][kb, lane]
        operands = {i: lambda *at, b=b: b[at] for i, b in k.params.items() if i >= k.w.arity}
        # a condition in the body, because a block's own predicate must be affine
        with B.If(tirx.all(tile < tiling.tiles, oh < height, ow < width)), B.Then():
            B.buffer_store(k.out, finish(value, k.w, operands, index), index)
