"""Cases of the layers: convolutions, pools, normalisations, matrix products, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from case import Case, f32, of

from convc.ir import Attrs
from convc.ops.conv import ConvAttrs, ConvTransposeAttrs
from convc.ops.conv_pool import ConvMaxPoolAttrs
from convc.ops.linear import GemmAttrs
from convc.ops.norm import BatchNormAttrs, GroupNormAttrs, InstanceNormAttrs, LayerNormAttrs, LrnAttrs
from convc.ops.pool import AveragePoolAttrs, LpPoolAttrs, MaxPoolAttrs
from convc.ops.resize import ResizeAttrs
from convc.ops.separable import SeparableAttrs

Window = dict[str, Any]


def window(spatial: int, pads: Any = 0, strides: Any = 1, dilations: Any = 1, **more: Any) -> Window:
    """Attributes of a sliding window; one number stands for every axis (and both its ends)."""

    def spread(value: Any) -> tuple[int, ...]:
        return (value,) * spatial if isinstance(value, int) else tuple(value)

    both = tuple((p, p) if isinstance(p, int) else tuple(p) for p in spread(pads))
    return {"strides": spread(strides), "dilations": spread(dilations), "pads": both, **more}


def conv(id: str, x: Sequence[int], w: Sequence[int], *, bias: bool = False, **attrs: Any) -> Case:
    """A convolution with constant weights."""
    inputs = (f32(*x), f32(*w), *([f32(w[0])] if bias else []))
    made = ConvAttrs(**window(len(x) - 2, **attrs))
    return Case(f"conv-{id}", "conv", made, inputs, tuple(range(1, len(inputs))))


def pooled(
    id: str, x: Sequence[int], w: Sequence[int], pool: Sequence[int], *, bias: bool = False, **attrs: Any
) -> Case:
    """A convolution with constant weights, of which windows keep the largest."""
    inputs = (f32(*x), f32(*w), *([f32(w[0])] if bias else []))
    made = ConvMaxPoolAttrs(**window(len(x) - 2, **attrs), pool=tuple(pool))
    return Case(f"conv_max_pool-{id}", "conv_max_pool", made, inputs, tuple(range(1, len(inputs))))


def deconv(id: str, x: Sequence[int], w: Sequence[int], *, bias: bool = False, **attrs: Any) -> Case:
    """A transposed convolution with constant weights."""
    made = ConvTransposeAttrs(**window(len(x) - 2, **attrs))
    inputs = (f32(*x), f32(*w), *([f32(w[1] * made.groups)] if bias else []))
    return Case(f"conv_transpose-{id}", "conv_transpose", made, inputs, tuple(range(1, len(inputs))))


def pool(op: str, id: str, x: Sequence[int], kernel: Sequence[int], **attrs: Any) -> Case:
    """A pool; the operator decides the class of attributes."""
    cls = {"max_pool": MaxPoolAttrs, "average_pool": AveragePoolAttrs, "lp_pool": LpPoolAttrs}[op]
    return Case(f"{op}-{id}", op, cls(tuple(kernel), **window(len(x) - 2, **attrs)), (f32(*x),))


CONV = [
    conv("3x3", (1, 16, 14, 14), (32, 16, 3, 3), pads=1),
    conv("3x3-bias-batch3-odd", (3, 17, 13, 11), (19, 17, 3, 3), pads=1, bias=True),
    conv("3x3-strided", (1, 16, 15, 15), (32, 16, 3, 3), pads=1, strides=2),
    conv("3x3-pads-0", (1, 3, 9, 9), (8, 3, 3, 3)),
    conv("3x3-pads-asymmetric", (1, 5, 8, 9), (6, 5, 3, 3), pads=((0, 2), (1, 0))),
    conv("3x3-dilated", (1, 4, 11, 12), (8, 4, 3, 3), pads=(2, 3), dilations=(2, 3)),
    conv("3x3-one-pixel", (1, 16, 1, 1), (16, 16, 3, 3), pads=1),
    conv("1x1-sees-padding-only", (1, 16, 1, 1), (16, 16, 1, 1), pads=1, strides=3, bias=True),
    conv("5x5-larger-than-map", (1, 3, 3, 2), (4, 3, 5, 5), pads=2, bias=True),
    conv("5x5-grouped-strided", (1, 12, 10, 9), (8, 6, 5, 5), pads=2, strides=2, groups=2),
    conv("3x3-groups-of-1-to-2", (1, 17, 9, 7), (34, 1, 3, 3), pads=1, groups=17),
    conv("3x3-depthwise", (1, 32, 12, 12), (32, 1, 3, 3), pads=1, groups=32, bias=True),
    conv("3x3-depthwise-strided-17", (3, 17, 9, 9), (17, 1, 3, 3), pads=1, strides=2, groups=17),
    conv("1x1", (1, 32, 7, 7), (17, 32, 1, 1)),
    conv("1x1-one-channel", (1, 1, 5, 5), (1, 1, 1, 1), bias=True),
    conv("1x1-stride-beyond-kernel", (1, 16, 9, 10), (16, 16, 1, 1), strides=3),
    conv("1x1-padded", (1, 3, 4, 4), (5, 3, 1, 1), pads=1, bias=True),
    conv("2x2", (1, 6, 9, 9), (16, 6, 2, 2), pads=((1, 0), (0, 1))),
    conv("4x4-strided-patches", (1, 3, 16, 16), (24, 3, 4, 4), strides=4),
    conv("7x7-first-layer", (1, 3, 30, 33), (16, 3, 7, 7), pads=3, strides=2, bias=True),
    conv("11x11-first-layer", (1, 3, 35, 35), (16, 3, 11, 11), pads=2, strides=4),
    conv("11x11-dense", (1, 16, 17, 17), (16, 16, 11, 11), pads=5),
    conv("1x7", (1, 16, 9, 12), (16, 16, 1, 7), pads=(0, 3)),
    conv("7x1", (1, 16, 12, 9), (16, 16, 7, 1), pads=(3, 0)),
    conv("1d", (1, 16, 31), (16, 16, 3), pads=1),
    conv("1d-dilated-batch3", (3, 3, 20), (5, 3, 4), pads=((6, 0),), dilations=2, bias=True),
    conv("3d", (1, 3, 5, 6, 7), (17, 3, 3, 3, 3), pads=1),
    conv("3d-strided-grouped", (1, 4, 5, 5, 5), (4, 2, 1, 3, 2), strides=(1, 2, 2), groups=2, bias=True),
]

CONV_POOL = [
    pooled("3x3", (1, 16, 16, 16), (32, 16, 3, 3), (2, 2), pads=1, bias=True),
    pooled("odd-batch2", (2, 17, 13, 11), (19, 17, 3, 3), (2, 2), pads=1, bias=True),
    pooled("by-3", (1, 16, 13, 18), (16, 16, 3, 3), (3, 3), pads=1),
    pooled("by-3-odd-batch3", (3, 5, 17, 10), (9, 5, 3, 3), (3, 3), bias=True),
    pooled("by-4-and-2", (1, 20, 9, 31), (40, 20, 3, 3), (4, 2), pads=1),
    pooled("by-1-and-2", (1, 16, 7, 30), (32, 16, 3, 3), (1, 2), pads=1),
    pooled("5x5-first-layer", (1, 1, 28, 28), (8, 1, 5, 5), (2, 2), pads=2, bias=True),
    pooled("5x5-wide-prime", (1, 3, 9, 147), (16, 3, 5, 5), (2, 2), pads=((1, 2), (0, 2)), bias=True),
    pooled("1x1", (1, 24, 6, 9), (17, 24, 1, 1), (2, 3)),
    pooled("strided-dilated", (1, 16, 23, 22), (16, 16, 3, 3), (2, 2), pads=1, strides=2, dilations=2),
    pooled("3x3-strided", (1, 16, 17, 22), (16, 16, 3, 3), (2, 2), pads=((0, 1), (1, 0)), strides=2),
    pooled("grouped", (1, 32, 9, 8), (32, 4, 3, 3), (2, 2), pads=1, groups=8),
    pooled("depthwise", (1, 24, 9, 12), (24, 1, 3, 3), (2, 2), pads=1, groups=24, bias=True),
    pooled("1x7", (1, 16, 9, 13), (16, 16, 1, 7), (1, 2), pads=(0, 3)),
    pooled("one-window", (1, 16, 3, 3), (16, 16, 2, 2), (2, 2), bias=True),
    pooled("1d", (2, 16, 31), (5, 16, 3), (2,), pads=1, bias=True),
    pooled("3d", (1, 3, 5, 6, 7), (17, 3, 3, 3, 3), (1, 2, 2), pads=1),
    pooled("3d-all-axes", (1, 3, 5, 6, 7), (17, 3, 3, 3, 3), (2, 2, 2), pads=1),
    pooled("larger-than-registers", (1, 8, 17, 19), (16, 8, 3, 3), (7, 9), pads=1),
]

RELU6 = (("clip", (0.0, 6.0)),)


def separable(
    op: str, id: str, x: Sequence[int], kernel: Sequence[int], channels: int, *, biases: int = 2, **attrs: Any
) -> Case:
    """A depthwise and a 1x1 convolution, of so many outputs; `biases` is 0, 2, or 1 for the second alone."""
    wide = x[1] if op == "depthwise_pointwise" else channels
    ones = (1,) * len(kernel)
    inputs = [f32(*x), f32(wide, 1, *kernel), f32(channels, x[1], *ones)]
    inputs += [None if biases == 1 else f32(wide), f32(channels)] if biases else []
    made = SeparableAttrs(**window(len(kernel), **attrs))
    constants = tuple(i for i, kind in enumerate(inputs) if i and kind)
    return Case(f"{op}-{id}", op, made, tuple(inputs), constants)


def _separables(op: str) -> list[Case]:
    return [
        separable(op, "3x3", (1, 32, 14, 14), (3, 3), 64, pads=1, between=RELU6),
        separable(op, "odd-batch3", (3, 17, 7, 7), (3, 3), 19, pads=1, between=RELU6),
        separable(op, "strided", (1, 24, 15, 30), (3, 3), 40, pads=1, strides=2, between=RELU6),
        separable(op, "strided-one-axis", (1, 16, 9, 12), (3, 3), 16, pads=1, strides=(1, 2)),
        separable(op, "dilated", (1, 5, 12, 11), (3, 3), 33, pads=(2, 3), dilations=(2, 3), biases=1),
        separable(op, "5x5", (2, 16, 13, 29), (5, 5), 48, pads=2, between=(("hard_swish", ()),)),
        separable(op, "pads-0", (1, 3, 9, 33), (3, 3), 4, biases=0),
        separable(op, "pads-asymmetric", (1, 16, 8, 9), (3, 2), 20, pads=((0, 2), (1, 0)), biases=1),
        separable(op, "stride-beyond-kernel", (1, 8, 10, 31), (2, 2), 32, strides=3),
        separable(op, "wide-prime", (1, 16, 3, 59), (3, 3), 32, pads=1, between=RELU6),
        separable(op, "larger-than-map", (1, 16, 2, 1), (5, 5), 16, pads=((2, 3), (2, 2)), between=RELU6),
    ]  # fmt: skip


SEPARABLE = [*_separables("depthwise_pointwise"), *_separables("pointwise_depthwise")]

CONV_TRANSPOSE = [
    deconv("2x2-strided", (1, 16, 5, 7), (16, 8, 2, 2), strides=2, bias=True),
    deconv("3x3", (3, 3, 4, 5), (3, 17, 3, 3), pads=1),
    deconv("3x3-output-pads", (1, 17, 5, 4), (17, 4, 3, 3), pads=1, strides=2, output_pads=(1, 0)),
    deconv("4x4-grouped-dilated", (1, 6, 4, 4), (6, 2, 4, 4), dilations=2, groups=3, bias=True),
    deconv("3x3-pads-asymmetric", (1, 4, 5, 5), (4, 3, 3, 3), pads=((0, 1), (2, 1)), strides=3),
    deconv("depthwise-one-pixel", (1, 16, 1, 1), (16, 1, 4, 4), pads=1, strides=2, groups=16),
    deconv("1d", (1, 3, 9), (3, 5, 4), strides=2),
    deconv("3d", (1, 3, 2, 3, 4), (3, 2, 2, 3, 2), strides=(2, 1, 2), bias=True),
]

POOL = [
    *(
        pool(op, id, x, kernel, **attrs)
        for op in ("max_pool", "average_pool", "lp_pool")
        for id, x, kernel, attrs in (
            ("2x2", (1, 16, 8, 8), (2, 2), {"strides": 2}),
            ("3x3-padded-odd-batch3", (3, 17, 9, 7), (3, 3), {"strides": 2, "pads": 1}),
            ("3x3-pads-asymmetric", (1, 3, 6, 6), (3, 3), {"pads": ((0, 2), (1, 0))}),
            ("one-pixel", (1, 16, 1, 1), (3, 3), {"pads": 1}),
            ("stride-beyond-kernel", (1, 4, 9, 9), (2, 2), {"strides": 3}),
            ("1d", (1, 3, 11), (4,), {"strides": 2, "pads": ((1, 2),)}),
            ("3d", (1, 3, 5, 4, 6), (2, 3, 2), {"strides": (2, 1, 2), "pads": ((0, 1), (1, 1), (0, 0))}),
            ("9x7-padded", (2, 17, 12, 32), (9, 7), {"pads": (4, 3)}),
            ("7x8-strided", (1, 16, 20, 17), (7, 8), {"strides": (2, 3), "pads": ((3, 1), (0, 2))}),
            ("2x35", (1, 5, 4, 40), (2, 35), {"pads": ((0, 0), (17, 9))}),
            ("whole-map", (1, 20, 33, 34), (33, 34), {}),
            ("3d-large", (1, 3, 5, 6, 7), (3, 4, 3), {"pads": 1}),
        )
    ),
    pool("max_pool", "ceil", (1, 16, 14, 14), (3, 3), strides=2, ceil_mode=True),
    pool("max_pool", "ceil-drops-window-in-padding", (1, 2, 4, 4), (2, 2), strides=3, pads=1, ceil_mode=True),
    pool("max_pool", "dilated", (1, 5, 11, 9), (3, 2), dilations=(2, 3), pads=(2, 1)),
    pool("max_pool", "dilated-large", (1, 3, 20, 19), (4, 7), dilations=(2, 2), pads=(3, 6)),
    pool("average_pool", "dilated-large", (1, 3, 20, 19), (7, 4), dilations=(2, 3), pads=(6, 2)),
    pool("average_pool", "count-padding-large", (1, 5, 11, 12), (7, 7), pads=3, count_include_pad=True),
    pool("average_pool", "count-padding", (1, 5, 7, 8), (3, 3), pads=1, count_include_pad=True),
    pool("average_pool", "ceil", (1, 3, 8, 9), (3, 3), strides=2, ceil_mode=True),
    pool("average_pool", "ceil-count-padding", (1, 3, 8, 7), (3, 3), strides=(2, 3), pads=1, ceil_mode=True,
         count_include_pad=True),
    pool("average_pool", "dilated", (1, 3, 9, 9), (3, 3), dilations=2, pads=1),
    pool("lp_pool", "p3", (1, 3, 7, 7), (3, 3), strides=2, p=3),
    Case("max_pool-uint8", "max_pool", MaxPoolAttrs((2, 3), **window(2, pads=1)), (of("uint8", 1, 3, 5, 5),),
         ranges=((0, 255),)),
]  # fmt: skip


def norm(id: str, op: str, attrs: Attrs, x: Sequence[int], vectors: int) -> Case:
    """A normalisation with constant vectors of length C; the fourth vector, a variance, is positive."""
    inputs = (f32(*x), *[f32(x[1])] * vectors)
    ranges = ((-2.0, 2.0),) * 4 + ((0.1, 3.0),)
    return Case(f"{op}-{id}", op, attrs, inputs, tuple(range(1, vectors + 1)), ranges)


NORM = [
    norm("2d", "batch_norm", BatchNormAttrs(), (1, 17, 5, 7), 4),
    norm("batch3-epsilon", "batch_norm", BatchNormAttrs(1e-2), (3, 16, 4), 4),
    norm("features", "batch_norm", BatchNormAttrs(), (3, 5), 4),
    norm("2d", "instance_norm", InstanceNormAttrs(), (3, 17, 5, 7), 2),
    norm("1d", "instance_norm", InstanceNormAttrs(1e-2), (1, 3, 9), 2),
    norm("2d", "group_norm", GroupNormAttrs(4), (3, 16, 5, 3), 2),
    norm("matrix", "group_norm", GroupNormAttrs(4), (3, 16), 2),
    norm("one-group", "group_norm", GroupNormAttrs(1, 1e-3), (1, 3, 4, 4), 2),
    Case("layer_norm-last", "layer_norm", LayerNormAttrs(), (f32(3, 5, 17), f32(17), f32(17)), (1, 2)),
    Case("layer_norm-axis-1-no-bias", "layer_norm", LayerNormAttrs(1, 1e-3), (f32(3, 4, 5), f32(4, 5)), (1,)),
    *(
        Case(f"lrn-{id}", "lrn", attrs, (f32(*shape),))
        for id, attrs, shape in (
            ("alexnet", LrnAttrs(5, 1e-4, 0.75, 2.0), (1, 16, 5, 5)),
            ("strong-batch3", LrnAttrs(3, 0.5, 0.5, 1.0), (3, 17, 3, 2)),
            ("wider-than-channels", LrnAttrs(5, 1.0, 0.75, 1.0), (1, 3, 4, 4)),
        )
    ),
]

LINEAR = [
    Case("gemm-linear", "gemm", GemmAttrs(trans_b=True), (f32(1, 40), f32(17, 40), f32(17)), (1, 2)),
    Case("gemm-batch3", "gemm", GemmAttrs(), (f32(3, 16), f32(16, 10)), (1,)),
    Case("gemm-scaled", "gemm", GemmAttrs(0.5, 2.0, True, False), (f32(7, 3), f32(7, 5), f32(3, 1)), (1, 2)),
    Case("gemm-two-activations", "gemm", GemmAttrs(), (f32(5, 7), f32(7, 6), f32())),
    Case("matmul-matrices", "matmul", Attrs(), (f32(5, 17), f32(17, 9)), (1,)),
    Case("matmul-batched", "matmul", Attrs(), (f32(3, 1, 4, 5), f32(2, 5, 6))),
    Case("matmul-row", "matmul", Attrs(), (f32(7), f32(3, 7, 5))),
    Case("matmul-column", "matmul", Attrs(), (f32(2, 5, 7), f32(7)), (1,)),
    Case("matmul-dot", "matmul", Attrs(), (f32(9), f32(9))),
    Case("matmul-int32", "matmul", Attrs(), (of("int32", 3, 4), of("int32", 4, 5)), ranges=((-9, 9),)),
]


def resize(
    id: str, x: Sequence[int], shape: Sequence[int], *, scales: Sequence[float] = (), **attrs: Any
) -> Case:
    """A resize whose scales are the quotients of the extents unless given."""
    factors = tuple(scales) or tuple(b / a for a, b in zip(x, shape, strict=True))
    return Case(f"resize-{id}", "resize", ResizeAttrs(tuple(shape), factors, **attrs), (f32(*x),))


UP, DOWN = ((1, 3, 4, 5), (1, 3, 8, 15)), ((1, 3, 9, 8), (1, 3, 4, 5))
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")

RESIZE = [
    *(
        resize(f"{mode}-{coordinates}-{id}", *shapes, mode=mode, coordinates=coordinates)
        for mode in ("nearest", "linear", "cubic")
        for coordinates in COORDINATES
        for id, shapes in (("up", UP), ("down", DOWN))
    ),
    *(
        resize(f"nearest-{nearest}", *DOWN, coordinates="asymmetric", nearest_mode=nearest)
        for nearest in ("floor", "ceil", "round_prefer_ceil")
    ),
    resize("nearest-2x", (1, 17, 5, 3), (1, 17, 10, 6), coordinates="asymmetric", nearest_mode="floor"),
    resize("nearest-channels", (1, 2, 3, 3), (1, 4, 3, 3)),
    resize("linear-1d", (3, 3, 7), (3, 3, 12), mode="linear"),
    resize("linear-3d", (1, 2, 3, 4, 3), (1, 2, 5, 4, 7), mode="linear"),
    resize("linear-one-pixel", (1, 3, 4, 4), (1, 3, 1, 1), mode="linear", coordinates="pytorch_half_pixel"),
    *(
        resize(f"linear-scales-{coordinates}", (1, 1, 2, 4), (1, 1, 1, 2), scales=(1.0, 1.0, 0.6, 0.6),
               mode="linear", coordinates=coordinates)
        for coordinates in ("half_pixel", "half_pixel_symmetric", "asymmetric")
    ),
    *(
        resize(f"{mode}-maps-{shape[-1]}-wide", (2, 9, 6, 8), shape, mode=mode)
        for mode in ("nearest", "linear", "cubic")
        for shape in ((2, 9, 12, 16), (2, 9, 11, 19))
    ),
    resize("linear-3d-16-wide", (2, 9, 3, 4, 8), (2, 9, 5, 7, 16), mode="linear"),
    resize("cubic-antialias-16-wide", (2, 9, 20, 80), (2, 9, 4, 16), mode="cubic", antialias=True),
    resize("linear-antialias", *DOWN, mode="linear", antialias=True),
    resize("cubic-antialias", *DOWN, mode="cubic", antialias=True),
    resize("cubic-exclude-outside", *UP, mode="cubic", cubic_coeff=-0.5, exclude_outside=True),
]  # fmt: skip
