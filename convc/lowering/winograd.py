"""Winograd convolution: fewer multiplications through the minimal filtering algorithms F(m, r).

A map is cut into tiles of m outputs on each axis where the kernel has r > 1 taps, and of one output on the
others. With A = m + r - 1 and the matrices of `cook_toom` applied along each axis (Lavin and Gray, arXiv
1509.09308):

    V[i, j, c, t] = (B^T d B)[i, j]      of input channel c in tile t     input_transform
    M[i, j, k, t] = sum_c U[i, j, c, k] * V[i, j, c, t]                   multiply, A*A matrix products
    Y[k, t]       = A^T M A              m x m outputs                    inverse_transform
    y             = epilogue(Y + bias)                                    output, of the largest in a window

so m*m outputs take A*A multiplications for each pair of channels instead of m*m*r*r. U = G g G^T is computed
in float64 when the weights are packed. With stride s tiles are m*s inputs apart, A = (m - 1)*s + r, and the
matrices are those of the stride's phases (`cook_toom`): 3x3 with stride 2 takes 25 products for 2x2 outputs
and 81 for 4x4, instead of 36 and 144. With dilation d the map is d interleaved maps on each axis, each with a
dense kernel: tile q has phase q mod d, and its inputs and outputs are d apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT32
from convc.lowering.base import Layouts, Lowering, Reach, blocked_like, other_format
from convc.lowering.cook_toom import CookToom, LinearProgram, Matrix, cook_toom, straight_line
from convc.lowering.epilogue import finish, largest, operand_placeholders, placeholder
from convc.lowering.filtering import largest_gain, sampled_error, transformed
from convc.lowering.weights import LIMIT, encoded, magnitude, parameter, refusal, restored
from convc.target import Target
from convc.tiling.storage import FLOAT24, UNPACKED, Storage
from convc.tiling.winograd import OVERRUN, best_group, phases, tile_counts, tile_outputs, tile_sizes
from convc.types import Array
from convc.workload import INPUT_TRANSFORM, INVERSE_TRANSFORM, MULTIPLY, OUTPUT, ConvShape, Halo, Workload

Tensor = Any
Expr = Any
Read = Callable[..., Expr]

KERNELS = range(2, 8)
LARGEST_TILE = 10  # inputs along an axis; those of F(6, 5) and F(4, 7)
MOST_PHASES = 6  # of an axis: a group has as many tiles, or a multiple
LARGEST_AREA = 81  # inputs of a tile; the transforms of larger ones are thousands of instructions


@dataclass(frozen=True)
class Tiling:
    """How a convolution is cut into tiles; one entry for each spatial axis."""

    algorithms: tuple[CookToom, ...]
    tiles: tuple[int, ...]
    phases: tuple[int, ...]

    @classmethod
    def of(cls, s: ConvShape, m: int) -> Tiling:
        """Tiles of m outputs on axes with more than one tap, of one output on the others."""
        axes = zip(tile_outputs(s, m), s.kernel, s.strides, strict=True)
        algorithms = tuple(cook_toom(o, r, stride) for o, r, stride in axes)
        return cls(algorithms, tile_counts(s, m), phases(s))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs of a tile on each axis."""
        return tuple(a.size for a in self.algorithms)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Outputs of a tile on each axis."""
        return tuple(a.m for a in self.algorithms)

    @property
    def axes(self) -> list[int]:
        """Axes that have a transform; on the others a tile is one pixel and the transform the identity."""
        return [d for d, size in enumerate(self.sizes) if size > 1]


def _combine(program: LinearProgram, index: Expr, x: Any) -> Expr:
    """Row `index` of a linear program as a TE expression that folds to one row once `index` is unrolled."""

    def constant(value: float) -> Expr:
        return tirx.const(value, FLOAT32)

    rows = [program.row(i, x, constant) for i in range(len(program.rows))]
    result = rows[-1]
    for i in reversed(range(len(rows) - 1)):
        result = tirx.Select(index == i, rows[i], result)
    return result


class Winograd(Lowering):
    """F(m, r) along every spatial axis with r > 1 taps; `m` is the number of outputs of a tile."""

    ops = ("conv", "conv_max_pool")
    exact = False
    spreads = "the outputs of its tile"
    m: ClassVar[int]
    storage: ClassVar[Storage] = UNPACKED

    def applies(self, w: Workload, target: Target) -> str | None:
        """Dense float32 convolutions with 2 to 7 taps, more than the stride, on one or two axes."""
        s = ConvShape.of(w)
        if reason := other_format(w):
            return reason
        if not w.constant[1] or (w.arity > 2 and w.inputs[2] is not None and not w.constant[2]):
            return "its weights must be constants, because they are transformed in advance"
        if len(s.kernel) > 2:
            return f"it has transforms for 1 and 2 spatial axes, not {len(s.kernel)}"
        if s.groups > 1:
            return f"each of the {s.groups} groups would be a product too narrow to pay for its transforms"
        if max(phases(s)) > 1 and (s.pool or set(s.strides) != {1}):
            return f"with dilations {s.dilations} it needs unit strides and no pooling"
        if max(phases(s)) > MOST_PHASES:
            return f"with dilations {s.dilations} a group has so many interleaved tiles that caches overflow"
        taps = [r for r in s.kernel if r > 1]
        if not taps or max(taps) not in KERNELS:
            return f"kernel {s.kernel} has no axis with 2 to 7 taps, or one with more"
        if any(stride >= r > 1 for stride, r in zip(s.strides, s.kernel, strict=True)):
            return f"with strides {s.strides} an input meets one tap of kernel {s.kernel}: nothing to share"
        sizes = [a for a in tile_sizes(s, self.m) if a > 1]
        if max(sizes) > LARGEST_TILE or math.prod(sizes) > LARGEST_AREA:
            return f"tiles of {'x'.join(map(str, sizes))} inputs lose too much accuracy and speed"
        if any(m % p for m, p in zip(tile_outputs(s, self.m), s.window, strict=True)):
            return (
                f"windows of {'x'.join(map(str, s.pool))} do not fill its tiles of {self.m} outputs an axis"
            )
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        """Blocked input, output and residuals."""
        return blocked_like(w, target, inputs=(0,))

    def halo(self, w: Workload, target: Target) -> Halo:
        """The convolution's pads, the far end enlarged so that the last tile lies inside."""
        s = ConvShape.of(w)
        tiling = Tiling.of(s, self.m)
        axes = zip(tiling.algorithms, tiling.tiles, tiling.phases, s.input, s.pads, strict=True)
        return tuple(
            (before, max(0, ((tiles // d * a.m - 1) * a.stride + a.r) * d - size - before))
            for a, tiles, d, size, (before, _) in axes
        )

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        """Weights (K, C, *kernel) as U (KB, A, A, C padded, lanes); the bias (K,) as (KB, lanes).

        One spatial axis gives (KB, A, C padded, lanes). Channels beyond K and C are zero, or what stands for
        zero in 24 bits. A panel of output
        channels, all its frequencies, is one run of memory: it is read front to back.
        """
        lanes = target.lanes
        if index == 2 and w.arity > 2:
            return np.pad(array, (0, -array.size % lanes)).reshape(-1, lanes)
        if index != 1:
            return super().pack(w, target, index, array)
        k, c = array.shape[:2]
        u = transformed(array, Tiling.of(ConvShape.of(w), self.m).algorithms)
        sizes = u.shape[:-2]
        packed = np.zeros((*sizes, -(-k // lanes), lanes, -(-c // lanes) * lanes), FLOAT32)
        packed.reshape(*sizes, -1, packed.shape[-1])[..., :k, :c] = u
        return encoded(np.ascontiguousarray(np.moveaxis(packed, -3, 0).swapaxes(-1, -2)), self.storage)

    def compute(self, w: Workload, target: Target) -> Any:
        """Stages over the whole map; a schedule computes them group of tiles by group of tiles."""
        s = ConvShape.of(w)
        tiling = Tiling.of(s, self.m)
        x_type = w.inputs[0]
        assert x_type is not None
        lanes = target.lanes
        kb, cb = -(-s.oc // lanes), -(-s.ic // lanes)
        x = placeholder(x_type, "x", self.halo(w, target))
        words, u = parameter((kb, *tiling.sizes, cb * lanes, lanes), "u", self.storage)
        biased = w.arity > 2 and w.inputs[2] is not None
        bias = te.placeholder((kb, lanes), FLOAT32, "bias") if biased else None
        operands = operand_placeholders(w)

        v = _input_transform(x, tiling, s.n, cb, lanes)
        product = _multiply(v, u, tiling, kb, cb, lanes)
        y = _inverse_transform(product, tiling, s.n, kb, lanes)

        windows = [m // p for m, p in zip(tiling.outputs, s.window, strict=True)]  # of a tile

        def result(n: Expr, k: Expr, *rest: Expr) -> Expr:
            *position, lane = rest
            axes = list(zip(position, windows, tiling.phases, strict=True))
            tile = [p // (m * d) * d + p % d for p, m, d in axes]
            first = [p // d % m * e for (p, m, d), e in zip(axes, s.window, strict=True)]
            value = largest(
                s.window, lambda tap: y(n, k, *tile, *(f + t for f, t in zip(first, tap, strict=True)), lane)
            )
            value = restored(value, self.storage)
            if bias is not None:
                value = value + bias[k, lane]
            return finish(value, w, operands, (n, k, *position, lane))

        out = te.compute(w.outputs[0].physical, result, OUTPUT)
        return te.create_prim_func([x, words, *([bias] if biased else []), *operands.values(), out])

    def cost(self, w: Workload, target: Target) -> float:
        """The time of the best group of tiles (`tiling.winograd.seconds`)."""
        return best_group(ConvShape.of(w), self.m, target, self.storage)[0]

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        """Largest difference between float32 and float64 on random tiles, with the layer's own weights."""
        kernel = weights[1]
        assert kernel is not None
        return sampled_error(kernel, Tiling.of(ConvShape.of(w), self.m).algorithms, self.storage)

    def reach(self, w: Workload) -> Reach:
        algorithms = Tiling.of(ConvShape.of(w), self.m).algorithms
        return Reach.WINDOW if all(a.contained for a in algorithms) else Reach.TILE


class Winograd2(Winograd):
    """F(2, r)."""

    name = "winograd2"
    m = 2


class Winograd4(Winograd):
    """F(4, r)."""

    name = "winograd4"
    m = 4


class Winograd6(Winograd):
    """F(6, r)."""

    name = "winograd6"
    m = 6


class _Winograd24(Winograd):
    """The same with U in 24 bits (`weights`), for few tiles and many channels."""

    storage = FLOAT24

    def applies(self, w: Workload, target: Target) -> str | None:
        refused = super().applies(w, target)
        if refused is not None:
            return refused
        s = ConvShape.of(w)
        if s.ic % target.lanes:
            return f"{s.ic} input channels leave lanes that need weights of zero, which 24 bits do not have"
        return None

    def refuses_weights(self, w: Workload, weights: Sequence[Array | None]) -> str | None:
        kernel = weights[1]
        assert kernel is not None
        algorithms = Tiling.of(ConvShape.of(w), self.m).algorithms
        largest = magnitude(kernel)
        if largest * largest_gain(algorithms) >= LIMIT:  # transformed ones need not be: look
            largest = magnitude(transformed(kernel, algorithms))
        return refusal(largest, "transformed weights")


class Winograd2In24(_Winograd24):
    """F(2, r), U in 24 bits."""

    name = "winograd2_24bit"
    m = 2


class Winograd4In24(_Winograd24):
    """F(4, r), U in 24 bits."""

    name = "winograd4_24bit"
    m = 4


def _stage(name: str, shape: Sequence[int], matrix: Matrix, axis: int, read: Read) -> Tensor:
    """A tensor whose `axis` is `matrix` times that axis of `read`, which takes the same indices."""
    program = straight_line(matrix)

    def element(*p: Expr) -> Expr:
        return _combine(program, p[axis], lambda r: read(*p[:axis], r, *p[axis + 1 :]))

    return te.compute(shape, element, name)


def _input_transform(x: Tensor, tiling: Tiling, n: int, cb: int, lanes: int) -> Tensor:
    """V[*freq, cb, n, *tile, lane], one axis after the other."""
    # V and M extend beyond the map so that groups may run over its edge; tiles there repeat the last one. A
    # schedule shrinks both to one group, so this costs no memory.
    rank = len(tiling.tiles)
    grid = tuple(t + OVERRUN for t in tiling.tiles)

    def pixel(b: Expr, c: Expr, *p: Expr) -> Expr:
        tile = [te.min(t, count - 1) for t, count in zip(p[:rank], tiling.tiles, strict=True)]
        axes = zip(tile, p[rank:-1], tiling.algorithms, tiling.phases, strict=True)
        return x(b, c, *(t // d * d * a.m * a.stride + t % d + i * d for t, i, a, d in axes), p[-1])

    source: Read = pixel
    *early, final = tiling.axes
    for axis in early:
        shape = (n, cb, *grid, *tiling.sizes, lanes)
        source = _stage(
            f"{INPUT_TRANSFORM}_{axis}", shape, tiling.algorithms[axis].bt, 2 + rank + axis, source
        )
    return _stage(
        INPUT_TRANSFORM,
        (*tiling.sizes, cb, n, *grid, lanes),
        tiling.algorithms[final].bt,
        final,
        lambda *p: source(p[rank + 1], p[rank], *p[rank + 2 : -1], *p[:rank], p[-1]),
    )


def _multiply(v: Tensor, u: Tensor, tiling: Tiling, kb: int, cb: int, lanes: int) -> Tensor:
    """M[*freq, kb, n, *tile, lane]: a product of U and V for every frequency."""
    rank = len(tiling.tiles)
    co, ci = te.reduce_axis((0, cb), "co"), te.reduce_axis((0, lanes), "ci")
    return te.compute(
        (*tiling.sizes, kb, *v.shape[rank + 1 :]),
        lambda *p: te.sum(
            v(*p[:rank], co, *p[rank + 1 : -1], ci) * u(p[rank], *p[:rank], co * lanes + ci, p[-1]),
            axis=[co, ci],
        ),
        MULTIPLY,
    )


def _inverse_transform(product: Tensor, tiling: Tiling, n: int, kb: int, lanes: int) -> Tensor:
    """Y[n, kb, *tile, *inner, lane], one axis after the other."""
    rank = len(tiling.tiles)
    grid = tuple(t + OVERRUN for t in tiling.tiles)
    extents = list(tiling.sizes)

    def source(b: Expr, k: Expr, *p: Expr) -> Expr:
        return product(*p[rank:-1], k, b, *p[:rank], p[-1])

    y: Read = source
    for axis in tiling.axes:
        extents[axis] = tiling.outputs[axis]
        name = INVERSE_TRANSFORM if axis == tiling.axes[-1] else f"{INVERSE_TRANSFORM}_{axis}"
        y = _stage(name, (n, kb, *grid, *extents, lanes), tiling.algorithms[axis].at, 2 + rank + axis, y)
    return y
