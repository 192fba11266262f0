"""Grid of `implicit_gemm_wgmma`: products by warpgroups, on devices that have `wgmma` (sm_90).

    grid over (m tiles, n tiles, products): a block of m / 64 warpgroups
      sums = 0                                             64 x n of each warpgroup, in registers
      for each iteration, copies running stages - 1 ahead:
        patches[chunks][m][16 bytes] = x                   asynchronous copies; zeros beyond the border
        weights[chunks][n][16 bytes] = w
        sums += patches * weights                          wgmma, operands from shared memory
      y = epilogue(sums)                                   4 bytes a thread, 128 in a row by a warp

The tensor cores read shared memory by themselves: per 64 x n x 16 of float16, 2048 + 32 n bytes for 2048 n
FLOP, at n = 128 and 4096 FLOP a cycle and multiprocessor 94 bytes a cycle of 128, at n = 256 78. No fragments
of operands are in registers, n / 2 sums a thread are. A block waits for its products before it copies again:
two or more blocks on a multiprocessor take turns, which is why tiles with 110 registers a thread are
preferred to the largest.

What Hopper has beyond that is not used: patches are gathered with predicates, which its bulk copies cannot do
but by im2col descriptors for another layout, and TVM 0.27 schedules no barriers of the mbarrier kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from convc.dtype import FLOAT32
from convc.schedules.base import Config, NotApplicable
from convc.schedules.cuda.fragments import SHARED
from convc.schedules.cuda.pieces import by_row, copy_to_shared, gathered, run_ahead, split_sums
from convc.schedules.cuda.warpgroup import Warpgroup, warpgroup
from convc.target import Target
from convc.tiling.device_gemm import GROUP_ROWS, GroupTile, best_tile, tile_seconds, tiles
from convc.tiling.device_products import problem
from convc.workload import OUTPUT, PATCHES, PRODUCT, Workload

Loop = Any
Block = Any


@dataclass(frozen=True)
class GroupConfig(Config):
    """See `tiling.device_gemm.GroupTile`."""

    m: int
    n: int
    chunks: int
    stages: int
    split: int

    @property
    def tile(self) -> GroupTile:
        """The same as a tile."""
        return GroupTile(**asdict(self))


def default(w: Workload, target: Target) -> GroupConfig:
    """The tile with the lowest predicted time."""
    return GroupConfig(**asdict(best_tile(problem(w, target), target.device, GroupTile)))


def space(w: Workload, target: Target) -> Iterator[GroupConfig]:
    """All tiles that fit."""
    for tile in tiles(problem(w, target), target.device, GroupTile):
        yield GroupConfig(**asdict(tile))


def price(w: Workload, target: Target, config: GroupConfig) -> float:
    """Predicted seconds of the tile; see `tiling.device_gemm`."""
    return tile_seconds(problem(w, target), config.tile, target.device)


def apply(sch: Any, w: Workload, target: Target, config: GroupConfig, *, tensorize: bool = True) -> None:
    """Tile, stage in shared memory, multiply by warpgroups. Without `tensorize`, loops stand for
    intrinsics."""
    p, tile = problem(w, target), config.tile
    if not tile.fits(p, target.device):
        raise NotApplicable(f"{config} does not fit {p} on {target.name}.")
    product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
    if tile.split > 1:
        product, store = split_sums(sch, product, output, tile.split, w, target, "warp")
        groups = _tile_output(sch, tile, *store, even=True)
    else:
        out = w.outputs[0]
        even = out.layout.block > 1 or out.shape[-1] % 8 == 0
        groups = _tile_output(sch, tile, *by_row(sch, output, w, target), even=even)
    dtype = w.inputs[0].dtype if w.inputs[0] else FLOAT32
    _multiply(sch, tile, product, groups, warpgroup(dtype, tile.n, tile.chunks), tensorize)


def _tile_output(sch: Any, tile: GroupTile, g: Loop, m: Loop, n: Loop, *, even: bool) -> Loop:
    """Bind loops over results as warpgroups hold the sums; returns the loop over warpgroups.

    `even` says that two neighbours in a row can be stored at once.
    """
    m_block, m_group, m_warp, m_half, m_row = sch.split(m, [None, tile.m // GROUP_ROWS, 4, 2, 8])
    n_block, n_eight, n_quad, n_pair = sch.split(n, [None, tile.n // 8, 4, 2])
    sch.reorder(m_block, n_block, g, m_group, n_eight, m_half, m_warp, m_row, n_quad, n_pair)
    for loop, axis in ((m_block, "x"), (n_block, "y"), (g, "z")):
        sch.bind(loop, f"blockIdx.{axis}")
    sch.bind(m_group, "threadIdx.y")
    sch.bind(sch.fuse(m_warp, m_row, n_quad), "threadIdx.x")
    for loop in (n_eight, m_half):
        sch.unroll(loop)
    if even:
        sch.vectorize(n_pair)
    return m_group


def _multiply(
    sch: Any, tile: GroupTile, product: Block, groups: Loop, group: Warpgroup, tensorize: bool
) -> None:
    """Make the sums of each warpgroup, with operands from shared memory."""
    sch.compute_at(product, groups, preserve_unit_loops=True)
    rows, columns, chunks, inner = sch.get_loops(product)[-4:]
    iteration, chunk = sch.split(chunks, [None, tile.chunks])
    sch.reorder(iteration, rows, columns, chunk, inner)
    sch.set_scope(product, 0, "warp")
    patches = gathered(sch, product, PATCHES, iteration)
    weights = sch.cache_read(product, 1, SHARED)
    sch.compute_at(weights, iteration, preserve_unit_loops=True)
    for block in (patches, weights):
        copy_to_shared(sch, block, tile.threads, rows=tile.m // GROUP_ROWS)
    zero = sch.decompose_reduction(product, iteration)
    side, n = GROUP_ROWS, tile.n
    sch.transform_layout(
        product,
        ("write", 0),
        lambda *i: (*i[:-2], i[-2] // side, i[-1] // n, *group.c(i[-2] % side, i[-1] % n)),
    )
    if tensorize:
        sch.tensorize(rows, group.multiply)
        sch.tensorize(sch.get_loops(zero)[-2], group.zero)
    run_ahead(sch, iteration, tile.stages)
