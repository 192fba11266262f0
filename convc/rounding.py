"""What float32 makes of a float64 reference: arithmetics for `convc.evaluate`.

A network that overflows or underflows does so in any float32 program, one that amplifies rounding amplifies
any program's, and where a value lies on a step (of a rounding, a comparison, an argmax), any program may take
it either way. Nothing of that is a miscompilation. `Stored` shows what the dtypes lose, and `Perturbed` what
becomes of errors as large as those that the lowerings of a network are known to make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from convc.dtype import FLOAT32, FLOAT64
from convc.evaluate import Exact
from convc.ir import Node, opdef
from convc.types import Array, TensorType

FLUSHED = (FLOAT32, FLOAT64)
"""Dtypes whose denormal numbers processors flush; those of float16 are computed with as float32."""
LOST_SUM = 2.0**10 * float(np.finfo(FLOAT32).tiny)
"""What a sum of a thousand terms loses where each partial sum is flushed."""
SUM = 1e-6
"""Error of a sum in float32, relative to the largest sum, where nothing is known of it."""
FUNCTION = 8.0
"""Error of functions, in units of their dtype's rounding: exponentials and the like are polynomials."""
MORE = 2.0
"""How much larger than known errors perturbations are: what they do not show must not happen."""


class Stored(Exact):
    """Float64 arithmetic on tensors of limited dtypes.

    Numbers beyond a dtype are infinite, denormal ones 0 unless they are kept.
    """

    def __init__(self, keep_denormals: bool) -> None:
        self.keep_denormals = keep_denormals

    def store(self, array: Array, kind: TensorType) -> Array:
        if not kind.is_float:
            return array
        dtype = kind.dtype.numpy
        with np.errstate(over="ignore", under="ignore"):
            stored: Array = array.astype(dtype).astype(FLOAT64)
        if kind.dtype in FLUSHED and not self.keep_denormals:
            stored = np.where(np.abs(stored) < float(np.finfo(dtype).tiny), np.copysign(0.0, stored), stored)
        return stored


class Perturbed(Stored):
    """The same with random errors, as large as a network's lowerings make them.

    `errors` are those of linear operators by node name, relative to the largest output, or where they hold
    `elementwise` to the sum of the magnitudes of an output's terms. What a dtype holds exactly is exact.
    """

    def __init__(
        self, keep_denormals: bool, errors: Mapping[str, float], seed: int, *, elementwise: bool = False
    ) -> None:
        super().__init__(keep_denormals)
        self._errors = errors
        self._elementwise = elementwise
        self._rng = np.random.default_rng(seed)

    def compute(self, node: Node, inputs: Sequence[Array | None]) -> Sequence[Array]:
        results = super().compute(node, inputs)
        if not any(v.type.is_float for v in node.outputs):
            return results
        terms = opdef(node.op).terms(node.attrs, inputs) if self._by_terms(node) else results
        return [
            self._perturb(node, found, size, value.type) if value.type.is_float else found
            for found, size, value in zip(results, terms, node.outputs, strict=True)
        ]

    def _by_terms(self, node: Node) -> bool:
        return self._elementwise and opdef(node.op).linear

    def _perturb(self, node: Node, found: Array, terms: Array, kind: TensorType) -> Array:
        """`found` with errors in proportion to `terms`, or where errors are a layer's to the largest."""
        definition = opdef(node.op)
        finite = np.isfinite(found)
        size = np.where(finite, np.abs(terms), 0.0)
        if definition.elementwise:
            amplitude = FUNCTION * kind.dtype.rounding * size
        else:
            error = self._errors.get(node.name, SUM) + kind.dtype.rounding
            amplitude = error * (size if self._elementwise else size.max(initial=0.0))
        if definition.linear:
            inexact = found != 0  # however computed, a sum of zeros is one
            amplitude = amplitude + (0.0 if self.keep_denormals else LOST_SUM)
        else:
            inexact = found != self.store(found, kind)
        noise = self._rng.uniform(-MORE, MORE, found.shape) * amplitude
        return np.where(inexact & finite, found + noise, found)


def without_denormals(array: Array) -> Array:
    """An array of constants as a processor that flushes reads it: itself where it holds no denormals."""
    if array.dtype.name not in FLUSHED:
        return array
    denormal = (array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)
    return np.where(denormal, np.zeros_like(array), array) if denormal.any() else array
