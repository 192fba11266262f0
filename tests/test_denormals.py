"""Denormal numbers: zero in all threads unless they are to be kept, and the caller's mode its own."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import convc
from convc.compilation import plan
from convc.compiler import Options
from convc.errors import OptionError
from convc.evaluate import evaluate
from convc.frontends.builder import Network
from convc.progress import Progress
from convc.rounding import Stored
from convc.runtime.module import Module
from convc.types import Array

NATIVE = resources.files("convc.codegen").joinpath("native")
TINY = float(np.finfo("float32").tiny)
SHAPE = (1, 32, 48, 48)
"""Enough work for a parallel loop."""


class Modes:
    """`floats.c` by itself, to set this thread's mode as another library may have done."""

    def __init__(self, folder: Path, keeps: int) -> None:
        source, library = folder / f"mode{keeps}.c", folder / f"mode{keeps}.so"
        source.write_text(f"const int convc_keeps_denormals = {keeps};\nconst void *services;\n")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", str(library)]
        subprocess.run([*compiler, *flags, str(source), str(NATIVE / "floats.c")], check=True)
        self._library = ctypes.CDLL(str(library))
        self._library.enter_own_mode.restype = ctypes.c_uint64
        self._library.leave_own_mode.argtypes = (ctypes.c_uint64,)

    @contextmanager
    def set(self) -> Iterator[None]:
        before = self._library.enter_own_mode()
        yield
        self._library.leave_own_mode(before)


@pytest.fixture(scope="module")
def flushing(tmp_path_factory: pytest.TempPathFactory) -> Modes:
    return Modes(tmp_path_factory.mktemp("mode"), 0)


def caller_flushes() -> bool:
    return not np.any(np.full(4, TINY, "float32") * np.float32(0.5))


def halved(keep: bool) -> Module:
    """A module that halves its input, on two threads."""
    net = Network("halved")
    net.output(net.mul(net.input("x", SHAPE), 0.5))
    return convc.compile(net.graph, threads=2, keep_denormals=keep)


@pytest.fixture(scope="module")
def flushed() -> Module:
    return halved(False)


@pytest.fixture(scope="module")
def kept() -> Module:
    return halved(True)


def test_denormals_are_zero_in_every_thread(flushed: Module) -> None:
    assert not flushed(np.full(SHAPE, TINY / 4, "float32")).any()  # as operands
    assert not flushed(np.full(SHAPE, TINY, "float32")).any()  # as results
    np.testing.assert_array_equal(flushed(np.full(SHAPE, 2 * TINY, "float32")), np.float32(TINY))
    assert flushed.manifest.options["keep_denormals"] is False


def test_denormals_are_kept_in_every_thread(kept: Module, flushing: Modes) -> None:
    """Whatever the caller has set; and workers that have served a module that flushes."""
    x = np.full(SHAPE, TINY / 4, "float32")
    with flushing.set():
        y = kept(x)
    assert np.all(y.view("int32") == np.float32(TINY / 8).view("int32"))
    assert kept.manifest.options["keep_denormals"] is True


def test_the_caller_keeps_its_own_mode(flushed: Module, kept: Module, flushing: Modes) -> None:
    x = np.full(SHAPE, TINY / 4, "float32")
    flushed(x)
    assert not caller_flushes()
    with flushing.set():
        assert caller_flushes()
        kept(x)
        assert caller_flushes()
    kept(x)
    assert not caller_flushes()


def faint(scale: float) -> Network:
    """A convolution of a saturated sigmoid: much of what it adds up is denormal, like some weights."""
    net = Network("faint", seed=3)
    x = net.sigmoid(net.sub(net.input("x", (1, 4, 12, 12)), 85.0))
    weights = np.abs(np.random.default_rng(0).standard_normal((8, 4, 3, 3))).astype("float32")
    weights[:, :2] *= np.float32(1e-39)
    net.output(net.mul(net.conv(x, 8, 3, padding=1, weight=weights), scale))
    return net


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_sums_of_denormals(scale: float, keep: bool) -> None:
    """What flushing 36 terms and as many partial sums can lose is no miscompilation; all else is computed."""
    graph = faint(scale).graph
    module = convc.compile(graph, threads=1, keep_denormals=keep)
    x = np.random.default_rng(1).standard_normal((1, 4, 12, 12)).astype("float32")
    (expected,) = evaluate(graph, {"x": x})
    lost = scale * 2 * 36 * (TINY * 2.0**-23 if keep else TINY)
    assert lost < 0.1 * expected.max()
    assert np.abs(module(x) - expected).max() < lost + 1e-6 * expected.max()


def test_packed_weights_hold_no_denormals() -> None:
    def denormals(keep: bool) -> int:
        program = plan(faint(1.0).graph, Options(threads=1, keep_denormals=keep), Progress()).program
        arrays: list[Array] = [a for _, a in program.weights if a.dtype == "float32"]
        return sum(int(np.count_nonzero((a != 0) & (np.abs(a) < TINY))) for a in arrays)

    assert denormals(False) == 0
    assert denormals(True) >= 8 * 2 * 9


def test_a_reference_that_flushes_keeps_what_is_normal() -> None:
    net = Network("identity")
    net.output(-net.input("x", (6,)))
    x = np.array([0, TINY, -TINY, TINY / 2, np.inf, np.nan], "float32")
    (found,) = evaluate(net.graph, {"x": x}, Stored(False))
    np.testing.assert_array_equal(found, [-0.0, -TINY, TINY, -0.0, -np.inf, np.nan])


def test_gpus_keep_denormals_unless_they_may_approximate() -> None:
    graph = faint(1.0).graph
    options = Options("cuda:sm_90", fast_math=True, keep_denormals=True)
    with pytest.raises(OptionError, match="--keep-denormals contradicts --fast-math"):
        plan(graph, options, Progress())
    assert plan(graph, Options("cuda:sm_90"), Progress()).program.keeps_denormals


@pytest.mark.parametrize(("factors", "x"), [((1e-25, 1e-20), 1e30), ((1e25, 1e20), 1e-30)])
def test_factors_are_multiplied_in_their_order(factors: tuple[float, float], x: float) -> None:
    """Their product alone is beyond what float32 holds."""
    net = Network("factors")
    first, second = factors
    net.output(net.mul(net.mul(net.input("x", (1, 16)), first), second))
    found = convc.compile(net.graph, threads=1)(np.full((1, 16), x, "float32"))
    np.testing.assert_allclose(found, x * first * second, rtol=1e-6)
