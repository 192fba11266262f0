"""The bias of a layer on a GPU: in float32 whatever its tensors are stored as, since sums are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT32, FLOAT64
from convc.lowering.functions import widened
from convc.ops.linear import gemm_attrs
from convc.target import Target
from convc.types import Array
from convc.workload import Workload

Expr = Any
Tensor = Any


def pack_bias(w: Workload, target: Target, array: Array) -> Array:
    """A convolution's (K,) as (K blocks, lanes); a fully connected layer's, times `beta`, as it is."""
    if w.op == "conv":
        return np.pad(array.astype(FLOAT32), (0, -array.size % target.lanes)).reshape(-1, target.lanes)
    return np.asarray(array.astype(FLOAT64) * gemm_attrs(w.attrs).beta, FLOAT32, order="C")


def bias_of(w: Workload) -> Tensor | None:
    """The kernel's parameter for it; None without one."""
    kind, out = w.inputs[2] if w.arity > 2 else None, w.outputs[0]
    if kind is None:
        return None
    if w.op == "conv":
        return te.placeholder((out.physical[1], out.layout.block), FLOAT32, "bias")
    return te.placeholder(kind.shape, FLOAT32 if w.constant[2] else kind.dtype, "bias")


def read_bias(bias: Tensor, w: Workload, index: Sequence[Expr]) -> Expr:
    """What is added at a physical index of the output, in float32."""
    if w.op == "conv":
        return bias(index[1], index[-1])
    where = index[len(index) - len(bias.shape) :]
    value = bias(*(0 if int(e) == 1 else i for e, i in zip(bias.shape, where, strict=True)))
    return value if w.constant[2] else widened(value) * tirx.const(gemm_attrs(w.attrs).beta, FLOAT32)
