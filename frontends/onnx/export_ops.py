"""How each operator of the IR is written in ONNX (opset 21)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from convc.frontends.onnx.tensors import onnx_dtype
from convc.frontends.onnx.writer import Operator
from convc.ops.common import Pads

Exporter = Callable[[Operator], None]

EXPORTERS: dict[str, Exporter] = {}

_PLAIN = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softsign": "Softsign", "softplus": "Softplus",
    "hard_swish": "HardSwish", "mish": "Mish", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs",
    "neg": "Neg", "reciprocal": "Reciprocal", "floor": "Floor", "ceil": "Ceil", "round": "Round",
    "sign": "Sign", "erf": "Erf", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos",
    "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
    "not": "Not", "isnan": "IsNaN", "identity": "Identity", "dropout": "Dropout", "relayout": "Identity",
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow",
    "prelu": "PRelu", "equal": "Equal", "greater": "Greater", "less": "Less",
    "greater_equal": "GreaterOrEqual", "less_equal": "LessOrEqual", "and": "And", "or": "Or", "xor": "Xor",
    "where": "Where", "matmul": "MatMul",
}  # fmt: skip

_FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "leaky_relu": ("LeakyRelu", {"alpha": "alpha"}),
    "elu": ("Elu", {"alpha": "alpha"}),
    "celu": ("Celu", {"alpha": "alpha"}),
    "thresholded_relu": ("ThresholdedRelu", {"alpha": "alpha"}),
    "selu": ("Selu", {"alpha": "alpha", "gamma": "gamma"}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": "alpha", "beta": "beta"}),
    "gelu": ("Gelu", {"approximate": "approximate"}),
    "shrink": ("Shrink", {"bias": "bias", "lambd": "lambd"}),
    "mod": ("Mod", {"fmod": "fmod"}),
    "batch_norm": ("BatchNormalization", {"epsilon": "epsilon"}),
    "instance_norm": ("InstanceNormalization", {"epsilon": "epsilon"}),
    "group_norm": ("GroupNormalization", {"num_groups": "groups", "epsilon": "epsilon"}),
    "layer_norm": ("LayerNormalization", {"axis": "axis", "epsilon": "epsilon"}),
    "lrn": ("LRN", {"size": "size", "alpha": "alpha", "beta": "beta", "bias": "bias"}),
    "gemm": ("Gemm", {"alpha": "alpha", "beta": "beta", "transA": "trans_a", "transB": "trans_b"}),
    "argmax": ("ArgMax", {"axis": "axis", "keepdims": "keepdims", "select_last_index": "select_last"}),
    "argmin": ("ArgMin", {"axis": "axis", "keepdims": "keepdims", "select_last_index": "select_last"}),
    "softmax": ("Softmax", {"axis": "axis"}),
    "log_softmax": ("LogSoftmax", {"axis": "axis"}),
    "transpose": ("Transpose", {"perm": "perm"}),
    "concat": ("Concat", {"axis": "axis"}),
    "gather": ("Gather", {"axis": "axis"}),
    "depth_to_space": ("DepthToSpace", {"blocksize": "block", "mode": "mode"}),
}
"""ONNX operator, and for each of its attributes the field of ours that holds it."""

_REDUCTIONS = {
    "reduce_mean": "ReduceMean", "reduce_sum": "ReduceSum", "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd", "reduce_l1": "ReduceL1", "reduce_l2": "ReduceL2",
    "reduce_sum_square": "ReduceSumSquare", "reduce_log_sum_exp": "ReduceLogSumExp",
}  # fmt: skip


def exports(*ops: str) -> Callable[[Exporter], Exporter]:
    """Decorator: the function writes these operators."""

    def record(exporter: Exporter) -> Exporter:
        EXPORTERS.update(dict.fromkeys(ops, exporter))
        return exporter

    return record


def _stated(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _plain(op_type: str) -> Exporter:
    return lambda op: op.emit(op_type)


def _fields(op_type: str, fields: dict[str, str]) -> Exporter:
    return lambda op: op.emit(op_type, **{name: _stated(getattr(op.attrs, f)) for name, f in fields.items()})


def _reduction(op_type: str) -> Exporter:
    def write(op: Operator) -> None:
        axes = op.ints(op.attrs.axes, "axes")
        op.emit(op_type, [op.inputs[0], axes], keepdims=int(op.attrs.keepdims), noop_with_empty_axes=1)

    return write


EXPORTERS.update({op: _plain(op_type) for op, op_type in _PLAIN.items()})
EXPORTERS.update({op: _fields(op_type, fields) for op, (op_type, fields) in _FIELDS.items()})
EXPORTERS.update({op: _reduction(op_type) for op, op_type in _REDUCTIONS.items()})


def _onnx_pads(pads: Pads) -> list[int]:
    """All starts, then all ends."""
    return [p[0] for p in pads] + [p[1] for p in pads]


@exports("conv", "conv_transpose")
def convolution(op: Operator) -> None:
    """Conv or ConvTranspose."""
    weights = op.types[1]
    assert weights is not None
    extra = {"output_padding": op.attrs.output_pads} if getattr(op.attrs, "output_pads", ()) else {}
    op.emit(
        "ConvTranspose" if hasattr(op.attrs, "output_pads") else "Conv",
        kernel_shape=weights.shape[2:],
        strides=op.attrs.strides,
        dilations=op.attrs.dilations,
        pads=_onnx_pads(op.attrs.pads),
        group=op.attrs.groups,
        **extra,
    )


@exports("max_pool", "average_pool", "lp_pool")
def pool(op: Operator) -> None:
    """MaxPool, AveragePool or LpPool."""
    extra: dict[str, Any] = {}
    if hasattr(op.attrs, "count_include_pad"):
        extra["count_include_pad"] = int(op.attrs.count_include_pad)
    if hasattr(op.attrs, "p"):
        extra["p"] = op.attrs.p
    op.emit(
        "AveragePool" if "count_include_pad" in extra else "LpPool" if extra else "MaxPool",
        kernel_shape=op.attrs.kernel,
        strides=op.attrs.strides,
        dilations=op.attrs.dilations,
        pads=_onnx_pads(op.attrs.pads),
        ceil_mode=int(op.attrs.ceil_mode),
        **extra,
    )


@exports("reduce_lp")
def reduce_lp(op: Operator) -> None:
    """A norm: ReduceL1 or ReduceL2, or by powers."""
    attributes = {"keepdims": int(op.attrs.keepdims), "noop_with_empty_axes": 1}
    axes = op.ints(op.attrs.axes, "axes")
    if op.attrs.p in (1, 2):
        op.emit(f"ReduceL{op.attrs.p}", [op.inputs[0], axes], **attributes)
        return
    powers = op.part("Pow", [op.part("Abs", [op.inputs[0]]), op.number(op.attrs.p, "p")])
    total = op.part("ReduceSum", [powers, axes], **attributes)
    op.emit("Pow", [total, op.number(1 / op.attrs.p, "root")])


@exports("swish")
def swish(op: Operator) -> None:
    """x times its sigmoid; ONNX has it from opset 24 on only."""
    x = op.inputs[0]
    scaled = x if op.attrs.alpha == 1 else op.part("Mul", [x, op.number(op.attrs.alpha, "alpha")])
    op.emit("Mul", [x, op.part("Sigmoid", [scaled])])


@exports("clip")
def clip(op: Operator) -> None:
    """Clip; an infinite limit is left out."""
    low, high = op.attrs.min, op.attrs.max
    limits = ["" if math.isinf(v) else op.number(v, what) for v, what in ((low, "min"), (high, "max"))]
    op.emit("Clip", [op.inputs[0], *limits])


@exports("cast")
def cast(op: Operator) -> None:
    """Cast."""
    op.emit("Cast", to=onnx_dtype(op.attrs.dtype))


@exports("reshape", "expand")
def to_shape(op: Operator) -> None:
    """Reshape or Expand."""
    shape = op.ints(op.attrs.shape, "shape")
    if type(op.attrs).__name__ == "ExpandAttrs":
        op.emit("Expand", [op.inputs[0], shape])
    else:
        op.emit("Reshape", [op.inputs[0], shape], allowzero=int(0 in op.attrs.shape))


@exports("tile")
def tile(op: Operator) -> None:
    """Tile."""
    op.emit("Tile", [op.inputs[0], op.ints(op.attrs.repeats, "repeats")])


@exports("split")
def split(op: Operator) -> None:
    """Split."""
    op.emit("Split", [op.inputs[0], op.ints(op.attrs.sizes, "split")], axis=op.attrs.axis)


@exports("slice")
def slices(op: Operator) -> None:
    """Slice; through index 0 backwards is a bound below every index."""
    a = op.attrs
    stops = [np.iinfo(np.int64).min if n < 0 else n for n in a.stops]
    axes = range(len(a.starts))
    vectors = ((a.starts, "starts"), (stops, "ends"), (axes, "axes"), (a.steps, "steps"))
    op.emit("Slice", [op.inputs[0], *(op.ints(list(values), what) for values, what in vectors)])


@exports("pad")
def pad(op: Operator) -> None:
    """Pad."""
    inputs = [op.inputs[0], op.ints(_onnx_pads(op.attrs.pads), "pads")]
    if op.attrs.mode == "constant":
        inputs.append(op.number(op.attrs.value, "value"))
    op.emit("Pad", inputs, mode=op.attrs.mode)


@exports("space_to_depth")
def space_to_depth(op: Operator) -> None:
    """SpaceToDepth orders channels as DCR does; for CRD they are put in order afterwards."""
    block, (n, c, h, w) = op.attrs.block, op.shape
    if op.attrs.mode == "DCR":
        op.emit("SpaceToDepth", blocksize=block)
        return
    folded = op.part("SpaceToDepth", [op.inputs[0]], blocksize=block)
    split = op.part("Reshape", [folded, op.ints((n, block * block, c, h // block, w // block), "split")])
    swapped = op.part("Transpose", [split], perm=[0, 2, 1, 3, 4])
    op.emit("Reshape", [swapped, op.ints((n, c * block * block, h // block, w // block), "shape")])


@exports("resize")
def resize(op: Operator) -> None:
    """Resize by sizes where the scales are their quotients, else by scales."""
    a = op.attrs
    roi = scales = sizes = ""
    if all(s == n / old for s, n, old in zip(a.scales, a.shape, op.shape, strict=True)):
        sizes = op.ints(a.shape, "sizes")
    else:
        scales = op.writer.constant(np.asarray(a.scales, np.float32), f"{op.name}/scales")
    op.emit(
        "Resize",
        [op.inputs[0], roi, scales, sizes],
        mode=a.mode,
        coordinate_transformation_mode=a.coordinates,
        nearest_mode=a.nearest_mode,
        cubic_coeff_a=a.cubic_coeff,
        exclude_outside=int(a.exclude_outside),
        antialias=int(a.antialias),
    )
