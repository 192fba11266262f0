"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.fields import Fields
from convc.ir.opdef import Attrs, Cost, OpDef, register
from convc.ops.common import array, broadcast_shapes, must_be, must_broadcast_to, required, same_dtype
from convc.types import Array, Shape, TensorType


@dataclass(frozen=True)
class GemmAttrs(Attrs):
    """alpha * A' B' + beta * C, where A' and B' are transposed on demand."""

    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False


def gemm_attrs(attrs: Attrs) -> GemmAttrs:
    """What the attributes of a `gemm` or `matmul` say of its product: of a matmul, nothing."""
    return attrs if isinstance(attrs, GemmAttrs) else GemmAttrs()


@register
class Gemm(OpDef[GemmAttrs]):
    """A fully connected layer: a (M, K) or transposed; b (K, N) or transposed; c broadcasts to (M, N)."""

    name = "gemm"
    attrs = GemmAttrs
    inputs = (2, 3)
    linear = True
    weighted = True
    finite = True
    ends_in_epilogue = True

    def infer(self, attrs: GemmAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        a, b = required(inputs, 0, "a"), required(inputs, 1, "b")
        c = inputs[2] if len(inputs) > 2 else None
        same_dtype("The operands of gemm", *(t for t in (a, b, c) if t is not None))
        must_be("float", a)
        if a.rank != 2 or b.rank != 2:
            raise TypeRuleError(f"gemm needs two matrices, not shapes {a.shape} and {b.shape}.")
        m, k = reversed(a.shape) if attrs.trans_a else a.shape
        k_of_b, n = reversed(b.shape) if attrs.trans_b else b.shape
        if k != k_of_b:
            raise TypeRuleError(
                f"The inner extents of {a.shape} and {b.shape} are {k} and {k_of_b} "
                f"(trans_a={attrs.trans_a}, trans_b={attrs.trans_b}); they must be equal."
            )
        if c is not None:
            must_broadcast_to((m, n), "c", c.shape)
        return (TensorType((m, n), a.dtype),)

    def reference(self, attrs: GemmAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        a, b = array(inputs, 0), array(inputs, 1)
        y = attrs.alpha * ((a.T if attrs.trans_a else a) @ (b.T if attrs.trans_b else b))
        c = inputs[2] if len(inputs) > 2 else None
        return (y if c is None else y + attrs.beta * c,)

    def terms(self, attrs: GemmAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return super().terms(replace(attrs, alpha=abs(attrs.alpha), beta=abs(attrs.beta)), inputs)

    def cost(
        self, attrs: GemmAttrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> Cost:
        a, b = required(inputs, 0, "a"), required(inputs, 1, "b")
        bias = inputs[2].size if len(inputs) > 2 and inputs[2] is not None else 0
        return Cost(outputs[0].size * a.shape[0 if attrs.trans_a else 1], b.size + bias)

    def receptive(
        self, attrs: GemmAttrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape
    ) -> Fields:
        """No axis of the result is an image's."""
        return (None,) * len(out)


@register
class MatMul(OpDef[Attrs]):
    """NumPy's matmul: batches broadcast, a vector is a row on the left and a column on the right."""

    name = "matmul"
    inputs = (2, 2)
    linear = True
    weighted = True
    finite = True
    ends_in_epilogue = True

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        a, b = required(inputs, 0, "a"), required(inputs, 1, "b")
        same_dtype("The operands of matmul", a, b)
        must_be("number", a)
        if not a.rank or not b.rank:
            raise TypeRuleError(f"matmul needs vectors or matrices, not shapes {a.shape} and {b.shape}.")
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        if left[-1] != right[-2]:
            raise TypeRuleError(
                f"The inner extents of {a.shape} and {b.shape} differ: {left[-1]} and {right[-2]}."
            )
        batch = broadcast_shapes(left[:-2], right[:-2])
        return (TensorType((*batch, *left[-2:-1][: a.rank - 1], *right[-1:][: b.rank - 1]), a.dtype),)

    def reference(self, attrs: Attrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (np.asarray(np.matmul(array(inputs, 0), array(inputs, 1))),)

    def cost(self, attrs: Attrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        a, b = required(inputs, 0, "a"), required(inputs, 1, "b")
        weights = b.size if b.rank == 2 else 0  # batched products multiply activations
        return Cost(outputs[0].size * a.shape[-1], weights)

    def receptive(self, attrs: Attrs, operands: Sequence[tuple[TensorType, Fields]], out: Shape) -> Fields:
        """No axis of the result is an image's."""
        return (None,) * len(out)
