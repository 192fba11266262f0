"""Convolution through the discrete Fourier transform, for large kernels: far fewer multiplications.

The input is cut into overlapping tiles (overlap-save: Oppenheim and Schafer, Discrete-Time Signal
Processing, section 8.7), each transformed, multiplied with the transformed kernel frequency by frequency and
channel by channel, and transformed back. As in Winograd's method (both are tiled bilinear algorithms:
Zlateski, Jia, Li and Durand, arXiv 1809.07851), the product over channels is a batch of matrix products.
With r taps along each axis and tiles of t pixels an output costs about 3/2 t^2 / (t - r + 1)^2 real
multiplications for each pair of channels, instead of r^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.lowering import fft_kernel
from convc.lowering.base import Layouts, Lowering, blocked_like
from convc.lowering.fft_cost import choose, seconds
from convc.lowering.fft_tiling import Tiling, as_pair, spans
from convc.target import Target
from convc.types import Array, Layout
from convc.workload import ConvShape, Halo, Workload


LARGEST_SPAN = 32
"""The widest kernel, dilation included: half of the largest tile."""


class Fft(Lowering):
    """Tiled FFT convolution, dense or depthwise, of stride 1 over one or two axes."""

    name = "fft"
    ops = ("conv",)

    def applies(self, w: Workload, target: Target) -> str | None:
        s = ConvShape.of(w)
        x = w.inputs[0]
        assert x is not None
        if x.dtype != "float32":
            return f"it computes in float32, not {x.dtype}"
        if len(s.input) > 2:
            return f"it covers 1 or 2 spatial axes, not {len(s.input)}"
        if max(s.strides) > 1:
            return f"with strides {s.strides} it would compute {math.prod(s.strides)} times too much"
        if s.groups > 1 and not s.depthwise:
            return f"it covers dense and depthwise convolutions, not {s.groups} groups"
        if max(spans(s)) > LARGEST_SPAN:
            return (
                f"the kernel spans {max(spans(s))} pixels, more than the {LARGEST_SPAN} of its largest tile"
            )
        if not all(w.constant[1 : w.arity]):
            return "weights and bias must be constants, transformed at compile time"
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        return blocked_like(w, target, inputs=(0,))

    def halo(self, w: Workload, target: Target) -> Halo:
        """The padding, enlarged at the far ends so that every tile is inside."""
        s = ConvShape.of(w)
        return self.halo_of(s, choose(s, target))

    def halo_of(self, s: ConvShape, t: Tiling) -> Halo:
        """The halo that a tiling needs."""
        needed = tuple((n - 1) * m + size for n, m, size in zip(t.count, t.out, t.tile, strict=True))
        return tuple(
            (before, total - size - before)
            for (before, _), size, total in zip(s.pads, s.input, needed[-len(s.input) :], strict=True)
        )

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        if index == 1:
            s = ConvShape.of(w)
            return pack_weights(s, choose(s, target), target.lanes, array)
        if index == 2:
            return _blocks(array, target.lanes).astype(array.dtype)
        return super().pack(w, target, index, array)

    def compute(self, w: Workload, target: Target) -> Any:
        s = ConvShape.of(w)
        return self.compute_of(w, target, s, choose(s, target))

    def compute_of(self, w: Workload, target: Target, s: ConvShape, t: Tiling) -> Any:
        """The kernel for a given tiling."""
        params = {}
        for i, kind in enumerate(w.inputs):
            if kind is not None:
                params[i] = kind.physical
        spatial = [
            before + size + after for (before, after), size in zip(self.halo_of(s, t), s.input, strict=True)
        ]
        params[0] = (s.n, -(-s.ic // target.lanes), *spatial, target.lanes)
        params[1] = weights_shape(s, t, target.lanes)
        if w.arity > 2 and 2 in params:
            params[2] = (-(-s.oc // target.lanes), target.lanes)
        return fft_kernel.build(w, s, t, target.lanes, params)

    def cost(self, w: Workload, target: Target) -> float:
        s = ConvShape.of(w)
        return seconds(s, choose(s, target), target)


def transformed(s: ConvShape, t: Tiling, weights: Array) -> Array:
    """The spectrum (F, K, C / groups) in complex128 by which correlation with `weights` multiplies, scaled."""
    taps = np.zeros((*weights.shape[:2], *t.tile))
    steps = as_pair(s.dilations)
    kernel = as_pair(s.kernel)
    taps[:, :, : (kernel[0] - 1) * steps[0] + 1 : steps[0], : (kernel[1] - 1) * steps[1] + 1 : steps[1]] = (
        weights.reshape(*weights.shape[:2], *kernel)
    )
    spectrum = np.fft.rfft2(taps).conj() / math.prod(t.tile)
    return t.select(np.moveaxis(spectrum, (2, 3), (0, 1)))


def _blocks(array: Array, lanes: int, axis: int = 0) -> Array:
    """Split an axis into (blocks, lanes), lanes last, with zeros beyond its end."""
    array = np.moveaxis(array, axis, -1)
    padded = np.zeros((*array.shape[:-1], -(-array.shape[-1] // lanes) * lanes), array.dtype)
    padded[..., : array.shape[-1]] = array
    return np.moveaxis(padded.reshape(*array.shape[:-1], -1, lanes), -2, axis)


def weights_shape(s: ConvShape, t: Tiling, lanes: int) -> tuple[int, ...]:
    """The stored shape of the weights."""
    kb = -(-s.oc // lanes)
    if s.depthwise:
        return (kb, t.frequencies, 2, lanes)
    channels = s.ic if s.ic < lanes else -(-s.ic // lanes) * lanes
    if t.products == 3:
        return (t.frequencies, 3, kb, channels, lanes)
    return (t.frequencies, kb, channels, 2, lanes)


def pack_weights(s: ConvShape, t: Tiling, lanes: int, weights: Array) -> Array:
    """Transform in float64 and store as the kernel's product reads; see `weights_shape`."""
    u = transformed(s, t, weights.astype(np.float64))
    re, im = u.real, u.imag
    packed = np.zeros(weights_shape(s, t, lanes), np.float32)
    if s.depthwise:
        packed[:, :, 0] = _blocks(re[:, :, 0], lanes, 1).swapaxes(0, 1)
        packed[:, :, 1] = _blocks(im[:, :, 0], lanes, 1).swapaxes(0, 1)
    elif t.products == 3:
        for part, values in enumerate((im - re, re + im, re)):
            packed[:, part, :, : s.ic] = _blocks(values, lanes, 1)
    else:
        packed[:, :, : s.ic, 0], packed[:, :, : s.ic, 1] = _blocks(re, lanes, 1), _blocks(im, lanes, 1)
    return packed
