"""How `direct` and `im2col` cover an output by register tiles, and what that costs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import lru_cache

from convc.target import Target
from convc.tiling.registers import (
    EXPOSED,
    Channels,
    Tile,
    divisors,
    imbalance,
    memory_seconds,
    overlapped_seconds,
    padded_columns,
    tile_cycles,
)
from convc.workload import ConvShape


def narrow(s: ConvShape, target: Target) -> bool:
    """Whether the input has so few channels that it is read in plain layout."""
    return s.groups == 1 and s.ic <= 4


def by_channel(s: ConvShape) -> bool:
    """Whether a convolution multiplies vectors of channels, each channel being a group of its own."""
    return s.depthwise and s.groups > 1


MOST_BLOCKS = 4
"""Streams of weights that a tile reads side by side: with 5 and 7, kernels ran at half to 2/3 of peak."""


def sum_columns(s: ConvShape, target: Target) -> int:
    """The columns over which `direct` makes sums: at least those of the output, in whole windows."""
    return _sums(s, target)[0]


def sum_blocks(s: ConvShape, target: Target) -> int:
    """The blocks of channels over which `direct` makes sums: at least those of the output."""
    return _sums(s, target)[1]


@lru_cache(maxsize=1024)
def _sums(s: ConvShape, target: Target) -> tuple[int, int]:
    """Columns and blocks over which `direct` makes sums, some of which are thrown away.

    A number without good divisors is enlarged by one: 19 columns in tiles of 19 x 1 run at 86 % of peak on
    Zen 5, 20 in tiles of 10 x 2 at 97 %; depthwise, 20 columns take half the time of 19 in tiles of one. The
    63 blocks of 1000 channels on 13 columns took 0.42 ms as 63 x 14 in tiles of 7 x 3, and 0.40 as 64 x 13
    in tiles of 13 x 2.
    """
    columns, blocks = padded_columns(s.output[-1], target, s.window[-1]), -(-s.oc // target.lanes)
    if narrow(s, target) or s.window[-1] > 1:
        return columns, blocks
    most = target.registers // 2 if taps_share_inputs(s, target) else target.registers

    def cycles(extents: tuple[int, int]) -> float:
        tiles = (Tile(1, c, b) for c in divisors(extents[0]) for b in _shared_blocks(s, extents[1], target))
        fitting = (t for t in tiles if t.fits(target) and t.sums <= most)
        return math.prod(extents) * min(tile_cycles(t, terms(s, target), target) for t in fitting)

    more = (blocks, blocks + 1) if s.groups == 1 else (blocks,)
    return min(itertools.product((columns, columns + 1), more), key=cycles)


def _shared_blocks(s: ConvShape, blocks: int, target: Target) -> list[int]:
    """Numbers of blocks of output channels, of `blocks`, that a tile may have: they read the same input."""
    if s.groups > 1:
        blocks = 1 if by_channel(s) else Channels.of(s, target.lanes).sharing
    return [b for b in divisors(blocks) if b <= MOST_BLOCKS]


def direct_tiles(s: ConvShape, target: Target) -> list[Tile]:
    """The tiles by which `direct` can cover its sums: whole rows, columns and blocks."""
    columns = divisors(sum_columns(s, target))
    rows = divisors(s.output[-2]) if len(s.output) > 1 else [1]
    *_, least, unit = (1, *s.window)  # whole windows
    tiles = (
        Tile(r, c, b)
        for c in columns
        for r in rows
        for b in _shared_blocks(s, sum_blocks(s, target), target)
        if (r == least or c >= s.output[-1]) and r % least == c % unit == 0
    )
    return [t for t in tiles if t.fits(target)]


def terms(s: ConvShape, target: Target) -> int:
    """Products in each sum that `direct` makes, zeros of block-diagonal weights included."""
    taps = math.prod(s.kernel)
    if by_channel(s):
        return taps
    return taps * (s.ic if narrow(s, target) else Channels.of(s, target.lanes).span)


def taps_share_inputs(s: ConvShape, target: Target) -> bool:
    """Whether the innermost loop runs over taps that see the same inputs, shifted by a pixel.

    LLVM unrolls that loop and keeps shared inputs in registers, which then must not be full of sums: with
    28 sums it spills, and MobileNet's first and depthwise layers run at half their speed.
    """
    inner = 1 if by_channel(s) or narrow(s, target) else Channels.of(s, target.lanes).inner
    return s.kernel[-1] > 1 and inner <= 2


def direct_tile(s: ConvShape, target: Target) -> Tile:
    """The tile with which `direct` takes the least time."""
    tiles = direct_tiles(s, target)
    if taps_share_inputs(s, target):
        tiles = [t for t in tiles if t.sums <= target.registers // 2] or tiles
    pixels = math.prod(s.output[:-1]) * sum_columns(s, target)
    return min(tiles, key=lambda t: (_cycles(t, s, pixels, target), t.blocks))


def _cycles(tile: Tile, s: ConvShape, pixels: int, target: Target) -> float:
    """Cycles for each multiply-add of the busiest thread."""
    tasks = s.n * _blocks(s, tile, target) * pixels // tile.sums
    return tile_cycles(tile, terms(s, target), target) * imbalance(tasks, target.threads)


def _blocks(s: ConvShape, tile: Tile, target: Target) -> int:
    """Blocks of channels in whole tiles."""
    return -(-s.oc // (target.lanes * tile.blocks)) * tile.blocks


WORTH_A_BRANCH = 0.97
"""Part of the taps up to which it pays to ask for each whether it sees more than padding."""


def taps_seen(s: ConvShape, tile: Tile, target: Target) -> float:
    """Part of the taps that remain where `direct` leaves out those of which a tile sees only padding.

    1.0 where it does not ask. With dilation 18 and a map of 33 x 33, tiles of 11 columns see half of 9 taps.
    """
    if by_channel(s) or narrow(s, target):
        return 1.0
    extents = (*(1 for _ in s.output[2:]), tile.rows, tile.cols)[-len(s.output) :]
    columns = (*s.output[:-1], sum_columns(s, target))
    axes = zip(extents, columns, s.input, s.kernel, s.strides, s.dilations, s.pads, strict=True)
    share = 1.0
    for extent, outputs, size, kernel, stride, dilation, (before, _) in axes:
        reach = (extent - 1) * stride
        offsets = itertools.product(range(0, outputs, extent), range(kernel))
        firsts = [o * stride + k * dilation - before for o, k in offsets]
        share *= sum(first + reach >= 0 and first < size for first in firsts) / len(firsts)
    return share if share <= WORTH_A_BRANCH else 1.0


def channels_seen(s: ConvShape, target: Target) -> float:
    """Part of the products that remain where `direct` leaves out channels of other groups than a block's own.

    1.0 where it does not ask. With 4 groups of 68 channels, 14 of 17 blocks of 16 need half of what the other
    3 do, so 0.59 remains.
    """
    if s.groups == 1 or by_channel(s):
        return 1.0
    c = Channels.of(s, target.lanes)
    blocks = range(-(-s.oc // target.lanes))
    needed = sum(min(end, s.ic) - first for first, end in map(c.own, blocks))
    share = needed / (len(blocks) * c.span)
    return share if share <= WORTH_A_BRANCH else 1.0


def blocks_last(s: ConvShape, tile: Tile, target: Target) -> bool:
    """Whether input should stay in cache while all weights pass, rather than the other way round.

    Weights that come from memory are best read once, front to back, while the input passes from L2 or L3:
    measured on ResNet-50's 1x1 layers, 95 % of peak against 85 %. Small weights stay in L2 in either order,
    and then a large input is better read once.
    """
    if s.groups > 1:  # no two groups share any input
        return False
    if pixel_tiles(s, tile, target) % target.threads and _pixels_outweigh(s):
        # parts of equal size do not exist, but this order gives threads pixels of their own as well
        return s.weight_bytes <= 0.6 * target.l2
    weights, pixels = s.weight_bytes, s.input_bytes
    if weights <= target.l2 // 4:
        return pixels > target.l2
    if pixels <= target.l3:
        return False
    passes_of_weights = s.n * math.prod(s.output) / tile.pixels
    passes_of_input = s.oc / (target.lanes * tile.blocks)
    return weights * passes_of_weights < pixels * passes_of_input


def pixel_tiles(s: ConvShape, tile: Tile, target: Target) -> int:
    """Register tiles of pixels in all images."""
    return s.n * math.prod(s.output[:-1]) * sum_columns(s, target) // tile.pixels


def pixel_parts(s: ConvShape, tile: Tile, target: Target) -> int:
    """Into how many runs of pixels to cut the maps for the threads; 1 shares out blocks of channels instead.

    A thread with channels reads all pixels, most of them written by other cores; one with pixels reads all
    weights. Lines that another core has written come several times slower than those of a core's own L2:
    where two Zen 5 cores sat on different chiplets, a 1x1 layer from 1024 to 256 channels at 14x14 took
    0.317 ms by channels and 0.229 by pixels. Pixels that exceed L2 are cut into several runs a thread.
    """
    parts = even_parts(s, tile, target)
    if s.groups > 1 or not parts or (target.threads > 1 and not _pixels_outweigh(s)):
        return 1
    return min(parts, key=lambda p: _bytes_read(s, tile, p // target.threads, target))


MOST_RUNS = 16
"""Runs of pixels for each thread that are worth considering."""


def even_parts(s: ConvShape, tile: Tile, target: Target) -> list[int]:
    """Into how many equal parts all pixels can be cut, a few for each thread, ascending.

    TVM can divide a nest of two loops anywhere between tiles; one of three only where a part ends with an
    image, or with a row, or with a tile.
    """
    *outer, cols = (s.n, *s.output[:-1], sum_columns(s, target))
    outer[-1] //= tile.rows
    extents = [extent for extent in (*outer, cols // tile.cols) if extent > 1]
    if len(extents) <= 2:
        found = divisors(math.prod(extents))
    else:
        wholes = [math.prod(extents[:i]) for i in range(len(extents))]
        found = [w * d for w, extent in zip(wholes, extents, strict=True) for d in divisors(extent)]
    most = MOST_RUNS * target.threads
    return [parts for parts in dict.fromkeys(found) if parts % target.threads == 0 and parts <= most]


def _bytes_read(s: ConvShape, tile: Tile, runs: int, target: Target) -> float:
    """What a thread reads from memory whose pixels are cut into `runs`: weights in each, and the pixels.

    Where pixels exceed a quarter of L3, and a run half of L2, every panel of weights reads the run again: 256
    to 512 channels with stride 2 at 56x56, a batch of 8, took two Zen 5 threads 7.6 ms in one run each and
    4.9 in eight. Out of L3, 1024 to 256 channels at 14x14, runs gained nothing.
    """
    weights = s.itemsize * s.oc * s.ic * math.prod(s.kernel)
    seen = min(math.prod(s.input), math.prod(s.output) * math.prod(s.kernel))
    pixels = s.itemsize * s.n * s.ic * seen / target.threads
    stays = pixels * target.threads <= target.l3 / 4 or pixels / runs <= target.l2 / 2
    panels = s.oc / (target.lanes * tile.blocks)
    return weights * runs + pixels * (1 if stays else panels)


def _pixels_outweigh(s: ConvShape) -> bool:
    """Whether reading what other cores have written takes longer than reading all weights."""
    return FOREIGN * s.n * math.prod(s.input) >= s.oc * math.prod(s.kernel)


FOREIGN = 6
"""Time to read lines that another core has written, relative to weights that are fetched ahead."""
COLD = 1.9
"""Part of the time to fetch weights from memory that is seen, relative to the ratio of it to arithmetic.

They are fetched ahead, which hides the more the longer arithmetic takes. 3x3, 512 channels at 7x7 on Zen 5,
two threads: 0.59 to 0.67 ms, arithmetic 0.45, weights 0.19; one thread: 1.04, 0.90, 0.22. 1x1, 1024 to 2048
channels with stride 2 at 14x14, two threads: 0.55, 0.41, 0.17. From ratios of a half on nothing is hidden.
"""


PANELS = 2.7
"""L2 that the passes of pixels through a panel of weights fill, in panels: it, the next one, and the pixels.

What L2 does not keep comes from L3 for each pass, and nobody asks for it ahead. 3x3, 512 channels at 7x7,
panels of 590 KB, on Zen 5 cores with 1 MB each: 0.59 ms on two threads, arithmetic 0.45, and 1.04 ms on one,
arithmetic 0.90; 0.74 ms on two with slower memory, 42 instead of 49 GB/s.
"""


def product_seconds(s: ConvShape, tile: Tile, pixels: int, terms: float, target: Target) -> float:
    """Predicted time of a convolution's kernel that makes `pixels` sums of `terms` products in each channel.

    Arithmetic at the tile's efficiency, spread over threads by whole tiles, overlaps with the traffic of
    inputs, weights and outputs but for a part. Weights that L2 cannot keep are read again and again (PANELS).
    """
    blocks = _blocks(s, tile, target)
    work = 2 * s.n * blocks * target.lanes * pixels * terms
    tasks = s.n * blocks * pixels // (tile.blocks * tile.pixels)
    arithmetic = work * tile_cycles(tile, terms, target) * imbalance(tasks, target.threads) / target.peak
    weights = s.weight_bytes
    panel = target.vector_bytes * tile.blocks * terms
    again = weights * (s.n * pixels / tile.pixels - 1) * max(0.0, 1 - target.l2 / (PANELS * panel))
    waiting = again / (target.threads * target.l3_bandwidth)
    cold = weights / target.memory_bandwidth
    traffic = memory_seconds(s.input_bytes + s.stored_bytes, target) + cold
    part = min(1.0, COLD * cold / arithmetic)
    seen = max(0.0, part - EXPOSED) * min(arithmetic, cold)
    return overlapped_seconds(arithmetic, traffic, target) + seen + waiting


def direct_seconds(s: ConvShape, target: Target, tile: Tile | None = None) -> float:
    """Predicted time of `direct` with a tile, by default the best."""
    pixels = math.prod(s.output[:-1]) * sum_columns(s, target)
    tile = tile or direct_tile(s, target)
    seen = taps_seen(s, tile, target) * channels_seen(s, target)
    at_least = max(1.0, terms(s, target) * seen)  # windows may see nothing but padding
    return product_seconds(s, tile, pixels, at_least, target)


def gathers(s: ConvShape, target: Target) -> bool:
    """Whether `im2col` copies patches: not where a 1x1 convolution's input is the matrix as it stands."""
    pixels = math.prod(s.output)
    return not (s.pointwise and s.unit_stride and padded_columns(pixels, target) == pixels)


def im2col_shape(s: ConvShape) -> ConvShape:
    """The same product as a convolution over one axis of flattened pixels."""
    pixels = math.prod(s.output)
    taps = s.ic * math.prod(s.kernel)
    return replace(
        s,
        ic=taps,
        input=(pixels,),
        output=(pixels,),
        kernel=(1,),
        strides=(1,),
        dilations=(1,),
        pads=((0, 0),),
    )


def im2col_tiles(s: ConvShape, target: Target) -> list[Tile]:
    """The tiles by which `im2col` can cover the flattened output."""
    columns = divisors(padded_columns(math.prod(s.output), target))
    shared = Channels.of(s, target.lanes).sharing
    tiles = (Tile(1, c, b) for c in columns for b in divisors(shared) if b <= MOST_BLOCKS)
    return [t for t in tiles if t.fits(target)]


def im2col_tile(s: ConvShape, target: Target) -> Tile:
    """The tile with which `im2col` takes the least time."""
    pixels = padded_columns(math.prod(s.output), target)
    return min(im2col_tiles(s, target), key=lambda t: (_cycles(t, s, pixels, target), t.blocks))


def im2col_run(s: ConvShape, tile: Tile, target: Target) -> int:
    """How many tiles of pixels to gather patches for at once: a cache full, with work for all threads.

    Out of blocked input the copies are long and half of L2 may hold them; single elements out of plain input
    are gathered at nearly twice the speed while they stay in a quarter of L1.
    """
    channels = s.ic if narrow(s, target) else -(-s.ic // target.lanes) * target.lanes
    row = s.itemsize * math.prod(s.kernel) * channels
    tiles = padded_columns(math.prod(s.output), target) // tile.pixels
    room = target.l1 // 4 if narrow(s, target) else target.l2 // 2
    fitting = [d for d in divisors(tiles) if d == 1 or d * tile.pixels * row <= room]
    return min(fitting, key=lambda d: (imbalance(s.n * tiles // d, target.threads), -d))


def im2col_seconds(s: ConvShape, target: Target, tile: Tile | None = None) -> float:
    """Predicted time of `im2col` with a tile, by default the best.

    That is the product's, and that of the patches, which are written to L2 and read from there.

    Out of plain input they are gathered one by one, at a cycle each as measured on Zen 4.
    """
    pixels = padded_columns(math.prod(s.output), target)
    tile = tile or im2col_tile(s, target)
    seconds = product_seconds(s, tile, pixels, terms(s, target), target)
    if not gathers(s, target):
        return seconds
    elements = s.n * pixels * math.prod(s.kernel) * -(-s.ic // target.lanes) * target.lanes
    each = 2 * s.itemsize / target.l2_bandwidth
    if narrow(s, target):
        elements = s.n * pixels * math.prod(s.kernel) * s.ic
        each = 2 * target.lanes / target.flops
    runs = s.n * pixels // (tile.pixels * im2col_run(s, tile, target))
    return seconds + elements * each * imbalance(runs, target.threads) / target.threads
