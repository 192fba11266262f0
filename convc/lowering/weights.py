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
two instructions a vector with AVX-512's logic of three operands, three without, and five or seven more to
gather row 3. The low bits of the first three rows are row 3's, known in advance, so that their own bits are
chosen to come nearest with them. Kernels compute with weights that are RANGE times too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT32
from convc.tiling.storage import UNPACKED, Storage
from convc.types import Array
from convc.workload import WEIGHTS

RANGE = 8.0
"""Weights are divided by it: exponents that begin with 011 are those of numbers below 2, here below 16."""
LIMIT = 2 * RANGE
"""No weight may be as large."""
LEAST = RANGE * 2.0**-31
"""What stands for zero, and for all that is smaller."""
ROUNDING = 2.0**-19
"""Largest relative error of the others."""

_MANTISSA = 23
_LEADING = 0b011 << (_MANTISSA + 5)  # what every exponent begins with
_SIGN = 1 << 31
_KEPT = (_SIGN | (1 << 28) - 1) - (1 << 32)  # as int32: of the copies of the sign that shifting makes, one


def stored(shape: Sequence[int], storage: Storage) -> tuple[tuple[int, ...], str]:
    """The shape and type of the array that holds weights of this shape, (..., K, lanes)."""
    *outer, terms, lanes = shape
    if storage == UNPACKED:
        return (*outer, terms, lanes), FLOAT32
    return (*outer, terms // storage.rows * storage.words, lanes), "int32"


def parameter(shape: Sequence[int], name: str, storage: Storage) -> tuple[Any, Any]:
    """A kernel's parameter for weights of this shape, (..., K, lanes), and them as float32.

    Sums of products with the latter go through `restored`.
    """
    words = te.placeholder(*stored(shape, storage), name)
    if storage == UNPACKED:
        return words, words

    def element(*index: Any) -> Any:
        *where, k, lane = index
        first = k // storage.rows * storage.words
        a, b, c = (words(*where, first + i, lane) for i in range(storage.words))
        value = _float((a << 24) | ((b << 16) & 0x00FF0000) | ((c << 8) & 0x0000FF00))
        for row, word in enumerate((a, b, c)):
            value = tirx.Select(k % storage.rows == row, _float(word), value)
        return value

    return words, te.compute(tuple(shape), element, name=WEIGHTS)


def _float(word: Any) -> Any:
    bits = ((word >> 3) & tirx.const(_KEPT, "int32")) | tirx.const(_LEADING, "int32")
    return tirx.reinterpret(FLOAT32, bits)


def restored(total: Any, storage: Storage) -> Any:
    """A sum of products with stored weights, at its own magnitude."""
    return total if storage == UNPACKED else total * tirx.const(RANGE, FLOAT32)


def encoded(weights: Array, storage: Storage) -> Array:
    """Weights (..., K, lanes) as they are stored. In 24 bits K is a multiple of 4, and none is 16 or more."""
    if storage == UNPACKED:
        return weights
    *_, terms, lanes = weights.shape
    packed = np.empty(*stored(weights.shape, storage))
    panels = weights.reshape(-1, terms, lanes)
    results = packed.reshape(len(panels), -1, lanes)
    some = max(1, _AT_ONCE // (terms * lanes))
    for first in range(0, len(panels), some):
        results[first : first + some] = _encoded(panels[first : first + some], storage)
    return packed


_AT_ONCE = 1 << 16
"""Weights that are encoded together: temporaries stay in cache, and a small layer takes one step."""


def _encoded(weights: Array, storage: Storage) -> Array:
    """Weights (panels, K, lanes) as words."""
    panels, terms, lanes = weights.shape
    bits = np.ascontiguousarray(weights / np.float32(RANGE)).view("uint32")
    sign, magnitude = bits & np.uint32(_SIGN), bits & np.uint32(_SIGN - 1)
    by_turns = (np.arange(terms, dtype="uint32") % 2 << 31)[:, None]
    sign = np.where(magnitude == 0, by_turns, sign).reshape(panels, -1, storage.rows, lanes)
    above = np.where(magnitude < _LEADING, 0, magnitude - np.uint32(_LEADING))
    magnitude = (above << 3).astype("uint32").reshape(sign.shape)

    def nearest(row: int, low: Array | np.uint32) -> Array:
        """The sign and upper bits of a row which, followed by 8 bits `low`, come nearest to it."""
        m = magnitude[:, :, row]
        upper = np.minimum((np.maximum(m + np.uint32(128), low) - low) >> 8, (1 << 23) - 1) << 8
        found: Array = sign[:, :, row] | upper.astype("uint32")
        return found

    last = nearest(storage.rows - 1, np.uint32(0))
    words = np.empty((panels, terms // storage.rows, storage.words, lanes), "uint32")
    for row in range(storage.words):
        low = last >> np.uint32(24 - 8 * row) & np.uint32(0xFF)
        words[:, :, row] = nearest(row, low) | low
    found: Array = words.view("int32").reshape(panels, -1, lanes)
    return found


def as_stored(weights: Array, storage: Storage) -> Array:
    """Weights (..., K, lanes) with the values that kernels see, in float32."""
    if storage == UNPACKED:
        return weights.astype(FLOAT32)
    a, b, c = np.moveaxis(_by_word(encoded(weights.astype(FLOAT32), storage), storage), -2, 0)
    last = (a << 24) | ((b << 16) & 0x00FF0000) | ((c << 8) & 0x0000FF00)
    rows = np.stack([a, b, c, last], axis=-2)
    values: Array = ((rows >> 3 & np.int32(_KEPT)) | np.int32(_LEADING)).view(FLOAT32) * np.float32(RANGE)
    return values.reshape(weights.shape)


def _by_word(words: Array, storage: Storage) -> Array:
    *outer, count, lanes = words.shape
    return words.reshape(*outer, count // storage.words, storage.words, lanes)


def refusal(largest: float, what: str = "weights") -> str | None:
    """Why weights of up to this magnitude cannot be stored in 24 bits; None if they can."""
    if not largest < LIMIT:  # NaN is not either
        return f"24 bits hold magnitudes below {LIMIT:g}, and its {what} reach {largest:.3g}"
    return None if largest > 0 else f"its {what} are zero, which 24 bits do not hold"


def magnitude(weights: Array) -> float:
    """The largest magnitude, without a copy of the weights; NaN where one of them is."""
    return max(float(weights.max()), -float(weights.min()))


def storage_error(weights: Array, gain: float) -> float:
    """Likely error of sums with `gain` times these weights in 24 bits, relative to the largest sum."""
    flat = weights.ravel(order="K")  # a view wherever there is one: the matrix may take half a gigabyte
    mean_square = float(np.einsum("i,i->", flat, flat, dtype=np.float64)) / flat.size
    return ROUNDING + LEAST / (gain * math.sqrt(mean_square))
