"""Winograd convolution along the rows of a map, for the few channels of a network's first layer.

With F(m, r) of `cook_toom` along the width alone, a tile being m neighbouring outputs of a row:

    V[row, c, f, t] = (B^T d)[f]         of row and channel in tile t              once for each input row
    M[f, k, t]      = sum_{kh, c} U[k, f, kh, c] * V[oh * stride + kh, c, f, t]    kernel rows are summed
    y               = epilogue(A^T M + bias)                                       m outputs

In two dimensions a sum has a term for each input channel: with 3 of them the transforms take longer than the
products that they save. Here it has one for each channel and kernel row, 21 with 7x7, while the transforms
are those of one axis, and those of the input are shared by all kernel rows. Stride 2 takes the products of
its phases, 13 instead of 28 for 4 outputs of 7 taps, 23 instead of 44 for 11 taps with stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.dtype import FLOAT32
from convc.lowering.base import Layouts, Lowering, Reach, blocked_like
from convc.lowering.cook_toom import POINTS, CookToom, cook_toom
from convc.lowering.direct import pack_vector, refusal
from convc.lowering.filtering import sampled_error, transformed
from convc.lowering.winograd_rows_kernel import BIAS, WEIGHTS, build
from convc.target import Target
from convc.tiling.product import narrow
from convc.tiling.winograd_rows import OUTPUTS, RowShape, Tiling, choose, seconds
from convc.types import PLAIN, Array
from convc.workload import ConvShape, Workload

MOST_TAPS = len(POINTS) + 2 - OUTPUTS
"""Taps of a phase for which F(m, r) has points."""


class WinogradRows(Lowering):
    """F(m, r) along the last axis, sums over channels and kernel rows; input in plain layout."""

    name = "winograd_rows"
    ops = ("conv",)
    exact = False
    spreads = "the outputs of its tile"

    def applies(self, w: Workload, target: Target) -> str | None:
        if (reason := refusal(w)) is not None:
            return reason
        s = ConvShape.of(w)
        if len(s.kernel) > 2:
            return f"it has transforms for rows of 1 and 2 spatial axes, not {len(s.kernel)}"
        if not narrow(s, target):
            return f"input of {s.ic} channels in {s.groups} groups is no plain map of at most 4 channels"
        if set(s.dilations) != {1}:
            return f"it needs unit dilations, not {s.dilations}"
        taps, stride = s.kernel[-1], s.strides[-1]
        if taps <= stride:
            return f"with stride {stride} an input meets one of {taps} taps along a row: nothing to share"
        if (longest := -(-taps // stride)) > MOST_TAPS:
            return f"{longest} taps in a phase would need more than the {len(POINTS)} points that are known"
        return None

    def layouts(self, w: Workload, target: Target) -> Layouts:
        blocked = blocked_like(w, target, inputs=(0,))
        return Layouts((PLAIN, *blocked.inputs[1:]), blocked.outputs)

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        """Weights (K, C, *kernel) as U (K / lanes, frequencies, kernel rows * C, lanes), 0 beyond K."""
        if index == BIAS and w.arity > BIAS:
            return pack_vector(array, target)
        if index != WEIGHTS:
            return super().pack(w, target, index, array)
        algorithm = _algorithm(ConvShape.of(w))
        u = transformed(_one_axis(array), (algorithm,)).astype(FLOAT32)
        return pack_vector(np.ascontiguousarray(u.swapaxes(0, 1)), target)

    def compute(self, w: Workload, target: Target) -> Any:
        return self.compute_for(w, target, choose(ConvShape.of(w), target))

    def compute_for(self, w: Workload, target: Target, config: Tiling) -> Any:
        s = ConvShape.of(w)
        rows, algorithm = RowShape.of(s), _algorithm(s)
        blocks, lanes = w.outputs[0].physical[1], target.lanes
        packed = {WEIGHTS: (blocks, algorithm.size, rows.terms, lanes), BIAS: (blocks, lanes)}
        shapes = {i: kind.physical for i, kind in enumerate(w.inputs) if kind is not None}
        shapes.update({i: shape for i, shape in packed.items() if i < w.arity and i in shapes})
        return build(w, rows, algorithm, config, lanes, shapes)

    def cost(self, w: Workload, target: Target) -> float:
        s = ConvShape.of(w)
        return seconds(s, choose(s, target), target)

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        """Largest difference between float32 and float64 on random tiles, with the layer's own weights."""
        kernel = weights[WEIGHTS]
        assert kernel is not None
        return sampled_error(_one_axis(kernel), (_algorithm(ConvShape.of(w)),))

    def reach(self, w: Workload) -> Reach:
        return Reach.WINDOW if _algorithm(ConvShape.of(w)).contained else Reach.TILE


def _algorithm(s: ConvShape) -> CookToom:
    return cook_toom(OUTPUTS, s.kernel[-1], s.strides[-1])


def _one_axis(weights: Array) -> Array:
    """(K, C, *kernel) as (K, kernel rows * C, kernel columns): every row a set of channels of its own."""
    k, _, *_, columns = weights.shape
    return np.moveaxis(weights, 1, -2).reshape(k, -1, columns)
