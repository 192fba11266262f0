"""Minimal filtering algorithms F(m, r) in exact rationals, and their products as straight-line code.

An F(m, r) computes m outputs of a correlation with r taps from m + r - 1 products:

    y = A^T [(G g) * (B^T d)]        d: m + r - 1 inputs, g: r taps, * elementwise

(Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, arXiv 1509.09308). The matrices
come from the Cook-Toom construction: evaluate at m + r - 2 points and at infinity, multiply, interpolate;
transposing the algorithm for polynomial products gives the one for correlation. Rows of B^T hold the
coefficients of prod_{q != p} (x - q), and G takes the division by prod_{q != p} (p - q), so that B^T and A^T,
which are applied while the network runs, hold small dyadic numbers that float32 represents exactly.

A correlation with stride s is the sum of s correlations without one, of every s-th input, from input p on,
with every s-th tap, from tap p on (its polyphase components: Vaidyanathan, "Multirate Systems and Filter
Banks", 1993, section 4.3). With r_p = ceil((r - p) / s) taps each they take the products of F(m, r_0), ...,
F(m, r_(s-1)) side by side, m * s + r - s in all instead of m * r: 9 instead of 12 for 4 outputs of 3 taps
with stride 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from convc.dtype import FLOAT64
from convc.types import Array

Matrix = tuple[tuple[Fraction, ...], ...]
Expr = Any

POINTS = tuple(map(Fraction, ("0", "1", "-1", "1/2", "-2", "-1/2", "2", "3/4", "-3/4")))
"""Points in the order in which algorithms take them.

Small numerators and denominators keep the growth of rounding errors low; a point next to its negative
reciprocal (1/2 and -2) balances the powers of both (Barabasz, Anderson, Soodhalter and Gregg, "Error
analysis and improving the accuracy of Winograd convolution", arXiv 1803.10986). Among the subsets of
+-1/4, +-1/2, +-3/4, +-3/2, +-2, +-3, +-4 that complete 0, 1, -1, each prefix of this sequence up to 7 points
is within 1.4 of the least float32 error in two dimensions (64 channels, relative to the largest output:
F(4, 3) 2.0e-6, F(6, 3) 8.9e-6).
"""


@dataclass(frozen=True)
class CookToom:
    """The matrices of one F(m, r): at (m, a), g (a, r), bt (a, a) with a = (m - 1) * stride + r.

    There is one for each m, r and stride, so these are compared and the matrices, which takes long, are not.
    """

    m: int
    r: int
    at: Matrix = field(compare=False)
    g: Matrix = field(compare=False)
    bt: Matrix = field(compare=False)
    stride: int = 1

    @property
    def contained(self) -> bool:
        """Whether no product that an output is made of has read an input that the output does not see.

        So it is with two outputs: the inputs that only one of them sees are the first and the last, which the
        products for the points 0 and infinity alone read.
        """
        return not any(
            self.at[i][f] and self.bt[f][j]
            for i in range(self.m)
            for j in range(self.size)
            if not 0 <= j - i * self.stride < self.r
            for f in range(len(self.bt))
        )

    @property
    def size(self) -> int:
        """Inputs of a tile, and products."""
        return (self.m - 1) * self.stride + self.r


def _monic(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of prod (x - root), lowest power first."""
    c = [Fraction(1)]
    for root in roots:
        c = [Fraction(0), *c]
        for i in range(len(c) - 1):
            c[i] -= root * c[i + 1]
    return c


@lru_cache(maxsize=256)
def cook_toom(m: int, r: int, stride: int = 1) -> CookToom:
    """The algorithm F(m, r) for m, r >= 1, with a stride of at most r unless m is 1.

    Raises ValueError when it needs more points than POINTS has, or when the stride leaves inputs unused.
    """
    if stride > 1 and m > 1:
        return _polyphase(m, r, stride)
    if r == 1:  # one product for each output anyway: nothing to transform
        unit = tuple(tuple(Fraction(i == j) for j in range(m)) for i in range(m))
        return CookToom(m, r, unit, ((Fraction(1),),) * m, unit, stride)
    count = m + r - 2
    if count > len(POINTS):
        raise ValueError(f"F({m}, {r}) needs {count} points; {len(POINTS)} are known.")
    points = POINTS[:count]
    at = [(*(p**i for p in points), Fraction(i == m - 1)) for i in range(m)]
    g = []
    bt = []
    for p in points:
        others = [q for q in points if q != p]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        g.append(tuple(p**i / scale for i in range(r)))
        bt.append((*_monic(others), Fraction(0)))
    g.append(tuple(Fraction(i == r - 1) for i in range(r)))
    bt.append(tuple(_monic(points)))
    return CookToom(m, r, tuple(at), tuple(g), tuple(bt), stride)


def _polyphase(m: int, r: int, stride: int) -> CookToom:
    """F(m, r) with a stride: the products of its phases, one phase after the other."""
    if stride > r:
        raise ValueError(f"F({m}, {r}) with stride {stride} would transform inputs that no tap reads.")
    phases = [cook_toom(m, -(-(r - p) // stride)) for p in range(stride)]
    size = (m - 1) * stride + r

    def spread(row: Sequence[Fraction], phase: int, length: int) -> tuple[Fraction, ...]:
        """A row over the inputs or taps of one phase as a row over all."""
        full = [Fraction(0)] * length
        full[phase::stride] = row
        return tuple(full)

    at = tuple(tuple(v for c in phases for v in c.at[i]) for i in range(m))
    g = tuple(spread(row, p, r) for p, c in enumerate(phases) for row in c.g)
    bt = tuple(spread(row, p, size) for p, c in enumerate(phases) for row in c.bt)
    return CookToom(m, r, at, g, bt, stride)


def to_float(matrix: Matrix, dtype: Any = FLOAT64) -> Array:
    """A rational matrix as a NumPy array."""
    return np.array([[float(v) for v in row] for row in matrix], dtype)


Term = tuple[Fraction, int]
"""A coefficient and the variable that it multiplies."""


@dataclass(frozen=True)
class LinearProgram:
    """A matrix times a vector as straight-line code.

    Variables 0 .. inputs-1 are the vector; each temporary is the next variable, (a, ratio, b) standing for
    a + ratio * b; `rows` are the results.
    """

    inputs: int
    temporaries: tuple[tuple[int, Fraction, int], ...]
    rows: tuple[tuple[Term, ...], ...]

    @property
    def operations(self) -> int:
        """Additions and multiply-adds, each counting once."""
        return len(self.temporaries) + sum(
            max(1, len(row) - any(abs(c) == 1 for c, _ in row)) for row in self.rows if row
        )

    def row(self, index: int, x: Callable[[int], Expr], constant: Callable[[float], Expr]) -> Expr:
        """Result `index` as an expression.

        `x` gives the vector's elements and `constant` makes a number of their type. Shared temporaries are
        repeated; common subexpression elimination finds them again.
        """

        def value(variable: int) -> Expr:
            if variable < self.inputs:
                return x(variable)
            a, ratio, b = self.temporaries[variable - self.inputs]
            return _add(value(a), ratio, value(b), constant)

        return self._sum(index, value, constant)

    def results(
        self, x: Sequence[Expr], constant: Callable[[float], Expr], keep: Callable[[Expr], Expr]
    ) -> list[Expr]:
        """All results as expressions of the vector's elements `x`; `keep` names a shared temporary."""
        variables = list(x)
        for a, ratio, b in self.temporaries:
            variables.append(keep(_add(variables[a], ratio, variables[b], constant)))
        return [self._sum(i, variables.__getitem__, constant) for i in range(len(self.rows))]

    def _sum(self, index: int, value: Callable[[int], Expr], constant: Callable[[float], Expr]) -> Expr:
        # starts with a term that needs no multiplication, where there is one
        terms = sorted(self.rows[index], key=lambda t: (t[0] != 1, abs(t[0]) != 1))
        if not terms:
            return constant(0.0)
        (factor, first), *rest = terms
        total = value(first) if factor == 1 else constant(float(factor)) * value(first)
        for factor, variable in rest:
            total = _add(total, factor, value(variable), constant)
        return total


def _add(total: Expr, factor: Fraction, term: Expr, constant: Callable[[float], Expr]) -> Expr:
    if abs(factor) != 1:
        return total + constant(float(factor)) * term
    return total + term if factor == 1 else total - term


@lru_cache(maxsize=256)
def straight_line(matrix: Matrix) -> LinearProgram:
    """Share two-term subexpressions of a matrix-vector product, most frequent first.

    The greedy method of Paar ("Optimized arithmetic for Reed-Solomon encoders", ISIT 1997), with the ratio of
    the two coefficients as part of a subexpression. On Cook-Toom matrices it finds the even and odd halves
    that the points p and -p share.
    """
    rows = [{j: v for j, v in enumerate(row) if v} for row in matrix]
    temporaries: list[tuple[int, Fraction, int]] = []
    variable = len(matrix[0])
    while True:
        found: Counter[tuple[int, Fraction, int]] = Counter()
        for row in rows:
            ordered = sorted(row)
            found.update((a, row[b] / row[a], b) for i, a in enumerate(ordered) for b in ordered[i + 1 :])
        if not found:
            break
        # ties go to ratios of 1 and -1, then to the first variables: the result must not depend on hashing
        best = min(found, key=lambda f: (-found[f], abs(f[1]) != 1, f[0], f[2], f[1]))
        if found[best] < 2:
            break
        a, ratio, b = best
        for row in rows:
            if a in row and b in row and row[b] / row[a] == ratio:
                row[variable] = row.pop(a)
                del row[b]
        temporaries.append(best)
        variable += 1
    return LinearProgram(
        len(matrix[0]), tuple(temporaries), tuple(tuple((c, v) for v, c in row.items()) for row in rows)
    )
