"""How FFT convolution cuts a layer into tiles: sizes, counts, groups and the order of frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convc.types import Array
from convc.workload import ConvShape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """The plan of one layer over (height, width); a 1-D layer has height 1.

    `tile` input pixels along each axis are transformed together and give `out` output pixels
    (overlap-save: out = tile - span + 1). `count` tiles along each axis cover the output of each of `images`.
    Tiles are worked on in groups of `group`. `products` is 3 (Gauss) or 4 real products for a complex one.
    """

    tile: Pair
    out: Pair
    count: Pair
    images: int
    group: int
    products: int

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        return self.images * math.prod(self.count)

    @property
    def groups(self) -> int:
        """Groups of tiles; the last may be ragged."""
        return -(-self.tiles // self.group)

    @property
    def parts(self) -> int:
        """Real numbers stored for one complex number in the transformed domain."""
        return 3 if self.products == 3 else 2

    @property
    def columns(self) -> int:
        """Frequencies along the width that a real input makes independent."""
        return self.tile[1] // 2 + 1

    @property
    def real_columns(self) -> int:
        """How many of these columns are real before the transform along the height: the first and the last."""
        return min(self.columns, 2)

    @property
    def real_height(self) -> int:
        """Frequencies of a real column."""
        return self.tile[0] // 2 + 1

    @property
    def frequencies(self) -> int:
        """Complex frequencies that determine a tile: half as many as pixels, and two (one in 1-D) to spare."""
        return self.real_columns * self.real_height + (self.columns - self.real_columns) * self.tile[0]

    def select(self, spectrum: Array) -> Array:
        """The independent frequencies (F, ...) of a half spectrum (tile[0], columns, ...).

        First the real columns, 0 and tile[1] / 2, up to half the height; then the columns between.
        """
        real = [spectrum[: self.real_height, j] for j in range(0, self.columns, max(self.columns - 1, 1))]
        between = [spectrum[:, j] for j in range(1, self.columns - 1)]
        return np.concatenate(real + between)


def spans(s: ConvShape) -> tuple[int, ...]:
    """Input pixels that one output pixel sees along each axis: a dilated kernel is a larger, sparse one."""
    return tuple(d * (k - 1) + 1 for k, d in zip(s.kernel, s.dilations, strict=True))


def as_pair(values: tuple[int, ...]) -> Pair:
    """Height and width, where a 1-D layer has height 1."""
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])
