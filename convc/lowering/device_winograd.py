"""Winograd convolution on a GPU, in float32 on the CUDA cores: see `winograd` for the algorithm.

    V[f, c, t, :] = (B^T d B)[f]     of 4 channels c of tile t      a tile by each thread, in its registers
    M[f, t, k] = sum_c V[f, c, t, :] U[f, c, :, k]                  a product for each of A*A frequencies f
    y = epilogue(A^T M A + bias)                                    a tile by each thread

Each is a launch. V has A*A / (m*m) times the values of the input, M of the output: 2.25 times for F(4, 3), 4
for F(2, 3). A layer of ResNet with 128 channels at 28x28 reads 0.4 MB, writes and reads V and M of 0.9 MB
each, and writes 0.4 MB; one of VGG with 64 channels at 224x224 takes 12.8 and 28.9 MB. V and M together fit
the 50 MB of L2 of an H200 for all layers of both networks, one image at a time, but for that last one.

On tensor cores the product of the definition is faster than these transforms can be fed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

from convc.dtype import FLOAT32
from convc.lowering.cook_toom import LinearProgram, straight_line
from convc.lowering.device_bias import pack_bias
from convc.lowering.filtering import transformed
from convc.lowering.transformed import Transformed, constant, pack_product, scratch, store, vector
from convc.lowering.winograd import Tiling, Winograd
from convc.target import Target
from convc.tiling import device_transformed, device_winograd
from convc.tiling.device_transformed import stored_column
from convc.tiling.device_winograd import input_lanes, output_lanes, problem
from convc.tiling.fft import as_pair
from convc.types import Array
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, ConvShape, Halo, Workload

Expr = Any
Buffer = Any

Programs = tuple[LinearProgram, LinearProgram]
"""Along height and width."""

LARGEST_AREA = 64
"""Inputs of a tile: what a thread holds of one channel in registers."""


class DeviceWinograd(Winograd):
    """F(m, r) along every spatial axis with r > 1 taps, with any stride less than the taps."""

    def applies(self, w: Workload, target: Target) -> str | None:
        """What the CPU's lowering takes, but for dilations and large tiles, where products are in float32."""
        if target.device.precision != FLOAT32:
            return (
                f"products in {target.device.precision} are left to the tensor cores, faster than transforms"
            )
        refused = super().applies(w, target)
        if refused is not None:
            return refused
        s = ConvShape.of(w)
        if s.pool:
            return "it stores all outputs, not the largest of a window"
        if any(d > 1 and r > 1 for d, r in zip(s.dilations, s.kernel, strict=True)):
            return f"it takes neighbouring inputs, not those that dilations {s.dilations} choose"
        sizes = Tiling.of(s, self.m).sizes
        if math.prod(sizes) > LARGEST_AREA:
            return f"tiles of {'x'.join(map(str, sizes))} inputs exceed the registers of a thread"
        return None

    def halo(self, w: Workload, target: Target) -> Halo:
        """None: loads compare with the border."""
        return ()

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        """Weights (K, C, *kernel) as U (A*A, chunks, lanes, columns); the bias (K,) as (KB, lanes)."""
        s = ConvShape.of(w)
        if index == 1:
            u = transformed(array, Tiling.of(s, self.m).algorithms)
            return pack_product(u.reshape(-1, *u.shape[-2:]), problem(s, self.m, target), target.lanes)
        if index == 2 and w.arity > 2:
            return pack_bias(w, target, array)
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        s = ConvShape.of(w)
        tiling = Tiling.of(s, self.m)
        out, count = as_pair(tiling.outputs), as_pair(tiling.tiles)
        step = tuple(m * stride for m, stride in zip(out, as_pair(s.strides), strict=True))
        with IRBuilder() as ib, B.prim_func(s_tir=True):
            B.func_name("main")
            k = Transformed(w, s, problem(s, self.m, target), target.lanes, out, (step[0], step[1]), count)
            k.parameters()
            v, m = k.between()
            _transform(k, tiling, v, input_lanes(s, self.m, target))
            k.multiply(v, m)
            _inverse(k, tiling, m, output_lanes(s, self.m, target))
        return ib.get().with_attr("global_symbol", "main")

    def cost(self, w: Workload, target: Target) -> float:
        """Three launches (`tiling.device_transformed.seconds`)."""
        s = ConvShape.of(w)
        return device_transformed.seconds(device_winograd.transformed(s, self.m, target), target)


class DeviceWinograd2(DeviceWinograd):
    """F(2, r)."""

    name = "winograd2"
    m = 2


class DeviceWinograd4(DeviceWinograd):
    """F(4, r)."""

    name = "winograd4"
    m = 4


def _transform(k: Transformed, tiling: Tiling, v: Buffer, lanes: int) -> None:
    """V of some channels of a tile; zero in chunks that only fill up the product."""
    p, x = k.product, k.inputs[0]
    programs = _programs(tuple(straight_line(a.bt) for a in tiling.algorithms))
    with B.grid(p.padded_chunks, p.rows, k.lanes // lanes) as loops, B.sblock(INPUT_TRANSFORM):
        c, t, part = B.axis.remap("SSS", list(loops))
        lane = part * lanes
        B.reads([x[tuple(slice(0, int(e)) for e in x.shape)]])
        B.writes([v[0 : p.groups, c, t, lane : lane + lanes]])
        with B.If(t < p.m), B.Then():  # the product reads rows beyond, whose results nobody reads
            _input_tile(k, programs, v, c, t, lane, lanes)


def _input_tile(
    k: Transformed, programs: Programs, v: Buffer, c: Expr, t: Expr, lane: Expr, lanes: int
) -> None:
    """Channels `lane` and after of chunk c in tile t."""
    p, x = k.product, k.inputs[0]
    blocks = -(-k.s.ic // k.lanes)
    rows, columns = (program.inputs for program in programs)
    n, top, left = (B.bind(e) for e in k.corner(t))
    exists = [c < blocks] if p.padded_chunks > blocks else []
    in_row = [_all(exists + k.inside(top, i, 0)) for i in range(rows)]
    in_column = [_all(k.inside(left, j, 1)) for j in range(columns)]

    def pixel(i: int, j: int) -> Expr:
        value = vector(x, [*k.index(n, c, top + i, left + j), lane], lanes)
        inside = [e for e in (in_row[i], in_column[j]) if e is not None]
        return B.bind(tirx.if_then_else(tirx.all(*inside), value, constant(0, lanes)) if inside else value)

    for f, value in enumerate(_both_axes(programs, pixel, lanes)):
        store(v, value, [f, c, t, lane], lanes)


def _inverse(k: Transformed, tiling: Tiling, m: Buffer, lanes: int) -> None:
    """The outputs of some channels of a tile, finished and stored."""
    p = k.product
    programs = _programs(tuple(straight_line(a.at) for a in tiling.algorithms))
    blocks, parts = -(-k.s.oc // k.lanes), k.lanes // lanes
    across = programs[1].inputs
    pixels = scratch("pixels", (p.m, blocks, parts, *k.out, lanes), "local")
    with B.grid(p.m, blocks, parts) as where:
        with B.sblock(INVERSE_TRANSFORM):
            t, block, part = B.axis.remap("SSS", list(where))
            channel = stored_column(block * k.lanes) + part * lanes
            reads = [m[0 : p.groups, t, channel : channel + lanes]]
            bias = k.bias(block, part * lanes, lanes)
            if bias is not None:
                reads.append(k.inputs[2][block, part * lanes : part * lanes + lanes])
                bias = B.bind(bias)
            B.reads(reads)
            B.writes([pixels[t, block, part, 0 : k.out[0], 0 : k.out[1], 0:lanes]])

            def product(i: int, j: int) -> Expr:
                return B.bind(vector(m, [i * across + j, t, channel], lanes))

            for position, value in enumerate(_both_axes(programs, product, lanes)):
                index = [t, block, part, position // k.out[1], position % k.out[1], 0]
                store(pixels, value if bias is None else value + bias, index, lanes)

        def at(t: Expr, block: Expr, part: Expr, i: Expr, j: Expr, lane: Expr) -> tuple[Expr, ...]:
            n, down, right = k.place(t)
            return n, block, down * k.out[0] + i, right * k.out[1] + j, part * lanes + lane

        k.output(pixels, where, (*k.out, lanes), at)


def _programs(programs: tuple[LinearProgram, ...]) -> Programs:
    """The transforms along height and width; one spatial axis has height 1."""
    identity = LinearProgram(1, (), (((Fraction(1), 0),),))
    return (identity, programs[0]) if len(programs) == 1 else (programs[0], programs[1])


def _all(conditions: list[Expr]) -> Expr | None:
    """Whether all conditions hold, computed once; None where there are none."""
    return B.bind(tirx.all(*conditions)) if conditions else None


def _both_axes(programs: Programs, read: Callable[[int, int], Expr], lanes: int) -> list[Expr]:
    """All results, row by row, of transforming read(i, j) along the columns and then along the rows."""

    def number(value: float) -> Expr:
        return constant(value, lanes)

    down, across = programs
    columns = []
    for j in range(across.inputs):
        values = down.results([read(i, j) for i in range(down.inputs)], number, B.bind)
        columns.append([B.bind(value) for value in values])
    return [
        value
        for i in range(len(down.rows))
        for value in across.results([column[i] for column in columns], number, B.bind)
    ]
