"""FFT convolution on a GPU, for large kernels: see `fft` for the algorithm.

    V[3 f + p, c, t, :] = part p of frequency f of 4 channels c of tile t
    M[3 f + p, t, k] = sum_c V[3 f + p, c, t, :] U[3 f + p, c, :, k]
    y = epilogue(inverse of M + bias)

Each is a launch. A complex product is three real ones (Gauss): of the parts x_r, x_i and x_r + x_i with
u_i - u_r, u_r + u_i and u_r. Tiles of 20x20 with a kernel of 7x7 give 14x14 outputs and have 202
frequencies: 3.1 products for each output and pair of channels instead of 49, and as many times the map's
values in V and in M. For 64 channels at 112x112 the launches read 3.2 MB of input, write and read V and M
of 9.9 MB each, read 9.9 MB of weights and write 3.2 MB: 56 MB, of which only the weights come from memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

from convc.dtype import FLOAT32, FLOAT64
from convc.lowering.device_bias import pack_bias
from convc.lowering.fft import Fft, transformed
from convc.lowering.transformed import SHARED, Transformed, pack_product, scratch, vector
from convc.target import Target
from convc.tiling import device_fft, dft
from convc.tiling.device_fft import LARGEST_SPAN, choose, problem, warp_channels
from convc.tiling.device_gemm import WARP
from convc.tiling.device_transformed import stored_column
from convc.tiling.fft import Tiling, spans
from convc.types import Array
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, ConvShape, Halo, Workload

Expr = Any
Buffer = Any


class DeviceFft(Fft):
    """Tiled FFT convolution, dense, of stride 1, over one or two axes."""

    def applies(self, w: Workload, target: Target) -> str | None:
        """What the CPU's lowering takes, but for depthwise kernels, where products are in float32."""
        if target.device.precision != FLOAT32:
            return (
                f"products in {target.device.precision} are left to the tensor cores, faster than transforms"
            )
        refused = super().applies(w, target)
        if refused is not None:
            return refused
        s = ConvShape.of(w)
        if s.groups > 1:
            return f"each of the {s.groups} groups would be a product too narrow to pay for its transforms"
        if max(spans(s)) > LARGEST_SPAN:
            return f"the kernel spans {max(spans(s))} pixels, more than {LARGEST_SPAN}"
        if next(device_fft.tilings(s, target), None) is None:
            return f"no tile around a kernel of {s.kernel} fits shared memory"
        return None

    def halo(self, w: Workload, target: Target) -> Halo:
        """None: loads compare with the border."""
        return ()

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        """Weights (K, C, *kernel) as U (3 F, chunks, lanes, columns); the bias (K,) as (KB, lanes)."""
        s = ConvShape.of(w)
        if index == 1:
            t = choose(s, target)
            u = transformed(s, t, array.astype(FLOAT64))
            parts = np.stack((u.imag - u.real, u.real + u.imag, u.real), axis=1)
            return pack_product(parts.reshape(-1, *u.shape[1:]), problem(s, t, target), target.lanes)
        if index == 2 and w.arity > 2:
            return pack_bias(w, target, array)
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        """The three launches with the cheapest tiles."""
        s = ConvShape.of(w)
        t = choose(s, target)
        with IRBuilder() as ib, B.prim_func(s_tir=True):
            B.func_name("main")
            k = Transformed(w, s, problem(s, t, target), target.lanes, t.out, t.out, t.count)
            k.parameters()
            v, m = k.between()
            _transform(k, t, v)
            k.multiply(v, m)
            _Back(k, t, warp_channels(k.product)).compute(m)
        return ib.get().with_attr("global_symbol", "main")

    def cost(self, w: Workload, target: Target) -> float:
        """Three launches, with the cheapest tiles."""
        s = ConvShape.of(w)
        return device_fft.price(s, choose(s, target), target)


# ---- forward


def _transform(k: Transformed, tiling: Tiling, v: Buffer) -> None:
    """V of a chunk of a few tiles: rows, then columns."""
    p, together = k.product, WARP // k.lanes
    chunks, groups = p.padded_chunks, p.rows // together
    lines = scratch("lines", (chunks, groups, tiling.columns, tiling.tile[0], 2, together, k.lanes), SHARED)
    with B.grid(chunks, groups) as (c, g):
        with B.grid(tiling.tile[0], together, k.lanes) as loops, B.sblock(f"{INPUT_TRANSFORM}_rows"):
            c_, g_, i, t, lane = B.axis.remap("SSSSS", [c, g, *loops])
            B.reads([k.inputs[0][tuple(slice(0, int(e)) for e in k.inputs[0].shape)]])
            B.writes([lines[c_, g_, 0 : tiling.columns, i, 0:2, t, lane]])
            with B.If(g_ * together + t < p.m), B.Then():
                _row(k, tiling, lines, (c_, g_, i, t, lane))
        with B.grid(tiling.columns, together, k.lanes) as loops, B.sblock(f"{INPUT_TRANSFORM}_columns"):
            c_, g_, j, t, lane = B.axis.remap("SSSSS", [c, g, *loops])
            tile = g_ * together + t
            B.reads([lines[c_, g_, j, 0 : tiling.tile[0], 0:2, t, lane]])
            B.writes([v[0 : p.groups, c_, tile, lane]])

            def column(program: dft.Program, first: Expr, values: int) -> None:
                _column(
                    v, program, first, values, (c_, tile, lane), lambda i, q: lines[c_, g_, j, i, q, t, lane]
                )

            # the product reads rows beyond, whose results nobody reads
            with B.If(tile < p.m), B.Then():
                _by_kind(
                    tiling, j, column, dft.real_forward(tiling.tile[0]), dft.complex_forward(tiling.tile[0])
                )


def _by_kind(
    tiling: Tiling,
    j: Expr,
    column: Callable[[dft.Program, Expr, int], None],
    real: dft.Program,
    full: dft.Program,
) -> None:
    """Take the column in slot j by one of two programs: column(program, first frequency, parts)."""
    ends, height = tiling.real_columns, tiling.tile[0]
    if ends == tiling.columns:
        column(real, j * tiling.real_height, 1)
        return
    with B.If(j < ends):
        with B.Then():
            column(real, j * tiling.real_height, 1)
        with B.Else():
            column(full, ends * tiling.real_height + (j - ends) * height, 2)


def _row(k: Transformed, tiling: Tiling, lines: Buffer, where: tuple[Expr, ...]) -> None:
    """The spectrum of row i of a tile; zero in chunks that only fill up the product."""
    c, g, i, t, lane = where
    n, top, left = (B.bind(e) for e in k.corner(g * (WARP // k.lanes) + t))
    exists = k.row_inside(top + i)
    if k.product.padded_chunks > -(-k.s.ic // k.lanes):
        exists.append(c < -(-k.s.ic // k.lanes))
    zero = tirx.const(0.0, FLOAT32)

    def load(j: int) -> Expr:
        value = vector(k.inputs[0], [*k.index(n, c, top + i, left + j), lane], 1)
        inside = exists + k.inside(left, j, 1)
        return B.bind(tirx.if_then_else(tirx.all(*inside), value, zero) if inside else value)

    def store(position: int, value: Expr | None) -> None:
        if value is not None:
            B.buffer_store(lines, value, [c, g, tiling.slot(position // 2), i, position % 2, t, lane])

    dft.real_forward(tiling.tile[1]).run(load, store, B.bind)


def _column(
    v: Buffer,
    program: dft.Program,
    first: Expr,
    parts: int,
    where: tuple[Expr, ...],
    read: Callable[[int, int], Expr],
) -> None:
    """The frequencies of a column, in three parts; a real column has one part, others two in turns."""
    c, tile, lane = where
    halves: dict[int, Expr] = {}

    def load(position: int) -> Expr:
        return B.bind(read(position // parts, position % parts))

    def store(position: int, value: Expr | None) -> None:
        halves[position] = B.bind(_or_zero(value))
        g = (first + position // 2) * 3
        B.buffer_store(v, halves[position], [g + position % 2, c, tile, lane])
        if position ^ 1 in halves:
            B.buffer_store(v, halves[position] + halves[position ^ 1], [g + 2, c, tile, lane])

    program.run(load, store, B.bind)


# ---- back


@dataclass(frozen=True)
class _Back:
    """The inverse transform: a block takes `together` tiles of `channels` channels."""

    k: Transformed
    tiling: Tiling
    channels: int

    @property
    def together(self) -> int:
        return WARP // self.channels

    @property
    def blocks(self) -> int:
        """Channel blocks of the result; the product may have more columns."""
        return -(-self.k.s.oc // self.k.lanes)

    def compute(self, m: Buffer) -> None:
        """Columns, then rows, finished and stored."""
        p, (kept, across) = self.k.product, self.tiling.out
        outer = (-(-p.m // self.together), p.columns // self.channels)
        inner = (self.together, self.channels)
        lines = scratch("kept", (*outer, kept, self.tiling.columns, 2, *inner), SHARED)
        pixels = scratch("pixels", (*outer, kept, *inner, 1, across, 1), "local")
        with B.grid(*outer) as (g, share):
            with B.grid(self.tiling.columns, *inner) as (j, t, channel):
                self._column(m, lines, [g, share, j, t, channel])
            with B.grid(kept, *inner) as loops:
                self._row(lines, pixels, [g, share, *loops])
                self.k.output(pixels, [g, share, *loops], (1, across, 1), self._place)

    def _column(self, m: Buffer, lines: Buffer, where: list[Expr]) -> None:
        """lines[g, share, i, j] = inverse transform along the height, of the rows i that the output keeps."""
        p, (height, _), (kept, _) = self.k.product, self.tiling.tile, self.tiling.out
        with B.sblock(f"{INVERSE_TRANSFORM}_columns"):
            g, share, j, t, channel = B.axis.remap("SSSSS", where)
            tile = tirx.min(g * self.together + t, p.m - 1)
            total = stored_column(share * self.channels + channel)
            B.reads([m[0 : p.groups, tile, total]])
            B.writes([lines[g, share, 0:kept, j, 0:2, t, channel]])

            def column(program: dft.Program, first: Expr, parts: int) -> None:
                def store(position: int, value: Expr | None) -> None:
                    index = [g, share, position // parts, j, position % parts, t, channel]
                    B.buffer_store(lines, _or_zero(value), index)

                program.run(_complex(m, first, tile, total), store, B.bind)

            _by_kind(
                self.tiling, j, column, dft.real_backward(height, kept), dft.complex_backward(height, kept)
            )

    def _row(self, lines: Buffer, pixels: Buffer, where: list[Expr]) -> None:
        """pixels = inverse transform along the width, cropped, and bias."""
        k, (_, width), (_, across) = self.k, self.tiling.tile, self.tiling.out
        with B.sblock(INVERSE_TRANSFORM):
            g, share, i, t, channel = B.axis.remap("SSSSS", where)
            total = tirx.min(share * self.channels + channel, self.blocks * k.lanes - 1)
            reads = [lines[g, share, i, 0 : self.tiling.columns, 0:2, t, channel]]
            bias = k.bias(total // k.lanes, total % k.lanes, 1)
            if bias is not None:
                reads.append(k.inputs[2][total // k.lanes, total % k.lanes])
                bias = B.bind(bias)
            B.reads(reads)
            B.writes([pixels[g, share, i, t, channel, 0, 0:across, 0]])

            def load(position: int) -> Expr:
                column = self.tiling.slot(position // 2)
                return B.bind(lines[g, share, i, column, position % 2, t, channel])

            def store(j: int, value: Expr | None) -> None:
                total = _or_zero(value) if bias is None else _or_zero(value) + bias
                B.buffer_store(pixels, total, [g, share, i, t, channel, 0, j, 0])

            dft.real_backward(width, across).run(load, store, B.bind)

    def _place(
        self, g: Expr, share: Expr, i: Expr, t: Expr, channel: Expr, _row: Expr, j: Expr, _lane: Expr
    ) -> tuple[Expr, ...]:
        """Where a pixel goes, and what must hold for it to be one; see `Transformed.output`."""
        p, lanes, (kept, across) = self.k.product, self.k.lanes, self.tiling.out
        tile, total = g * self.together + t, share * self.channels + channel
        n, down, right = self.k.place(tile)
        inside = []
        if p.m % self.together:
            inside.append(tile < p.m)
        if p.columns > self.blocks * lanes:
            inside.append(total < self.blocks * lanes)
        return (n, total // lanes, down * kept + i, right * across + j, total % lanes, *inside)


def _or_zero(value: Expr | None) -> Expr:
    return tirx.const(0.0, FLOAT32) if value is None else value


def _complex(m: Buffer, first: Expr, tile: Expr, channel: Expr) -> Callable[[int], Expr]:
    """Real and imaginary parts, in turns, of the frequencies from `first` on, made of three products each."""
    values: dict[int, tuple[Expr, Expr]] = {}

    def load(position: int) -> Expr:
        number = position // 2
        if number not in values:
            one, two, three = (B.bind(m[(first + number) * 3 + p, tile, channel]) for p in range(3))
            values[number] = (B.bind(three - two), B.bind(three + one))
        return values[number][position % 2]

    return load
