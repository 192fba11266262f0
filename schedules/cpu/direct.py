"""Loop nest for `direct`, and for the product of `im2col`.

    parallel (n, block, oh, ow) over register tiles            or (n, oh, ow, block): `blocks_last`
                                                               or parallel part, then block, (n, oh, ow) in it
      sums[rows, cols, blocks, lanes] = 0                      in registers
      for step, kh, kw, inner                                  input channels and taps
        unroll rows, cols, blocks
          sums += x * w                                        a broadcast, a vector of weights
      y = epilogue(sums)

Each thread takes a contiguous run of tiles. With blocks first the weights of one tile of channels stay in
cache while all pixels pass; with blocks last the pixels' input does while all weights pass. With parts a
thread has pixels of its own, the same half of every map, and reads little that another core has written;
with several parts each, their input stays in L2 while weights pass.
Channel blocks are innermost: with pixels there, LLVM keeps every broadcast alive and spills.

AVX-512: 28 x 1 or 14 x 2 or 7 x 2 sums, one or two weight vectors, the input element folded into the
multiply-add as an operand in memory. On a Zen 4 core with a peak of 117 GFLOP/s and weights out of memory,
the default reaches 89 to 99 % on the layers of ResNet-50 and VGG-16, stem included, and 97 % over each of
the two networks; depthwise layers of MobileNet v2 run at 79 to 101 GFLOP/s, those of stride 2 at 75 GB/s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx
from tvm.sym import Analyzer

from convc.schedules.base import Config, NotApplicable
from convc.schedules.cpu.prefetch import LINE, TO_L2, spread
from convc.schedules.cpu.tiles import tiled
from convc.target import Target
from convc.tiling.product import (
    blocks_last,
    channels_seen,
    direct_seconds,
    direct_tile,
    direct_tiles,
    even_parts,
    pixel_parts,
    taps_seen,
)
from convc.tiling.registers import Channels, Tile, flatten
from convc.workload import OUTPUT, PRODUCT, ConvShape, Workload

Loop = Any


@dataclass(frozen=True)
class DirectConfig(Config):
    """Sums in registers: `rows` x `cols` pixels of `blocks` vectors.

    `blocks_last` (0 or 1) orders tiles; `parts` cuts the maps into so many runs of pixels, as many for each
    thread, which takes them one after the other. With `blocks_last` threads have pixels of their own anyway,
    and `parts` is 1.
    """

    rows: int
    cols: int
    blocks: int
    blocks_last: int
    parts: int = 1


OTHER_ORDER = 1.02
"""What the model asks for an order of tiles that it would not choose: it prices tiles alone."""


def default(w: Workload, target: Target) -> DirectConfig:
    """The tile with the lowest predicted cost, tiles ordered for the least traffic between caches."""
    s = ConvShape.of(w)
    return _ordered(s, direct_tile(s, target), target)


def _ordered(s: ConvShape, tile: Tile, target: Target) -> DirectConfig:
    last = blocks_last(s, tile, target)
    return DirectConfig(
        tile.rows, tile.cols, tile.blocks, int(last), 1 if last else pixel_parts(s, tile, target)
    )


def space(w: Workload, target: Target) -> Iterator[DirectConfig]:
    """All tiles that fit the registers and use at least a third of them, in every order."""
    s = ConvShape.of(w)
    for tile in direct_tiles(s, target):
        if 3 * tile.sums >= target.registers or tile == direct_tile(s, target):
            yield DirectConfig(tile.rows, tile.cols, tile.blocks, 1)
            for parts in dict.fromkeys([1, *even_parts(s, tile, target)]):
                yield DirectConfig(tile.rows, tile.cols, tile.blocks, 0, parts)


def price(w: Workload, target: Target, config: DirectConfig) -> float:
    """Predicted seconds of the tile; see `tiling.product`."""
    s = ConvShape.of(w)
    tile = Tile(config.rows, config.cols, config.blocks)
    usual = config == _ordered(s, tile, target)
    return direct_seconds(s, target, tile) * (1 if usual else OTHER_ORDER)


def apply(sch: Any, w: Workload, target: Target, config: DirectConfig) -> None:
    """Tile the outputs, compute their sums inside the tile, spread the tiles over threads."""
    tile = Tile(config.rows, config.cols, config.blocks)
    if not tile.fits(target):
        raise NotApplicable(
            f"{config} needs more than the {target.registers} vector registers of {target.name}."
        )
    product, output = sch.get_sblock(PRODUCT), sch.get_sblock(OUTPUT)
    *_, pooled_rows, pooled_cols = (1, *ConvShape.of(w).window)
    stored = Tile(config.rows // pooled_rows, config.cols // pooled_cols, config.blocks)
    (n, block, *pixels), (block_tile, oh_tile, ow_tile), lane = tiled(sch, output, stored)
    if config.parts > 1:
        sch.reorder(n, *pixels, block, oh_tile, ow_tile, block_tile, lane)
        part, tiles = sch.split(sch.fuse(n, *pixels), [config.parts, None])
        sch.reorder(part, block, tiles)
        sch.parallel(part)
    else:
        order = (*pixels, block) if config.blocks_last else (block, *pixels)
        sch.reorder(n, *order, oh_tile, ow_tile, block_tile, lane)
        tiles = sch.fuse(n, *order)
        sch.parallel(tiles)
    for loop in (oh_tile, ow_tile, block_tile):
        sch.unroll(loop)
    sch.vectorize(lane)
    reduction = accumulate(sch, product, tiles, len(w.outputs[0].shape) - 2)
    s = ConvShape.of(w)
    if taps_seen(s, tile, target) < 1:
        _leave_out_padding(sch, s, tile, reduction)
    if channels_seen(s, target) < 1:
        _leave_out_other_groups(sch, s, target, reduction)
    if _reads_each_weight_once(w, target, config):
        _prefetch_weights(sch, block, tiles, reduction[:-1], config)


def _leave_out_padding(sch: Any, s: ConvShape, tile: Tile, reduction: list[Loop]) -> None:
    """Skip the channels of a tap where all pixels of the tile would read padding.

    `reduction` runs over steps of channels, taps on each axis, and channels of a step.
    """
    spatial, terms = len(s.output), [sch.get(loop).loop_var for loop in reduction]
    _, _, *firsts = _first_output(sch, reduction)[: 2 + spatial]
    extents = (*(1 for _ in s.output[2:]), tile.rows, tile.cols)[-spatial:]
    axes = zip(firsts, terms[1:-1], extents, s.input, s.strides, s.dilations, s.pads, strict=True)
    seen = tirx.const(True)
    for first, tap, extent, size, stride, dilation, (before, _) in axes:
        start = first * stride + tap * dilation - before
        seen = tirx.all(seen, start + (extent - 1) * stride >= 0, start < size)
    _only_if(sch, reduction[-2], seen)


def _leave_out_other_groups(sch: Any, s: ConvShape, target: Target, reduction: list[Loop]) -> None:
    """Skip the steps whose channels belong to no group of the tile's block: its weights for them are zero."""
    c = Channels.of(s, target.lanes)
    block = _first_output(sch, reduction)[1]
    first, end = c.own(block)
    start = tirx.min(block * c.lanes // c.group_out * c.group_in, c.last)
    channel = start + sch.get(reduction[0]).loop_var * c.inner
    _only_if(sch, reduction[0], tirx.all(channel + c.inner > first, channel < end))


def _first_output(sch: Any, reduction: list[Loop]) -> list[Any]:
    """The index of a tile's first output, as expressions of the loops around it."""
    terms = [sch.get(loop).loop_var for loop in reduction]
    first = Analyzer()
    inside = sch.get(reduction[0]).body
    while not isinstance(inside, s_tir.SBlockRealize):
        inside = inside.then_case if isinstance(inside, tirx.IfThenElse) else inside
        if not any(inside.loop_var.same_as(term) for term in terms):
            first.bind(inside.loop_var, tirx.const(0, "int32"))
        inside = inside.body
    return [first.simplify(e) for e in inside.iter_values]


def _only_if(sch: Any, loop: Loop, condition: Any) -> None:
    """Make the body of a loop depend on a condition."""
    node = sch.get(loop)
    body = tirx.IfThenElse(condition, node.body, None)
    sch.state.replace(sch.get_sref(loop), tirx.For(node.loop_var, node.min, node.extent, node.kind, body))


def _reads_each_weight_once(w: Workload, target: Target, config: DirectConfig) -> bool:
    """Whether weights come panel by panel out of memory, rather than again and again from a cache."""
    s = ConvShape.of(w)
    return not config.blocks_last and s.groups == 1 and s.weight_bytes > target.l1


def _prefetch_weights(sch: Any, block: Loop, tiles: Loop, terms: list[Loop], config: DirectConfig) -> None:
    """While the pixels pass a panel of weights, `blocks` vectors of channels wide, fetch the next panel.

    `terms` are the loops of the sum but for the innermost. Each of their iterations fetches a few lines: a
    core has some 20 requests under way, and the loads of the sum itself wait behind them. From 256 to 512
    channels, 3x3 with stride 2 at 14x14, on two Zen 5 threads: 0.35 ms with bursts of 42, 0.28 without.
    """
    weights, out = (sch.mod["main"].params[i] for i in (1, -1))
    blocks, *inner, lanes = (int(e) for e in weights.shape)
    run, visits = sch.get(tiles), [sch.get(loop) for loop in terms]
    extents = [int(f.extent) for f in visits]
    panels = blocks // config.blocks
    if config.parts > 1:
        panel, passes, position = sch.get(block).loop_var, int(run.extent), run.loop_var
    else:
        passes = int(run.extent) // int(out.shape[0]) // panels
        panel, position = run.loop_var // passes, run.loop_var % passes
    following = (panel + 1) % panels
    per_line = max(1, LINE // lanes)

    def load(line: Any) -> list[Any]:
        where = [*[0] * (len(inner) - 1), line * per_line, 0]
        return [
            tirx.BufferLoad(weights, [following * config.blocks + k, *where]) for k in range(config.blocks)
        ]

    spread(
        sch,
        terms[-1],
        slot=flatten([position, *(f.loop_var for f in visits)], [passes, *extents]),
        slots=passes * math.prod(extents),
        lines=math.prod(inner) // per_line,
        load=load,
        level=TO_L2,
    )


def accumulate(sch: Any, product: Any, tiles: Loop, spatial: int) -> list[Loop]:
    """Compute a tile's sums under loop `tiles`: reduction outside, pixels and then blocks unrolled inside.

    Returns the loops of the reduction.
    """
    count = len(sch.get_loops(product))
    sch.compute_at(product, tiles, preserve_unit_loops=True)
    loops = sch.get_loops(product)[-count:]
    n, block, *pixels, lane = loops[: spatial + 3]
    reduction = loops[spatial + 3 :]
    sch.reorder(*reduction, n, *pixels, block, lane)
    for loop in (*pixels, block):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.decompose_reduction(product, reduction[0])
    return list(reduction)
