"""The kernel of `winograd_rows` as TIR.

    for n, run of rows                                                       task
      for row, c                        of the input that the run sees
        phases[j, tile] = x[n, c, row, tile * period + j], 0 beyond the map    a vector holds tiles
        v[row, c, :, tile] = B^T phases
      for row, group of tiles, kbs
        for f
          sums[tile, kb] += v[row * stride + kh, c, f, tile] * u[kb, f, kh, c]    over kh, c; in registers
          m[f, tile, kb] = sums                                              a vector holds output channels
        for tile, kb
          y = epilogue(A^T m + bias)

A row of the input is transformed once for all rows of the kernel that see it. Its padding exists only in
`phases`, so that a network's input is read where the caller has it. Channel blocks are innermost in the
register tile: with tiles there, LLVM keeps every broadcast alive and spills.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

from convc.dtype import FLOAT32
from convc.lowering.cook_toom import CookToom, straight_line
from convc.lowering.epilogue import finish
from convc.lowering.vectors import Vectors
from convc.tiling.winograd_rows import RowShape, Tiling
from convc.types import Shape
from convc.workload import TASK, Workload

Expr = Any
Buffer = Any

WEIGHTS, BIAS = 1, 2


@dataclass
class _Kernel(Vectors):
    """What is built, and its parameters by input index."""

    w: Workload
    shape: RowShape
    tiling: Tiling
    algorithm: CookToom
    lanes: int
    params: dict[int, Buffer]
    out: Buffer

    def scratch(self, name: str, *shape: int) -> Buffer:
        buffer = B.sblock_alloc_buffer([*shape], FLOAT32)
        IRBuilder.name(name, buffer)
        return buffer

    def splat(self, value: float) -> Expr:
        return tirx.Broadcast(tirx.const(value, FLOAT32), self.lanes)

    @property
    def vectors(self) -> int:
        """Vectors that hold the tiles of a row."""
        return -(-self.tiling.groups(self.shape) * self.tiling.tiles // self.lanes)

    def pixel(self, n: Expr, block: Expr, row: Expr, column: Expr) -> tuple[Expr, ...]:
        """An index into a tensor as it is stored, without lane; tensors of one spatial axis have no rows."""
        plane = len(self.w.outputs[0].shape) == 4
        return (n, block, row, column) if plane else (n, block, column)


def build(
    w: Workload, shape: RowShape, algorithm: CookToom, tiling: Tiling, lanes: int, params: dict[int, Shape]
) -> Any:
    """The unscheduled PrimFunc. `params` are the shapes, as stored, of the inputs that are there."""
    with IRBuilder() as ib, B.prim_func(s_tir=True):
        B.func_name("main")
        buffers = {i: B.arg(f"input{i}", B.Buffer(s, FLOAT32)) for i, s in params.items()}
        out = B.arg("out", B.Buffer(w.outputs[0].physical, FLOAT32))
        k = _Kernel(w, shape, tiling, algorithm, lanes, buffers, out)
        with _task(k) as (n, first, rows):
            v = _transformed_input(k, n, first, rows)
            _rows(k, v, n, first, rows)
    return ib.get().with_attr("global_symbol", "main")


@contextmanager
def _task(k: _Kernel) -> Iterator[tuple[Expr, Expr, Expr]]:
    """The loops over tasks. Gives the image, the first output row and the number of rows."""
    height, runs = k.shape.conv.output[0], k.tiling.runs(k.shape)
    with B.grid(k.shape.conv.n, runs) as loops, B.sblock(TASK):
        n, run = B.axis.remap("SS", list(loops))
        B.reads([b[tuple(slice(0, e) for e in b.shape)] for b in k.params.values()])
        written = (n, *(slice(0, e) for e in k.out.shape[1:]))
        B.writes([k.out[written]])
        first = run * height // runs
        yield n, first, (run + 1) * height // runs - first


def _transformed_input(k: _Kernel, n: Expr, first: Expr, rows: Expr) -> Buffer:
    """v[row and channel, frequency, tile] of the rows of input that a task sees."""
    s, a = k.shape, k.algorithm
    channels, (stride, _) = s.conv.ic, s.conv.strides
    width = k.vectors * k.lanes
    v = k.scratch("v", s.seen(k.tiling.longest(s)) * channels, a.size, width)
    phases = k.scratch("phases", s.period, width + (a.size - 1) // s.period)
    with B.serial((rows - 1) * stride + s.conv.kernel[0]) as row, B.serial(channels) as c:
        _split_phases(k, phases, n, c, first * stride + row - s.conv.pads[0][0])
        with B.serial(k.vectors) as vector:
            start = vector * k.lanes
            inputs = [
                B.bind(phases.vload([i % s.period, start + i // s.period], f"float32x{k.lanes}"))
                for i in range(a.size)
            ]
            for f, value in enumerate(straight_line(a.bt).results(inputs, k.splat, B.bind)):
                B.buffer_store(v, value, [row * channels + c, f, tirx.Ramp(start, 1, k.lanes)])
    return v


def _split_phases(k: _Kernel, phases: Buffer, n: Expr, c: Expr, row: Expr) -> None:
    """phases[j, tile] = x[row, tile * period + j - pad], so that input j of neighbouring tiles is a run."""
    s = k.shape
    (height, width), (_, (before, _)) = s.conv.input, s.conv.pads
    first, last = -(-before // s.period), (before + width) // s.period  # tiles whose inputs all are pixels
    last = max(first, min(last, s.tiles))
    edges = [*range(first * s.period), *range(last * s.period, s.reach)]

    zero = tirx.const(0.0, FLOAT32)

    def pixel(column: Expr) -> Expr:
        return tirx.BufferLoad(k.params[0], [*k.pixel(n, c, row, column - before)])

    with B.If(tirx.all(row >= 0, row < height)):
        with B.Then():
            with B.serial(last - first) as tile:
                for j in range(s.period):
                    B.buffer_store(phases, pixel((first + tile) * s.period + j), [j, first + tile])
            for column in edges:
                value = pixel(column) if before <= column < before + width else zero
                B.buffer_store(phases, value, [column % s.period, column // s.period])
        with B.Else(), B.grid(*phases.shape) as place:
            B.buffer_store(phases, zero, list(place))


def _rows(k: _Kernel, v: Buffer, n: Expr, first: Expr, rows: Expr) -> None:
    """The output rows of a task, register tile by register tile."""
    s, t = k.shape, k.tiling
    products = k.scratch("products", k.algorithm.size, t.tiles, t.blocks, k.lanes)
    channel_blocks = int(k.out.shape[1])
    with B.grid(rows, t.groups(s), channel_blocks // t.blocks) as (row, group, kbs):
        start = group * t.tiles
        _multiply(k, v, products, row * s.conv.strides[0] * s.conv.ic, start, kbs)
        with B.serial(t.tiles) as tile:
            for b in range(t.blocks):
                _finish_tile(k, products, (tile, b), (n, kbs * t.blocks + b, first + row), start + tile)


def _multiply(k: _Kernel, v: Buffer, products: Buffer, first: Expr, start: Expr, kbs: Expr) -> None:
    """products[f, tile, block] of a register tile; the terms of its sums are those of v from `first` on."""
    tiles, blocks = k.tiling.tiles, k.tiling.blocks
    with B.serial(k.algorithm.size) as f:
        sums = [k.scratch(f"sums{b}", tiles, k.lanes) for b in range(blocks)]
        with B.unroll(tiles) as t:
            for part in sums:
                k.store(part, k.splat(0.0), t)
        with B.serial(k.shape.terms) as term:
            weights = [B.bind(k.load(k.params[WEIGHTS], kbs * blocks + b, f, term)) for b in range(blocks)]
            with B.unroll(tiles) as t:
                value = tirx.Broadcast(v[first + term, f, start + t], k.lanes)
                for part, weight in zip(sums, weights, strict=True):
                    k.store(part, k.load(part, t) + value * weight, t)
        with B.unroll(tiles) as t:
            for b, part in enumerate(sums):
                k.store(products, k.load(part, t), f, t, b)


def _finish_tile(
    k: _Kernel, products: Buffer, source: tuple[Expr, int], row: tuple[Expr, Expr, Expr], tile: Expr
) -> None:
    """The outputs of one tile, those that the map has."""
    a, t, width = k.algorithm, k.tiling, k.shape.conv.output[1]
    inputs = [B.bind(k.load(products, f, *source)) for f in range(a.size)]
    y = k.scratch("y", a.m, k.lanes)
    for j, value in enumerate(straight_line(a.at).results(inputs, k.splat, B.bind)):
        k.store(y, value, j)
    for j in range(a.m):
        column = tile * a.m + j
        if t.groups(k.shape) * t.tiles * a.m == width:
            _store(k, y, j, k.pixel(*row, column))
            continue
        with B.If(column < width), B.Then():
            _store(k, y, j, k.pixel(*row, column))


def _store(k: _Kernel, y: Buffer, j: int, pixel: tuple[Expr, ...]) -> None:
    """out[pixel] = epilogue(y[j] + bias)."""
    operands = {i: lambda *at, b=b: b[at] for i, b in k.params.items() if i >= k.w.arity}
    with B.vectorized(k.lanes) as lane:
        value = y[j, lane]
        if k.w.arity > BIAS and BIAS in k.params:
            value = value + k.params[BIAS][pixel[1], lane]
        B.buffer_store(k.out, finish(value, k.w, operands, (*pixel, lane)), [*pixel, lane])
