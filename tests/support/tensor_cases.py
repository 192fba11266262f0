"""Cases of the operators on tensors: elementwise ones, reductions, and those that move elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from case import Case, Range, f32, of

from convc.ir import Attrs
from convc.ops.binary import ModAttrs
from convc.ops.parts import ConcatAttrs, GatherAttrs, SliceAttrs, SplitAttrs
from convc.ops.reduce import ArgAttrs, ReduceAttrs, ReduceLpAttrs, SoftmaxAttrs
from convc.ops.shape import (
    DepthSpaceAttrs,
    ExpandAttrs,
    PadAttrs,
    ReshapeAttrs,
    TileAttrs,
    TransposeAttrs,
)
from convc.ops.unary import (
    AlphaAttrs,
    CastAttrs,
    ClipAttrs,
    GeluAttrs,
    HardSigmoidAttrs,
    LeakyReluAttrs,
    SeluAttrs,
    ShrinkAttrs,
    SwishAttrs,
)  # fmt: skip

DOMAINS: dict[str, Range] = {
    "log": (0.1, 4), "sqrt": (0, 4), "reciprocal": (0.2, 3), "asin": (-0.95, 0.95), "acos": (-0.95, 0.95),
    "acosh": (1.1, 4), "atanh": (-0.9, 0.9), "tan": (-1.4, 1.4), "hard_swish": (-5, 5), "softplus": (-40, 40),
    "sigmoid": (-40, 40), "mish": (-20, 20), "swish": (-20, 20),
}  # fmt: skip

UNARY = [
    *(
        Case(name, name, Attrs(), (f32(3, 17, 5),), ranges=(DOMAINS.get(name, (-3, 3)),))
        for name in (
            "relu", "sigmoid", "tanh", "softsign", "hard_swish", "mish", "softplus", "exp", "log", "sqrt",
            "abs", "neg", "reciprocal", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
            "asinh", "acosh", "atanh", "identity", "dropout", "relayout",
        )
    ),
    *(
        Case(f"{name}-grid", name, Attrs(), (f32(3, 17, 5),), ranges=((-4, 4),), grid=0.25)
        for name in ("floor", "ceil", "round", "sign")
    ),
    *(
        Case(f"{name}{id}", name, attrs, (f32(1, 17, 4, 3),), ranges=((-4, 4),))
        for name, id, attrs in (
            ("leaky_relu", "", LeakyReluAttrs()), ("leaky_relu", "-alpha", LeakyReluAttrs(0.3)),
            ("elu", "", AlphaAttrs(1.5)), ("celu", "", AlphaAttrs(2.0)),
            ("thresholded_relu", "", AlphaAttrs(0.7)), ("selu", "", SeluAttrs()),
            ("hard_sigmoid", "", HardSigmoidAttrs()),
            ("hard_sigmoid", "-sixth", HardSigmoidAttrs(1 / 6, 0.5)),
            ("gelu", "", GeluAttrs()), ("gelu", "-tanh", GeluAttrs("tanh")),
            ("swish", "", SwishAttrs()), ("swish", "-alpha", SwishAttrs(0.5)),
            ("shrink", "-hard", ShrinkAttrs()), ("shrink", "-soft", ShrinkAttrs(1.0, 1.0)),
            ("clip", "", ClipAttrs(0.0, 6.0)), ("clip", "-below", ClipAttrs(min=-1.0)),
            ("clip", "-above", ClipAttrs(max=0.5)),
        )
    ),
    Case("relu-int32", "relu", Attrs(), (of("int32", 4, 5),), ranges=((-9, 9),)),
    Case("abs-int64", "abs", Attrs(), (of("int64", 4, 5),), ranges=((-9, 9),)),
    Case("clip-int8", "clip", ClipAttrs(-3.0, 100.0), (of("int8", 30),), ranges=((-128, 127),)),
    Case("relu-scalar", "relu", Attrs(), (f32(),)),
    Case("not", "not", Attrs(), (of("bool", 3, 5),)),
    Case("isnan", "isnan", Attrs(), (f32(3, 5),)),
    *(
        Case(f"cast-{source}-{target}", "cast", CastAttrs(target), (of(source, 3, 7),), ranges=((low, 9),))
        for source, target, low in (
            ("float32", "float64", -9), ("float32", "float16", -9), ("float16", "float32", -9),
            ("float32", "int32", -9), ("float32", "int64", -9), ("float32", "uint8", 0),
            ("int64", "float32", -9), ("uint8", "float32", 0), ("int32", "int64", -9),
            ("bool", "float32", 0), ("int32", "bool", -2),
        )
    ),
]  # fmt: skip

BROADCASTS: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
    ("same", (1, 17, 5, 3), (1, 17, 5, 3)),
    ("channel", (3, 17, 4, 3), (17, 1, 1)),
    ("scalar", (3, 5), ()),
    ("both", (3, 1, 5), (1, 4, 5)),
    ("left-is-smaller", (5,), (2, 3, 5)),
)


def pair(
    id: str, op: str, dtype: str, ranges: tuple[Range, ...], *, grid: float = 0, fmod: bool = False
) -> Case:
    """A binary operator on operands of one shape."""
    attrs = ModAttrs(fmod) if op == "mod" else Attrs()
    return Case(f"{op}-{id}", op, attrs, (of(dtype, 4, 9), of(dtype, 4, 9)), (), ranges, grid)


BINARY = [
    *(Case(f"add-{id}", "add", Attrs(), (f32(*a), f32(*b))) for id, a, b in BROADCASTS),
    *(
        Case(f"{op}-{id}", op, Attrs(), (f32(*a), f32(*b)), (1,), ((-2, 2), (0.5, 2)))
        for op in ("sub", "mul", "div", "max", "min")
        for id, a, b in BROADCASTS[1:4]
    ),
    Case("sub-constant-left", "sub", Attrs(), (f32(17, 1), f32(1, 17, 5)), (0,)),
    pair("positive-base", "pow", "float32", ((0.1, 3), (-2, 2))),
    pair("int32", "pow", "int32", ((-5, 5), (0, 4))),
    pair("float-fmod", "mod", "float32", ((-9, 9), (0.5, 3)), fmod=True),
    *(pair(f"{t}-{f}", "mod", t, ((-20, 20), (-5, 5)), fmod=f == "fmod") for t in ("int32", "int64")
      for f in ("floor", "fmod")),
    pair("uint8-floor", "mod", "uint8", ((0, 200), (1, 9))),
    *(pair(t, op, t, ((-60, 60), (-9, 9))) for op in ("add", "sub", "mul", "div", "max", "min")
      for t in ("int32", "int64")),
    *(pair("uint8", op, "uint8", ((10, 20), (1, 9))) for op in ("add", "sub", "mul", "div")),
    pair("int8", "div", "int8", ((-100, 100), (-7, 7))),
    *(pair("floats", op, "float32", ((-1, 1),), grid=0.5)
      for op in ("equal", "greater", "less", "greater_equal", "less_equal")),
    *(pair("int64", op, "int64", ((-2, 2),)) for op in ("equal", "less")),
    pair("bool", "equal", "bool", ((0, 1),)),
    *(pair("bool", op, "bool", ((0, 1),)) for op in ("and", "or", "xor")),
    Case("prelu-channel", "prelu", Attrs(), (f32(3, 17, 4, 3), f32(17, 1, 1)), (1,)),
    Case("prelu-one-slope", "prelu", Attrs(), (f32(3, 5), f32(1)), (1,)),
    Case("where-broadcast", "where", Attrs(), (of("bool", 4, 1), f32(3, 1, 5), f32(5))),
    Case("where-int64", "where", Attrs(), (of("bool", 6), of("int64", 6), of("int64", 1)), ranges=((-9, 9),)),
]  # fmt: skip


def _reductions() -> Iterator[Case]:
    for name in ("mean", "sum", "max", "min", "prod", "l1", "l2", "lp", "sum_square", "log_sum_exp"):
        cls = ReduceLpAttrs if name == "lp" else ReduceAttrs
        for id, shape, axes, keepdims in (
            ("spatial", (3, 17, 5, 3), (2, 3), True),
            ("first-dropped", (3, 4, 5), (0,), False),
            ("all", (2, 3, 4), (0, 1, 2), False),
        ):
            yield Case(f"reduce_{name}-{id}", f"reduce_{name}", cls(axes, keepdims), (f32(*shape),))
    yield Case("reduce_lp-3", "reduce_lp", ReduceLpAttrs((1,), True, 3), (f32(3, 7),))
    for name in ("mean", "sum", "max", "min", "prod"):
        x = of("int32", 3, 5)
        yield Case(f"reduce_{name}-int32", f"reduce_{name}", ReduceAttrs((-1,)), (x,), ranges=((-9, 9),))
    for name in ("argmax", "argmin"):
        for last in (False, True):
            attrs = ArgAttrs(1, not last, last)
            yield Case(f"{name}-ties-{'last' if last else 'first'}", name, attrs, (f32(3, 9, 4),), grid=1.0)
    for name in ("softmax", "log_softmax"):
        for id, axis, x in (
            ("last", -1, f32(3, 17)),
            ("channels", 1, f32(1, 17, 3, 2)),
            ("first", 0, f32(5, 3)),
        ):
            yield Case(f"{name}-{id}", name, SoftmaxAttrs(axis), (x,), ranges=((-90, 90),))


REDUCE = list(_reductions())


def pad(id: str, x: Sequence[int], pads: Any, mode: str = "constant", value: float = 0.0) -> Case:
    """A pad of a float32 tensor."""
    return Case(f"pad-{id}", "pad", PadAttrs(pads, mode, value), (f32(*x),))


def cut(id: str, x: Sequence[int], starts: Any, stops: Any, steps: Any) -> Case:
    """A slice of a float32 tensor."""
    return Case(f"slice-{id}", "slice", SliceAttrs(starts, stops, steps), (f32(*x),))


SHAPE = [
    Case("reshape-flatten", "reshape", ReshapeAttrs((3, 51)), (f32(3, 17, 3, 1),)),
    Case("reshape-to-scalar", "reshape", ReshapeAttrs(()), (f32(1, 1),)),
    Case("reshape-int64", "reshape", ReshapeAttrs((2, 6)), (of("int64", 3, 4),)),
    Case("transpose-nhwc", "transpose", TransposeAttrs((0, 2, 3, 1)), (f32(3, 17, 5, 4),)),
    Case("transpose-reversed", "transpose", TransposeAttrs((2, 1, 0)), (f32(3, 4, 5),)),
    Case("concat-channels", "concat", ConcatAttrs(1), (f32(1, 16, 5, 3), f32(1, 17, 5, 3), f32(1, 3, 5, 3))),
    Case("concat-last", "concat", ConcatAttrs(-1), (f32(3, 2), f32(3, 5))),
    Case("concat-one", "concat", ConcatAttrs(0), (f32(3, 2),)),
    Case("split-channels", "split", SplitAttrs(1, (16, 3, 1)), (f32(1, 20, 5, 3),)),
    Case("split-last", "split", SplitAttrs(-1, (2, 2)), (f32(3, 4),)),
    cut("inner", (1, 17, 6, 5), (0, 3, 1, 0), (1, 14, 6, 5), (1, 1, 2, 1)),
    cut("reversed", (4, 5), (3, 4), (-1, 0), (-1, -2)),
    cut("empty-range", (4, 5), (0, 2), (4, 2), (1, 1)),
    Case("expand-channel", "expand", ExpandAttrs((3, 4, 5)), (f32(4, 1),)),
    Case("expand-smaller-shape", "expand", ExpandAttrs((1, 5)), (f32(3, 4, 1),)),
    Case("tile", "tile", TileAttrs((2, 1, 3)), (f32(2, 3, 4),)),
    pad("constant", (1, 3, 4, 5), ((0, 0), (0, 0), (1, 2), (0, 3)), value=0.5),
    pad("channels", (1, 3, 4, 5), ((0, 0), (2, 1), (0, 0), (0, 0))),
    pad("crop-and-add", (1, 3, 6, 5), ((0, 0), (0, 0), (-1, -2), (-1, 2)), value=-1.0),
    pad("reflect", (1, 3, 4, 5), ((0, 0), (0, 0), (3, 1), (0, 4)), "reflect"),
    pad("edge", (1, 3, 4, 5), ((0, 0), (0, 0), (5, 1), (0, 4)), "edge"),
    pad("wrap", (1, 3, 4, 5), ((0, 0), (0, 0), (3, 1), (0, 5)), "wrap"),
    Case("gather-rows", "gather", GatherAttrs(0), (f32(7, 5), of("int64", 2, 3)), (1,), ((-7, 6),)),
    Case("gather-scalar-index", "gather", GatherAttrs(1), (f32(3, 5, 2), of("int64")), (1,), ((-5, 4),)),
    Case("gather-int32-indices", "gather", GatherAttrs(-1), (f32(3, 5), of("int32", 4)), (), ((-5, 4),)),
    *(
        Case(f"{op}-{mode}", op, DepthSpaceAttrs(2, mode), (f32(*shape),))
        for op, shape in (("depth_to_space", (1, 12, 3, 5)), ("space_to_depth", (3, 5, 4, 6)))
        for mode in ("DCR", "CRD")
    ),
    Case("depth_to_space-blocks", "depth_to_space", DepthSpaceAttrs(2), (f32(2, 128, 3, 5),)),
]
