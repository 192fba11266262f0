"""Values that every room may import: tensor types and the layouts in which tensors are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from convc.dtype import FLOAT32, DType

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor is stored: row-major, or with its channels (axis 1) in blocks of `block`.

    `block == 1` is plain row-major. With `block == b`, a tensor of logical shape (N, C, *spatial) is stored
    as (N, ceil(C / b), *spatial, b), known as NCHWc; `b` is the number of vector lanes. The lanes beyond C
    in the last block hold finite values that no consumer may depend on: producers write 0 where that is
    free, and packed weights are 0 there.
    """

    block: int = 1

    def physical(self, shape: Shape) -> Shape:
        """The stored shape of a tensor of logical shape `shape`."""
        if self.block == 1:
            return shape
        n, c, *spatial = shape
        return (n, -(-c // self.block), *spatial, self.block)

    def pack(self, array: Array) -> Array:
        """Store a row-major array in this layout, with zeros beyond its channels."""
        if self.block == 1:
            return np.ascontiguousarray(array)
        blocks = -(-array.shape[1] // self.block)
        padding = [(0, 0)] * array.ndim
        padding[1] = (0, blocks * self.block - array.shape[1])
        split = np.pad(array, padding).reshape(array.shape[0], blocks, self.block, *array.shape[2:])
        return np.ascontiguousarray(np.moveaxis(split, 2, -1))

    def unpack(self, stored: Array, shape: Shape) -> Array:
        """The row-major array of logical shape `shape` that `pack` stored."""
        if self.block == 1:
            return stored.reshape(shape)
        merged = np.moveaxis(stored, -1, 2).reshape(shape[0], -1, *shape[2:])
        return np.ascontiguousarray(merged[:, : shape[1]])

    def __str__(self) -> str:
        return "plain" if self.block == 1 else f"c{self.block}"


PLAIN = Layout()


@dataclass(frozen=True, slots=True)
class TensorType:
    """Logical shape, number format and storage layout of a tensor. Printed as `float32[1,64,56,56]{c16}`.

    The name of a format will do for it.
    """

    shape: Shape
    dtype: DType = FLOAT32
    layout: Layout = PLAIN

    def __post_init__(self) -> None:
        if type(self.dtype) is not DType:  # a name
            object.__setattr__(self, "dtype", DType.stored(self.dtype))

    @property
    def rank(self) -> int:
        """Number of logical dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of logical elements."""
        return math.prod(self.shape)

    @property
    def physical(self) -> Shape:
        """The shape in which the tensor is stored."""
        return self.layout.physical(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the stored tensor takes."""
        return math.prod(self.physical) * self.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.nbytes

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self.dtype.is_float

    def with_layout(self, layout: Layout) -> TensorType:
        """The same tensor, stored differently."""
        return replace(self, layout=layout)

    def __str__(self) -> str:
        suffix = "" if self.layout == PLAIN else f"{{{self.layout}}}"
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{suffix}"
