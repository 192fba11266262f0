"""Operators whose meaning is easily missed, judged by onnxruntime, ONNX's own evaluator or the standard."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from merged import feeds, merge
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_agree import one, outputs_of
from onnx_models import draw, ints, model, node
from onnx_refusals import refuse

from convc.compiler import compile
from convc.errors import ModelError, UnsupportedError
from convc.evaluate import evaluate
from convc.frontends.onnx import read

INT32, INT64, DOUBLE, HALF = TensorProto.INT32, TensorProto.INT64, TensorProto.DOUBLE, TensorProto.FLOAT16

# ---- powers


def powers() -> list[tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """Bases and exponents of all pairs of kinds, constant exponents and computed ones."""
    whole, some = np.arange(1, 9), np.linspace(0.3, 4, 8)
    pairs = [
        (whole.astype("i4"), np.float32(0.5)), (whole.astype("i8"), np.float32(1.5)),
        (whole.astype("i4"), np.float64(-0.5)), (whole.astype("i4"), np.int64(3)),
        (whole.astype("i8"), np.int32(2)), (some.astype("f4"), np.int64(3)),
        (some.astype("f4"), np.float64(0.1)), (some.astype("f8"), np.float32(2.5)),
        (some.astype("f4"), np.int32(-2)), (whole.astype("i4"), np.full(8, 0.5, "f4")),
    ]  # fmt: skip
    cases = []
    for base, exponent in pairs:
        numbers = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in (("x", base), ("e", exponent))}
        given = {"x": base, "e": np.asarray(exponent)}
        dtypes = {**numbers, "y": numbers["x"]}
        pow_ = node("Pow", "x e", "y")
        constant = model([pow_], {"x": base.shape}, weights={"e": given["e"]}, opset=15, dtypes=dtypes)
        cases.append((constant, {"x": base}))
        cases.append(
            (model([pow_], {"x": base.shape, "e": given["e"].shape}, opset=15, dtypes=dtypes), given)
        )
    return cases


def test_powers_of_two_dtypes() -> None:
    """Imported, and as one module; an integer's root is not that of an integer exponent."""
    cases = powers()
    expected = [outputs_of(proto, given)[0] for proto, given in cases]
    graphs = {f"{i}": read(proto) for i, (proto, _) in enumerate(cases)}
    everything = feeds({f"{i}": given for i, (_, given) in enumerate(cases)})
    compiled = compile(merge(graphs), threads=1, verify=False).run(None, everything)
    for (key, graph), (_, given), theirs, module in zip(
        graphs.items(), cases, expected, compiled, strict=True
    ):
        (ours,) = evaluate(graph, given)
        assert graph.outputs[0].type.dtype == str(theirs.dtype) == str(module.dtype)
        tolerance = 0 if theirs.dtype.kind == "i" else 4 * float(np.finfo(np.float32).eps)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, err_msg=key)
        np.testing.assert_allclose(module, theirs, rtol=4 * tolerance, err_msg=key)


def test_exponents_that_a_small_base_cannot_hold() -> None:
    x = np.float16([1.5, 2, 3])
    proto = model(
        [node("Pow", "x e", "y")],
        {"x": (3,)},
        weights={"e": np.float32(0.3333333)},
        opset=15,
        dtypes={"x": HALF, "y": HALF},
    )
    (found,) = evaluate(read(proto), {"x": x})
    np.testing.assert_array_equal(found.astype("f2"), (x.astype("f8") ** np.float32(0.3333333)).astype("f2"))
    assert [n.op for n in read(proto).nodes] == ["cast", "pow", "cast"]
    easy = model(
        [node("Pow", "x e", "y")],
        {"x": (3,)},
        weights={"e": np.float32(2)},
        opset=15,
        dtypes={"x": HALF, "y": HALF},
    )
    assert [n.op for n in read(easy).nodes] == ["pow"]


# ---- remainders


def test_remainders_of_floats_without_fmod() -> None:
    """From opset 28 on, with the divisor's sign, also on zeros and infinities; ONNX's words on Mod."""
    inf, nan = np.inf, np.nan
    x = np.float32([5.5, -5.5, 5.5, -5.5, 6, -6, 0, -0.0, 0, 1, -1, 1, -1, inf, nan, 1, 1, 7.25, -1e-20])
    y = np.float32([2, 2, -2, -2, 3, 3, 3, 3, -3, inf, inf, -inf, -inf, 2, 2, nan, 0, 0.5, 3])
    proto = model([node("Mod", "x y", "z")], {"x": x.shape, "y": y.shape}, ("z",), opset=28)
    with np.errstate(all="ignore"):
        expected = np.mod(x, y)
    assert np.isnan(expected).sum() == 4
    found = [evaluate(read(proto), {"x": x, "y": y})[0].astype(np.float32)]
    found.append(compile(read(proto), threads=1, verify=False).run(None, {"x": x, "y": y})[0])
    for ours in found:
        np.testing.assert_array_equal(ours, expected)
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(ours[zero]), np.signbit(expected[zero]))


def test_remainders_before_opset_28_need_fmod() -> None:
    proto = model([node("Mod", "x x", "y", "rest")], {"x": (4,)}, opset=27)
    with pytest.raises(Exception, match=r"'rest' .*fmod only"):
        read(proto)
    one("Mod", draw(3, 4), {"d": draw(4, seed=1)}, fmod=1)
    newest = model([node("Mod", "x d", "y", fmod=1)], {"x": (3, 4)}, weights={"d": draw(4, seed=1)}, opset=28)
    np.testing.assert_allclose(
        evaluate(read(newest), {"x": draw(3, 4)})[0], np.fmod(draw(3, 4), draw(4, seed=1))
    )


# ---- norms, flags, scalars


@pytest.mark.parametrize("p", [0, -1, -(1 << 63), 65, 1 << 40])
@pytest.mark.parametrize("op", ["LpPool", "GlobalLpPool"])
def test_norms_without_an_exponent(op: str, p: int) -> None:
    kernel = {"kernel_shape": [2, 2]} if op == "LpPool" else {}
    proto = model([node(op, "x", "y", "norm", p=p, **kernel)], {"x": (1, 1, 4, 4)})
    refuse(proto, ModelError, f"Node 'norm' ({op}): attribute p = {p}; a norm's exponent is between 1 and 64")


@pytest.mark.parametrize("value", [2, -1, 1 << 40])
@pytest.mark.parametrize(
    ("op", "name", "attributes"),
    [
        ("ReduceMean", "keepdims", {}),
        ("ArgMax", "keepdims", {}),
        ("ReduceMean", "noop_with_empty_axes", {}),
        ("MaxPool", "ceil_mode", {"kernel_shape": [2, 2]}),
        ("AveragePool", "count_include_pad", {"kernel_shape": [2, 2]}),
    ],
)
def test_flags_are_0_or_1(op: str, name: str, attributes: dict[str, list[int]], value: int) -> None:
    """onnxruntime takes 2 for false in one place and for true in another."""
    proto = model([node(op, "x", "y", "it", **attributes, **{name: value})], {"x": (1, 2, 4, 4)}, opset=18)
    refuse(proto, ModelError, f"Node 'it' ({op}): attribute {name} = {value} is neither 0 nor 1.")


def test_a_scalar_has_no_borders() -> None:
    """Padding it by nothing leaves it, which onnxruntime 1.32 and ONNX's evaluator fail to see."""
    nodes = [node("ReduceSum", "x", "s", keepdims=0), node("Pad", "s p", "y")]
    graph = read(model(nodes, {"x": (1, 4)}, weights={"p": ints()}))
    assert graph.outputs[0].type.shape == ()
    np.testing.assert_allclose(evaluate(graph, {"x": draw(1, 4)})[0], draw(1, 4).astype("f8").sum())


def test_what_is_cast_to_the_type_of_bfloat16() -> None:
    nodes = [node("Cast", "x", "b", "narrow", to=TensorProto.BFLOAT16), node("CastLike", "x b", "y", "like")]
    refuse(
        model(nodes, {"x": (4,)}), UnsupportedError, "Cast (opset 17) node 'narrow': attribute to = BFLOAT16"
    )


def test_onnx_agrees_that_pow_of_integers_has_roots() -> None:
    """The judge of the first test is not onnxruntime alone."""
    proto = model(
        [node("Pow", "x e", "y")],
        {"x": (4,)},
        weights={"e": np.float32(0.5)},
        opset=15,
        dtypes={"x": INT32, "y": INT32},
    )
    x = np.int32([1, 4, 9, 17])
    (theirs,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_array_equal(evaluate(read(proto), {"x": x})[0], theirs)
    np.testing.assert_array_equal(theirs, [1, 2, 3, 4])
