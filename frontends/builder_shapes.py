"""The builder's layers without weights: activations, arithmetic, joining, cutting, reshaping, resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from convc.errors import TypeRuleError
from convc.frontends.builder_core import Ints, NetworkBase, Operand, Padding, Tensor, located
from convc.frontends.builder_windows import entries_of, explicit_pads
from convc.ir.attributes import integer, is_integer, number
from convc.ops.parts import ConcatAttrs, SplitAttrs
from convc.ops.reduce import SoftmaxAttrs
from convc.ops.resize import ResizeAttrs
from convc.ops.shape import DepthSpaceAttrs, PadAttrs, ReshapeAttrs, TransposeAttrs
from convc.ops.unary import (
    AlphaAttrs,
    ClipAttrs,
    GeluAttrs,
    HardSigmoidAttrs,
    LeakyReluAttrs,
    SeluAttrs,
    SwishAttrs,
)
from convc.types import Array


class Activations(NetworkBase):
    """Elementwise functions with a method of their own; `net.unary` and `net.binary` reach the others."""

    @located
    def relu(self, x: Tensor, *, name: str = "") -> Tensor:
        """max(x, 0)."""
        return self._add("relu", [x], None, name)[0]

    @located
    def relu6(self, x: Tensor, *, name: str = "") -> Tensor:
        """min(max(x, 0), 6), as in MobileNets."""
        return self._add("clip", [x], ClipAttrs(0.0, 6.0), name, kind="relu6")[0]

    @located
    def clip(self, x: Tensor, low: float = -math.inf, high: float = math.inf, *, name: str = "") -> Tensor:
        """min(max(x, low), high)."""
        return self._add("clip", [x], ClipAttrs(low, high), name)[0]

    @located
    def leaky_relu(self, x: Tensor, alpha: float = 0.01, *, name: str = "") -> Tensor:
        """x where positive, else alpha x."""
        return self._add("leaky_relu", [x], LeakyReluAttrs(alpha), name)[0]

    @located
    def elu(self, x: Tensor, alpha: float = 1.0, *, name: str = "") -> Tensor:
        """x where positive, else alpha (exp(x) - 1)."""
        return self._add("elu", [x], AlphaAttrs(alpha), name)[0]

    @located
    def selu(self, x: Tensor, *, name: str = "") -> Tensor:
        """Scaled ELU with the constants of Klambauer et al., 2017."""
        return self._add("selu", [x], SeluAttrs(), name)[0]

    @located
    def sigmoid(self, x: Tensor, *, name: str = "") -> Tensor:
        """1 / (1 + exp(-x))."""
        return self._add("sigmoid", [x], None, name)[0]

    @located
    def hard_sigmoid(self, x: Tensor, alpha: float = 0.2, beta: float = 0.5, *, name: str = "") -> Tensor:
        """alpha x + beta, clipped to [0, 1]."""
        return self._add("hard_sigmoid", [x], HardSigmoidAttrs(alpha, beta), name)[0]

    @located
    def hard_swish(self, x: Tensor, *, name: str = "") -> Tensor:
        """x times the hard sigmoid with slope 1/6, as in MobileNetV3."""
        return self._add("hard_swish", [x], None, name)[0]

    @located
    def swish(self, x: Tensor, alpha: float = 1.0, *, name: str = "") -> Tensor:
        """x sigmoid(alpha x); with alpha 1 also called SiLU."""
        return self._add("swish", [x], SwishAttrs(alpha), name)[0]

    @located
    def mish(self, x: Tensor, *, name: str = "") -> Tensor:
        """x tanh(softplus(x))."""
        return self._add("mish", [x], None, name)[0]

    @located
    def gelu(self, x: Tensor, approximate: str = "none", *, name: str = "") -> Tensor:
        """x times the normal distribution function of x, exact or with `approximate="tanh"`."""
        return self._add("gelu", [x], GeluAttrs(approximate), name)[0]

    @located
    def tanh(self, x: Tensor, *, name: str = "") -> Tensor:
        """Hyperbolic tangent."""
        return self._add("tanh", [x], None, name)[0]

    @located
    def softplus(self, x: Tensor, *, name: str = "") -> Tensor:
        """log(1 + exp(x))."""
        return self._add("softplus", [x], None, name)[0]

    @located
    def softsign(self, x: Tensor, *, name: str = "") -> Tensor:
        """x / (1 + |x|)."""
        return self._add("softsign", [x], None, name)[0]

    @located
    def softmax(self, x: Tensor, axis: int = 1, *, name: str = "") -> Tensor:
        """exp(x) divided by its sum along an axis, by default the channels."""
        return self._add("softmax", [x], SoftmaxAttrs(axis), name)[0]

    @located
    def log_softmax(self, x: Tensor, axis: int = 1, *, name: str = "") -> Tensor:
        """The logarithm of softmax."""
        return self._add("log_softmax", [x], SoftmaxAttrs(axis), name)[0]

    @located
    def dropout(self, x: Tensor, *, name: str = "") -> Tensor:
        """Does nothing at inference; keeps its row in the table."""
        return self._add("dropout", [x], None, name)[0]


class Arithmetic(NetworkBase):
    """Elementwise operators of two operands, which broadcast; `+ - * /` between tensors are the same."""

    @located
    def add(self, a: Operand, b: Operand, *, name: str = "") -> Tensor:
        """a + b."""
        return self._add("add", [a, b], None, name)[0]

    @located
    def sub(self, a: Operand, b: Operand, *, name: str = "") -> Tensor:
        """a - b."""
        return self._add("sub", [a, b], None, name)[0]

    @located
    def mul(self, a: Operand, b: Operand, *, name: str = "") -> Tensor:
        """a * b."""
        return self._add("mul", [a, b], None, name)[0]

    @located
    def div(self, a: Operand, b: Operand, *, name: str = "") -> Tensor:
        """a / b."""
        return self._add("div", [a, b], None, name)[0]

    @located
    def reduce(
        self, kind: str, x: Tensor, axes: int | Sequence[int], *, keepdims: bool = True, name: str = ""
    ) -> Tensor:
        """`mean`, `sum`, `max`, `min`, `prod`, `l1`, `l2`, `sum_square` or `log_sum_exp` over axes."""
        entries = entries_of(axes, 1)
        return self.apply(f"reduce_{kind}", x, name=name, axes=entries, keepdims=keepdims)


class Shapes(NetworkBase):
    """Layers that move elements."""

    @located
    def concat(self, tensors: Sequence[Tensor], axis: int = 1, *, name: str = "") -> Tensor:
        """Tensors side by side along an axis, by default the channels."""
        return self._add("concat", list(tensors), ConcatAttrs(axis), name)[0]

    @located
    def split(
        self, x: Tensor, parts: int | Sequence[int], axis: int = 1, *, name: str = ""
    ) -> tuple[Tensor, ...]:
        """`parts` equal pieces along an axis, or pieces of the given sizes."""
        if not -x.rank <= integer(axis, "axis") < x.rank:
            raise TypeRuleError(f"axis {axis} does not exist in the shape {x.shape}.")
        extent = x.shape[axis]
        if is_integer(parts):
            if parts < 1 or extent % parts:
                raise TypeRuleError(f"{parts} equal parts do not divide {extent}, axis {axis} of {x.shape}.")
            parts = (extent // int(parts),) * int(parts)
        return self._add("split", [x], SplitAttrs(axis, entries_of(parts, 1)), name)

    @located
    def reshape(self, x: Tensor, shape: Sequence[int], *, name: str = "") -> Tensor:
        """The same elements in another shape; one extent may be -1, for whatever is left."""
        extents = tuple(integer(n, "shape") for n in entries_of(shape, 1))
        if -1 in extents:
            known = math.prod(n for n in extents if n != -1)
            if extents.count(-1) > 1 or known < 1 or math.prod(x.shape) % known:
                raise TypeRuleError(f"{x.shape} cannot become {extents}: no single extent fits the -1.")
            extents = tuple(math.prod(x.shape) // known if n == -1 else n for n in extents)
        return self._add("reshape", [x], ReshapeAttrs(extents), name)[0]

    @located
    def flatten(self, x: Tensor, *, name: str = "") -> Tensor:
        """(N, C, ...) as (N, C * ...)."""
        shape = (x.shape[0], math.prod(x.shape[1:]))
        return self._add("reshape", [x], ReshapeAttrs(shape), name, kind="flatten")[0]

    @located
    def transpose(self, x: Tensor, perm: Sequence[int], *, name: str = "") -> Tensor:
        """Axis i of the result is axis perm[i] of x."""
        return self._add("transpose", [x], TransposeAttrs(entries_of(perm, 1)), name)[0]

    @located
    def pad(
        self, x: Tensor, padding: Padding, *, mode: str = "constant", value: float = 0.0, name: str = ""
    ) -> Tensor:
        """More (or with negative numbers less) on the sides of the spatial axes, given as for `conv`.

        Modes: `constant` (with `value`), `reflect`, `edge`, `wrap`.
        """
        if isinstance(padding, str) and padding == "same":
            raise TypeRuleError('padding "same" belongs to a window; give numbers.')
        pads = ((0, 0), (0, 0), *explicit_pads(padding, x.rank - 2))
        return self._add("pad", [x], PadAttrs(pads, mode, value), name)[0]

    @located
    def crop(self, x: Tensor, shape: Sequence[int], *, name: str = "") -> Tensor:
        """The centre of x, of the given spatial extents; of an odd surplus the far side loses more."""
        extents = tuple(integer(n, "shape") for n in entries_of(shape, 1))
        surplus = [have - want for have, want in zip(x.shape[2:], extents, strict=False)]
        if len(extents) != x.rank - 2 or min((*surplus, *extents)) < 0:
            raise TypeRuleError(f"The spatial extents {x.shape[2:]} cannot be cropped to {extents}.")
        pads = ((0, 0), (0, 0), *((-(s // 2), -(s - s // 2)) for s in surplus))
        return self._add("pad", [x], PadAttrs(pads), name, kind="crop")[0]

    @located
    def gather(self, x: Tensor, indices: Sequence[int] | Array, axis: int = 1, *, name: str = "") -> Tensor:
        """The slices of x at these indices along an axis."""
        return self.apply("gather", x, self.constant(_integers(indices)), name=name, axis=axis)

    @located
    def depth_to_space(self, x: Tensor, block: int, mode: str = "DCR", *, name: str = "") -> Tensor:
        """Channels into blocks of pixels; `mode="CRD"` is PyTorch's pixel shuffle."""
        return self._add("depth_to_space", [x], DepthSpaceAttrs(block, mode), name)[0]

    @located
    def space_to_depth(self, x: Tensor, block: int, *, name: str = "") -> Tensor:
        """Blocks of pixels into channels."""
        return self._add("space_to_depth", [x], DepthSpaceAttrs(block), name)[0]

    @located
    def resize(
        self,
        x: Tensor,
        size: Ints | None = None,
        *,
        scale: float | Sequence[float] | None = None,
        mode: str = "nearest",
        coordinates: str = "half_pixel",
        antialias: bool = False,
        name: str = "",
    ) -> Tensor:
        """Resample the spatial axes to `size` or by `scale`, by `nearest`, `linear` or `cubic` interpolation.

        `coordinates` is where pixels lie: `half_pixel`, `align_corners`, `asymmetric`, `pytorch_half_pixel`.
        """
        extents = x.shape[2:]
        if (size is None) == (scale is None) or not extents:
            raise TypeRuleError(f"Give size or scale, for the spatial axes of {x.shape}; not both.")
        if scale is not None:
            scales = tuple(number(s, "scale") for s in entries_of(scale, len(extents)))
            out = tuple(math.floor(n * s) for n, s in zip(extents, scales, strict=False))
        else:
            out = tuple(integer(n, "size") for n in entries_of(size, len(extents)))
            scales = tuple(n / have for n, have in zip(out, extents, strict=False))
        if len(out) != len(extents) or len(scales) != len(extents) or min(out) < 1:
            raise TypeRuleError(
                f"The spatial extents {extents} cannot be resized: size {size}, scale {scale}."
            )
        attrs = ResizeAttrs((*x.shape[:2], *out), (1.0, 1.0, *scales), mode, coordinates, antialias=antialias)
        return self._add("resize", [x], attrs, name)[0]

    @located
    def upsample(self, x: Tensor, factor: int = 2, *, mode: str = "nearest", name: str = "") -> Tensor:
        """Every spatial axis `factor` times as long."""
        return self.resize(x, scale=factor, mode=mode, name=name)


def _integers(indices: Sequence[int] | Array) -> Array:
    found = np.asarray(indices)
    if found.dtype.kind not in "iu":
        raise TypeRuleError(f"The indices have dtype {found.dtype}; integers are needed.")
    return found.astype(np.int64)
