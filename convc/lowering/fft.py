"""Convolution through the discrete Fourier transform, for large kernels: far fewer multiplications.

The input is cut into overlapping tiles (overlap-save: Oppenheim and Schafer, Discrete-Time Signal
Processing, section 8.7), each transformed, multiplied with the transformed kernel frequency by frequency,
and transformed back. As in Winograd's method (both are tiled bilinear algorithms: Zlateski, Jia, Li and
Durand, arXiv 1809.07851), the product over channels is a batch of matrix products, one a frequency.
With r taps along each axis and tiles of t pixels an output costs about 3/2 t^2 / (t - r + 1)^2 real
multiplications for each pair of channels, instead of r^2. A dilated kernel is a larger kernel with zeros,
and costs no more than its span.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.lowering import fft_kernel
from convc.lowering.base import Layouts, Lowering, Reach, blocked_like, other_format
from convc.target import Target
from convc.tiling import dft
from convc.tiling.fft import LARGEST_SPAN, SIZES, Tiling, as_pair, choose, reach, seconds, spans
from convc.types import Array, TensorType
from convc.workload import ConvShape, Halo, Workload

PIECE = 1 << 24
"""Elements of padded weights that are transformed at a time: bounds the memory of spectra in complex128."""

SAMPLES = 8
"""Output channels (and pixels of channels' tiles: a fourth of it) on which the error is estimated."""


class Fft(Lowering):
    """Tiled FFT convolution, dense or depthwise, of stride 1, over one or two axes.

    Weights are stored as `weights_shape` says, bias as (oc blocks, lanes).
    """

    name = "fft"
    ops = ("conv",)
    exact = False
    spreads = "the outputs of its tile"

    def applies(self, w: Workload, target: Target) -> str | None:
        """None, or the reason why not."""
        s = ConvShape.of(w)
        if reason := other_format(w):
            return reason
        if len(s.input) > 2:
            return f"it covers 1 or 2 spatial axes, not {len(s.input)}"
        if max(s.strides) > 1:
            return f"with strides {s.strides} it would compute {math.prod(s.strides)} times too much"
        if s.groups > 1 and not s.depthwise:
            return f"it covers dense and depthwise convolutions, not {s.groups} groups of {s.ic // s.groups}"
        if max(spans(s)) == 1:
            return "a kernel of one tap has nothing to transform"
        if max(spans(s)) > LARGEST_SPAN:
            return f"the kernel spans {max(spans(s))} pixels, more than {LARGEST_SPAN}"
        if not all(w.constant[1 : w.arity]):
            return "weights and bias must be constants, transformed at compile time"
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        """Blocked input, output and operands."""
        return blocked_like(w, target, inputs=(0,))

    def halo(self, w: Workload, target: Target) -> Halo:
        """The padding, enlarged at the far ends so that every tile is inside."""
        s = ConvShape.of(w)
        return _halo(s, choose(s, target))

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        """Weights transformed, bias in vectors."""
        if index == 1:
            s = ConvShape.of(w)
            return pack_weights(s, choose(s, target), target.lanes, array)
        if index == 2 and w.arity > 2:
            return _vectors(array, target.lanes, axis=0)
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        """The kernel with the cheapest tiles."""
        return compute(w, choose(ConvShape.of(w), target), target)

    def cost(self, w: Workload, target: Target) -> float:
        """Predicted seconds on all threads, for the cheapest tiles."""
        s = ConvShape.of(w)
        return seconds(s, choose(s, target), target)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        """Error of float32 against float64 on random tiles and a few output channels, doubled.

        The tile is one whose output is as wide as the kernel: rounding grows but with its logarithm.
        """
        s, kernel = ConvShape.of(w), weights[1]
        assert kernel is not None
        axes = zip(as_pair(spans(s)), as_pair(s.output), strict=True)
        tile = tuple(1 if r == 1 else min(t for t in SIZES if t >= r + min(r, o) - 1) for r, o in axes)
        out = tuple(t - r + 1 for t, r in zip(tile, as_pair(spans(s)), strict=True))
        t = Tiling((tile[0], tile[1]), (out[0], out[1]), (1, 1), 1, 1, 1, 3)
        rng = np.random.default_rng(0)
        chosen = rng.permutation(s.oc)[:SAMPLES]
        inputs = chosen if s.depthwise else np.arange(s.ic)
        x = rng.standard_normal((*t.tile, len(inputs), SAMPLES // 4)).astype(np.float32)
        u = transformed(s, t, kernel[chosen].astype(np.float64))
        exact = convolve_tiles(t, x.astype(np.float64), u, depthwise=s.depthwise)
        error = np.abs(convolve_tiles(t, x, u, depthwise=s.depthwise) - exact).max()
        return float(2 * error / max(np.abs(exact).max(), np.finfo(np.float32).tiny))

    def reach(self, w: Workload) -> Reach:
        return Reach.TILE


def compute(w: Workload, t: Tiling, target: Target) -> Any:
    """The kernel for a given tiling."""
    s = ConvShape.of(w)
    shapes = {i: kind.physical for i, kind in enumerate(w.inputs) if kind is not None}
    spatial = [before + size + after for (before, after), size in zip(_halo(s, t), s.input, strict=True)]
    shapes[0] = (s.n, -(-s.ic // target.lanes), *spatial, target.lanes)
    shapes[1] = weights_shape(s, t, target.lanes)
    if w.arity > 2 and 2 in shapes:
        shapes[2] = (-(-s.oc // target.lanes), target.lanes)
    params = {i: TensorType(shape) for i, shape in shapes.items()}
    return fft_kernel.build(w, s, t, target.lanes, params)


def _halo(s: ConvShape, t: Tiling) -> Halo:
    """Rows of zeros before and after each axis such that every tile is inside."""
    needed = tuple((n - 1) * m + size for n, m, size in zip(t.count, t.out, t.tile, strict=True))
    axes = range(-len(s.input), 0)
    return tuple(
        (0, 0) if t.wrapped[axis] else (s.pads[axis][0], needed[axis] - s.input[axis] - s.pads[axis][0])
        for axis in axes
    )


def transformed(s: ConvShape, t: Tiling, weights: Array) -> Array:
    """Weights (K, C / groups, *kernel) -> the spectrum (F, K, C / groups) by which correlation multiplies.

    The scale of the two inverse transforms is in it.
    """
    kernel = weights.reshape(*weights.shape[:2], *as_pair(s.kernel))
    taps = np.zeros((*weights.shape[:2], *t.tile))
    (rows, down), (columns, across) = _places(s, t, 0), _places(s, t, 1)
    taps[:, :, down[:, None], across] = kernel[:, :, rows[:, None], columns]
    spectrum = np.fft.rfft2(taps).conj() / math.prod(t.tile)
    return t.select(np.moveaxis(spectrum, (2, 3), (0, 1)))


def _places(s: ConvShape, t: Tiling, axis: int) -> tuple[Array, Array]:
    """The taps that count along an axis, and their places in the tile.

    Where the tile wraps around, its first pixel is the input's first: an offset of -1 is its last pixel, and
    taps whose offsets leave the input at every output are left out.
    """
    taps = np.arange(as_pair(s.kernel)[axis])
    offsets = taps * as_pair(s.dilations)[axis]
    if not t.wrapped[axis]:
        return taps, offsets
    before = s.pads[axis - 2 + len(s.pads)][0]
    size, output, span = (as_pair(pair)[axis] for pair in (s.input, s.output, spans(s)))
    first, last = reach(span, size, output, before)
    seen = (first <= offsets - before) & (offsets - before <= last)
    return taps[seen], (offsets[seen] - before) % t.tile[axis]


def _vectors(array: Array, lanes: int, axis: int) -> Array:
    """Split an axis into blocks of `lanes`, lanes last, with zeros beyond its end."""
    last = np.moveaxis(array, axis, -1)
    padded = np.zeros((*last.shape[:-1], -(-last.shape[-1] // lanes) * lanes), array.dtype)
    padded[..., : last.shape[-1]] = last
    return np.ascontiguousarray(np.moveaxis(padded.reshape(*last.shape[:-1], -1, lanes), -2, axis))


def weights_shape(s: ConvShape, t: Tiling, lanes: int) -> tuple[int, ...]:
    """The stored shape of the weights.

    Depthwise (blocks, F, 2, lanes). Dense with three products (F, 3, K blocks, C, lanes), with four
    (F, K blocks, C, 2, lanes), in the order in which the product reads them; C is filled up to whole blocks.
    """
    blocks = -(-s.oc // lanes)
    if s.depthwise:
        return (blocks, t.frequencies, 2, lanes)
    channels = s.ic if s.ic < lanes else -(-s.ic // lanes) * lanes
    if t.products == 3:
        return (t.frequencies, 3, blocks, channels, lanes)
    return (t.frequencies, blocks, channels, 2, lanes)


def pack_weights(s: ConvShape, t: Tiling, lanes: int, weights: Array) -> Array:
    """Transform in float64 and store as the kernel's product reads; see `weights_shape`."""
    packed = np.zeros(weights_shape(s, t, lanes), np.float32)
    step = max(1, PIECE // (weights.shape[1] * math.prod(t.tile)))
    step = -(-step // lanes) * lanes
    for start in range(0, s.oc, step):
        u = _vectors(transformed(s, t, weights[start : start + step].astype(np.float64)), lanes, axis=1)
        u = np.moveaxis(u, 1, 0)  # (K blocks, F, C / groups, lanes)
        place = slice(start // lanes, start // lanes + len(u))
        if s.depthwise:
            packed[place, :, 0], packed[place, :, 1] = u.real[:, :, 0], u.imag[:, :, 0]
        elif t.products == 3:
            for part, values in enumerate((u.imag - u.real, u.real + u.imag, u.real)):
                packed[:, part, place, : s.ic] = values.swapaxes(0, 1)
        else:
            packed[:, place, : s.ic, 0], packed[:, place, : s.ic, 1] = (
                u.real.swapaxes(0, 1),
                u.imag.swapaxes(0, 1),
            )
    return packed


def convolve_tiles(t: Tiling, x: Array, u: Array, *, depthwise: bool) -> Array:
    """The kernel's arithmetic in NumPy, in the dtype of x.

    x: (t0, t1, C, tiles), spectrum u: (F, K, C / groups); returns the output tiles (m0, m1, K, tiles).
    """
    lines = dft.real_forward(t.tile[1]).apply(x.swapaxes(0, 1)).reshape(-1, 2, *x.shape[:1], *x.shape[2:])
    spectrum = []
    for j in sorted(range(t.columns), key=t.slot):
        if t.slot(j) < t.real_columns:
            column = dft.real_forward(t.tile[0]).apply(lines[j, 0])
        else:
            column = dft.complex_forward(t.tile[0]).apply(lines[j].swapaxes(0, 1).reshape(-1, *x.shape[2:]))
        spectrum.append(column.reshape(-1, 2, *x.shape[2:]))
    product = _multiply(
        np.concatenate(spectrum), u.real.astype(x.dtype), u.imag.astype(x.dtype), depthwise=depthwise
    )
    kept = np.zeros((t.columns, 2, t.out[0], *product.shape[2:]), x.dtype)
    start = 0
    for j in sorted(range(t.columns), key=t.slot):
        real = t.slot(j) < t.real_columns
        height = t.real_height if real else t.tile[0]
        column = product[start : start + height].reshape(-1, *product.shape[2:])
        start += height
        if real:
            kept[j, 0] = dft.real_backward(*_pair(t, 0)).apply(column)
        else:
            values = dft.complex_backward(*_pair(t, 0)).apply(column)
            kept[j] = values.reshape(-1, 2, *product.shape[2:]).swapaxes(0, 1)
    pixels: Array = dft.real_backward(*_pair(t, 1)).apply(kept.reshape(-1, *kept.shape[2:])).swapaxes(0, 1)
    return pixels


def _pair(t: Tiling, axis: int) -> tuple[int, int]:
    return t.tile[axis], t.out[axis]


def _multiply(x: Array, u_re: Array, u_im: Array, *, depthwise: bool) -> Array:
    """Three real products for a complex one: x (F, 2, C, tiles), u (F, K, C / groups) -> (F, 2, K, tiles)."""

    def product(u: Array, v: Array) -> Array:
        return u * v if depthwise else u @ v

    first, second = product(u_im - u_re, x[:, 0]), product(u_re + u_im, x[:, 1])
    third = product(u_re, x[:, 0] + x[:, 1])
    return np.stack([third - second, third + first], axis=1)
