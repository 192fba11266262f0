"""What every convolution must satisfy, whatever computes it: algebra instead of expected values.

Operands are small integers. The float64 references and the lowerings that only multiply and add are then free
of rounding, and their properties hold exactly; Winograd and FFT may be off by what their `error_bound` says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.compilation import Compilation, plan
from convc.compiler import Options, build
from convc.frontends.builder import Network
from convc.ir import opdef
from convc.lowering.registry import LOWERINGS
from convc.ops.conv import ConvAttrs, ConvTransposeAttrs
from convc.progress import Progress
from convc.runtime.module import Module
from convc.types import Array, Shape

# Of the lowerings that compute dense convolutions of many channels; the others have their own tests.
OTHERS = ("grouped", "winograd_rows", "winograd2_24bit", "winograd4_24bit")
DENSE = [lowering for lowering in LOWERINGS if "conv" in lowering.ops and lowering.name not in OTHERS]
NAMES = [lowering.name for lowering in DENSE]
LARGEST = 4  # magnitude of an operand's elements
seeds = st.integers(0, 1 << 20)
factors = st.integers(-3, 3)


def integers(seed: int, shape: Shape) -> Array:
    """Whole numbers as float64."""
    return np.random.default_rng(seed).integers(-LARGEST, LARGEST, shape, endpoint=True).astype(np.float64)


def composed(w1: Array, w2: Array, strides: Shape) -> Array:
    """The kernel of convolving with w1 (M, C, *k1) at `strides`, then with w2 (K, M, *k2): tap s * i + j."""
    k1, k2 = w1.shape[2:], w2.shape[2:]
    size = [s * (b - 1) + a for a, b, s in zip(k1, k2, strides, strict=True)]
    kernel = np.zeros((w2.shape[0], w1.shape[1], *size))
    for tap in np.ndindex(*k2):
        where = tuple(slice(s * i, s * i + a) for s, i, a in zip(strides, tap, k1, strict=True))
        kernel[(..., *where)] += np.tensordot(w2[(..., *tap)], w1, axes=1)
    return kernel


# ---- the float64 references


@dataclass(frozen=True)
class Problem:
    """A convolution to draw arrays for."""

    attrs: ConvAttrs
    x: Shape
    w: Shape
    seed: int

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Input and weights."""
        return integers(self.seed, self.x), integers(self.seed + 1, self.w)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Convolutions over one to three axes in which every attribute varies by axis."""
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int) -> Shape:
        return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, 2)
    pads = tuple(zip(each(0, 2), each(0, 2), strict=True))
    groups = draw(st.integers(1, 3))
    smallest = [max(1, d * (k - 1) + 1 - sum(p)) for k, d, p in zip(kernel, dilations, pads, strict=True)]
    size = tuple(map(sum, zip(smallest, each(0, 4), strict=True)))
    channels, out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    attrs = ConvAttrs(strides, dilations, pads, groups)
    x = (draw(st.integers(1, 2)), channels * groups, *size)
    return Problem(attrs, x, (out * groups, channels, *kernel), draw(seeds))


def reference(attrs: ConvAttrs, x: Array, w: Array) -> Array:
    """The reference of the operator that the attributes belong to."""
    op = opdef("conv_transpose" if isinstance(attrs, ConvTransposeAttrs) else "conv")
    return op.reference(attrs, [x, w])[0]


many = settings(max_examples=60, deadline=None, derandomize=True)
few = settings(max_examples=3, deadline=None, derandomize=True)


@many
@given(problems(), st.integers(0, 2))
def test_reference_is_equivariant_under_translation(p: Problem, steps: int) -> None:
    """Zeros before the input move the output; padding is nothing but zeros."""
    (x, w), rank = p.arrays, len(p.attrs.pads)
    ground = [(a + steps * s, b) for (a, b), s in zip(p.attrs.pads, p.attrs.strides, strict=True)]
    moved = np.pad(x, ((0, 0), (0, 0), *ground))
    bare = replace(p.attrs, pads=((0, 0),) * rank)
    where = (..., *(slice(steps, None),) * rank)
    np.testing.assert_array_equal(reference(bare, moved, w)[where], reference(p.attrs, x, w))


@many
@given(problems(), factors, factors)
def test_reference_is_linear_in_both_operands(p: Problem, a: int, b: int) -> None:
    (x, w), (x2, w2) = p.arrays, replace(p, seed=p.seed + 2).arrays
    y = reference(p.attrs, x, w)
    np.testing.assert_array_equal(
        reference(p.attrs, a * x + b * x2, w), a * y + b * reference(p.attrs, x2, w)
    )
    np.testing.assert_array_equal(
        reference(p.attrs, x, a * w + b * w2), a * y + b * reference(p.attrs, x, w2)
    )


@many
@given(problems(), st.data())
def test_reference_composes(p: Problem, data: st.DataObject) -> None:
    """Without padding, two convolutions in a row are one; the strides multiply."""
    rank = len(p.x) - 2
    first = ConvAttrs(p.attrs.strides, (1,) * rank, ((0, 0),) * rank)
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    second = ConvAttrs(tuple(data.draw(st.integers(1, 2)) for _ in range(rank)), first.dilations, first.pads)
    w1, w2 = integers(p.seed, (3, p.x[1], *p.w[2:])), integers(p.seed + 1, (2, 3, *kernel))
    both = composed(w1, w2, first.strides)
    x = integers(p.seed + 2, (*p.x[:2], *map(sum, zip(p.x[2:], both.shape[2:], strict=True))))
    strides = tuple(a * b for a, b in zip(first.strides, second.strides, strict=True))
    twice = reference(second, reference(first, x, w1), w2)
    np.testing.assert_array_equal(twice, reference(ConvAttrs(strides, first.dilations, first.pads), x, both))


@many
@given(problems())
def test_reference_of_transposed_convolution_is_the_adjoint(p: Problem) -> None:
    """<conv(x), y> = <x, conv_transpose(y)> for every y, with the same weights."""
    x, w = p.arrays
    a = p.attrs
    spans = [d * (k - 1) + 1 for d, k in zip(a.dilations, p.w[2:], strict=True)]
    ends = zip(p.x[2:], a.pads, spans, a.strides, strict=True)
    unread = tuple((n + sum(pads) - span) % stride for n, pads, span, stride in ends)
    image = reference(a, x, w)
    y = integers(p.seed + 2, image.shape)
    back = reference(ConvTransposeAttrs(a.strides, a.dilations, a.pads, a.groups, unread), y, w)
    assert back.shape == x.shape
    assert np.vdot(image, y) == np.vdot(x, back)


# ---- compiled modules

SHAPE = (1, 20, 13, 22)
W1, W2 = integers(1, (24, 20, 2, 2)), integers(2, (20, 24, 2, 2))
BOTH, OTHER = composed(W1, W2, (1, 1)), integers(3, (20, 20, 3, 3))
MIXED = 2 * BOTH - 3 * OTHER
KERNELS = {"first": W1, "second": W2, "both": BOTH, "other": OTHER, "mixed": MIXED, "strided": OTHER}
EXACT = [lowering.name for lowering in DENSE if lowering.exact]
TRANSPOSED = [lowering.name for lowering in LOWERINGS if "conv_transpose" in lowering.ops and lowering.exact]


@dataclass(frozen=True)
class Machine:
    """One module that has every layer once for each lowering, from an input of its own."""

    compilation: Compilation
    module: Module

    def run(self, x: Array, y: Array | None = None) -> dict[str, Array]:
        """Outputs by name, such as `fft.both`; `y` is the input of the transposed convolutions."""
        y = np.zeros(SHAPE) if y is None else y
        feeds = {t.name: x if t.name.endswith(".x") else corner(y, t.shape) for t in self.module.inputs}
        results = self.module.run(None, {name: array.astype(np.float32) for name, array in feeds.items()})
        return {t.name: r.astype(np.float64) for t, r in zip(self.module.outputs, results, strict=True)}

    def error(self, layer: str, *outputs: Array) -> float:
        """Largest error of these outputs of a layer: 0 where integers stay exact, else what is predicted."""
        node = next(n for n in self.compilation.graph.nodes if n.name == layer)
        choice = self.compilation.choices[node]
        assert choice.lowering.name == layer.split(".")[0]
        if choice.lowering.exact:
            return 0.0
        weights = [self.compilation.graph.constant(value) for value in node.inputs]
        largest = sum(float(abs(y).max()) for y in outputs)
        return choice.lowering.error_bound(choice.workload, weights) * largest


def corner(y: Array, shape: Shape) -> Array:
    return y[tuple(map(slice, shape))]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    net = Network("properties")
    for name in NAMES:
        x = net.input(f"{name}.x", SHAPE)
        with net.scope(name):
            first = net.conv(x, 24, 2, padding=[(1, 0), (1, 0)], weight=W1, bias=False, name="first")
            net.output(first)
            net.output(net.conv(first, 20, 2, padding=[(0, 1), (0, 1)], weight=W2, bias=False, name="second"))
            for layer in ("both", "other", "mixed"):
                net.output(net.conv(x, 20, 3, padding=1, weight=KERNELS[layer], bias=False, name=layer))
            if name in EXACT:
                net.output(net.conv(x, 20, 3, stride=2, padding=1, weight=OTHER, bias=False, name="strided"))
    for name in TRANSPOSED:
        y, half = net.input(f"{name}.y", SHAPE), net.input(f"{name}.half_y", (1, 20, 7, 11))
        with net.scope(name):
            net.output(net.conv_transpose(y, 20, 3, padding=1, weight=BOTH, bias=False, name="back"))
            strided = {"stride": 2, "padding": 1, "output_padding": (0, 1)}
            net.output(net.conv_transpose(half, 20, 3, **strided, weight=OTHER, bias=False, name="half"))
    layers = [(name, layer) for name in NAMES for layer in KERNELS if layer != "strided" or name in EXACT]
    layers += [(name, layer) for name in TRANSPOSED for layer in ("back", "half")]
    insisted = {f"{name}.{layer}": name for name, layer in layers}
    compilation = plan(net.graph, Options(threads=2, algorithms=insisted), Progress())
    path: Path = tmp_path_factory.mktemp("properties") / "properties.so"
    return Machine(compilation, build(compilation, path, Progress(), verify=False))


def assert_close(found: Array, expected: Array, tolerance: float) -> None:
    difference = float(abs(found - expected).max())
    assert difference <= tolerance, f"off by {difference:g}, {tolerance:g} allowed"


@pytest.mark.parametrize("name", NAMES)
@few
@given(seed=seeds, a=factors, b=factors)
def test_linear_in_the_input(machine: Machine, name: str, seed: int, a: int, b: int) -> None:
    x, z = integers(seed, SHAPE), integers(seed + 1, SHAPE)
    fx, fz, mixed = machine.run(x), machine.run(z), machine.run(a * x + b * z)
    for layer in (f"{name}.{k}" for k in ("first", "both", "other")):
        tolerance = machine.error(layer, mixed[layer], a * fx[layer], b * fz[layer])
        assert_close(mixed[layer], a * fx[layer] + b * fz[layer], tolerance)


@pytest.mark.parametrize("name", NAMES)
@few
@given(seed=seeds)
def test_linear_in_the_weights(machine: Machine, name: str, seed: int) -> None:
    y = machine.run(integers(seed, SHAPE))
    both, other, mixed = (y[f"{name}.{layer}"] for layer in ("both", "other", "mixed"))
    tolerance = (
        2 * machine.error(f"{name}.both", both)
        + 3 * machine.error(f"{name}.other", other)
        + machine.error(f"{name}.mixed", mixed)
    )
    assert_close(mixed, 2 * both - 3 * other, tolerance)


@pytest.mark.parametrize("name", NAMES)
@few
@given(seed=seeds, down=st.integers(0, 5), right=st.integers(0, 9))
def test_equivariant_under_translation(machine: Machine, name: str, seed: int, down: int, right: int) -> None:
    """An object on a ground of zeros moves, its image with it; its edge meets tiles elsewhere."""
    near, far = np.zeros(SHAPE), np.zeros(SHAPE)
    thing = integers(seed, (1, 20, 6, 11))
    near[:, :, 1:7, 1:12] = thing
    far[:, :, 1 + down : 7 + down, 1 + right : 12 + right] = thing
    here, there = machine.run(near)[f"{name}.both"], machine.run(far)[f"{name}.both"]
    tolerance = machine.error(f"{name}.both", here, there)
    assert_close(there[:, :, down : down + 8, right : right + 13], here[:, :, :8, :13], tolerance)
    there[:, :, down : down + 8, right : right + 13] = 0
    assert_close(there, np.zeros(SHAPE), tolerance)


@pytest.mark.parametrize("name", NAMES)
@few
@given(seed=seeds)
def test_composes(machine: Machine, name: str, seed: int) -> None:
    """Equal but in the last row and column, where the second layer sees zeros, not the first one's sums."""
    y = machine.run(integers(seed, SHAPE))
    first, second, both = (y[f"{name}.{layer}"] for layer in ("first", "second", "both"))
    amplified = machine.error(f"{name}.first", first) * abs(W2).sum(axis=(1, 2, 3)).max()
    tolerance = amplified + machine.error(f"{name}.second", second) + machine.error(f"{name}.both", both)
    assert_close(second[..., :-1, :-1], both[..., :-1, :-1], tolerance)
    assert abs(second - both).max() > 1  # the edge does differ


@pytest.mark.parametrize("transposed", TRANSPOSED)
@pytest.mark.parametrize("name", NAMES)
@few
@given(seed=seeds)
def test_transposed_convolution_is_the_adjoint(
    machine: Machine, name: str, transposed: str, seed: int
) -> None:
    x, y = integers(seed, SHAPE), integers(seed + 1, SHAPE)
    found = machine.run(x, y)
    image = found[f"{name}.both"]
    tolerance = machine.error(f"{name}.both", image) * float(abs(y).sum())
    assert_close(np.vdot(image, y), np.vdot(x, found[f"{transposed}.back"]), tolerance)


@pytest.mark.parametrize("transposed", TRANSPOSED)
@pytest.mark.parametrize("name", EXACT)
def test_strided_transposed_convolution_is_the_adjoint(machine: Machine, name: str, transposed: str) -> None:
    x, y = integers(5, SHAPE), integers(6, SHAPE)
    found = machine.run(x, y)
    image = found[f"{name}.strided"]
    assert np.vdot(image, corner(y, image.shape)) == np.vdot(x, found[f"{transposed}.half"])


def test_sums_are_exact_in_float32() -> None:
    """What the exact comparisons rest on: no sum of any layer reaches 2^24."""
    largest = LARGEST * 6  # of the inputs: three of one and three of another
    first = largest * abs(W1).sum(axis=(1, 2, 3)).max()
    sums = [largest * abs(w).sum(axis=(1, 2, 3)).max() for w in KERNELS.values()]
    sums += [LARGEST * abs(w).sum(axis=(0, 2, 3)).max() for w in (BOTH, OTHER)]  # transposed
    assert max(*sums, first * abs(W2).sum(axis=(1, 2, 3)).max()) < 2**24
