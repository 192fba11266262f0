"""Reductions, and what is built from them: softmax and the position of an extreme.

A sum over contiguous elements is made of vectors: `WIDTH` partial sums run side by side over the axis, then
are added up together with the elements that do not fill a vector. Everything else is vectorised over an axis
that stays, channel lanes above all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from tvm import te, tirx

from convc.dtype import FLOAT16, FLOAT32
from convc.lowering import extremes
from convc.lowering import functions as f
from convc.lowering.base import Layouts
from convc.lowering.formula import At, Call, Index, flatten, follow, formula, plain, unflatten
from convc.lowering.functions import constant, dtype_of, let
from convc.lowering.generic_pool import added, power_of_magnitude, root
from convc.lowering.terms import cast
from convc.target import Target
from convc.workload import Workload

Expr = Any

_VECTORS = 4
"""Vector accumulators of a long contiguous reduction, since an addition takes 3 to 4 cycles."""


@dataclass(frozen=True)
class Fold:
    """An associative operation: on some values, over axes, and its neutral element for a dtype."""

    combine: Callable[[Sequence[Expr]], Expr]
    over: Callable[..., Expr]
    neutral: Callable[[str], Expr]


_product = te.comm_reducer(lambda a, b: a * b, lambda dtype: tirx.const(1, dtype), name="product")

SUM = Fold(added, te.sum, lambda dtype: tirx.const(0, dtype))
PRODUCT = Fold(
    lambda values: reduce(lambda a, b: a * b, values), _product, lambda dtype: tirx.const(1, dtype)
)
MAX = Fold(lambda values: reduce(te.max, values), te.max, extremes.lowest)
MIN = Fold(lambda values: reduce(te.min, values), te.min, extremes.highest)


def fold_axes(
    read: At, shape: Sequence[int], axes: Sequence[int], fold: Fold, dtype: str, lanes: int, name: str
) -> At:
    """Fold `read`, a function of a full index into `shape`, over `axes`: a function of the same index.

    The coordinates on `axes` of the index given to the result are ignored.
    """
    axes = sorted(axis % len(shape) for axis in axes)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    if math.prod(shape[axis] for axis in axes) == 0:
        return lambda *i: fold.neutral(dtype)
    contiguous = axes == list(range(len(shape) - len(axes), len(shape)))
    length = math.prod(shape[axis] for axis in axes)
    if contiguous and length >= 2 * lanes:
        return _fold_contiguous(read, shape, len(kept), fold, lanes, name)
    inner = math.prod(shape[axes[-1] + 1 :])
    if inner > lanes and inner % lanes:
        return _fold_flattened(read, shape, axes, fold, lanes, name)
    loops = _loops(shape, axes)

    def element(*outer: Expr) -> Expr:
        places = dict(zip(kept, outer, strict=False))
        return fold.over(
            read(*(loops.get(a, places.get(a)) for a in range(len(shape)))), axis=list(loops.values())
        )

    folded = te.compute([shape[axis] for axis in kept] or [1], element, name=name)
    return lambda *i: folded(*([i[axis] for axis in kept] or [0]))


def extreme(
    read: At, shape: Sequence[int], axes: Sequence[int], fold: Fold, dtype: str, lanes: int, name: str
) -> At:
    """Fold by MAX or MIN, as `fold_axes`; of floats NaN where there is one."""
    if "float" not in dtype or not math.prod(shape[axis] for axis in axes):
        return fold_axes(read, shape, axes, fold, dtype, lanes, name)
    integers = extremes.key_dtype(dtype)

    def keys(*index: Expr) -> Expr:
        return extremes.key(read(*index), nan_last=fold is MAX)

    folded = fold_axes(keys, shape, axes, fold, integers, lanes, name)
    return lambda *i: extremes.of_key(folded(*i), dtype)


def _loops(shape: Sequence[int], axes: Sequence[int]) -> dict[int, Any]:
    return {axis: te.reduce_axis((0, shape[axis]), f"r{axis}") for axis in axes}


def _fold_flattened(
    read: At, shape: Sequence[int], axes: Sequence[int], fold: Fold, lanes: int, name: str
) -> At:
    """The axes after the reduced ones as one, in two stages: whole vectors, and the rest."""
    outer = [axis for axis in range(axes[-1]) if axis not in axes]
    inner = shape[axes[-1] + 1 :]
    whole = math.prod(inner) // lanes * lanes

    def stage(first: int, count: int, label: str) -> Any:
        loops = _loops(shape, axes)

        def element(*index: Expr) -> Expr:
            places = dict(zip(outer, index, strict=False))
            head = [loops.get(a, places.get(a)) for a in range(axes[-1] + 1)]
            return fold.over(read(*head, *unflatten(index[-1] + first, inner)), axis=list(loops.values()))

        return te.compute([*(shape[axis] for axis in outer), count], element, name=label)

    vectors = stage(0, whole, f"{name}_vectors")
    rest = stage(whole, math.prod(inner) - whole, f"{name}_rest")

    def at(*index: Expr) -> Expr:
        head, flat = [index[axis] for axis in outer], flatten(index[axes[-1] + 1 :], inner)
        return tirx.if_then_else(flat < whole, vectors(*head, flat), rest(*head, flat - whole))

    return at


def _fold_contiguous(read: At, shape: Sequence[int], kept: int, fold: Fold, lanes: int, name: str) -> At:
    """Trailing axes: wide vectors of partial results, folded into one vector, then its lanes and the rest."""
    outer, inner = tuple(shape[:kept]), shape[kept:]
    length = math.prod(inner)
    width = lanes * (_VECTORS if length >= 2 * _VECTORS * lanes else 1)

    def element(index: Sequence[Expr], position: Expr) -> Expr:
        return read(*index, *unflatten(position, inner))

    def loop(count: int, label: str) -> Any:
        return te.reduce_axis((0, count), label)

    step = loop(length // width, "step")
    vectors = te.compute(
        (*outer, width),
        lambda *i: fold.over(element(i[:-1], step * width + i[-1]), axis=[step]),
        name=f"{name}_wide",
    )
    done = length // width * width
    left = range(done, length - lanes + 1, lanes)

    def narrowed(*index: Expr) -> Expr:
        parts = [vectors(*index[:-1], index[-1] + first) for first in range(0, width, lanes)]
        return fold.combine([*parts, *(element(index[:-1], index[-1] + first) for first in left)])

    if width > lanes:
        vectors = te.compute((*outer, lanes), narrowed, name=f"{name}_vector")
        done += len(left) * lanes
    lane = loop(lanes, "lane")
    stages = [
        te.compute(
            outer or (1,), lambda *i: fold.over(vectors(*i[:kept], lane), axis=[lane]), name=f"{name}_sum"
        )
    ]
    if done < length:
        rest = loop(length - done, "rest")
        stages.append(
            te.compute(
                outer or (1,),
                lambda *i: fold.over(element(i[:kept], rest + done), axis=[rest]),
                name=f"{name}_rest",
            )
        )
    return lambda *i: fold.combine([stage(*(i[:kept] or [0])) for stage in stages])


def _reduce_layouts(w: Workload, target: Target) -> Layouts:
    """Blocked when all spatial axes and nothing else is reduced, and they stay."""
    x, a = w.inputs[0], w.attrs
    assert x is not None
    axes = {axis % x.rank for axis in a.axes}  # type: ignore[attr-defined]
    spatial = set(range(2, x.rank))
    keeps = a.keepdims  # type: ignore[attr-defined]
    return follow(w, target) if keeps and axes and axes <= spatial else plain(w, target)


@dataclass(frozen=True)
class Reduction:
    """`after(fold of before(x), count)`."""

    fold: Fold
    before: Callable[[Any, Expr], Expr] = lambda a, x: x
    after: Callable[[Any, Expr, int], Expr] = lambda a, y, count: y


def _mean(a: Any, total: Expr, count: int) -> Expr:
    if dtype_of(total).startswith("float"):
        return total * constant(1 / count, total) if count else total * constant(math.nan, total)
    return te.truncdiv(total, constant(count, total))


REDUCTIONS = {
    "reduce_mean": Reduction(SUM, after=_mean),
    "reduce_sum": Reduction(SUM),
    "reduce_prod": Reduction(PRODUCT),
    "reduce_max": Reduction(MAX),
    "reduce_min": Reduction(MIN),
    "reduce_l1": Reduction(SUM, lambda a, x: _magnitude(x)),
    "reduce_l2": Reduction(SUM, lambda a, x: let(x, lambda t: t * t), lambda a, y, count: tirx.sqrt(y)),
    "reduce_sum_square": Reduction(SUM, lambda a, x: let(x, lambda t: t * t)),
    "reduce_lp": Reduction(SUM, lambda a, x: power_of_magnitude(x, a.p), lambda a, y, count: root(y, a.p)),
}


def _magnitude(x: Expr) -> Expr:
    return x if dtype_of(x).startswith("uint") else f.absolute(x)


def _out_to_in(call: Call, axes: Sequence[int], keepdims: bool) -> Callable[[Index], list[Expr]]:
    """From a physical index of the output to one of the input, 0 on the reduced axes."""
    if keepdims:
        return list
    kept = [axis for axis in range(call.x.kind.rank) if axis not in axes]

    def expand(index: Index) -> list[Expr]:
        places = dict(zip(kept, index, strict=True))
        return [places.get(axis, 0) for axis in range(call.x.kind.rank)]

    return expand


@formula(*REDUCTIONS, layouts=_reduce_layouts)
def _reduce(call: Call) -> Sequence[At]:
    """One fold over the axes; bool is folded as uint8, which vectorises."""
    rule, a, kind = REDUCTIONS[call.w.op], call.attrs, call.x.kind
    axes = sorted({axis % kind.rank for axis in a.axes})
    wide = "uint8" if kind.dtype == "bool" else kind.dtype
    if wide == FLOAT16:
        wide = FLOAT32
    count = math.prod(kind.shape[axis] for axis in axes)

    def read(*index: Expr) -> Expr:
        value = call.x(*index)
        return rule.before(a, value if wide == kind.dtype else tirx.Cast(wide, value))

    over = extreme if rule.fold in (MAX, MIN) else fold_axes
    folded = over(read, kind.physical, axes, rule.fold, wide, call.target.lanes, "reduce") if axes else read
    expand = _out_to_in(call, axes, a.keepdims)

    def at(*index: Expr) -> Expr:
        value = rule.after(a, folded(*expand(index)), count)
        if wide == kind.dtype:
            return value
        return cast(value, kind.dtype)

    return [at]


def _log_sum_terms(call: Call, axes: Sequence[int]) -> tuple[At, At]:
    """The maximum over `axes`, or 0 where it is not finite, and the sum of exp(x - maximum): functions of an
    index of x. A term of infinity makes the sum NaN.
    """
    kind, lanes = call.x.kind, call.target.lanes
    top = extreme(call.x, kind.physical, axes, MAX, kind.dtype, lanes, "top")

    def finite(*index: Expr) -> Expr:
        return let(
            top(*index), lambda t: tirx.Select(f.absolute(t) < constant(math.inf, t), t, constant(0, t))
        )

    anchored = te.compute(
        [1 if axis in axes else extent for axis, extent in enumerate(kind.physical)], finite, name="anchor"
    )

    def anchor(*index: Expr) -> Expr:
        return anchored(*(0 if axis in axes else v for axis, v in enumerate(index)))

    def term(*index: Expr) -> Expr:
        return f.exp_below_zero(call.x(*index) - anchor(*index))

    return anchor, fold_axes(term, kind.physical, axes, SUM, kind.dtype, lanes, "total")


@formula("reduce_log_sum_exp")
def _log_sum_exp(call: Call) -> Sequence[At]:
    """log(sum(exp(x - max))) + max; inf where that is the maximum."""
    axes = sorted({axis % call.x.kind.rank for axis in call.attrs.axes})
    if not axes:
        return [call.x]
    kind = call.x.kind
    top = extreme(call.x, kind.physical, axes, MAX, kind.dtype, call.target.lanes, "largest")
    anchor, total = _log_sum_terms(call, axes)
    expand = _out_to_in(call, axes, call.attrs.keepdims)

    def at(*index: Expr) -> Expr:
        place = expand(index)
        value = f.log(total(*place)) + anchor(*place)
        return f.select(tirx.EQ(top(*place), extremes.highest(kind.dtype)), top(*place), value)

    return [at]


def _softmax_layouts(w: Workload, target: Target) -> Layouts:
    rank = w.outputs[0].rank
    return follow(w, target) if w.attrs.axis % rank >= 2 else plain(w, target)  # type: ignore[attr-defined]


@formula("softmax", layouts=_softmax_layouts)
def _softmax(call: Call) -> Sequence[At]:
    """exp(x - max) / sum. The exponentials are computed twice, which is cheaper than storing them."""
    axis = call.attrs.axis % call.x.kind.rank
    anchor, total = _log_sum_terms(call, [axis])
    kind = call.x.kind
    inverse = te.compute(
        [1 if a == axis else extent for a, extent in enumerate(kind.physical)],
        lambda *i: constant(1, call.x.tensor) / total(*i),
        name="inverse",
    )
    return [
        lambda *i: (
            f.exp_below_zero(call.x(*i) - anchor(*i))
            * inverse(*(0 if a == axis else v for a, v in enumerate(i)))
        )
    ]


@formula("log_softmax", layouts=_softmax_layouts)
def _log_softmax(call: Call) -> Sequence[At]:
    """x - max - log(sum)."""
    axis = call.attrs.axis % call.x.kind.rank
    anchor, total = _log_sum_terms(call, [axis])
    kind = call.x.kind
    log_total = te.compute(
        [1 if a == axis else extent for a, extent in enumerate(kind.physical)],
        lambda *i: f.log(total(*i)) + anchor(*i),
        name="log_total",
    )
    return [lambda *i: call.x(*i) - log_total(*(0 if a == axis else v for a, v in enumerate(i)))]


@formula("argmax", "argmin")
def _arg(call: Call) -> Sequence[At]:
    """The extreme first, then the first or last position that equals it. NaN is one, as for NumPy."""
    a, kind, lanes = call.attrs, call.x.kind, call.target.lanes
    axis = a.axis % kind.rank
    extent = kind.shape[axis]
    best = extreme(
        call.x, kind.shape, [axis], MAX if call.w.op == "argmax" else MIN, kind.dtype, lanes, "best"
    )
    none = -1 if a.select_last else extent

    def position(*index: Expr) -> Expr:
        x = call.x(*index)
        chosen = tirx.EQ(x, best(*index))
        if kind.is_float:
            chosen = tirx.Or(chosen, tirx.isnan(x))
        return tirx.Select(chosen, index[axis], tirx.const(none, "int32"))

    found = fold_axes(position, kind.shape, [axis], MAX if a.select_last else MIN, "int32", lanes, "position")
    expand = _out_to_in(call, [axis], a.keepdims)
    return [lambda *i: tirx.Cast("int64", found(*expand(i)))]
