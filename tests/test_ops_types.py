"""Type rules refuse what does not fit and quote it; costs and windows of known layers."""

from __future__ import annotations

import re

import pytest
from case import f32, of
from cases import CASES, Case

from convc.errors import TypeRuleError
from convc.ir import Attrs, Cost, Window, opdef
from convc.ops.binary import ModAttrs
from convc.ops.common import window_output
from convc.ops.conv import ConvAttrs, ConvTransposeAttrs
from convc.ops.linear import GemmAttrs
from convc.ops.norm import BatchNormAttrs, GroupNormAttrs, LayerNormAttrs, LrnAttrs
from convc.ops.parts import ConcatAttrs, GatherAttrs, SliceAttrs, SplitAttrs
from convc.ops.pool import MaxPoolAttrs
from convc.ops.reduce import ArgAttrs, ReduceAttrs, SoftmaxAttrs
from convc.ops.resize import ResizeAttrs
from convc.ops.shape import (
    DepthSpaceAttrs,
    ExpandAttrs,
    PadAttrs,
    ReshapeAttrs,
    TileAttrs,
    TransposeAttrs,
)
from convc.ops.unary import CastAttrs
from convc.types import PLAIN, Layout, TensorType

CONV2D = ConvAttrs((1, 1), (1, 1), ((0, 0), (0, 0)))
DECONV2D = ConvTransposeAttrs((1, 1), (1, 1), ((0, 0), (0, 0)))
X = f32(1, 4, 8, 8)

REFUSED: list[tuple[str, Attrs, tuple[TensorType | None, ...], str]] = [
    ("conv", CONV2D, (X, None), "Input 1 (weights) is missing."),
    ("conv", CONV2D, (X, f32(8, 3, 3, 3)),
     "need 3 input channels and output channels divisible by 1; the input (1, 4, 8, 8)"),
    ("conv", ConvAttrs((1, 1), (1, 1), ((0, 0),) * 2, 2), (X, f32(7, 2, 3, 3)),
     "output channels divisible by 2"),
    ("conv", CONV2D, (X, f32(8, 4, 9, 3)),
     "A window of 9 (kernel 9, dilation 1) does not fit into 8 elements"),
    ("conv", CONV2D, (X, f32(8, 4, 3)),
     "Input (1, 4, 8, 8) and weights (8, 4, 3) must both have rank 3 or more"),
    ("conv", CONV2D, (X, f32(8, 4, 3, 3), f32(4)),
     "The bias has shape (4,); the 8 output channels need (8,)."),
    ("conv", CONV2D, (X, of("float64", 8, 4, 3, 3)),
     "Input and weights have different dtypes: float32, float64."),
    ("conv", CONV2D, (of("int8", 1, 4, 8, 8), of("int8", 8, 4, 3, 3)),
     "The dtype is int8; a floating-point one"),
    ("conv", ConvAttrs((1,), (1, 1), ((0, 0),) * 2), (X, f32(8, 4, 3, 3)),
     "strides (1,) has 1 entries; 2 axes need one each"),
    ("conv", ConvAttrs((0, 1), (1, 1), ((0, 0),) * 2), (X, f32(8, 4, 3, 3)), "strides (0, 1)"),
    ("conv_transpose", DECONV2D, (X, f32(3, 2, 3, 3)),
     "need 3 input channels"),
    ("conv_transpose", ConvTransposeAttrs((1, 1), (1, 1), ((5, 5),) * 2), (X, f32(4, 2, 3, 3)),
     "pads (5, 5) leave nothing"),
    ("conv_transpose", ConvTransposeAttrs((1, 1), (1, 1), ((0, 0),) * 2, 1, (1,)), (X, f32(4, 2, 3, 3)),
     "output_pads (1,)"),
    ("max_pool", MaxPoolAttrs((2, 2), (1, 1), (1, 1), ((0, 2), (0, 0))), (X,),
     "pads (0, 2) with kernel 2 and dilation 1"),
    ("max_pool", MaxPoolAttrs((2,), (1, 1), (1, 1), ((0, 0),) * 2), (X,), "kernel (2,) has 1 entries"),
    ("max_pool", MaxPoolAttrs((9, 2), (1, 1), (1, 1), ((0, 0),) * 2), (X,), "A window of 9"),
    ("lp_pool", opdef("lp_pool").attrs((), (), (), ()), (f32(1, 4),),
     "at least one spatial axis, not (1, 4)"),
    ("batch_norm", BatchNormAttrs(), (X, f32(4), f32(3), f32(4), f32(4)),
     "bias has shape (3,); the input (1, 4, 8, 8) needs (4,)"),
    ("group_norm", GroupNormAttrs(3), (X, f32(4), f32(4)), "4 channels do not divide into 3 groups"),
    ("layer_norm", LayerNormAttrs(), (X, f32(4)), "scale of shape (4,) does not broadcast to (8,)"),
    ("lrn", LrnAttrs(0), (X,), "size 0 must be positive"),
    ("gemm", GemmAttrs(trans_b=True), (f32(3, 5), f32(5, 7)),
     "The inner extents of (3, 5) and (5, 7) are 5 and 7"),
    ("gemm", GemmAttrs(), (f32(3, 5), f32(5, 7), f32(6)), "c of shape (6,) does not broadcast to (3, 7)"),
    ("gemm", GemmAttrs(), (f32(3, 1), f32(1, 1), f32(3, 4)),
     "c of shape (3, 4) does not broadcast to (3, 1)"),
    ("matmul", Attrs(), (f32(3, 5), f32(4, 7)), "The inner extents of (3, 5) and (4, 7) differ: 5 and 4."),
    ("matmul", Attrs(), (f32(), f32(4, 7)), "matmul needs vectors or matrices, not shapes () and (4, 7)"),
    ("exp", Attrs(), (of("int32", 3),), "The dtype is int32; a floating-point one is needed."),
    ("not", Attrs(), (f32(3),), "The dtype is float32; bool is needed."),
    ("relu", Attrs(), (of("bool", 3),), "The dtype is bool; a number is needed."),
    ("cast", CastAttrs("float8"), (f32(3),), "Cannot cast to 'float8'; known dtypes are float32"),
    ("add", Attrs(), (f32(3, 4), f32(5)), "Shapes (3, 4) and (5,) do not broadcast together."),
    ("add", Attrs(), (f32(3), of("int32", 3)), "The operands of add have different dtypes: float32, int32."),
    ("mod", ModAttrs(), (f32(3), f32(3)), "mod of float32 operands is defined with fmod only"),
    ("prelu", Attrs(), (f32(3), f32(2, 3)), "The slope of shape (2, 3) does not broadcast to (3,)."),
    ("where", Attrs(), (f32(3), f32(3), f32(3)), "The dtype is float32; bool is needed."),
    ("reduce_sum", ReduceAttrs((4,)), (X,), "Axis 4 does not exist in a tensor of rank 4."),
    ("reduce_sum", ReduceAttrs((1, -3)), (X,), "Axes (1, -3) repeat an axis of (1, 4, 8, 8)."),
    ("argmax", ArgAttrs(0), (f32(0, 3),), "argmax over axis 0 of (0, 3) has nothing to choose from"),
    ("softmax", SoftmaxAttrs(-3), (f32(3, 4),), "Axis -3 does not exist in a tensor of rank 2."),
    ("reshape", ReshapeAttrs((5, 5)), (f32(4, 6),), "(4, 6) has 24 elements; (5, 5) would need 25."),
    ("reshape", ReshapeAttrs((-1, -24)), (f32(4, 6),), "(4, 6) has 24 elements; (-1, -24)"),
    ("transpose", TransposeAttrs((0, 0)), (f32(4, 6),),
     "perm (0, 0) is not a permutation of the 2 axes of (4, 6)"),
    ("concat", ConcatAttrs(1), (f32(1, 3, 4), f32(1, 3, 5)),
     "Shapes (1, 3, 4), (1, 3, 5) differ elsewhere than on axis 1"),
    ("split", SplitAttrs(1, (2, 3)), (f32(1, 4),), "sizes (2, 3) do not add up to 4, axis 1 of (1, 4)"),
    ("slice", SliceAttrs((0,), (9,), (1,)), (f32(4),),
     "start 0, stop 9, step 1 on axis 0 do not stay inside (4,)"),
    ("slice", SliceAttrs((0,), (4,), (0,)), (f32(4),), "step 0"),
    ("expand", ExpandAttrs((3, 2)), (f32(4),), "Shapes (4,) and (3, 2) do not broadcast together."),
    ("tile", TileAttrs((2,)), (f32(4, 3),), "repeats (2,) has 1 entries"),
    ("tile", TileAttrs((2, -1)), (f32(4, 3),), "repeats (2, -1) must not be negative"),
    ("pad", PadAttrs(((3, 0),), "reflect"), (f32(3),),
     "pads (3, 0) with mode reflect do not fit axis 0 of (3,)"),
    ("pad", PadAttrs(((-2, -2),)), (f32(3),), "pads (-2, -2) with mode constant do not fit"),
    ("pad", PadAttrs(((1, 1),), "mirror"), (f32(3),), "Padding mode 'mirror' is unknown"),
    ("gather", GatherAttrs(), (f32(3), f32(2)), "The indices are float32; they must be int32 or int64."),
    ("depth_to_space", DepthSpaceAttrs(3), (X,), "The 4 channels of (1, 4, 8, 8) do not divide by 3 squared"),
    ("space_to_depth", DepthSpaceAttrs(3), (X,),
     "The 8 x 8 pixels of (1, 4, 8, 8) do not divide into blocks of 3"),
    ("space_to_depth", DepthSpaceAttrs(2), (f32(1, 4, 8),), "A tensor (N, C, H, W)"),
    ("resize", ResizeAttrs((6,), (2.0,), "area"), (f32(3),),
     "mode 'area' is unknown; use one of nearest, linear, cubic"),
    ("resize", ResizeAttrs((6,), (2.0,), "linear"), (of("int32", 3),), "The dtype is int32"),
    ("resize", ResizeAttrs((0,), (0.1,)), (f32(3),), "(3,) cannot be resized to (0,) by (0.1,)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "attrs", "inputs", "message"), REFUSED, ids=[f"{r[0]}-{i}" for i, r in enumerate(REFUSED)]
)
def test_refusals_quote_what_was_found(
    op: str, attrs: Attrs, inputs: tuple[TensorType | None, ...], message: str
) -> None:
    with pytest.raises(TypeRuleError, match=re.escape(message)):
        opdef(op).infer(attrs, inputs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_are_plain_whatever_the_inputs(case: Case) -> None:
    blocked = [None if t is None else t.with_layout(Layout(16)) if t.rank > 2 else t for t in case.inputs]
    types = opdef(case.op).infer(case.attrs, blocked)
    assert types == opdef(case.op).infer(case.attrs, case.inputs)
    assert {t.layout for t in types} == {PLAIN}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_elementwise_operators_broadcast(case: Case) -> None:
    """What is marked elementwise keeps the broadcast shape, so that it may end another kernel."""
    definition = opdef(case.op)
    if definition.elementwise:
        (result,) = definition.infer(case.attrs, case.inputs)
        assert result.rank == max(t.rank for t in case.inputs if t is not None)
    fewest, most = definition.inputs
    assert fewest <= len(case.inputs) <= most


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "pad", "ceil", "expected"),
    [
        (224, 7, 2, 1, (3, 3), False, 112),
        (112, 3, 2, 1, (0, 0), True, 56),
        (4, 2, 3, 1, (1, 1), True, 2),
        (5, 3, 1, 2, (0, 0), False, 1),
        (1, 3, 1, 1, (1, 1), False, 1),
        (2, 3, 2, 1, (0, 0), True, 1),
    ],
)
def test_window_arithmetic(
    size: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int], ceil: bool, expected: int
) -> None:
    assert window_output(size, kernel, stride, dilation, pad, ceil_mode=ceil) == expected


def test_cost_and_window_of_the_first_layer_of_alexnet() -> None:
    attrs = ConvAttrs((4, 4), (1, 1), ((0, 0), (0, 0)))
    inputs = (f32(1, 3, 227, 227), f32(96, 3, 11, 11), f32(96))
    conv = opdef("conv")
    outputs = conv.infer(attrs, inputs)
    assert outputs == (f32(1, 96, 55, 55),)
    assert conv.cost(attrs, inputs, outputs) == Cost(105_415_200, 34_944)
    assert conv.window(attrs, inputs) == Window((11, 11), (4, 4), (1, 1))


def test_costs_of_other_layers() -> None:
    def cost(op: str, attrs: Attrs, *inputs: TensorType) -> Cost:
        return opdef(op).cost(attrs, inputs, opdef(op).infer(attrs, inputs))

    fully = cost("gemm", GemmAttrs(trans_b=True), f32(1, 400), f32(120, 400), f32(120))
    assert fully == Cost(48_000, 48_120)
    assert cost("matmul", Attrs(), f32(2, 3, 4), f32(4, 5)) == Cost(120, 20)
    assert cost("matmul", Attrs(), f32(2, 3, 4), f32(2, 4, 5)) == Cost(120, 0)
    scatter = cost(
        "conv_transpose", ConvTransposeAttrs((2, 2), (1, 1), ((0, 0),) * 2), X, f32(4, 3, 2, 2), f32(3)
    )
    assert scatter == Cost(4 * 64 * 3 * 4, 51)
    assert cost("batch_norm", BatchNormAttrs(), X, *[f32(4)] * 4).parameters == 8
    assert cost("max_pool", MaxPoolAttrs((2, 2), (2, 2), (1, 1), ((0, 0),) * 2), X) == Cost(other=256)
    assert cost("reshape", ReshapeAttrs((256,)), X) == Cost()
