"""Reductions over axes, and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convc.dtype import INT64
from convc.errors import TypeRuleError
from convc.ir.fields import Fields, seen_whole
from convc.ir.opdef import Attrs, Cost, OpDef, register
from convc.ir.traits import Affine
from convc.ops.common import array, must_be, positive_axis, required
from convc.ops.scalar import divide
from convc.types import Array, Shape, TensorType


@dataclass(frozen=True)
class ReduceAttrs(Attrs):
    """The axes that are reduced, none of them meaning none; with `keepdims` they stay with extent 1."""

    axes: tuple[int, ...]
    keepdims: bool = True


@dataclass(frozen=True)
class ReduceLpAttrs(ReduceAttrs):
    """The exponent of the norm."""

    p: int = 2


@dataclass(frozen=True)
class ArgAttrs(Attrs):
    """The axis searched; with `select_last` the last of several extremes counts."""

    axis: int
    keepdims: bool = True
    select_last: bool = False


@dataclass(frozen=True)
class SoftmaxAttrs(Attrs):
    """The axis that sums to 1."""

    axis: int = -1


def _reduced(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    gone = {positive_axis(axis, len(shape)) for axis in axes}
    if len(gone) < len(axes):
        raise TypeRuleError(f"Axes {tuple(axes)} repeat an axis of {shape}.")
    if keepdims:
        return tuple(1 if i in gone else extent for i, extent in enumerate(shape))
    return tuple(extent for i, extent in enumerate(shape) if i not in gone)


class Reduce(OpDef[ReduceAttrs]):
    """A reduction given by a NumPy fold (attributes, array, keywords of NumPy's reductions)."""

    kind: ClassVar[str]
    fold: ClassVar[Callable[..., Array]]

    def infer(self, attrs: ReduceAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be(self.kind, x)
        return (TensorType(_reduced(x.shape, attrs.axes, attrs.keepdims), x.dtype),)

    def reference(self, attrs: ReduceAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        where = {"axis": attrs.axes, "keepdims": attrs.keepdims}
        with np.errstate(all="ignore"):  # log(0) and the mean of nothing are inf and NaN by definition
            return (np.asarray(type(self).fold(attrs, x, where), x.dtype),)

    def cost(
        self, attrs: ReduceAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(other=required(inputs, 0, "x").size)

    def per_channel(self, attrs: ReduceAttrs, inputs: Sequence[TensorType | None]) -> bool:
        rank = required(inputs, 0, "x").rank
        return not {axis % rank for axis in attrs.axes} & {0, 1}

    def receptive(
        self, attrs: ReduceAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """A reduced axis is seen whole; without `keepdims` it is gone."""
        ((kind, x),) = operands
        return _seen(x, kind.shape, attrs.axes, attrs.keepdims)


def _seen(x: Fields, shape: Shape, axes: Sequence[int], keepdims: bool) -> Fields:
    gone = {axis % len(x) for axis in axes}
    seen = seen_whole(x, shape, axes)
    return tuple(field for axis, field in enumerate(seen) if keepdims or axis not in gone)


def define(
    name: str,
    fold: Callable[[Any, Array, dict[str, Any]], Array],
    *,
    attrs: type[Attrs] = ReduceAttrs,
    kind: str = "number",
    passes: Affine = Affine.NOTHING,
    of_one: bool = False,
    **traits: Any,
) -> None:
    """Register a reduction; `kind` of input as in `must_be`, `of_one`: one element is its own result."""
    members = {
        "finite": True, **traits,
        "name": name, "fold": staticmethod(fold), "attrs": attrs, "kind": kind,
        "passes": lambda self, attrs: passes, "identity": lambda self, attrs: of_one and attrs.keepdims,
        "__module__": __name__,
    }  # fmt: skip
    register(type(name, (Reduce,), members))


def _mean(attrs: ReduceAttrs, x: Array, where: dict[str, Any]) -> Array:
    count = np.prod([x.shape[axis] for axis in attrs.axes], dtype=np.int64)
    return divide(np.sum(x, dtype=x.dtype, **where), count.astype(x.dtype))


def _lowest(x: Array) -> Any:
    """What the maximum of nothing is."""
    if x.dtype.kind == "b":
        return False
    return -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min


def _highest(x: Array) -> Any:
    """What the minimum of nothing is."""
    if x.dtype.kind == "b":
        return True
    return np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).max


def _log_sum_exp(x: Array, where: dict[str, Any]) -> Array:
    """log(sum(exp(x))), shifted by the maximum so that nothing overflows."""
    top = np.max(x, axis=where["axis"], keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=where["axis"], keepdims=True)) + top
    return np.asarray(total if where["keepdims"] else total.squeeze(where["axis"]))


define("reduce_mean", _mean, linear=True, of_one=True, passes=Affine.ALL)
define(
    "reduce_sum",
    lambda a, x, where: np.sum(x, dtype=x.dtype, **where),
    linear=True,
    of_one=True,
    passes=Affine.SCALE | Affine.NEGATIVE,
)
define("reduce_prod", lambda a, x, where: np.prod(x, dtype=x.dtype, **where), of_one=True, finite=False)
define(
    "reduce_max",
    lambda a, x, where: np.max(x, initial=_lowest(x), **where),
    kind="any",
    of_one=True,
    exact=True,
    passes=Affine.SCALE | Affine.SHIFT,
)
define(
    "reduce_min",
    lambda a, x, where: np.min(x, initial=_highest(x), **where),
    kind="any",
    of_one=True,
    exact=True,
    passes=Affine.SCALE | Affine.SHIFT,
)
define("reduce_l1", lambda a, x, where: np.sum(np.abs(x), dtype=x.dtype, **where), passes=Affine.SCALE)
define("reduce_l2", lambda a, x, where: np.sqrt(np.sum(x * x, **where)), kind="float", passes=Affine.SCALE)
define("reduce_sum_square", lambda a, x, where: np.sum(x * x, dtype=x.dtype, **where))
define("reduce_log_sum_exp", lambda a, x, where: _log_sum_exp(x, where), kind="float")
define(
    "reduce_lp",
    lambda a, x, where: np.sum(np.abs(x) ** a.p, **where) ** (1 / a.p),
    attrs=ReduceLpAttrs,
    kind="float",
    passes=Affine.SCALE,
)


class Arg(OpDef[ArgAttrs]):
    """Position of an extreme along one axis, as int64."""

    attrs = ArgAttrs
    finite = True
    exact = True
    find: ClassVar[Callable[..., Any]]

    def infer(self, attrs: ArgAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be("number", x)
        shape = _reduced(x.shape, (attrs.axis,), attrs.keepdims)
        if x.shape[attrs.axis] < 1:
            raise TypeRuleError(
                f"{self.name} over axis {attrs.axis} of {x.shape} has nothing to choose from."
            )
        return (TensorType(shape, INT64),)

    def reference(self, attrs: ArgAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = array(inputs, 0)
        find = type(self).find
        if attrs.select_last:
            found = (
                x.shape[attrs.axis]
                - 1
                - find(np.flip(x, attrs.axis), axis=attrs.axis, keepdims=attrs.keepdims)
            )
        else:
            found = find(x, axis=attrs.axis, keepdims=attrs.keepdims)
        return (np.asarray(found, np.int64),)

    def cost(
        self, attrs: ArgAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(other=required(inputs, 0, "x").size)

    def receptive(self, attrs: ArgAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape) -> Fields:
        ((kind, x),) = operands
        return _seen(x, kind.shape, (attrs.axis,), attrs.keepdims)


@register
class ArgMax(Arg):
    """Position of the largest element."""

    name = "argmax"
    find = staticmethod(np.argmax)


@register
class ArgMin(Arg):
    """Position of the smallest element."""

    name = "argmin"
    find = staticmethod(np.argmin)


def _shifted(x: Array, axis: int) -> Array:
    """x less its maximum along the axis, which leaves softmax as it is and keeps exp from overflowing."""
    return np.asarray(x - x.max(axis, keepdims=True, initial=-np.inf))


@register
class Softmax(OpDef[SoftmaxAttrs]):
    """exp(x) / sum(exp(x)) along one axis."""

    name = "softmax"
    attrs = SoftmaxAttrs
    finite = True

    def infer(self, attrs: SoftmaxAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be("float", x)
        positive_axis(attrs.axis, x.rank)
        return (TensorType(x.shape, x.dtype),)

    def reference(self, attrs: SoftmaxAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        e = np.exp(_shifted(array(inputs, 0), attrs.axis))
        return (e / e.sum(attrs.axis, keepdims=True),)

    def cost(
        self, attrs: SoftmaxAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        return Cost(other=4 * outputs[0].size)

    def receptive(
        self, attrs: SoftmaxAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        ((kind, x),) = operands
        return seen_whole(x, kind.shape, (attrs.axis,))


@register
class LogSoftmax(Softmax):
    """The logarithm of softmax, computed without it."""

    name = "log_softmax"

    def reference(self, attrs: SoftmaxAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x = _shifted(array(inputs, 0), attrs.axis)
        return (x - np.log(np.exp(x).sum(attrs.axis, keepdims=True)),)
