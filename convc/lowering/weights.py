"""Weights in memory as float32, or in 24 bits: three quarters of the bytes where memory is waited for.

A 24-bit weight has a sign, 5 bits of exponent e and 18 of mantissa m, and stands for

    +-(1 + m / 2^18) * 2^(e - 28)        2^-28 to 16 in magnitude, with a relative error of at most 2^-19

Smaller ones, zero among them, become +-2^-28, the sign by turns, so that sums over many cancel (lanes
beyond the channels of an input, which may hold anything, need true zeros); 16 and more cannot be stored.
Four rows of a matrix (..., K, lanes) are stored in three rows of 32-bit words:

    word 0   sign e m of row 0 | bits 23 to 16 of row 3
    word 1   sign e m of row 1 | bits 15 to 8 of row 3
    word 2   sign e m of row 2 | bits 7 to 0 of row 3

A word, its sign kept, shifted right by 3, is a float32 less the leading bits of its exponent, which are set:
two instructions a vector, and five more to gather row 3. The low bits of the first three rows are row 3's,
known in advance, so that their own bits are chosen to come nearest with them. Sums are RANGE times too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from convc.tiling.storage import FLOAT32, Storage
from convc.types import Array
from convc.workload import WEIGHTS

WORDS = 3
"""Rows of words that hold `Storage.rows` rows of weights."""
RANGE = 8.0
"""Weights are divided by it, so that the largest exponent that two set bits can lead is that of 16."""
LIMIT = 2 * RANGE
LEAST = RANGE * 2.0**-31
ROUNDING = 2.0**-19

_MANTISSA = 23
_LEADING = 0b011 << (_MANTISSA + 5)  # what every exponent begins with
_SIGN = 1 << 31


def stored(shape: Sequence[int], storage: Storage) -> tuple[tuple[int, ...], str]:
    """The shape and type of the array that holds weights of this shape, (..., K, lanes)."""
    *outer, terms, lanes = shape
    if storage == FLOAT32:
        return (*outer, terms, lanes), "float32"
    return (*outer, terms // storage.rows * WORDS, lanes), "int32"


def parameter(shape: Sequence[int], name: str, storage: Storage) -> tuple[Any, Any]:
    """A kernel's parameter for weights of this shape, (..., K, lanes), and them as float32."""
    words = te.placeholder(*stored(shape, storage), name)
    if storage == FLOAT32:
        return words, words

    def element(*index: Any) -> Any:
        *where, k, lane = index
        first = k // storage.rows * WORDS
        a, b, c = (words(*where, first + i, lane) for i in range(WORDS))
        value = _float((a << 24) | ((b << 16) & 0x00FF0000) | ((c << 8) & 0x0000FF00))
        for row, word in enumerate((a, b, c)):
            value = tirx.Select(k % storage.rows == row, _float(word), value)
        return value

    return words, te.compute(tuple(shape), element, name=WEIGHTS)


def _float(word: Any) -> Any:
    kept = tirx.const((_SIGN | (1 << 28) - 1) - (1 << 32), "int32")  # of the sign's copies, one
    return tirx.reinterpret("float32", ((word >> 3) & kept) | tirx.const(_LEADING, "int32"))


def restored(total: Any, storage: Storage) -> Any:
    """A sum of products with stored weights, at its own magnitude."""
    return total if storage == FLOAT32 else total * tirx.const(RANGE, "float32")


def encoded(weights: Array, storage: Storage) -> Array:
    """Weights (..., K, lanes) as they are stored. In 24 bits K is a multiple of 4, and none is 16 or more."""
    if storage == FLOAT32:
        return weights
    *_, terms, lanes = weights.shape
    packed = np.empty(*stored(weights.shape, storage))
    panels = weights.reshape(-1, terms, lanes)
    for panel, result in zip(panels, packed.reshape(len(panels), -1, lanes), strict=True):
        result[:] = _encoded(panel, storage.rows)  # one by one: temporaries stay small
    return packed


def _encoded(weights: Array, rows: int) -> Array:
    """Weights (K, lanes) as words."""
    terms, lanes = weights.shape
    bits = np.ascontiguousarray(weights / np.float32(RANGE)).view("uint32")
    sign, magnitude = bits & np.uint32(_SIGN), bits & np.uint32(_SIGN - 1)
    small = magnitude < _LEADING
    by_turns = (np.arange(terms, dtype="uint32") % 2 << 31)[:, None]
    sign = np.where(small, by_turns, sign).reshape(-1, rows, lanes)
    magnitude = (np.where(small, 0, magnitude - np.uint32(_LEADING)) << 3).astype("uint32")
    magnitude = magnitude.reshape(sign.shape)

    def nearest(row: int, low: Array | int) -> Array:
        """The sign and upper bits of a row which, followed by 8 bits `low`, come nearest to it."""
        m = magnitude[:, row]
        upper = np.minimum((np.maximum(m + np.uint32(128), low) - low) >> 8, (1 << 23) - 1) << 8
        found: Array = sign[:, row] | upper.astype("uint32")
        return found

    last = nearest(rows - 1, np.uint32(0))
    words = np.empty((terms // rows, WORDS, lanes), "uint32")
    for row in range(WORDS):
        low = last >> np.uint32(24 - 8 * row) & np.uint32(0xFF)
        words[:, row] = nearest(row, low) | low
    found: Array = words.view("int32").reshape(-1, lanes)
    return found


def rounded(weights: Array, storage: Storage) -> Array:
    """Weights as near as their storage brings them, in float64."""
    if storage == FLOAT32:
        return weights.astype("float32").astype("float64")
    mantissa, exponent = np.frexp(weights.astype("float64"))
    nearest: Array = np.ldexp(np.round(mantissa / ROUNDING) * ROUNDING, exponent)
    return nearest


def storage_error(weights: Array, storage: Storage, gain: float = 1.0) -> float:
    """Largest error of a sum with stored weights that is due to storage, relative to the largest sum.

    Infinite where they cannot be stored. `gain` is by how much the stored ones may exceed `weights`.
    """
    if storage == FLOAT32 or not weights.size:
        return 0.0
    largest = gain * max(float(weights.max()), -float(weights.min()))
    if not largest < LIMIT:
        return math.inf
    typical = float(np.linalg.norm(weights)) / math.sqrt(weights.size)
    return ROUNDING + LEAST / typical if typical > 0 else 0.0
