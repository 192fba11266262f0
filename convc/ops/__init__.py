"""Operators. Importing this package fills the registry of `convc.ir.opdef`."""

from convc.ops import (
    binary,
    conv,
    conv_pool,
    linear,
    norm,
    parts,
    pool,
    reduce,
    resize,
    separable,
    shape,
    unary,
)

__all__ = [
    "binary",
    "conv",
    "conv_pool",
    "linear",
    "norm",
    "parts",
    "pool",
    "reduce",
    "resize",
    "separable",
    "shape",
    "unary",
]
