"""Transposed convolution as dense convolutions of the input's size, whose results interleave.

Along an axis of stride s the outputs that agree modulo s are a convolution of stride 1 with every s-th tap
(Shi et al., Is the deconvolution layer the same as a convolutional layer?, arXiv 1609.07009). With 3 taps and
stride 2 they have 1 and 2: in two dimensions 9 products for 4 pixels, where the direct transposed
convolution, whose tiles treat all outputs alike, takes 16. Where phases have several taps, Winograd computes
them. The 2 x 2 kernels of U-Net have one tap a phase, and are left to the direct one, which makes the same
products and no copy.

Measured on Zen 5, two threads, 2026-11-21, with 256 channels to 128 at 32 x 32 and stride 2: the layer took
0.83 ms instead of 2.5 with a kernel of 3, 1.17 instead of 2.5 with 4, and 1.35 instead of 5.4 with 5.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node
from convc.ops.conv import ConvAttrs, ConvTransposeAttrs
from convc.ops.parts import ConcatAttrs
from convc.ops.shape import DepthSpaceAttrs
from convc.passes.base import Rule, RulePass
from convc.passes.fold_affine import obstacle
from convc.passes.windows import MOVED, keep_windows, products


@dataclass(frozen=True)
class Phase:
    """The outputs s m + rest along one axis, as a convolution.

    `taps` of the kernel, in the order of the inputs that they read, `dilation` apart; `pad` is None where the
    windows do not begin and end at the border.
    """

    taps: tuple[int, ...]
    dilation: int
    pad: tuple[int, int] | None

    @classmethod
    def of(cls, size: int, output: int, kernel: int, stride: int, dilation: int, first: int) -> Phase:
        """Of the outputs where tap k reads input m + (first - k * dilation) / stride, if that is whole."""
        taps = tuple(k for k in reversed(range(kernel)) if (first - k * dilation) % stride == 0)
        if not taps:
            return cls(taps, 1, None)
        apart = dilation // math.gcd(dilation, stride)
        span = apart * (len(taps) - 1) + 1
        before = (taps[0] * dilation - first) // stride
        return cls(taps, apart, keep_windows(size, output // stride, span, 1, before))


Phases = tuple[tuple[Phase, ...], ...]
"""For each spatial axis its phases, in the order of their outputs."""


@dataclass(frozen=True)
class TransposedToDense(Rule[Phases]):
    """Output s m + a of a transposed convolution is the sum over taps k with a + p = k d (modulo s) of
    x[m + (a + p - k d) / s] w[k]: one convolution for each a, its taps in reverse.

    The convolutions are joined along channels, and depth_to_space puts output m of phase (a, b) in its place,
    for which both strides must be equal and divide the output's extents, and the channels fill blocks.
    """

    block: int = 16
    """Channels that are moved in one piece; a multiple of every target's channel block."""
    always: bool = False
    """Whether to do so where it saves no products: for targets that compute dense convolutions only."""

    def match(self, graph: Graph, node: Node) -> Phases | None:
        if node.op != "conv_transpose" or node.output.type.rank != 4:
            return None
        x, w = node.inputs[:2]
        assert isinstance(node.attrs, ConvTransposeAttrs)
        assert x is not None
        assert w is not None
        if max(node.attrs.strides) == 1:
            return None
        sizes = zip(x.type.shape[2:], node.output.type.shape[2:], w.type.shape[2:], strict=True)
        settings = zip(node.attrs.strides, node.attrs.dilations, node.attrs.pads, strict=True)
        return tuple(
            tuple(Phase.of(*extents, s, d, before + rest) for rest in range(s))
            for extents, (s, d, (before, _)) in zip(sizes, settings, strict=True)
        )

    def check(self, graph: Graph, node: Node, match: Phases) -> str:
        attrs, kind = node.attrs, node.output.type
        assert isinstance(attrs, ConvTransposeAttrs)
        if attrs.groups != 1 or kind.shape[1] % self.block:
            return f"{kind.shape[1]} channels in {attrs.groups} groups do not fill blocks of {self.block}"
        if reason := obstacle(graph, node):
            return reason
        if any(step.operand is not None for step in node.epilogue):
            return "the operands of its epilogue would have to be cut into phases"
        (s, *others), (h, w) = attrs.strides, kind.shape[2:]
        if others != [s] or h % s or w % s:
            return f"strides {attrs.strides} do not cut {h} x {w} outputs into equal parts"
        if any(phase.pad is None for axis in match for phase in axis):
            return "some outputs have no taps, or part of the input has none for them"
        saved, added = kind.size * _products_saved(node, match), kind.size * MOVED
        if saved <= added and not self.always:
            return f"the time of {saved:.0f} multiply-adds, once saved, would go into a copy ({added})"
        return ""

    def rewrite(self, graph: Graph, node: Node, match: Phases) -> str:
        """One convolution for all phases that differ in their weights alone; else one for each."""
        combinations = list(itertools.product(*match))
        kinds = {tuple((len(p.taps), p.dilation, p.pad) for p in phases) for phases in combinations}
        alike = len(kinds) == 1
        runs = [combinations] if alike else [[phases] for phases in combinations]
        parts = [self._part(graph, node, run) for run in runs]
        assert isinstance(node.attrs, ConvTransposeAttrs)
        attrs, values = DepthSpaceAttrs(node.attrs.strides[0]), [part.output for part in parts]
        joined = values[0]
        if len(values) > 1:
            joined = graph.add(
                "concat", values, ConcatAttrs(1), name=f"{node.name}.phases", before=node
            ).output
        name = f"{node.name}.interleave"
        result = graph.add("depth_to_space", [joined], attrs, name=name, before=node)
        graph.replace_uses(node.output, result.output)
        graph.remove(node)
        graph.rename(parts[0], node.name)
        taps = " + ".join("x".join(str(len(p.taps)) for p in run[0]) for run in runs)
        count = "one convolution" if alike else f"{len(parts)} convolutions"
        return f"becomes {count} with {taps} taps"

    def _part(self, graph: Graph, node: Node, run: Sequence[Sequence[Phase]]) -> Node:
        """The convolution that makes the outputs of some phases on each axis, one after the other."""
        w, phases = graph.constant(node.inputs[1]), run[0]
        assert w is not None
        channels = [range(extent) for extent in w.shape[1::-1]]
        weights = [w.swapaxes(0, 1)[np.ix_(*channels, *(p.taps for p in each))] for each in run]
        attrs = ConvAttrs(
            (1,) * len(phases), tuple(p.dilation for p in phases), tuple(p.pad or (0, 0) for p in phases)
        )
        inputs = [node.inputs[0], graph.add_constant(f"{node.name}.weights", np.concatenate(weights))]
        for value in node.inputs[2 : node.arity]:
            bias = graph.constant(value)
            if bias is not None and len(run) > 1:
                value = graph.add_constant(f"{node.name}.bias", np.tile(bias, len(run)))
            inputs.append(value)
        return graph.add(
            "conv",
            inputs,
            attrs,
            name=node.name,
            origin=node.origin,
            epilogue=node.epilogue,
            before=node,
        )


def _products_saved(node: Node, match: Phases) -> float:
    """How many products fewer an output takes on average than in tiles that treat all phases alike."""
    x, w, attrs = node.inputs[0], node.inputs[1], node.attrs
    assert isinstance(attrs, ConvTransposeAttrs)
    assert x is not None
    assert w is not None
    phases = list(itertools.product(*match))
    needed = sum(products([len(p.taps) for p in part], [p.dilation for p in part]) for part in phases)
    spans = zip(w.type.shape[2:], attrs.strides, attrs.dilations, strict=True)
    done = math.prod(-(-(d * (k - 1) + 1) // s) for k, s, d in spans)
    return x.type.shape[1] * (done - needed / len(phases))


@dataclass(frozen=True)
class SubPixel(RulePass):
    """Compute transposed convolutions phase by phase where that saves products worth a copy."""

    name: ClassVar[str] = "sub-pixel"
    rules = (TransposedToDense(),)


@dataclass(frozen=True)
class AlwaysSubPixel(RulePass):
    """Compute transposed convolutions phase by phase wherever they have whole phases."""

    name: ClassVar[str] = "always-sub-pixel"
    rules = (TransposedToDense(always=True),)
