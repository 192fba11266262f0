"""Nodes of random graphs that move elements: each leaves numbers as they are, but for interpolation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from random_drawing import LARGEST, SUMMED, Drawing, Illegal, Value

ALL_RANKS = (1, 2, 3, 4, 5, 6)


def value(d: Drawing) -> Value:
    """Any tensor that has axes."""
    if d.chance(0.1):
        return d.find(lambda v: not v.is_float and v.rank > 0, lambda: d.numbers(*d.shape(2)))
    return d.floats(ALL_RANKS)


def axis_of(d: Drawing, x: Value) -> int:
    """One of its axes, counted from either end."""
    return d.whole(-x.rank, x.rank - 1)


def factors(d: Drawing, count: int) -> list[int]:
    """Extents of so many elements."""
    shape, rest = [], count
    while rest > 1 and len(shape) < 4:
        shape.append(d.pick(*[f for f in range(1, rest + 1) if rest % f == 0]))
        rest //= shape[-1]
    return [*shape, rest]


def reshape(d: Drawing) -> None:
    """Other extents: any, flattened, or with axes of 1."""
    x = value(d)
    match d.whole(0, 4):
        case 0:
            d.emit("Flatten", x, axis=d.whole(-x.rank, x.rank), exact=True)
        case 1 if x.rank < 6:
            d.emit("Unsqueeze", x, d.ints(d.whole(-x.rank - 1, x.rank)), exact=True)
        case 2 if 1 in x.shape:
            d.emit("Squeeze", x, d.ints(d.pick(*[a for a, e in enumerate(x.shape) if e == 1])), exact=True)
        case 3 if x.rank > 1:
            first = d.whole(0, x.rank - 2)  # two axes become one
            d.emit("Reshape", x, d.ints(*x.shape[:first], -1, *x.shape[first + 2 :]), exact=True)
        case _:
            d.emit("Reshape", x, d.ints(*factors(d, x.array.size)), exact=True)


def transpose(d: Drawing) -> None:
    """Axes in another order."""
    x = value(d)
    d.emit("Transpose", x, perm=[int(a) for a in d.rng.permutation(x.rank)], exact=True)


def concat(d: Drawing) -> None:
    """Several values, the same one twice now and then, along an axis."""
    x = value(d)
    axis = axis_of(d, x)

    def fits(v: Value) -> bool:
        return v.array.dtype == x.array.dtype and v.rank == x.rank and rest(v) == rest(x)

    def rest(v: Value) -> tuple[int, ...]:
        return (*v.shape[: axis % v.rank], *v.shape[axis % v.rank + 1 :])

    def new() -> np.ndarray:
        shape = list(x.shape)
        shape[axis] = d.pick(1, 2, 3, 5, 8, 13, 16)
        return d.numbers(*shape).astype(x.array.dtype)

    parts = [x, *(d.find(fits, new) if d.chance(0.7) else d.given(new()) for _ in range(d.whole(1, 3)))]
    order = d.rng.permutation(len(parts))
    d.emit("Concat", *(parts[i] for i in order), axis=axis, exact=True)


def split(d: Drawing) -> None:
    """Uneven pieces."""
    x = value(d)
    axis = axis_of(d, x)
    size = x.shape[axis]
    if size < 2:
        raise Illegal("one element cannot be split")
    count = size if d.chance(0.05) else d.whole(2, min(5, size))
    cuts = sorted(d.rng.choice(np.arange(1, size), count - 1, replace=False))
    sizes = np.diff([0, *cuts, size])
    d.emit("Split", x, d.ints(*map(int, sizes)), results=count, axis=axis, exact=True)


def cut(d: Drawing) -> None:
    """A slice along some axes, backwards and by steps too."""
    x = value(d)
    axes = sorted(int(a) for a in d.rng.choice(x.rank, d.whole(1, x.rank), replace=False))
    bounds = []
    for axis in axes:
        start = d.whole(0, x.shape[axis] - 1)
        stop = d.whole(start + 1, x.shape[axis])
        step = d.pick(1, 1, 1, 2, 3)
        backwards = (stop - 1, start - 1 if start else -(1 << 40), -step)
        bounds.append(backwards if d.chance(0.2) else (start, stop, step))
    starts, stops, steps = (d.ints(*column) for column in zip(*bounds, strict=True))
    d.emit("Slice", x, starts, stops, d.ints(*axes), steps, exact=True)


def repeat(d: Drawing) -> None:
    """Expand axes of 1, or tile any."""
    x = value(d)
    if d.chance(0.5):
        shape = [d.pick(1, 2, 3, 5, 17) if e == 1 else e for e in x.shape]
        more = [d.whole(1, 3)] if x.rank < 5 and d.chance(0.2) else []
        d.emit("Expand", x, d.ints(*more, *shape), exact=True)
    else:
        d.emit("Tile", x, d.ints(*(d.pick(1, 1, 2, 3) for _ in x.shape)), exact=True)


def pad(d: Drawing) -> None:
    """In every mode, also negative."""
    x = value(d)
    mode = d.pick("constant", "constant", "reflect", "edge", "wrap")
    most = [max(0, e - 1) for e in x.shape] if mode in ("reflect", "wrap") else [3] * x.rank
    limits = [
        (-1 if mode == "constant" and e > 3 else 0, min(m, 4)) for m, e in zip(most, x.shape, strict=True)
    ]
    pads = [d.whole(*limit) if d.chance(0.5) else 0 for limit in 2 * limits]
    filled = mode == "constant" and x.array.dtype != bool
    filling = [d.weight(np.asarray(d.pick(0, 2), x.array.dtype))] if filled else []
    d.emit("Pad", x, d.ints(*pads), *filling, mode=mode, exact=True)


def gather(d: Drawing) -> None:
    """By constant indices of any rank, negative ones too."""
    x = value(d)
    axis = axis_of(d, x)
    shape = d.pick((), (1,), (3,), (7,), (2, 3))
    indices = d.rng.integers(-x.shape[axis], x.shape[axis], shape)
    d.emit("Gather", x, d.weight(np.asarray(indices, np.int64)), axis=axis, exact=True)


def blocks(d: Drawing) -> None:
    """Between channels and space."""
    x = d.map((2,))
    block = d.pick(2, 2, 3)
    if x.shape[1] % block**2 == 0:
        d.emit("DepthToSpace", x, blocksize=block, mode=d.pick("DCR", "CRD"), exact=True)
    elif all(e % block == 0 for e in x.shape[2:]):
        d.emit("SpaceToDepth", x, blocksize=block, exact=True)
    else:
        raise Illegal("no whole blocks")


def resize(d: Drawing) -> None:
    """Maps of another size, by neighbours or interpolated."""
    x = d.map((1, 2, 2, 3))
    mode = d.pick("nearest", "nearest", "linear", "cubic" if x.rank == 4 else "linear")
    scales = [d.pick(1.0, 2.0, 3.0, 1.5, 0.5) for _ in x.shape[2:]]
    extents = [int(s * e) for s, e in zip(scales, x.shape[2:], strict=True)]
    if np.prod(scales) * x.array.size > LARGEST or 0 in extents:
        raise Illegal("too large, or empty")
    coordinates = d.pick("half_pixel", "asymmetric", "align_corners")
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = d.pick("round_prefer_floor", "floor", "ceil", "round_prefer_ceil")
    if d.chance(0.5):
        sizes = d.ints(*x.shape[:2], *extents)
        d.emit("Resize", x, None, None, sizes, exact=mode == "nearest", error=SUMMED, **attributes)
    else:
        factor = d.weight(np.array([1, 1, *scales], np.float32))
        d.emit("Resize", x, None, factor, exact=mode == "nearest", error=SUMMED, **attributes)


MOVES: tuple[tuple[float, Callable[[Drawing], None]], ...] = (
    (2, reshape), (2, transpose), (2.5, concat), (2, split), (2, cut), (1, repeat), (1.5, pad), (1, gather),
    (1, blocks), (1.5, resize),
)  # fmt: skip
"""Families that move, and how often each is drawn."""
