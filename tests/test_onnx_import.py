"""The importer: what models of every age mean, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_agree import agree, one
from onnx_models import draw, ints, model, node

from convc.evaluate import evaluate
from convc.frontends.onnx import read

# ---- windows


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool", "ConvTranspose"])
def test_automatic_padding(op: str, stride: int, auto_pad: str) -> None:
    weights = {"Conv": {"w": draw(4, 3, 3, 4)}, "ConvTranspose": {"w": draw(3, 4, 3, 4)}}.get(op)
    kernel = {} if weights else {"kernel_shape": [3, 4]}
    one(op, draw(1, 3, 8, 11), weights, opset=11, auto_pad=auto_pad, strides=[stride, stride], **kernel)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "NOTSET"])
@pytest.mark.parametrize("output_shape", [[10, 8], [9, 7], [8, 6]])
def test_transposed_convolution_to_a_wanted_shape(output_shape: list[int], auto_pad: str) -> None:
    attributes = {"strides": [3, 2], "output_shape": output_shape, "auto_pad": auto_pad}
    one("ConvTranspose", draw(1, 2, 3, 3), {"w": draw(2, 4, 3, 3)}, **attributes)


def test_transposed_convolution_with_everything() -> None:
    attributes = {
        "strides": [2, 3],
        "pads": [1, 0, 0, 2],
        "output_padding": [1, 2],
        "group": 2,
        "dilations": [2, 1],
    }
    one("ConvTranspose", draw(2, 4, 5, 4), {"w": draw(4, 3, 3, 2), "b": draw(6)}, **attributes)


def test_convolutions_of_every_rank_and_grouping() -> None:
    one("Conv", draw(2, 4, 9), {"w": draw(6, 2, 3), "b": draw(6)}, group=2, pads=[2, 1], dilations=[2])
    one("Conv", draw(1, 6, 7, 8), {"w": draw(6, 1, 3, 2)}, group=6, strides=[2, 1], pads=[0, 1, 2, 0])
    one("Conv", draw(1, 2, 5, 4, 6), {"w": draw(3, 2, 2, 3, 2)}, pads=[1, 0, 1, 0, 1, 0])


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_that_round_up(op: str) -> None:
    one(op, draw(1, 2, 7, 10), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 0], ceil_mode=1)


def test_pools_and_their_global_forms() -> None:
    x = draw(2, 3, 6, 7)
    one("AveragePool", x, kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1)
    one("MaxPool", x, kernel_shape=[3, 2], dilations=[2, 3])
    one("LpPool", x, kernel_shape=[2, 2], p=3, opset=18)
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        one(op, x)
    one("GlobalLpPool", np.abs(x), p=3)


# ---- operators whose form has changed


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 15, 18, 19, 21, 22])
def test_forms_of_each_opset(opset: int) -> None:
    """The same small network, with arguments as attributes or as inputs, as each opset demands."""
    by_input = {
        "Clip": 11,
        "Pad": 11,
        "Slice": 10,
        "Squeeze": 13,
        "Unsqueeze": 13,
        "Split": 13,
        "ReduceSum": 13,
    }
    by_input |= {"ReduceMean": 18, "Dropout": 12}
    weights: dict[str, Any] = {}

    def step(op: str, source: str, outputs: str, **arguments: Any) -> onnx.NodeProto:
        if opset < by_input[op]:
            return node(op, source, outputs, **arguments)
        names = []
        for key, array in arguments.items():
            if key in ("axis", "keepdims", "mode"):
                continue
            name = f"{outputs.split()[0]}.{key}"
            weights[name] = np.asarray(
                array, np.float32 if op in ("Clip", "Dropout") or key == "value" else np.int64
            )
            names.append(name)
        kept = {k: v for k, v in arguments.items() if k in ("axis", "keepdims", "mode")}
        return node(op, " ".join([source, *names]), outputs, **kept)

    nodes = [
        step("Clip", "x", "clipped", min=-0.5, max=0.75),
        step("Pad", "clipped", "padded", pads=[0, 1, 0, 2, 0, 0, 1, 1], value=0.25),
        step("Slice", "padded", "cut", starts=[1, -6], ends=[100, -1], axes=[2, 3]),
        step("Unsqueeze", "cut", "wide", axes=[0, 5]),
        step("Squeeze", "wide", "narrow", axes=[0, 5]),
        step("Split", "narrow", "left right", split=[1, 3], axis=1),
        step("ReduceSum", "right", "sum", axes=[1], keepdims=1),
        step("ReduceMean", "left", "mean", axes=[2, -1], keepdims=1),
        step("Dropout", "sum", "kept", ratio=0.3),
        node("Add", "kept mean", "total"),
        node("Softmax", "total", "y", axis=1),
    ]
    proto = model(nodes, {"x": (2, 3, 5, 6)}, weights=weights, opset=opset)
    agree(proto, terms=40, x=draw(2, 3, 5, 6))


@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_flattens_before_opset_13(op: str, axis: int | None, opset: int) -> None:
    if opset < 11 and axis is not None and axis < 0:
        axis = 3
    one(op, draw(2, 3, 4, 5), opset=opset, **({} if axis is None else {"axis": axis}))


@pytest.mark.parametrize("opset", [7, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str, opset: int) -> None:
    x, scales = draw(1, 2, 3, 4), np.float32([1, 1, 2, 3])
    if opset == 7:
        one("Upsample", x, opset=7, mode=mode, scales=scales.tolist())
    else:
        one("Upsample", x, {"s": scales}, opset=9, mode=mode)


@pytest.mark.parametrize("scale", [0.5, 0.6, 2.0])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_opset_10(mode: str, scale: float) -> None:
    one("Resize", draw(1, 2, 6, 10), {"s": np.float32([1, 1, scale, scale])}, opset=10, mode=mode)


@pytest.mark.parametrize("opset", [11, 13, 18, 19])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_by_sizes_and_by_scales(mode: str, opset: int) -> None:
    x = draw(1, 2, 5, 6)
    sizes = {"roi": np.float32([]), "scales": np.float32([]), "sizes": ints(1, 2, 8, 9)}
    if opset > 12:
        sizes |= {"roi": None, "scales": None}
    for way in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"):
        chosen = {"mode": mode, "coordinate_transformation_mode": way}
        one("Resize", x, sizes, opset=opset, **chosen)
        one("Resize", x, {"roi": np.float32([]), "s": np.float32([1, 1, 1.7, 2.5])}, opset=opset, **chosen)


def test_resized_extents_are_rounded_in_float32() -> None:
    """10 * float32(0.7) is 7 in float32, and 6.99... in float64."""
    one("Resize", draw(1, 1, 10, 10), {"roi": np.float32([]), "s": np.float32([1, 1, 0.7, 0.7])}, opset=11)


def test_resize_of_some_axes_with_a_kept_aspect() -> None:
    for policy in ("not_larger", "not_smaller", "stretch"):
        weights = {"roi": None, "scales": None, "sizes": ints(7, 8)}
        chosen = {"axes": [2, 3], "keep_aspect_ratio_policy": policy, "mode": "linear"}
        one("Resize", draw(1, 1, 4, 3), weights, opset=18, **chosen)


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_clip_with_one_limit_or_none(opset: int) -> None:
    x = draw(3, 4)
    one("Clip", x, {"low": np.float32(0.1)}, opset=opset)
    one("Clip", x, {"low": None, "high": np.float32(0.1)}, opset=opset)
    one("Clip", x, opset=opset)


def test_clip_with_limits_computed_at_run_time() -> None:
    x, low, high = draw(3, 4), np.asarray(-0.2, np.float32), np.asarray(0.6, np.float32)
    for limits in ("low high", "low", "_ high"):
        given = {name: value for name, value in (("low", low), ("high", high)) if name in limits}
        proto = model([node("Clip", f"x {limits}", "y")], {"x": (3, 4), **dict.fromkeys(given, ())})
        agree(proto, x=x, **given)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad_modes_and_axes(mode: str) -> None:
    one("Pad", draw(2, 3, 4, 5), {"pads": ints(0, 0, 2, 1, 0, 0, 1, 3)}, opset=19, mode=mode)
    axes = {"pads": ints(1, 2, 3, 0), "value": None, "axes": ints(-1, 2)}
    one("Pad", draw(2, 3, 4, 5), axes, opset=19, mode=mode)


def test_slices_forwards_and_backwards() -> None:
    x = draw(5, 6)
    for starts, ends, axes, steps in (
        (ints(4, -1), ints(-100, -100), ints(0, 1), ints(-1, -2)),
        (ints(1), ints(1 << 62), ints(-1), ints(3)),
        (ints(3), ints(1), ints(0), ints(1)),
    ):
        one("Slice", x, {"s": starts, "e": ends, "a": axes, "t": steps}, opset=13)


def test_split_into_parts() -> None:
    x = draw(7, 2)
    proto = model(
        [node("Split", "x", "a b c", axis=0, num_outputs=3)], {"x": (7, 2)}, ("a", "b", "c"), opset=18
    )
    agree(proto, x=x)
    proto = model([node("Split", "x", "a b", axis=-1)], {"x": (7, 2)}, ("b", "a"), opset=11)
    agree(proto, x=x)


@pytest.mark.parametrize("shape", [(0, -1), (2, 0, -1), (-1,), (4, 1, 0, 5)])
def test_reshape_copies_and_infers(shape: tuple[int, ...]) -> None:
    one("Reshape", draw(2, 6, 5), {"s": ints(*shape)}) if len(shape) < 4 else one(
        "Reshape", draw(4, 1, 3, 5), {"s": ints(*shape)}
    )


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten_at_any_axis(axis: int) -> None:
    one("Flatten", draw(2, 3, 4), axis=axis, opset=13)


# ---- other operators


@pytest.mark.parametrize("op", ["Sum", "Max", "Min", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_operands(op: str, count: int) -> None:
    shapes = [(3, 4), (4,), (3, 1), ()][:count]
    names = [f"x{i}" for i in range(count)]
    proto = model([node(op, " ".join(names), "y")], dict(zip(names, shapes, strict=True)), opset=13)
    agree(
        proto,
        terms=count,
        **{n: draw(*s, seed=i) for i, (n, s) in enumerate(zip(names, shapes, strict=True))},
    )


def test_normalisations() -> None:
    x = draw(2, 6, 4, 5)
    stats = {"s": draw(6), "b": draw(6, seed=1), "m": draw(6, seed=2), "v": np.abs(draw(6, seed=3)) + 0.1}
    for opset in (7, 9, 14, 15):
        one("BatchNormalization", x, stats, opset=opset, epsilon=1e-3)
    one("InstanceNormalization", x, {"s": draw(6), "b": draw(6, seed=1)})
    one("LRN", x, size=3, alpha=0.3, beta=0.6, bias=2.0)
    one("LayerNormalization", x, {"s": draw(4, 5), "b": draw(4, 5, seed=1)}, axis=2)
    one("LayerNormalization", x, {"s": draw(5)}, epsilon=1e-2)
    one("GroupNormalization", x, {"s": draw(6), "b": draw(6, seed=1)}, opset=21, num_groups=2)
    one("LpNormalization", x, axis=1, p=1)
    one("LpNormalization", x)


@pytest.mark.parametrize("opset", [13, 18])
def test_reductions(opset: int) -> None:
    x = np.abs(draw(2, 3, 4)) + 0.1
    for name in ("Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"):
        if opset < 18:
            one(f"Reduce{name}", x, opset=opset, axes=[0, -1], keepdims=0)
        else:
            one(f"Reduce{name}", x, {"a": ints(0, -1)}, opset=opset, keepdims=0)
            one(f"Reduce{name}", x, opset=opset)
    # No axes and the wish for none: the identity, on which onnxruntime 1.23 fails.
    proto = model([node("ReduceSum", "x", "y", noop_with_empty_axes=1)], {"x": x.shape}, opset=opset)
    np.testing.assert_array_equal(evaluate(read(proto), {"x": x})[0], x)


def test_positions_of_extremes() -> None:
    x = np.round(draw(3, 9) * 2)
    for op in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            proto = model(
                [node(op, "x", "y", axis=-1, select_last_index=last)],
                {"x": (3, 9)},
                dtypes={"y": TensorProto.INT64},
            )
            agree(proto, x=x)


def test_matrix_products() -> None:
    a, b, c = draw(3, 4), draw(5, 4), draw(5)
    one("Gemm", a, {"b": b, "c": c}, transB=1, alpha=0.5, beta=2.0)
    one("Gemm", a, {"b": draw(3, 2)}, transA=1)
    one("MatMul", draw(2, 3, 4), {"b": draw(4, 5)})


def test_powers_of_another_dtype() -> None:
    one("Pow", np.abs(draw(2, 3)), {"e": ints(2)}, opset=15)
    one("Pow", np.abs(draw(2, 3)), {"e": np.float64([0.5])}, opset=15)
