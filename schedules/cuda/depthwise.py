"""Grid of `depthwise`: a thread makes a column of outputs of four channels.

    grid over (n, channel blocks, depth, rows / column, ow, four of a block's channels): threads
      sums[rows][4] = 0                                          in registers
      for each kw (and kd):                                      written out where taps are few
        x[(rows - 1) stride + KH][4]                             zeros beyond the border
        for each row, kh:
          sums += x[row stride + kh] * w[kh, kw]
      y = epilogue(sums)

Threads beside each other make outputs beside each other, so that a warp reads and writes up to 512 bytes in a
row. A column of 8 holds 32 sums, 12 weights and 40 elements of a column of input, some 100 registers with
addresses. Loads at the border are predicated, for which addresses have to be simple: rows of the map lie
along threadIdx.x, and no place is the quotient of a joint index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convc.schedules.base import Config, NotApplicable
from convc.schedules.blocks import extent
from convc.target import Target
from convc.tiling.device_depthwise import (
    FOUR,
    MOST_ACROSS,
    MOST_ROWS,
    Column,
    best_column,
    columns,
    even_part,
)
from convc.workload import OUTPUT, PAD, PRODUCT, ConvShape, Workload

Loop = Any

_WRITTEN_OUT = 25
"""Taps up to which code has no loop."""


@dataclass(frozen=True)
class DepthwiseConfig(Config):
    """Outputs of a thread below each other, and threads of a block."""

    rows: int
    threads: int = 256


def default(w: Workload, target: Target) -> DepthwiseConfig:
    """The column with the lowest predicted time; small blocks where there are few threads to spread."""
    s = ConvShape.of(w)
    column = best_column(s, target)
    few = column.threads(s, target) < 256 * 2 * target.device.sms
    return DepthwiseConfig(column.rows, 64 if few else 256)


def space(w: Workload, target: Target) -> Iterator[DepthwiseConfig]:
    """All columns that fit, in blocks of two to eight warps."""
    for column in columns(ConvShape.of(w)):
        for threads in (64, 128, 256):
            yield DepthwiseConfig(column.rows, threads)


def apply(sch: Any, w: Workload, target: Target, config: DepthwiseConfig) -> None:
    """Bind outputs to threads, compute sums and the input that they need in registers."""
    s = ConvShape.of(w)
    if not Column(config.rows).fits(s):
        raise NotApplicable(f"{config} does not fit {w}.")
    pad, product, output = (sch.get_sblock(name) for name in (PAD, PRODUCT, OUTPUT))
    *outer, column, lane = sch.get_loops(output)
    quad, lane = sch.split(lane, [None, FOUR])
    batch, block, *depth, row = outer if len(s.output) > 1 else [*outer, sch.add_unit_loop(column)]
    tile, row = sch.split(row, [None, config.rows])
    sch.reorder(batch, *depth, block, tile, column, quad, row, lane)
    sch.unroll(row)
    sch.vectorize(lane)
    sch.compute_at(product, quad, preserve_unit_loops=True)
    sch.set_scope(product, 0, "local")
    first = _sum(sch, s, pad, product)
    # Not sooner, since TVM does not see that sums computed at joint loops over outputs are each its own.
    _bind(sch, [batch, *depth], block, tile, column, quad, config.threads)
    zero = sch.decompose_reduction(product, first)
    for loop in sch.get_loops(zero)[-1 - len(s.kernel) : -1]:
        sch.unroll(loop)


def _bind(
    sch: Any, samples: list[Loop], block: Loop, tile: Loop, column: Loop, quad: Loop, threads: int
) -> None:
    """Spread outputs over the grid, a row of them along threadIdx.x, so that places take no division."""
    across = extent(sch, column) * extent(sch, quad)
    x = -(-extent(sch, column) // -(-across // MOST_ACROSS))
    y = even_part(extent(sch, tile), threads // (x * extent(sch, quad)))
    z = even_part(extent(sch, block), min(threads // (x * y * extent(sch, quad)), 64))
    block, z_loop = sch.split(block, [None, z])
    tile, y_loop = sch.split(tile, [None, y])
    column, x_loop = sch.split(column, [None, x])
    sch.reorder(*samples, block, tile, column, z_loop, y_loop, x_loop, quad)
    sch.bind(sch.fuse(*samples) if len(samples) > 1 else samples[0], "blockIdx.z")
    sch.bind(block, "blockIdx.y")
    sch.bind(sch.fuse(tile, column), "blockIdx.x")
    sch.bind(z_loop, "threadIdx.z")
    sch.bind(y_loop, "threadIdx.y")
    sch.bind(sch.fuse(x_loop, quad), "threadIdx.x")


def _sum(sch: Any, s: ConvShape, pad: Any, product: Any) -> Loop:
    """Order a thread's sums by columns of taps, and read a column of input at a time.

    Returns the first loop of the sums.
    """
    ndim = len(s.kernel)
    loops = sch.get_loops(product)
    places, lane, taps = loops[-2 * ndim - 1 : -ndim - 1], loops[-ndim - 1], loops[-ndim:]
    *outer, column = taps if ndim == 1 else [*taps[:-2], taps[-1]]
    inside = taps[-2:-1]  # the taps of a column
    sch.reorder(*outer, column, *inside, *places, lane)
    few = math.prod(s.kernel) <= _WRITTEN_OUT
    for loop in [*inside, *places, *([*outer, column] if few else [])]:
        sch.unroll(loop)
    sch.vectorize(lane)
    if _apart(s):
        sch.compute_inline(pad)
    else:
        sch.set_scope(pad, 0, "local")
        sch.compute_at(pad, column, preserve_unit_loops=True)
        *window, lane = sch.get_loops(pad)
        for loop in window[-ndim:]:
            sch.unroll(loop)
        sch.vectorize(lane)
    return [*outer, column][0]


def _apart(s: ConvShape) -> bool:
    """Whether outputs share no element: windows with gaps between them, or taps far from each other."""
    gaps = any(k < stride for k, stride in zip(s.kernel, s.strides, strict=True))
    return gaps or (len(s.kernel) > 1 and s.dilations[-2] >= MOST_ROWS)
