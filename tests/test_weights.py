"""Weights in 24 bits: the format as its description has it, what it loses, and who refuses it."""

from __future__ import annotations

import numpy as np
import pytest

import convc
from convc.compilation import plan
from convc.compiler import Options
from convc.errors import OptionError
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.lowering.cook_toom import cook_toom, to_float
from convc.lowering.filtering import sampled_error, transformed
from convc.lowering.weights import as_stored, encoded, refusal, storage_error
from convc.ops.linear import GemmAttrs
from convc.plan.select import Choice
from convc.progress import Progress
from convc.tiling.storage import FLOAT24
from convc.types import Array, TensorType

LEAST, LIMIT = 2.0**-28, 16.0


def decoded(words: Array) -> Array:
    """(..., K / 4 * 3, lanes) words as the float64 (..., K, lanes) for which they stand, bit by bit."""
    *outer, count, lanes = words.shape
    w = words.view("uint32").astype("int64").reshape(*outer, count // 3, 3, lanes)
    fourth = (w[..., 0, :] & 255) << 16 | (w[..., 1, :] & 255) << 8 | w[..., 2, :] & 255
    # of the first three rows the low byte is part of their value as well
    rows = np.stack([*np.moveaxis(w, -2, 0), fourth << 8], axis=-2).reshape(*outer, -1, lanes)
    sign, exponent, mantissa = rows >> 31, rows >> 26 & 31, (rows & (1 << 26) - 1) >> 3 << 3
    value: Array = (-1.0) ** sign * (1 + mantissa / 2.0**26) * 2.0 ** (exponent - 28)
    return value


def spread(rng: np.random.Generator, *shape: int) -> Array:
    """Weights of all magnitudes that the format has."""
    values = rng.choice([-1, 1], shape) * 2.0 ** rng.uniform(-28, 4, shape)
    return np.clip(values.astype("float32"), -15.9999, 15.9999)


@pytest.mark.parametrize("shape", [(3, 8, 16), (1, 2, 3, 64, 8), (2, 4, 4)])
def test_every_weight_comes_back_within_half_a_step(shape):
    weights = spread(np.random.default_rng(0), *shape)
    words = encoded(weights, FLOAT24)
    assert words.dtype == np.int32
    assert words.nbytes * 4 == weights.nbytes * 3
    back = decoded(words)
    assert (np.abs(back - weights) <= 2.0**-19 * np.abs(weights)).all()
    assert np.array_equal(as_stored(weights, FLOAT24), back.astype("float32"))


def test_zeros_alternate_and_the_largest_does_not_overflow():
    weights = np.zeros((1, 8, 5), "float32")
    weights[0, :, 1] = 1e-30
    weights[0, :, 2] = -1e-30
    weights[0, :, 3] = np.nextafter(np.float32(LIMIT), np.float32(0))
    weights[0, :, 4] = -weights[0, :, 3]
    back = decoded(encoded(weights, FLOAT24))[0]
    signs = np.where(np.arange(8) % 2, -1.0, 1.0)
    for column, value in enumerate((signs * LEAST, LEAST, -LEAST, LIMIT, -LIMIT)):
        assert (np.abs(back[:, column] - value) <= 2.0**-18 * np.abs(value)).all()
    assert abs(back[:, 0].sum()) <= 2.0**-15 * LEAST


def test_what_cannot_be_stored():
    assert refusal(15.9) is None
    assert refusal(20.0) == "24 bits hold magnitudes below 16, and its weights reach 20"
    assert "reach nan" in str(refusal(float("nan"), "transformed weights"))
    assert refusal(0.0) == "its weights are zero, which 24 bits do not hold"


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-6, 1e-8])
def test_error_of_sums_is_foreseen(scale):
    """Of many sums of random products; weights near 2^-28 and below lose all that they have."""
    rng = np.random.default_rng(1)
    weights = (rng.standard_normal((256, 64)) * scale).astype("float32")
    inputs = rng.standard_normal((1000, 256))
    exact = inputs @ weights.astype("float64")
    error = float(abs(inputs @ as_stored(weights, FLOAT24) - exact).max() / abs(exact).max())
    for gain in (1.0, 0.25):  # stored as weights * gain
        foreseen = storage_error(weights / gain, gain)
        assert error <= foreseen <= 30 * error


def test_error_of_tiny_weights_is_not_lost_to_underflow():
    assert storage_error(np.full((4, 4), 1e-24, "float32"), 1.0) > 1e12


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6, 1e-8])
def test_error_estimate_of_winograd_counts_what_storage_loses(m, scale):
    """Against the same sums with weights that were stored in 24 bits and taken out again, bit by bit."""
    algorithms = (cook_toom(m, 3, 1),) * 2
    rng = np.random.default_rng(2)
    kernel = (rng.standard_normal((16, 64, 3, 3)) * scale).astype("float32")
    u = transformed(kernel, algorithms)  # (m + 2, m + 2, K, C)
    stored = decoded(encoded(u.swapaxes(-1, -2).astype("float32"), FLOAT24)).swapaxes(-1, -2)
    tiles = rng.standard_normal((m + 2, m + 2, 64, 200))
    a = to_float(algorithms[0].at, "float64")

    def outputs(u):
        b = to_float(algorithms[0].bt, "float64")
        v = np.einsum("ij,jkct,lk->ilct", b, tiles, b, optimize=True)
        return np.einsum("ij,jkot,lk->ilot", a, u @ v, a, optimize=True)

    exact = outputs(u)
    error = float(abs(outputs(stored) - exact).max() / abs(exact).max())
    assert error <= sampled_error(kernel, algorithms, FLOAT24) <= 20 * error


@pytest.mark.parametrize("bits", [8, 11])
def test_weights_of_few_bits_are_not_thought_exact(bits):
    """The low bits of three rows belong to the fourth: bfloat16 and float16 lose as much."""
    rng = np.random.default_rng(3)
    mantissa, exponent = np.frexp(rng.standard_normal((16, 64, 3, 3)))
    kernel = np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent).astype("float32")
    assert sampled_error(kernel, (cook_toom(2, 3, 1),) * 2, FLOAT24) > 2e-6


def network(largest: float) -> Graph:
    """A fully connected layer that caches cannot keep, with one weight of this magnitude."""
    net = Network("wide")
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((4096, 2048)) * 0.02).astype("float32")
    weights[7, 9] = largest
    x = net.input("x", (1, 2048))
    net.output(net.linear(x, 4096, weight=weights, name="fc"))
    return net.graph


def planned(graph: Graph, **options: object) -> Choice:
    """What is decided about the only layer, on a machine that was not measured."""
    found = plan(graph, Options("znver4", 2, **options), Progress())  # type: ignore[arg-type]
    return next(c for n, c in found.choices.items() if n.op in ("gemm", "conv"))


def test_selection_weighs_memory_against_error():
    assert planned(network(0.5)).lowering.name == "gemm_24bit"
    assert planned(network(0.5), max_error=1e-6).lowering.name == "gemm"


@pytest.mark.parametrize("max_error", [1e-4, float("inf")])
def test_what_cannot_be_stored_is_refused_with_the_reason(max_error):
    choice = planned(network(-20.0), max_error=max_error)
    assert choice.lowering.name == "gemm"
    (candidate,) = (c for c in choice.candidates if c.lowering == "gemm_24bit")
    assert candidate.rejected == "24 bits hold magnitudes below 16, and its weights reach 20"
    assert candidate.predicted_ms is None  # so that nobody tries to measure it
    with pytest.raises(
        OptionError, match=r"'gemm_24bit' cannot compute 'fc': 24 bits hold magnitudes below 16"
    ):
        planned(network(-20.0), algorithms={"fc": "gemm_24bit"})


@pytest.mark.parametrize(("largest", "refused"), [(2.0, False), (15.0, False), (40.0, True), (0.0, True)])
def test_transformed_weights_are_looked_at_where_their_bound_is_no_help(largest, refused):
    """A tap alone makes transformed weights no larger than itself, though G makes up to 1.5 * 1.5 of nine."""
    net = Network("one_tap")
    weights = np.random.default_rng(5).standard_normal((64, 64, 3, 3)).astype("float32") * 0.01 * largest
    weights[0, 0] = 0
    weights[0, 0, 0, 0] = largest
    net.output(net.conv(net.input("x", (1, 64, 7, 7)), 64, 3, padding=1, weight=weights, name="layer"))
    candidates = {c.lowering: c for c in planned(net.graph, all_errors=True).candidates}
    reason = candidates["winograd2_24bit"].rejected or ""
    assert ("transformed weights" in reason) == refused
    assert "transformed" not in (candidates["winograd2"].rejected or "")


def test_a_module_computes_with_weights_in_24_bits(tmp_path):
    """Through the file and back; two layers that share their weights have them in their own formats."""
    rng = np.random.default_rng(4)
    weights = (rng.standard_normal((64, 64)) * 0.1).astype("float32")
    graph = Graph("shared")
    x = graph.add_input("x", TensorType((1, 64)))
    w = graph.add_constant("w", weights)
    y = graph.add("gemm", [x, w], GemmAttrs(), name="a").output
    graph.set_outputs([graph.add("gemm", [y, w], GemmAttrs(), name="b").output])
    module = convc.compile(graph, algorithms={"a": "gemm_24bit", "b": "gemm"})
    assert [p.chosen for p in module.plan] == ["gemm_24bit", "gemm"]
    module.save(tmp_path / "m.so")
    given = rng.standard_normal((1, 64)).astype("float32")
    result = convc.load(tmp_path / "m.so")(given)
    exact = given.astype("float64") @ weights.astype("float64") @ weights.astype("float64")
    assert abs(result - exact).max() <= 1e-5 * abs(exact).max()
