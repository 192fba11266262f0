"""All passes on random small graphs of what they look for and of what only looks like it, against float64.

Graphs are of float64 throughout, so that a wrong factor, side or shape stands out from rounding. Constants
are those of the patterns, of all ranks; values have several readers and are returned amid patterns.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
from pass_checks import check_same_results

from convc.errors import ConvcError
from convc.ir import Attrs, Graph, Value, verify
from convc.ops.conv import ConvAttrs
from convc.ops.linear import GemmAttrs
from convc.ops.norm import BatchNormAttrs
from convc.ops.parts import ConcatAttrs, SliceAttrs
from convc.ops.pool import AveragePoolAttrs, MaxPoolAttrs
from convc.ops.reduce import ReduceAttrs
from convc.ops.shape import PadAttrs, ReshapeAttrs, TransposeAttrs
from convc.ops.unary import ClipAttrs, GeluAttrs, HardSigmoidAttrs, LeakyReluAttrs
from convc.passes.fuse_epilogues import FuseEpilogues
from convc.passes.fuse_max_pool import FuseMaxPool
from convc.passes.pipeline import PIPELINE, run_pipeline
from convc.types import TensorType

GRAPHS = 150
NODES = 14
CHANNELS = 4
SHAPES = ((1, CHANNELS, 5, 6), (2, CHANNELS, 4, 4), (2, CHANNELS, 1, 1), (3, CHANNELS), (CHANNELS, 5, 6))
FACTORS = (0.0, 1.0, 0.5, 2.0, 3.0, 6.0, 1 / 6, -1.5, np.sqrt(2), np.sqrt(0.5))

UNARY: tuple[tuple[str, Attrs], ...] = (
    ("sigmoid", Attrs()), ("hard_sigmoid", HardSigmoidAttrs(1 / 6, 0.5)), ("softplus", Attrs()),
    ("tanh", Attrs()), ("erf", Attrs()), ("relu", Attrs()), ("clip", ClipAttrs(0, 6)), ("neg", Attrs()),
    ("leaky_relu", LeakyReluAttrs(0.1)), ("gelu", GeluAttrs()), ("identity", Attrs()),
)  # fmt: skip
PASSES = (
    *(dataclasses.replace(p, dtype="float64") if isinstance(p, FuseEpilogues) else p for p in PIPELINE),
    FuseMaxPool(lambda w, weights: 0 if w.op == "conv_max_pool" else 1),
)


@dataclasses.dataclass
class Drawing:
    """A graph that grows node by node."""

    rng: np.random.Generator
    graph: Graph
    values: list[Value]

    @classmethod
    def of(cls, seed: int) -> Drawing:
        """Nothing but an input."""
        rng, graph = np.random.default_rng(seed), Graph("random")
        kind = TensorType(SHAPES[rng.integers(len(SHAPES))], "float64")
        return cls(rng, graph, [graph.add_input("x", kind)])

    def pick(self, *options: Any) -> Any:
        """One of these."""
        return options[self.rng.integers(len(options))]

    def value(self) -> Value:
        """A value that is there, a recent one as a rule."""
        back = min(len(self.values), int(self.rng.geometric(0.5)))
        return self.values[-back]

    def constant(self, *shape: int, low: float = -1) -> Value:
        """Uniform numbers."""
        return self.graph.add_constant("c", self.rng.uniform(low, 1, shape))

    def factor(self, x: Value) -> Value:
        """A constant of the patterns: a scalar, one of several axes, or a factor for each channel."""
        rank = x.type.rank
        shape = self.pick((), (), (1,), (1,) * rank, (1,) * (rank + 1), (CHANNELS, *[1] * max(0, rank - 2)))
        array = np.full(shape, self.pick(*FACTORS))
        if len(shape) and shape[0] == CHANNELS:
            array = array + self.rng.uniform(0.1, 1, shape)
        return self.graph.add_constant("k", array)

    def add(self, op: str, inputs: list[Value | None], attrs: Attrs | None = None) -> None:
        """A node, unless its type rule refuses it."""
        with contextlib.suppress(ConvcError):
            self.values.append(self.graph.add(op, inputs, attrs or Attrs()).output)

    def grow(self) -> None:
        """One node more."""
        x = self.value()
        kind = self.pick(
            "unary", "factor", "factor", "pair", "layer", "layer", "layer", "move", "gate", "gate"
        )
        if kind == "gate":
            self.gate(x)
        elif kind == "unary":
            op, attrs = self.pick(*UNARY)
            self.add(op, [x], attrs)
        elif kind in ("factor", "pair"):
            op = self.pick("add", "mul", "mul", "div", "sub", "max", "min")
            other = self.factor(x) if kind == "factor" else self.value()
            pair = self._either(x, other)
            # a quotient of anything may be as large as it likes, and rounding with it
            safe = op != "div" or (pair[1] is other and kind == "factor" and self.graph.constant(other).all())
            if safe or self._gate(pair[1]):
                self.add(op, pair)
        elif kind == "layer":
            self.layer(x)
        else:
            self.move(x)

    def gate(self, x: Value) -> None:
        """An activation spelled out, now and then with a wrong side, tensor, operator or constant."""
        kind = self.pick("swish", "hard_swish", "mish", "clip", "gelu", "gelu")
        steps: list[tuple[str, Attrs | float]] = {
            "swish": [("sigmoid", Attrs())],
            "hard_swish": [("hard_sigmoid", HardSigmoidAttrs(1 / 6, self.pick(0.5, 0.5, 0.4)))],
            "mish": [("softplus", Attrs()), ("tanh", Attrs())],
            "clip": [("add", 3.0), ("clip", ClipAttrs(0, 6))],
            "gelu": [("mul", np.sqrt(0.5)), ("erf", Attrs()), ("add", 1.0)],
        }[kind]
        before = len(self.values)
        value = x
        for op, attrs in steps:
            if isinstance(attrs, Attrs):
                self.add(op, [value], attrs)
            else:
                self.add(op, self._either(value, self.constant_of(value, attrs)))
            value = self.values[-1]
        x = self.pick(x, x, x, x, self.values[before - 1], self.value())
        if kind == "swish" and self.rng.random() < 0.4:
            self.add("div", [x, value])
        else:
            self.add("mul", self._either(x, value))
        if kind in ("clip", "gelu"):
            factor = self.pick(1 / 6, 0.5) if self.rng.random() < 0.2 else {"clip": 1 / 6, "gelu": 0.5}[kind]
            value = self.values[-1]
            if self.rng.random() < 0.3:
                self.add("div", [value, self.constant_of(value, 1 / factor)])
            else:
                self.add("mul", self._either(value, self.constant_of(value, factor)))

    def constant_of(self, x: Value, number: float) -> Value:
        """One number, with as many axes as it likes."""
        axes = self.pick(0, 0, 1, x.type.rank, x.type.rank, x.type.rank + 1)
        return self.graph.add_constant("k", np.full((1,) * axes, number))

    def _either(self, a: Value, b: Value) -> list[Value | None]:
        return self.pick([a, b], [b, a])

    def _gate(self, value: Value) -> bool:
        return value.producer is not None and value.producer.op == "sigmoid"

    def layer(self, x: Value) -> None:
        """A linear layer, a norm or a pool."""
        axes = x.type.rank - 2
        if axes < 1:
            w = self.constant(x.type.shape[-1], CHANNELS)
            if self.rng.integers(2):
                self.add("matmul", [x, w])
            else:
                self.add("gemm", [x, w, self.constant(CHANNELS)], GemmAttrs(0.5, 2.0))
            return
        op = self.pick("conv", "conv", "batch_norm", "average_pool", "max_pool", "reduce_mean")
        ones = (1,) * axes
        if op == "conv":
            k, pad = self.pick(1, 1, 3), int(self.rng.integers(2))
            w, bias = self.constant(CHANNELS, x.type.shape[1], *(k,) * axes), self.constant(CHANNELS)
            attrs = ConvAttrs(ones, ones, ((pad * (k // 2),) * 2,) * axes)
            self.add(op, [x, w, *self.pick([], [bias])], attrs)
        elif op == "batch_norm":
            self.add(op, [x, *(self.constant(x.type.shape[1], low=0.5) for _ in range(4))], BatchNormAttrs())
        elif op == "reduce_mean":
            self.add(op, [x], ReduceAttrs(self.pick((-1,), (-1, -2)), bool(self.rng.integers(2))))
        else:
            cls = AveragePoolAttrs if op == "average_pool" else MaxPoolAttrs
            k = self.pick(1, 2)
            self.add(op, [x], cls((k,) * axes, self.pick((k,) * axes, ones), ones, ((0, 0),) * axes))

    def move(self, x: Value) -> None:
        """A movement of data."""
        rank, shape = x.type.rank, x.type.shape
        op = self.pick("reshape", "transpose", "concat", "pad", "slice")
        if op == "reshape":
            self.add(op, [x], ReshapeAttrs(self.pick(shape, (shape[0], -(-x.type.size // shape[0])))))
        elif op == "transpose":
            self.add(op, [x], TransposeAttrs(self.pick(tuple(range(rank)), (1, 0, *range(2, rank)))))
        elif op == "concat":
            self.add(op, [x, self.value()], ConcatAttrs(1))
        elif op == "pad":
            self.add(op, [x], PadAttrs(((0, 0),) * (rank - 1) + ((1, 1),)))
        else:
            stops = (*shape[:-1], max(1, shape[-1] - 1))
            self.add(op, [x], SliceAttrs((0,) * rank, stops, (1,) * rank))

    def finished(self) -> Graph:
        """The graph returning its last value and some of the others."""
        made = [v for v in self.values if v.producer is not None] or self.values
        chosen = [v for v in made[:-1] if self.rng.random() < 0.15]
        self.graph.set_outputs([*chosen, made[-1]])
        return self.graph


def drawn(seed: int) -> Graph:
    """The graph of a seed."""
    drawing = Drawing.of(seed)
    for _ in range(NODES):
        drawing.grow()
    return drawing.finished()


@pytest.mark.parametrize("part", range(3))
def test_passes_keep_what_a_graph_computes(part):
    changed = 0
    for seed in range(part, GRAPHS, 3):
        before, after = drawn(seed), drawn(seed)
        verify(before)
        runs = run_pipeline(after, PASSES)
        changed += any(run.changes for run in runs)
        try:
            check_same_results(before, after, float(np.finfo(np.float64).eps))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{before}\n{after}") from error
    assert changed > GRAPHS // 6
