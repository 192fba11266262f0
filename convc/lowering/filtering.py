"""Minimal filtering in NumPy: weights transformed in advance, and how far off an algorithm's results are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from convc.dtype import FLOAT64
from convc.lowering.cook_toom import CookToom, to_float
from convc.lowering.weights import as_stored
from convc.tiling.storage import UNPACKED, Storage
from convc.types import Array

SAMPLED_CHANNELS = 16
SAMPLED_TILES = 8
PESSIMISM = 4.0
"""Ratio of a bound to the error of its sample: the largest error among the 1e5 and more outputs of a layer is
up to 3 times that among the sampled ones (measured on the layers of ResNet, VGG and Inception)."""


def transformed(weights: Array, algorithms: Sequence[CookToom]) -> Array:
    """U (*sizes, K, C) in float64 of weights (K, C, *kernel)."""
    u = np.moveaxis(weights.astype(FLOAT64), (0, 1), (-2, -1))
    for axis, a in enumerate(algorithms):
        u = _along(_floats(a, "g", u.dtype), u, axis)
    return u


def largest_gain(algorithms: Sequence[CookToom]) -> float:
    """By how much the largest transformed weight may exceed the largest weight."""
    g = (_floats(a, "g", np.dtype(FLOAT64)) for a in algorithms)
    return math.prod(float(abs(matrix).sum(axis=1).max()) for matrix in g)


def sampled_error(weights: Array, algorithms: Sequence[CookToom], storage: Storage = UNPACKED) -> float:
    """Largest difference between the algorithms in float32 and in float64, on random tiles.

    The input is normal; of the weights (K, C, *kernel) up to SAMPLED_CHANNELS output channels are taken,
    spread over all, with every input channel. The difference is relative to the largest output of the sample.
    A layer has many more outputs than the sample, so its largest error is larger: PESSIMISM covers that (see
    there). Transformed weights count with the values that `storage` leaves them.
    """
    u = transformed(weights[:: -(-weights.shape[0] // SAMPLED_CHANNELS)], algorithms)
    exact = _filtered(u, algorithms)
    stored = as_stored(u.swapaxes(-1, -2), storage).swapaxes(-1, -2)
    inexact = _filtered(stored, algorithms)
    largest = float(abs(exact).max())
    return PESSIMISM * float(abs(inexact - exact).max()) / largest if largest > 0 else 0.0


def _filtered(u: Array, algorithms: Sequence[CookToom]) -> Array:
    """Outputs (*m, K, tiles) of random tiles under weights `u` (*sizes, K, C), in their dtype."""
    y: Array = u @ _transformed_tiles(u.shape[-1], tuple(algorithms), u.dtype)
    for axis, a in enumerate(algorithms):
        y = _along(_floats(a, "at", y.dtype), y, axis)
    return y


@lru_cache(maxsize=16)
def _transformed_tiles(channels: int, algorithms: tuple[CookToom, ...], dtype: Any) -> Array:
    """Normal tiles (*sizes, C, tiles), the same ones each time, in the transformed domain."""
    shape = (*(a.size for a in algorithms), channels, SAMPLED_TILES)
    v: Array = np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)
    for axis, a in enumerate(algorithms):
        v = _along(_floats(a, "bt", v.dtype), v, axis)
    return v


@lru_cache(maxsize=256)
def _floats(algorithm: CookToom, matrix: str, dtype: Any) -> Array:
    """The matrix `at`, `g` or `bt` of an algorithm."""
    return to_float(getattr(algorithm, matrix), dtype)


def _along(matrix: Array, array: Array, axis: int) -> Array:
    """`matrix` times every vector of `array` along `axis`."""
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    flat = array.reshape(math.prod(before), array.shape[axis], -1)
    return (matrix @ flat).reshape(*before, len(matrix), *after)
