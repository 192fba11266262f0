"""Products of few rows with a constant matrix on a GPU: how threads share them, and what that costs.

Such a layer reads its weights once, and that is its time: every thread loads 16 bytes of them at a time, the
thread beside it the next 16. `threads` of them share the sum of an output, so that a warp reads 512 bytes in
a row, and of `rows` outputs, so that what they load of x serves several. They add their sums with shuffles.

Memory answers after some 800 ns: 4.8 TB/s keep 3.8 MB on the way, 29 KB for each of 132 multiprocessors. Each
thread therefore loads `ahead` times before it multiplies; 12 warps with 5 loads are enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from convc.ops.linear import gemm_attrs
from convc.target import Gpu, Target
from convc.tiling.device_depthwise import clock
from convc.tiling.registers import divisors
from convc.workload import Workload

CHUNK = 16
"""Bytes that a thread loads at once."""
WARP = 32
MOST_ROWS = 16
"""Rows of x beyond which a product is not bound by its weights."""
_BLOCK = 128
"""Threads of a block, unless more share a sum."""
_MOST_THREADS = 512
_LOADS = 8
"""Loads of weights that a thread has on the way at most: 32 registers."""
_SUMS = 32
_LATENCY = 8e-7
"""Seconds until a load from memory is answered, under load."""
_L1_BYTES_A_CYCLE = 64


@dataclass(frozen=True)
class GemvProblem:
    """`m` rows of `k` elements, `lanes` to a chunk, by a matrix of `n` columns."""

    m: int
    n: int
    k: int
    lanes: int

    @property
    def chunks(self) -> int:
        """Chunks of a row, the last one filled up."""
        return -(-self.k // self.lanes)

    @property
    def padded_chunks(self) -> int:
        """Chunks of a stored row of weights: a multiple of a power of two, for an eighth of zeros at most."""
        units = (u for u in (32, 16, 8, 4) if (-self.chunks % u) * 8 <= self.chunks)
        unit = next(units, 2)
        return -(-self.chunks // unit) * unit

    @property
    def aligned(self) -> bool:
        """Whether every row of x starts where a chunk may."""
        return self.k % self.lanes == 0

    @classmethod
    def of(cls, w: Workload, target: Target) -> GemvProblem:
        """The product that `gemm` or `matmul` with a matrix is."""
        a, b = w.inputs[0], w.inputs[1]
        assert a is not None
        assert b is not None
        transposed = gemm_attrs(w.attrs).trans_b
        k, n = reversed(b.shape) if transposed else b.shape
        return cls(a.size // k, n, k, target.lanes)


@dataclass(frozen=True)
class GemvTile:
    """`threads` share the sums of `rows` outputs of every row of x, and load `ahead` chunks at once."""

    rows: int
    threads: int
    ahead: int

    @property
    def outputs(self) -> int:
        """Groups of threads in a block."""
        return max(1, _BLOCK // self.threads)

    @property
    def lanes(self) -> int:
        """Threads of a warp that share a sum."""
        return min(self.threads, WARP)

    @property
    def warps(self) -> int:
        """Warps that share a sum."""
        return self.threads // self.lanes

    def steps(self, p: GemvProblem) -> int:
        """Chunks that a thread multiplies for each output."""
        return p.padded_chunks // self.threads

    def fits(self, p: GemvProblem) -> bool:
        """Whether threads and loads divide the sum, and all sums stay in registers."""
        whole = p.padded_chunks % self.threads == 0 and self.steps(p) % self.ahead == 0
        return whole and self.rows * p.m <= _SUMS and self.rows * self.ahead <= _LOADS


def tiles(p: GemvProblem) -> Iterator[GemvTile]:
    """All that fit, a warp to each sum where it is long enough."""
    for threads in _threads(p):
        for rows in (1, 2, 4):
            fitting = [t for a in range(1, _LOADS + 1) if (t := GemvTile(rows, threads, a)).fits(p)]
            yield from fitting[-1:]


def _threads(p: GemvProblem) -> list[int]:
    """How many threads may share a sum: part of a warp, or whole ones."""
    warps = [WARP * d for d in divisors(p.padded_chunks // WARP) if WARP * d <= _MOST_THREADS]
    if p.padded_chunks % WARP == 0 and warps:
        return warps
    return [next(t for t in (16, 8, 4, 2) if p.padded_chunks % t == 0)]


@cache
def best_tile(p: GemvProblem, gpu: Gpu) -> GemvTile:
    """The tile with the lowest predicted time, a thread's own included: nothing hides that of the last."""

    def seconds(tile: GemvTile) -> float:
        own = tile.steps(p) * instructions(p, tile) + _reduction(p, tile)
        return tile_seconds(p, tile, gpu) + own / clock(gpu)

    return min(tiles(p), key=seconds)


def instructions(p: GemvProblem, tile: GemvTile) -> int:
    """Of a thread, for one chunk of each of its outputs and rows."""
    convert = 0 if p.lanes == 4 else p.lanes
    products = tile.rows * p.m * p.lanes
    return products + (tile.rows + p.m) * (convert + 2) + 4


def _reduction(p: GemvProblem, tile: GemvTile) -> int:
    """Instructions of a thread to add its sums to those of others, and to finish."""
    return 15 * tile.rows * p.m + 4 * tile.warps + 100


def tile_seconds(p: GemvProblem, tile: GemvTile, gpu: Gpu) -> float:
    """Predicted seconds of arithmetic and loads; the traffic of memory is left to the caller.

    The wait for the first load is the same for all kernels, and not counted.
    """
    groups = -(-p.n // tile.rows)
    warps = -(-groups * tile.threads // WARP)
    each = -(-warps // gpu.sms)
    rate = gpu.float32_flops / gpu.sms / clock(gpu) / 2 / WARP
    work = tile.steps(p) * instructions(p, tile) + _reduction(p, tile)
    loads = each * tile.steps(p) * WARP * CHUNK * (tile.rows + p.m)
    busy = max(each * work / rate, loads / _L1_BYTES_A_CYCLE) / clock(gpu)
    resident = min(each, gpu.threads // WARP // 2)
    journeys = -(-each // resident) * (tile.steps(p) // tile.ahead)
    return max(busy, (journeys - 1) * _LATENCY)
