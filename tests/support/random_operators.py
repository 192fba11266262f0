"""Nodes of random graphs that compute: for each family of operators, how one of it is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from random_drawing import APPROXIMATE, CHANNELS, SUMMED, Drawing, Illegal, Value

from convc.types import Array

Family = Callable[[Drawing], None]

SMOOTH = (
    "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Elu",
    "Celu", "Selu", "LeakyRelu", "Sin", "Cos", "Atan", "Asinh",
)  # fmt: skip
BELOW_4 = ("Exp", "Sinh", "Cosh")
MOVING = ("Abs", "Neg", "Relu", "Identity", "Dropout")
STEPS = ("Floor", "Ceil", "Round", "Sign", "ThresholdedRelu", "Shrink", "IsNaN")
POSITIVE = ("Sqrt", "Log", "Reciprocal", "Acosh")
WITHIN_1 = ("Asin", "Acos", "Atanh")
COMPARISONS = ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")


def unary(d: Drawing) -> None:
    """A function of each element."""
    x = d.floats()
    match d.whole(0, 5):
        case 0 | 1:
            op = d.pick(*SMOOTH)
            d.emit(op, x, **({"approximate": d.pick("none", "tanh")} if op == "Gelu" else {}))
        case 2 if np.abs(x.array).max() < 4:
            d.emit(d.pick(*BELOW_4), x)
        case 3:
            d.emit(d.pick(*POSITIVE), positive(d, x, 1.5))
        case 4:
            inside = d.emit("Mul", d.emit("Tanh", x), d.weight(np.float32(0.9)))
            d.emit(d.pick(*WITHIN_1), inside)
        case _:
            d.emit("Tan", d.emit("Mul", x, d.weight(np.float32(1 / max(1.0, abs(x.array).max())))))


def moving(d: Drawing) -> None:
    """A function that chooses or turns numbers."""
    x = d.floats()
    if d.chance(0.3):
        low, high = sorted(d.rng.uniform(-1.5, 1.5, 2))
        bounds = [d.weight(np.float32(b)) if d.chance(0.8) else None for b in (low, high)]
        d.emit("Clip", x, *bounds, exact=True)
    else:
        d.emit(d.pick(*MOVING), x, exact=True)


def stepwise(d: Drawing) -> None:
    """A function with steps, of numbers that no rounding has touched."""
    x = d.floats(exact=True)
    match d.whole(0, 3):
        case 0 | 1:
            d.emit(d.pick(*STEPS), x, exact=True)
        case 2:
            d.emit("Cast", x, to=d.pick(6, 7, 9), exact=True)  # int32, int64, bool
        case _:
            d.emit(d.pick(*COMPARISONS), x, partner(d, x))


def positive(d: Drawing, x: Value, least: float) -> Value:
    """|x| + least."""
    return d.emit("Add", d.emit("Abs", x, exact=True), d.weight(np.float32(least)))


def partner(d: Drawing, x: Value) -> Value:
    """Something of x's dtype that broadcasts with it: a value, or numbers of some of its axes."""
    if d.chance(0.35):
        return d.find(lambda v: v.array.dtype == x.array.dtype and broadcasts(v, x), lambda: like(d, x))
    return d.given(like(d, x))


def broadcasts(a: Value, b: Value) -> bool:
    """Whether the shapes go together."""
    return all(m in (1, n) or n == 1 for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False))


def like(d: Drawing, x: Value) -> Array:
    """Numbers whose shape has some of x's axes, others being 1 or absent; now and then more axes."""
    shape = [1 if d.chance(0.4) else e for e in x.shape]
    shape = shape[d.whole(0, x.rank) if d.chance(0.5) else 0 :]
    if len(shape) == x.rank < 5 and d.chance(0.15):
        shape = [d.whole(1, 3), *shape]
    if x.is_float:
        return d.numbers(*shape)
    if x.array.dtype == bool:
        return d.rng.integers(0, 2, shape).astype(bool)
    return d.rng.integers(1, 9, shape).astype(x.array.dtype)


def binary(d: Drawing) -> None:
    """Arithmetic with broadcasting."""
    x = d.floats()
    y = partner(d, x)
    a, b = (x, y) if d.chance(0.7) else (y, x)
    match d.whole(0, 7):
        case 0:
            d.emit("Div", a, positive(d, b, 0.5))
        case 1:
            d.emit("Pow", positive(d, x, 0.5), d.weight(np.float32(d.pick(2, 3, 0.5, -1, 1, 0))))
        case 2:
            slopes = d.given(d.numbers(x.shape[1], *[1] * (x.rank - 2)) if x.rank > 2 else d.numbers())
            d.emit("PRelu", x, slopes)
        case 3:
            d.emit(d.pick("Max", "Min"), a, b, exact=True)
        case 4:
            more = [partner(d, x) for _ in range(d.whole(0, 2))]
            d.tame(d.emit(d.pick("Sum", "Mean", "Max"), a, b, *more, error=SUMMED))
        case _:
            d.tame(d.emit(d.pick("Add", "Sub", "Mul"), a, b))


def logical(d: Drawing) -> None:
    """Choices by bool, and their algebra."""
    c = d.find(
        lambda v: v.array.dtype == bool, lambda: d.rng.integers(0, 2, d.shape(d.whole(0, 5))).astype(bool)
    )
    match d.whole(0, 3):
        case 0:
            d.emit(d.pick("And", "Or", "Xor", "Equal"), c, partner(d, c))
        case 1:
            d.emit("Not", c)
        case 2:
            d.emit("Cast", c, to=1, exact=True)
        case _:
            x = d.find(lambda v: v.is_float and broadcasts(v, c), lambda: d.numbers(*c.shape))
            d.emit("Where", c, *d.rng.permutation(np.array([x, partner(d, x)], object)), exact=True)


def integral(d: Drawing) -> None:
    """Arithmetic of integers, and back to floats."""
    kind = d.pick(np.int32, np.int64)
    x = d.find(
        lambda v: v.array.dtype in (np.int32, np.int64),
        lambda: d.rng.integers(-9, 9, d.shape(d.whole(0, 4))).astype(kind),
    )
    match d.whole(0, 4):
        case 0:
            d.emit("Cast", x, to=1, exact=True)
        case 1:
            d.emit(d.pick("Div", "Mod"), x, d.weight(np.abs(like(d, x)) + 1))
        case 2:
            d.emit(d.pick("Neg", "Abs", "Sign"), x)
        case 3 if x.rank:
            axes = d.ints(*sorted(d.rng.choice(x.rank, d.whole(1, x.rank), replace=False)))
            d.emit(d.pick("ReduceSum", "ReduceMax", "ReduceMin"), x, axes, keepdims=d.whole(0, 1))
        case _:
            d.emit(d.pick("Add", "Sub", "Mul", "Max", "Min"), x, partner(d, x))


# ---- windows


def window(d: Drawing, x: Value) -> dict[str, list[int]]:
    """Kernel, strides, dilations and pads that fit a map."""
    kernel, dilations, strides, before, after = [], [], [], [], []
    for size in x.shape[2:]:
        k = d.pick(1, 1, 2, 3, 3, 3, 4, 5, 7)
        dilation = d.pick(1, 1, 1, 2, 3)
        pads = [d.whole(0, min(3, dilation * (k - 1))) for _ in range(2)]
        while dilation * (k - 1) + 1 > size + sum(pads) and k > 1:
            k, pads = k - 1, [min(p, dilation * (k - 2)) for p in pads]
        kernel.append(k)
        dilations.append(dilation)
        strides.append(d.pick(1, 1, 1, 2, 2, 3))
        before.append(pads[0])
        after.append(pads[1])
    return {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": [*before, *after]}


def convolution(d: Drawing) -> None:
    """Dense, in groups or by channel."""
    x = d.map()
    c = x.shape[1]
    groups = d.pick(1, 1, 1, c, *[g for g in (2, 3, 4, 5, 8, 11, 16) if c % g == 0])
    out = groups * d.pick(1, 1, 2, 3) if groups > 1 else d.pick(*CHANNELS, 16, 64)
    attributes = window(d, x)
    terms = c // groups * math.prod(attributes["kernel_shape"])
    w = d.weight(d.numbers(out, c // groups, *attributes["kernel_shape"], scale=terms**-0.5))
    bias = [d.weight(d.numbers(out, scale=0.3))] if d.chance(0.6) else []
    if d.chance(0.15):
        attributes = {k: v for k, v in attributes.items() if k != "pads"}
        attributes["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID")
        attributes["dilations"] = [1] * (x.rank - 2)  # the only ones that onnxruntime defines SAME for
    y = d.emit("Conv", x, w, *bias, group=groups, error=APPROXIMATE, **attributes)
    if d.chance(0.4):
        d.emit(d.pick("Relu", "Sigmoid", "HardSwish", "LeakyRelu"), y)


def transposed(d: Drawing) -> None:
    """A transposed convolution."""
    x = d.map()
    c = x.shape[1]
    groups = d.pick(1, 1, 1, c, *[g for g in (2, 3, 11) if c % g == 0])
    attributes = window(d, x)
    limits = zip(attributes["strides"], attributes["dilations"], strict=True)
    extra = [d.whole(0, max(both) - 1) for both in limits]
    size = d.pick(1, 1, 2, 3) if groups > 1 else d.pick(*CHANNELS)
    terms = c // groups * math.prod(attributes["kernel_shape"])
    w = d.weight(d.numbers(c, size, *attributes["kernel_shape"], scale=terms**-0.5))
    bias = [d.weight(d.numbers(groups * size, scale=0.3))] if d.chance(0.5) else []
    d.emit("ConvTranspose", x, w, *bias, group=groups, output_padding=extra, error=APPROXIMATE, **attributes)


def pooling(d: Drawing) -> None:
    """Windows without weights, and whole maps."""
    x = d.map()
    if d.chance(0.25):
        d.emit(d.pick("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), x, error=SUMMED)
        return
    op = d.pick("MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool")
    attributes = {**window(d, x), "ceil_mode": d.whole(0, 1)}
    if op == "AveragePool":
        attributes["count_include_pad"] = d.whole(0, 1)
    if op == "LpPool":
        attributes["p"] = d.whole(1, 3)
    d.emit(op, x, exact=op == "MaxPool", error=SUMMED, **attributes)


# ---- products


def product(d: Drawing) -> None:
    """MatMul: vectors, matrices, stacks; by a constant or not."""
    x = d.floats((1, 2, 2, 3, 3, 4, 5))
    k = x.shape[-1]
    n = d.pick(1, 3, 8, 17, 33, 64)
    shape = d.pick((k, n), (k, n), (k, n), (k,), (1, k, n))
    if x.rank > 2 and d.chance(0.3):
        shape = (*[d.pick(1, e) for e in x.shape[:-2]], k, n)
    y = d.given(d.numbers(*shape, scale=k**-0.5))
    d.emit("MatMul", x, y, error=APPROXIMATE)


def gemm(d: Drawing) -> None:
    """Gemm with all its attributes."""
    x = d.floats((2,))
    across, turned = d.whole(0, 1), d.whole(0, 1)
    m, k = x.shape[::-1] if across else x.shape
    n = d.pick(1, 3, 5, 17, 33, 100)
    y = d.given(d.numbers(*((n, k) if turned else (k, n)), scale=k**-0.5))
    bias = [d.given(d.numbers(*d.pick((n,), (1, n), (m, 1), (m, n), (1,), ())))] if d.chance(0.7) else []
    scales = {"alpha": d.pick(1.0, 1.0, 0.5, -2.0), "beta": d.pick(1.0, 1.0, 0.25)}
    d.emit("Gemm", x, y, *bias, transA=across, transB=turned, error=APPROXIMATE, **scales)


# ---- sums


def reduction(d: Drawing) -> None:
    """Sums, extremes and norms over some axes."""
    x = d.floats((1, 2, 3, 4, 5, 6))
    axes = d.rng.choice(x.rank, d.whole(1, x.rank), replace=False)
    count = math.prod(x.shape[a] for a in axes)
    axes = d.ints(*(int(a) - (x.rank if d.chance(0.3) else 0) for a in axes))
    attributes = {"keepdims": d.whole(0, 1)}
    match d.whole(0, 4):
        case 0:
            d.emit(d.pick("ReduceMax", "ReduceMin"), x, axes, exact=True, **attributes)
        case 1:
            op = d.pick("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceSum")
            d.tame(d.emit(op, x, axes, error=SUMMED, **attributes))
        case 2 if count <= 16:
            d.tame(d.emit("ReduceProd", x, axes, error=SUMMED, **attributes))
        case 3:
            d.emit("ReduceLogSum", positive(d, x, 0.5), axes, error=SUMMED, **attributes)
        case _:
            d.emit("ReduceMean", x, axes, error=SUMMED, **attributes)


def position(d: Drawing) -> None:
    """Where the largest or smallest element is."""
    x = d.floats((1, 2, 3, 4, 5), exact=True)
    choices = {"keepdims": d.whole(0, 1), "select_last_index": d.whole(0, 1)}
    d.emit(d.pick("ArgMax", "ArgMin"), x, axis=d.whole(-x.rank, x.rank - 1), **choices)


def softmax(d: Drawing) -> None:
    """Over any axis."""
    x = d.floats((1, 2, 3, 4, 5))
    d.emit(d.pick("Softmax", "Softmax", "LogSoftmax"), x, axis=d.whole(-x.rank, x.rank - 1), error=SUMMED)


def norm(d: Drawing) -> None:
    """Normalisation by given or own statistics."""
    x = d.map((0, 1, 2, 2, 3))
    c = x.shape[1]
    scale, bias = d.weight(d.numbers(c)), d.weight(d.numbers(c))
    match d.whole(0, 5):
        case 0 | 1:
            deviations = d.weight(np.asarray(d.rng.uniform(0.5, 2, c), np.float32))
            d.emit("BatchNormalization", x, scale, bias, d.weight(d.numbers(c)), deviations)
        case 2 if x.rank > 2 and math.prod(x.shape[2:]) > 2:
            d.emit("InstanceNormalization", x, scale, bias, error=4 * SUMMED)
        case 3:
            groups = d.pick(*[g for g in range(1, c + 1) if c % g == 0])
            if x.array.size // x.shape[0] // groups < 3:
                raise Illegal("the deviation of so few numbers may be 0")
            d.emit("GroupNormalization", x, scale, bias, num_groups=groups, error=4 * SUMMED)
        case 4:
            axis = d.whole(0, x.rank - 1)
            size = x.shape[axis:]
            if math.prod(size) < 3:
                raise Illegal("the deviation of so few numbers may be 0")
            operands = [d.weight(d.numbers(*size)) for _ in range(d.whole(1, 2))]
            axis -= x.rank if d.chance(0.5) else 0
            d.emit("LayerNormalization", x, *operands, axis=axis, error=4 * SUMMED)
        case _:
            if x.rank == 4:
                d.emit("LRN", x, size=d.pick(1, 3, 5), alpha=0.1, error=SUMMED)
            else:
                d.emit("LpNormalization", x, axis=d.whole(0, x.rank - 1), p=d.whole(1, 2), error=SUMMED)


OPERATORS: tuple[tuple[float, Family], ...] = (
    (5, convolution), (1.5, transposed), (3, pooling), (3, product), (1, gemm), (3, unary), (2, moving),
    (1.5, stepwise), (4, binary), (1, logical), (1, integral), (2, reduction), (0.5, position), (1, softmax),
    (2.5, norm),
)  # fmt: skip
"""Families that compute, and how often each is drawn."""
