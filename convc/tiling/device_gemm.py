"""Matrix products on a GPU: the product that a layer is, how blocks of threads share it, and what that costs.

A convolution is the product of its patches (M outputs x K) and its weights (K x N channels), in `groups`
independent products. K is counted in chunks of 16 bytes, 8 or 4 channels of one tap, which is what a thread
copies at once. A block of threads makes a tile of M x N; it copies the chunks of both operands that the tile
needs to shared memory, some iterations ahead of their use, and each warp multiplies its part of the tile.

What bounds a tile, for each iteration of a block and multiprocessor:

    arithmetic   2 M N K over the rate of the cores
    shared reads (m + n) K for each warp's m x n, over 128 bytes a cycle
    copies       (M + N) K over the multiprocessor's share of L2
    latency      a copy's, spread over the iterations that it is ahead

Few tiles leave multiprocessors idle: then sums are split along K among several blocks, and added afterwards.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from convc.dtype import FLOAT32
from convc.ops.linear import gemm_attrs
from convc.target import Gpu, Target
from convc.workload import ConvShape, Workload

CHUNK = 16
"""Bytes that a thread copies at once."""
SIDE = 16
"""Rows and columns that a warp multiplies at least."""
WARP = 32
GROUP = 128
"""Threads of a warpgroup."""
GROUP_ROWS = 64
"""Rows that a warpgroup multiplies at once."""
SHARED_BYTES_A_CYCLE = 128
"""What a multiprocessor reads from shared memory (all generations since sm_70)."""
_CLOCK = 1.7e9
_LATENCY = 6e-7
"""Seconds until a copy from L2 or memory has arrived, under load."""
_ITERATION = 1.5e-7
"""Seconds of an iteration that a block spends beside its work: barriers, addresses, the products' end. Other
blocks of the multiprocessor work meanwhile."""
_RAMP = 1.5e-6
"""Seconds before a block's first product and after its last."""
_ADDRESSING = 48
"""Registers of a thread beside sums and operands."""


@dataclass(frozen=True)
class GemmProblem:
    """`groups` products of (m, k) and (k, n) matrices; k counts `chunks` of elements of `itemsize` bytes."""

    groups: int
    m: int
    n: int
    chunks: int
    itemsize: int

    @property
    def columns(self) -> int:
        """n, filled up to whole tiles: of 16, or of 64 once there are more than 64."""
        unit = SIDE if self.n <= 64 else 64
        return -(-self.n // unit) * unit

    @property
    def padded_chunks(self) -> int:
        """Chunks, filled up with zeros to whole iterations."""
        unit = 4 if self.chunks <= 24 else 8
        return -(-self.chunks // unit) * unit

    @property
    def rows(self) -> int:
        """m, filled up to whole tiles of any height: a power of two up to 256, then a multiple of it."""
        unit = min(256, max(SIDE, 1 << (self.m - 1).bit_length()))
        return -(-self.m // unit) * unit


@dataclass(frozen=True)
class Grouping:
    """How the channels of a convolution's groups are joined to whole chunks and tiles.

    `groups` products of `channels_in` and `channels_out` channels. Between groups that are joined, weights
    are zero.
    """

    groups: int
    channels_in: int
    channels_out: int


def grouping(s: ConvShape, lanes: int) -> Grouping:
    """Join as few groups as make whole chunks of input and 16 outputs."""
    size_in, size_out = s.ic // s.groups, s.oc // s.groups
    for joined in range(1, s.groups):
        if s.groups % joined == 0 and joined * size_in % lanes == 0 and joined * size_out % SIDE == 0:
            return Grouping(s.groups // joined, joined * size_in, joined * size_out)
    return Grouping(1, s.ic, s.oc)


def conv_problem(s: ConvShape, target: Target) -> GemmProblem:
    """The product that a convolution is."""
    lanes = target.lanes
    g = grouping(s, lanes)
    chunks = math.prod(s.kernel) * -(-g.channels_in // lanes)
    m = s.n * math.prod(s.output)
    n = g.channels_out if g.groups > 1 else -(-g.channels_out // lanes) * lanes
    return GemmProblem(g.groups, m, n, chunks, CHUNK // lanes)


def linear_problem(w: Workload, target: Target) -> GemmProblem:
    """The product of a fully connected layer: rows of `a` by a constant matrix."""
    a, b = w.inputs[0], w.inputs[1]
    assert a is not None
    assert b is not None
    transposed = gemm_attrs(w.attrs).trans_b
    k, n = reversed(b.shape) if transposed else b.shape
    return GemmProblem(1, a.size // k, n, -(-k // target.lanes), CHUNK // target.lanes)


@dataclass(frozen=True)
class BlockTile(ABC):
    """A block of threads makes `m` x `n` results, `chunks` of k in an iteration.

    Copies run `stages - 1` iterations ahead. `split` blocks share the sums of a tile.
    """

    m: int
    n: int
    chunks: int
    stages: int
    split: int

    @property
    @abstractmethod
    def threads(self) -> int:
        """Threads of a block."""

    @property
    @abstractmethod
    def thread_registers(self) -> int:
        """Registers of a thread, estimated: sums, operands, addresses."""

    @property
    @abstractmethod
    def shared_reads(self) -> int:
        """Bytes that an iteration reads from shared memory, as far as they take time."""

    @classmethod
    @abstractmethod
    def all(cls) -> Iterator[Any]:
        """The tiles of this kind, with some depth of copies."""

    @staticmethod
    @abstractmethod
    def flops(gpu: Gpu) -> float:
        """FLOP/s of the cores that make such tiles, all together."""

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.stages * (self.m + self.n) * self.chunks * CHUNK

    def iterations(self, p: GemmProblem) -> int:
        """Iterations of a block."""
        return p.padded_chunks // self.chunks // self.split

    def blocks(self, p: GemmProblem) -> int:
        """Blocks of the grid."""
        rows = p.rows if self.split > 1 else p.m  # partial sums are stored for padded rows too
        return p.groups * -(-rows // self.m) * (p.columns // self.n) * self.split

    def occupancy(self, gpu: Gpu) -> int:
        """Blocks that a multiprocessor holds at once."""
        return min(
            gpu.shared_memory // (self.shared_bytes + 1024),
            gpu.registers // (self.thread_registers * self.threads),
            gpu.threads // self.threads,
        )

    def fits(self, p: GemmProblem, gpu: Gpu) -> bool:
        """Whether the tile divides the padded product, and its block a multiprocessor."""
        steps = p.padded_chunks // self.chunks
        return (
            p.columns % self.n == 0
            and p.rows % self.m == 0
            and p.padded_chunks % self.chunks == 0
            and steps % self.split == 0
            and (self.stages > 1) == (steps // self.split > 1)
            and self.stages <= steps // self.split
            and self.shared_bytes <= gpu.block_shared_memory
            and self.thread_registers <= 255
            and self.occupancy(gpu) > 0
        )


@dataclass(frozen=True)
class WarpTile(BlockTile):
    """A tile that `warps_m` x `warps_n` warps make on tensor cores."""

    warps_m: int
    warps_n: int

    @property
    def threads(self) -> int:
        return WARP * self.warps_m * self.warps_n

    @property
    def thread_registers(self) -> int:
        m, n = self.m // self.warps_m, self.n // self.warps_n
        return m * n // WARP + 2 * (m + n) * 2 * CHUNK // FLOAT32.nbytes // WARP + _ADDRESSING

    @property
    def shared_reads(self) -> int:
        """Each warp reads its rows and its columns."""
        return (self.m * self.warps_n + self.n * self.warps_m) * self.chunks * CHUNK

    @staticmethod
    def flops(gpu: Gpu) -> float:
        return gpu.tf32_flops if gpu.precision == "tf32" else gpu.half_flops

    @classmethod
    def all(cls) -> Iterator[WarpTile]:
        """One for each way to share a tile among warps."""
        for m, n, warps_m, warps_n in _WARP_TILES:
            yield cls(m, n, 4, 2, 1, warps_m, warps_n)


@dataclass(frozen=True)
class GroupTile(BlockTile):
    """A tile of which each warpgroup makes 64 rows, by `wgmma` with both operands in shared memory."""

    @property
    def threads(self) -> int:
        return GROUP * (self.m // GROUP_ROWS)

    @property
    def thread_registers(self) -> int:
        return GROUP_ROWS * self.n // GROUP + _ADDRESSING

    @property
    def shared_reads(self) -> int:
        """Each warpgroup reads its rows and all columns."""
        return (self.m + self.n * (self.m // GROUP_ROWS)) * self.chunks * CHUNK

    @staticmethod
    def flops(gpu: Gpu) -> float:
        return gpu.warpgroup_gain * WarpTile.flops(gpu)

    @classmethod
    def all(cls) -> Iterator[GroupTile]:
        """One for each size."""
        for m, n in itertools.product((64, 128, 256), (256, 192, 128, 96, 64, 32, 16)):
            yield cls(m, n, 4, 2, 1)


@dataclass(frozen=True)
class ThreadTile(BlockTile):
    """A tile of which each thread makes `rows` x `columns` results on CUDA cores."""

    rows: int
    columns: int

    @property
    def threads(self) -> int:
        return self.m // self.rows * (self.n // self.columns)

    @property
    def thread_registers(self) -> int:
        return self.rows * self.columns + 4 * self.rows + 2 * self.columns + _ADDRESSING

    @property
    def shared_reads(self) -> int:
        """A warp's read of 16 bytes a thread, many of them the same, takes two cycles."""
        return self.threads // WARP * (self.rows + self.columns) * self.chunks * 2 * SHARED_BYTES_A_CYCLE

    @staticmethod
    def flops(gpu: Gpu) -> float:
        return gpu.float32_flops

    @classmethod
    def all(cls) -> Iterator[ThreadTile]:
        """One for each way to share a tile among threads."""
        for m, n, rows, columns in _THREAD_TILES:
            yield cls(m, n, 4, 2, 1, rows, columns)


_WARP_TILES = (
    (256, 128, 4, 2), (128, 256, 2, 4), (128, 128, 2, 2), (128, 128, 2, 4), (128, 64, 2, 2), (64, 128, 2, 2),
    (256, 64, 4, 1), (64, 64, 2, 2), (128, 32, 4, 1), (64, 32, 2, 1), (32, 64, 1, 2), (128, 16, 4, 1),
    (64, 16, 2, 1), (32, 32, 1, 1), (16, 64, 1, 2), (256, 32, 4, 1), (256, 16, 4, 1), (64, 16, 4, 1),
    (64, 32, 4, 1), (32, 32, 2, 1), (32, 128, 1, 4), (16, 128, 1, 4), (16, 32, 1, 2), (16, 16, 1, 1),
)  # fmt: skip
"""m, n, and the warps along each."""

_THREAD_TILES = (
    (128, 128, 8, 8), (128, 64, 8, 8), (64, 128, 8, 8), (64, 64, 8, 8), (128, 64, 8, 4), (64, 128, 4, 8),
    (64, 64, 4, 4), (64, 32, 4, 4), (32, 64, 4, 4), (32, 32, 4, 4), (128, 32, 8, 4), (128, 16, 4, 4),
    (64, 16, 2, 4), (32, 16, 2, 4), (16, 64, 2, 4), (16, 32, 2, 4), (16, 16, 1, 4), (256, 16, 8, 4),
)  # fmt: skip
"""m, n, and the rows and columns of a thread."""

Shapes = type[BlockTile]


def tiles(p: GemmProblem, gpu: Gpu, kind: Shapes) -> Iterator[Any]:
    """All tiles that fit, with every depth of copies, and sums split as often as leaves each block work."""
    for shape in kind.all():
        if p.columns % shape.n or p.rows % shape.m:
            continue
        for chunks in (4, 8):
            steps = p.padded_chunks // chunks
            for split in (s for s in range(1, 17) if steps % s == 0 and (s == 1 or steps // s >= 2)):
                for stages in (1, 2, 3, 4, 5):
                    tile = replace(shape, chunks=chunks, stages=stages, split=split)
                    if tile.fits(p, gpu):
                        yield tile


def best_tile(p: GemmProblem, gpu: Gpu, kind: Shapes) -> Any:
    """The tile with the lowest predicted time."""
    if (p, gpu, kind) not in _BEST:
        # Copies further ahead cost nothing where they leave room for as many blocks.
        _BEST[p, gpu, kind] = min(
            tiles(p, gpu, kind), key=lambda tile: (tile_seconds(p, tile, gpu), -tile.stages, tile.split)
        )
    return _BEST[p, gpu, kind]


_BEST: dict[tuple[GemmProblem, Gpu, Shapes], Any] = {}


def tile_seconds(p: GemmProblem, tile: BlockTile, gpu: Gpu) -> float:
    """Predicted seconds of a product, launches not counted."""
    blocks, occupancy = tile.blocks(p), tile.occupancy(gpu)
    resident = min(occupancy, -(-blocks // gpu.sms))
    k = tile.chunks * CHUNK // p.itemsize
    arithmetic = 2 * tile.m * tile.n * k / (tile.flops(gpu) / gpu.sms)
    shared = tile.shared_reads / (SHARED_BYTES_A_CYCLE * _CLOCK)
    copies = (tile.m + tile.n) * tile.chunks * CHUNK / (gpu.l2_bandwidth / gpu.sms)
    # One warp for each of the four schedulers is the least that keeps them busy.
    busy = min(1.0, resident * tile.threads / (4 * WARP))
    latency = _LATENCY / max(tile.stages - 1, 0.5)
    work = max(arithmetic / busy, shared, copies)
    each = max(resident * work, work + _ITERATION, latency)
    waves = -(-blocks // (gpu.sms * resident))
    seconds = waves * (tile.iterations(p) * each + _RAMP)
    if tile.split > 1:
        partial = float(FLOAT32.nbytes) * p.groups * p.m * p.columns * tile.split
        seconds += 2 * partial / gpu.l2_bandwidth + _RAMP
    return seconds
