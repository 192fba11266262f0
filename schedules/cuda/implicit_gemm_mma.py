"""Grid of `implicit_gemm_mma`: products on the tensor cores.

    grid over (m tiles, n tiles, products): a block of warps_m x warps_n warps
      sums = 0                                             fragments in registers
      for each iteration, copies running stages - 1 ahead:
        patches[chunks][m][16 bytes] = x                   asynchronous copies; zeros beyond the border
        weights[chunks][n][16 bytes] = w
        for each two chunks:
          fragments of m / warps_m rows and n / warps_n columns      ldmatrix
          sums += patches * weights                                  mma.sync
      y = epilogue(sums)                                   4 bytes a thread, 128 in a row by a warp

Shared memory: stages (m + n) chunks 16 bytes; 4 stages of 128 x 128 by 4 chunks take 64 KB. Registers: with
warps of 64 x 64, 128 for sums and 32 for operands. A warp of 64 x 64 reads 4 KB for 131072 FLOP, 79 bytes a
cycle on a multiprocessor that does 2500 FLOP a cycle: 62 % of what shared memory gives. Warps of 32 x 32
would ask for 125 %.

With sums split along k, one kernel stores `split` partial products, and a second one adds them and finishes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from convc.dtype import FLOAT32
from convc.schedules.base import Config, NotApplicable
from convc.schedules.cuda.fragments import SHARED, SIDE, Fragments, fragments
from convc.schedules.cuda.pieces import by_row, copy_to_shared, gathered, run_ahead, split_sums
from convc.target import Target
from convc.tiling.device_gemm import WarpTile, best_tile, tile_seconds, tiles
from convc.tiling.device_products import problem
from convc.workload import OUTPUT, PATCHES, PRODUCT, Workload

Loop = Any
Block = Any


@dataclass(frozen=True)
class MmaConfig(Config):
    """See `tiling.device_gemm.WarpTile`."""

    m: int
    n: int
    chunks: int
    stages: int
    split: int
    warps_m: int
    warps_n: int

    @property
    def tile(self) -> WarpTile:
        """The same as a tile."""
        return WarpTile(**asdict(self))


def default(w: Workload, target: Target) -> MmaConfig:
    """The tile with the lowest predicted time."""
    return MmaConfig(**asdict(best_tile(problem(w, target), target.device, WarpTile)))


def space(w: Workload, target: Target) -> Iterator[MmaConfig]:
    """All tiles that fit."""
    for tile in tiles(problem(w, target), target.device, WarpTile):
        yield MmaConfig(**asdict(tile))


def price(w: Workload, target: Target, config: MmaConfig) -> float:
    """Predicted seconds of the tile; see `tiling.device_gemm`."""
    return tile_seconds(problem(w, target), config.tile, target.device)


def apply(sch: Any, w: Workload, target: Target, config: MmaConfig, *, tensorize: bool = True) -> None:
    """Tile, stage in shared memory, multiply with fragments. Without `tensorize`, loops stand for
    intrinsics."""
    p, tile = problem(w, target), config.tile
    if not tile.fits(p, target.device):
        raise NotApplicable(f"{config} does not fit {p} on {target.name}.")
    kernel = _Kernel(sch, w, target, tile, fragments(w.inputs[0].dtype if w.inputs[0] else FLOAT32))
    kernel.schedule(tensorize)


@dataclass
class _Kernel:
    sch: Any
    w: Workload
    target: Target
    tile: WarpTile
    fragments: Fragments

    def schedule(self, tensorize: bool) -> None:
        sch = self.sch
        product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
        if self.tile.split > 1:
            product, store = split_sums(sch, product, output, self.tile.split, self.w, self.target, "warp")
            warps = self._tile_output(*store, even=True)
        else:
            out = self.w.outputs[0]
            even = out.layout.block > 1 or out.shape[-1] % SIDE == 0
            warps = self._tile_output(*by_row(sch, output, self.w, self.target), even=even)
        self._multiply(product, warps, tensorize)

    def _multiply(self, product: Block, warps: Loop, tensorize: bool) -> None:
        """Make the sums of each warp, with operands from shared memory."""
        sch, tile = self.sch, self.tile
        sch.compute_at(product, warps, preserve_unit_loops=True)
        g, rows, columns, chunks, inner = sch.get_loops(product)[-5:]
        row_tiles, row = sch.split(rows, [None, SIDE])
        column_tiles, column = sch.split(columns, [None, SIDE])
        iteration, pair, chunk = sch.split(chunks, [None, tile.chunks // 2, 2])
        sch.reorder(g, iteration, pair, row_tiles, column_tiles, row, column, chunk, inner)
        sch.set_scope(product, 0, "warp")
        patches = gathered(sch, product, PATCHES, iteration)
        weights = sch.cache_read(product, 1, SHARED)
        sch.compute_at(weights, iteration, preserve_unit_loops=True)
        for block in (patches, weights):
            copy_to_shared(sch, block, tile.threads, rows=tile.warps_m * tile.warps_n)
        left, right = sch.cache_read(product, 0, "warp"), sch.cache_read(product, 1, "warp")
        sch.compute_at(left, pair, preserve_unit_loops=True)
        sch.compute_at(right, pair, preserve_unit_loops=True)
        zero = sch.decompose_reduction(product, iteration)
        self._lay_out(left, right, product)
        if tensorize:
            self._tensorize(left, right, zero, row)
        for loop in (pair, row_tiles, column_tiles):
            sch.unroll(loop)
        run_ahead(sch, iteration, tile.stages)

    def _tile_output(self, g: Loop, m: Loop, n: Loop, *, even: bool) -> Loop:
        """Bind loops over results as fragments hold the sums; returns the loop over warps.

        `even` says that two neighbours in a row can be stored at once.
        """
        sch, tile = self.sch, self.tile
        m_block, m_warp, m_side, m_half, m_row = sch.split(
            m, [None, tile.warps_m, tile.m // tile.warps_m // SIDE, 2, 8]
        )
        n_block, n_warp, n_side, n_half, n_quad, n_pair = sch.split(
            n, [None, tile.warps_n, tile.n // tile.warps_n // SIDE, 2, 4, 2]
        )
        sch.reorder(
            m_block, n_block, g, m_warp, n_warp, m_side, n_side, m_half, n_half, m_row, n_quad, n_pair
        )
        for loop, axis in ((m_block, "x"), (n_block, "y"), (g, "z")):
            sch.bind(loop, f"blockIdx.{axis}")
        warps = sch.fuse(m_warp, n_warp)
        sch.bind(warps, "threadIdx.y")
        sch.bind(sch.fuse(m_row, n_quad), "threadIdx.x")
        for loop in (m_side, n_side, m_half, n_half):
            sch.unroll(loop)
        if even:
            sch.vectorize(n_pair)
        return warps

    def _lay_out(self, left: Block, right: Block, product: Block) -> None:
        """Store fragments as threads hold them."""
        sch, f = self.sch, self.fragments
        sch.transform_layout(
            left, ("write", 0), lambda g, c, m, k: (g, c // 2, m // SIDE, *f.a(m % SIDE, c % 2, k))
        )
        sch.transform_layout(
            right, ("write", 0), lambda g, c, n, k: (g, c // 2, n // SIDE, *f.b(n % SIDE, c % 2, k))
        )
        sch.transform_layout(
            product,
            ("write", 0),
            lambda *i: (*i[:-2], i[-2] // SIDE, i[-1] // SIDE, *f.c(i[-2] % SIDE, i[-1] % SIDE)),
        )

    def _tensorize(self, left: Block, right: Block, zero: Block, row: Loop) -> None:
        sch, f = self.sch, self.fragments
        for block, name in ((left, f.load_a), (right, f.load_b)):
            chunk, side, inner = sch.get_loops(block)[-3:]
            sides, side = sch.split(side, [None, SIDE])
            sch.reorder(sides, side, chunk, inner)
            sch.tensorize(side, name)
            sch.unroll(sides)
        sch.tensorize(row, f.multiply)
        sch.tensorize(sch.get_loops(zero)[-2], f.zero)
