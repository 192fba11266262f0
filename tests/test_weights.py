"""Weights in 24 bits: the format as its description has it, what it loses, and who refuses it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convc.compiler import Options, plan
from convc.errors import OptionError
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.lowering.weights import encoded, rounded, storage_error
from convc.progress import Progress
from convc.tiling.storage import FLOAT24, FLOAT32
from convc.types import Array

LEAST, LIMIT = 2.0**-28, 16.0


def decoded(words: Array) -> Array:
    """(..., K / 4 * 3, lanes) words as the float64 (..., K, lanes) for which they stand, bit by bit."""
    *outer, count, lanes = words.shape
    w = words.view("uint32").astype("int64").reshape(*outer, count // 3, 3, lanes)
    fourth = (w[..., 0, :] & 255) << 16 | (w[..., 1, :] & 255) << 8 | w[..., 2, :] & 255
    # of the first three rows the low byte is part of their value as well
    rows = np.stack([*np.moveaxis(w, -2, 0), fourth << 8], axis=-2).reshape(*outer, -1, lanes)
    sign, exponent, mantissa = rows >> 31, rows >> 26 & 31, (rows & (1 << 26) - 1) >> 3 << 3
    value: Array = (-1.0) ** sign * (1 + mantissa / 2.0**26) * 2.0 ** (exponent - 28)
    return value


def spread(rng: np.random.Generator, *shape: int) -> Array:
    """Weights of all magnitudes that the format has."""
    values = rng.choice([-1, 1], shape) * 2.0 ** rng.uniform(-28, 4, shape)
    return np.clip(values.astype("float32"), -15.9999, 15.9999)


@pytest.mark.parametrize("shape", [(3, 8, 16), (1, 2, 3, 64, 8), (2, 4, 4)])
def test_every_weight_comes_back_within_half_a_step(shape):
    weights = spread(np.random.default_rng(0), *shape)
    words = encoded(weights, FLOAT24)
    assert words.dtype == np.int32
    assert words.nbytes * 4 == weights.nbytes * 3
    back = decoded(words)
    assert (np.abs(back - weights) <= 2.0**-19 * np.abs(weights)).all()
    assert np.abs(back - rounded(weights, FLOAT24)).max() <= 2.0**-18 * LIMIT


def test_small_weights_alternate_and_the_largest_does_not_overflow():
    weights = np.zeros((1, 8, 4), "float32")
    weights[0, :, 1] = 1e-30
    weights[0, :, 2] = np.nextafter(np.float32(LIMIT), np.float32(0))
    weights[0, :, 3] = -weights[0, :, 2]
    back = decoded(encoded(weights, FLOAT24))
    signs = np.where(np.arange(8) % 2, -1.0, 1.0)
    for column in (0, 1):
        assert np.abs(back[0, :, column] - signs * LEAST).max() <= 2.0**-17 * LEAST
        assert abs(back[0, :, column].sum()) <= 2.0**-14 * LEAST
    for column, sign in ((2, 1), (3, -1)):
        assert np.abs(back[0, :, column] - sign * LIMIT).max() <= 2.0**-18 * LIMIT


def test_error_says_what_cannot_be_stored():
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((64, 64)).astype("float32")
    assert storage_error(weights, FLOAT32) == 0
    assert 2.0**-19 <= storage_error(weights, FLOAT24) < 2.0**-18.9
    assert storage_error(weights * 1e-8, FLOAT24) > 0.1  # most fall below what can be stored
    assert math.isinf(storage_error(weights, FLOAT24, gain=16))
    weights[3, 4] = np.nan
    assert math.isinf(storage_error(weights, FLOAT24))
    assert storage_error(np.zeros((4, 4), "float32"), FLOAT24) == 0


def network(largest: float) -> Graph:
    """A fully connected layer that caches cannot keep, with one weight of this magnitude."""
    net = Network("wide")
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((4096, 2048)) * 0.02).astype("float32")
    weights[7, 9] = largest
    x = net.input("x", (1, 2048))
    net.output(net.linear(x, 4096, weight=weights, name="fc"))
    return net.graph


def chosen(graph: Graph, **options: object) -> str:
    """The lowering of the only layer, on a machine that was not measured."""
    found = plan(graph, Options("znver4", 2, **options), Progress())  # type: ignore[arg-type]
    return next(c.lowering.name for n, c in found.choices.items() if n.op == "gemm")


def test_selection_weighs_memory_against_error():
    assert chosen(network(0.5)) == "gemm_24bit"
    assert chosen(network(0.5), max_error=1e-6) == "gemm"  # 2^-19 is 1.9e-6
    assert chosen(network(16.0)) == "gemm"


def test_what_cannot_be_stored_is_not_forced():
    with pytest.raises(OptionError, match=r"'gemm_24bit' cannot store the weights of 'fc'"):
        chosen(network(-20.0), algorithms={"fc": "gemm_24bit"})
