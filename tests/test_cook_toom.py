"""Cook-Toom matrices: exact identities, and straight-line code that computes the same products."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convc.lowering.cook_toom import POINTS, cook_toom, straight_line, to_float

SHAPES = [(m, r) for m in range(1, 9) for r in range(1, 8) if 2 <= m + r - 1 <= 10]
STRIDED = [
    (m, r, stride)
    for stride in (2, 3, 4)
    for r in range(1, 8)
    for m in range(1, 7)
    if m == 1 or (stride <= r and (m - 1) * stride + r <= 16)
]


@pytest.mark.parametrize(("m", "r", "stride"), [*((m, r, 1) for m, r in SHAPES), *STRIDED])
def test_is_a_correlation_exactly(m, r, stride):
    """A^T [(G g) * (B^T d)] is bilinear, so the identity for all unit taps and inputs proves it."""
    c = cook_toom(m, r, stride)
    assert len(c.at) == m
    assert {len(c.g), len(c.bt), *map(len, c.at), *map(len, c.bt)} == {c.size}
    for tap in range(r):
        for place in range(c.size):
            products = [c.g[f][tap] * c.bt[f][place] for f in range(c.size)]
            y = [sum(a * p for a, p in zip(row, products, strict=True)) for row in c.at]
            assert y == [Fraction(i * stride + tap == place) for i in range(m)]


def test_strided_products():
    """4 outputs of 3 taps with stride 2: 5 products of the taps 0 and 2, and 4 of tap 1, not transformed."""
    c = cook_toom(4, 3, 2)
    assert c.size == 9
    assert [sum(map(bool, row)) for row in c.bt[5:]] == [1] * 4
    assert straight_line(c.bt).operations <= straight_line(cook_toom(4, 2).bt).operations + 4
    assert cook_toom(3, 2, 2).g == ((1, 0),) * 3 + ((0, 1),) * 3


@pytest.mark.parametrize(("m", "r", "stride"), [(4, 3, 1), (4, 7, 2), (4, 11, 4), (3, 1, 1)])
def test_results_with_named_temporaries(m, r, stride):
    """All rows at once, each shared temporary made once, equal the rows one by one and the matrix."""
    for matrix in (cook_toom(m, r, stride).at, cook_toom(m, r, stride).bt):
        program, kept = straight_line(matrix), []
        x = list(map(Fraction, range(3, 3 + program.inputs)))

        def keep(value, kept=kept):
            kept.append(value)
            return value

        results = program.results(x, Fraction, keep)
        assert results == [program.row(i, x.__getitem__, Fraction) for i in range(len(matrix))]
        assert results == [sum(a * b for a, b in zip(row, x, strict=True)) for row in matrix]
        assert len(kept) == len(program.temporaries)


def test_stride_beyond_the_taps():
    with pytest.raises(ValueError, match=r"F\(2, 2\) with stride 3 would transform inputs that no tap reads"):
        cook_toom(2, 2, 3)


def test_one_tap_is_the_identity():
    c = cook_toom(1, 1)
    assert (c.at, c.g, c.bt) == (((1,),),) * 3


def test_known_matrices():
    """F(2, 3) is that of Lavin and Gray up to signs and scales, which the identity above fixes."""
    c = cook_toom(2, 3)
    assert POINTS[:3] == (0, 1, -1)
    assert c.at == ((1, 1, 1, 0), (0, 1, -1, 1))
    assert [len([v for v in row if v]) for row in c.bt] == [2, 2, 2, 2]


@pytest.mark.parametrize(("m", "r"), [s for s in SHAPES if sum(s) <= 9])
def test_transforms_of_data_are_exact_in_float32(m, r):
    c = cook_toom(m, r)
    for matrix in (c.at, c.bt):
        for value in (v for row in matrix for v in row):
            assert Fraction(float(np.float32(float(value)))) == value


def test_too_many_points():
    with pytest.raises(ValueError, match=r"F\(8, 4\) needs 10 points; 9 are known"):
        cook_toom(8, 4)


def column(matrix, j):
    """Column j of a matrix by its straight-line code."""
    program = straight_line(matrix)

    def unit(k):
        return Fraction(k == j)

    def exact(value):
        return Fraction(value).limit_denominator(10**6)

    return [program.row(i, unit, exact) for i in range(len(matrix))]


@pytest.mark.parametrize(("m", "r", "stride"), [*((m, r, 1) for m, r in SHAPES), (4, 3, 2), (2, 7, 2)])
def test_straight_line_equals_the_matrix(m, r, stride):
    c = cook_toom(m, r, stride)
    for matrix in (c.at, c.bt, c.g):
        for j in range(len(matrix[0])):
            assert column(matrix, j) == [row[j] for row in matrix]


def test_shares_the_halves_of_opposite_points():
    """F(6, 3): B^T without sharing takes 36 multiply-adds, A^T 32."""
    c = cook_toom(6, 3)
    assert straight_line(c.bt).operations <= 26
    assert straight_line(c.at).operations <= 20
    assert straight_line(cook_toom(4, 3).bt).operations <= 16


def error(m: int, r: int, points: tuple[str, ...] | None = None) -> float:
    """Largest float32 error of a 2-D F(m, r) over 64 channels, relative to the largest output."""
    c = cook_toom(m, r)
    at, g, bt = (to_float(x) for x in (c.at, c.g, c.bt))
    if points is not None:
        at, g, bt = by_points(points, m, r)
    rng = np.random.default_rng(0)
    d, w = rng.standard_normal((100, 64, c.size, c.size)), rng.standard_normal((64, r, r))
    u = g @ w @ g.T
    exact = at @ ((bt @ d @ bt.T) * u).sum(1) @ at.T
    at, bt, u, d = (x.astype("float32") for x in (at, bt, u, d))
    rounded = at @ ((bt @ d @ bt.T) * u).sum(1) @ at.T
    return float(abs(rounded - exact).max() / abs(exact).max())


def by_points(points, m, r):
    """A^T, G and B^T in float64 for other points."""
    p = [float(Fraction(v)) for v in points]
    others = [[q for q in p if q != x] for x in p]
    at = np.array([[x**i for x in p] + [float(i == m - 1)] for i in range(m)])
    g = [[x**i / np.prod([x - q for q in o]) for i in range(r)] for x, o in zip(p, others, strict=True)]
    bt = [[*np.poly(o)[::-1], 0.0] for o in others] + [np.poly(p)[::-1]]
    return at, np.array([*g, [float(i == r - 1) for i in range(r)]]), np.array(bt)


def test_errors_of_the_chosen_points():
    """Growth by about 5 from one size to the next; the usual points for F(4, 3) are worse."""
    small, medium, large = (error(m, 3) for m in (2, 4, 6))
    eps = np.finfo(np.float32).eps
    assert small < 8 * eps
    assert medium < 40 * eps
    assert large < 200 * eps
    assert error(4, 3, ("0", "1", "-1", "2", "-2")) > 1.3 * medium
