"""What convolutions in a transformed domain (Winograd, FFT) take on a GPU: three launches, and their price.

    transform     V[g, chunk, tile, 4] of the input       reads the input, writes V
    multiply      M[g, tile, column] = sum V U            a matrix product for each g, a frequency or a part
    inverse       y = epilogue(inverse of M)              reads M, writes the output

V and M are scratch memory between launches; where they fit half of L2 they never reach memory. One kernel for
all three would save writing and reading them, but its blocks must hold the sums of all frequencies of a tile:
for F(4, 3) 36 for each tile and channel, so that 32 tiles x 32 channels fill half of a multiprocessor's
registers. It would read all weights again for every 32 tiles, and transform the input again for every 32
channels. At 28x28 with 512 channels that is 75 MB of weights instead of 14 MB of V and M.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from convc.dtype import FLOAT32
from convc.target import Gpu, Target
from convc.tiling.device_gemm import CHUNK, GemmProblem, ThreadTile, tile_seconds, tiles
from convc.tiling.registers import memory_seconds

_ISSUE = 1e9
"""Cycles a second in which a load and store unit has something to do: 60 % of 1.7 GHz, between barriers."""
LINE = 128
"""Bytes of a line of the first cache."""
STORE = "store"
"""The block that stores the products."""
_RAMP = 1.5e-6
"""Seconds from a transform's first load to its last store, where nothing else is in the way."""


def stored_column(column: Any) -> Any:
    """Where M keeps a column of the product: in pieces of four, of which each 16 columns have 0, 2, 1, 3.

    A thread of the product has eight columns and stores four at a time. Next to them are then four of its
    neighbour's, so that together they write 32 bytes, what L2 takes at once, and not 16.
    """
    return column // 16 * 16 + column % 8 // 4 * 8 + column % 16 // 8 * 4 + column % 4


@dataclass(frozen=True)
class Transformed:
    """The product of a convolution in its transformed domain, and the bytes of its input and output."""

    product: GemmProblem
    input_bytes: int
    output_bytes: int
    forward: float
    """Cycles for which the input transform keeps the busiest multiprocessor's load and store unit."""
    inverse: float
    """The same of the inverse transform."""

    @property
    def v_bytes(self) -> int:
        """The transformed input."""
        p = self.product
        return CHUNK * p.groups * p.m * p.padded_chunks

    @property
    def m_bytes(self) -> int:
        """The products, of which the inverse transform makes the output."""
        p = self.product
        return FLOAT32.nbytes * p.groups * p.m * p.columns

    @property
    def u_bytes(self) -> int:
        """The transformed weights."""
        p = self.product
        return CHUNK * p.groups * p.padded_chunks * p.columns

    @property
    def moved(self) -> int:
        """Bytes that the three launches read and write."""
        between = 2 * (self.v_bytes + self.m_bytes)
        return self.input_bytes + self.output_bytes + self.u_bytes + between


def product_tiles(p: GemmProblem, gpu: Gpu) -> Iterator[ThreadTile]:
    """Tiles of the product. Sums are not split: as many products as there are frequencies fill a device."""
    return (tile for tile in tiles(p, gpu, ThreadTile) if tile.split == 1)


@cache
def product_tile(p: GemmProblem, gpu: Gpu) -> ThreadTile:
    """The tile with the lowest predicted time."""
    return min(product_tiles(p, gpu), key=lambda tile: tile_seconds(p, tile, gpu))


def seconds(t: Transformed, target: Target) -> float:
    """Predicted seconds of the three launches.

    Transforms are bound by what they move, or by their loads and stores, of which each takes a cycle for
    every line of 128 bytes that a warp touches. The weights, larger than those of other algorithms, come
    from memory: those of a whole network exceed L2.
    """
    gpu = target.device
    arithmetic = tile_seconds(t.product, product_tile(t.product, gpu), gpu)
    weights = t.u_bytes / gpu.memory_bandwidth
    between = memory_seconds(t.v_bytes + t.m_bytes, target)
    forward = max(memory_seconds(t.input_bytes + t.v_bytes, target), t.forward / _ISSUE)
    inverse = max(memory_seconds(t.m_bytes + t.output_bytes, target), t.inverse / _ISSUE)
    return max(arithmetic, weights, between) + forward + inverse + 2 * _RAMP + 3 * target.launch_seconds
