"""Arithmetic of tiles that lowerings, their prices and their schedules share; no code is generated here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convc.target import Target
from convc.workload import ConvShape, Workload


def divisors(n: int) -> list[int]:
    """All divisors of `n`, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def flatten(index: Sequence[Any], extents: Sequence[int]) -> Any:
    """The row-major position of `index` (numbers or expressions) in an array of these extents."""
    position: Any = 0
    for i, extent in zip(index, extents, strict=True):
        position = position * extent + i
    return position


def unflatten(position: Any, extents: Sequence[int]) -> list[Any]:
    """The index of the element at a row-major position; the inverse of `flatten`."""
    index: list[Any] = []
    for extent in reversed(extents[1:]):
        index.append(position % extent)
        position = position // extent
    return [position, *reversed(index)] if extents else []


@dataclass(frozen=True)
class Tile:
    """Outputs whose sums stay in registers: `rows` x `cols` pixels of `blocks` vectors of channels."""

    rows: int
    cols: int
    blocks: int

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.rows * self.cols

    @property
    def sums(self) -> int:
        """Vector registers that hold sums."""
        return self.rows * self.cols * self.blocks

    def fits(self, target: Target) -> bool:
        """Whether sums, one weight vector a block and the input broadcast fit the register file.

        With one block the broadcast is an operand in memory of the multiply-add, on AVX-512 alone.
        """
        spare = 1 if self.blocks == 1 and target.isa == "avx512" else 2
        return self.sums + self.blocks + spare <= target.registers


def most_sums(target: Target) -> int:
    """The longest row of pixels in a tile of one block: at most 28, as are two rows of 14 and four of 7."""
    return min(28, target.registers - 3)


def padded_columns(columns: int, target: Target) -> int:
    """The number of columns over which sums are computed, at least `columns`.

    It has a divisor that makes a good tile. Sums beyond `columns` are thrown away; the input is read beyond
    its far end for them, so that no loop carries a condition.
    """
    longest = most_sums(target)
    if columns <= longest or max(d for d in divisors(columns) if d <= longest) >= 6:
        return columns
    candidates = [(-(-columns // t) * t, -t) for t in range(longest // 2, longest + 1)]
    return min(candidates)[0]


@dataclass(frozen=True)
class Channels:
    """Which input channels a vector of `lanes` output channels reads: `steps` x `inner`, from `start(block)`.

    A run of `inner` channels never straddles two blocks of the input. A vector reads the channels of its
    own group; one that spans several small groups reads the channels of them all, against weights that are
    zero outside the lane's own group.
    """

    steps: int
    inner: int
    lanes: int
    groups: int
    group_in: int
    group_out: int
    last: int
    """The largest start that keeps reads within the input's blocks."""

    @classmethod
    def of(cls, s: ConvShape, lanes: int) -> Channels:
        """The channels of a convolution whose input is stored in blocks of `lanes`."""
        group_in, group_out = s.ic // s.groups, s.oc // s.groups
        starts, ends = [], []
        for first in range(0, s.oc, lanes):
            starts.append(first // group_out * group_in)
            ends.append(((min(first + lanes, s.oc) - 1) // group_out + 1) * group_in)
        span = max(e - b for b, e in zip(starts, ends, strict=True))
        inner = span if span <= lanes and not any(starts) else math.gcd(lanes, span, *starts)
        stored = -(-s.ic // lanes) * lanes
        return cls(span // inner, inner, lanes, s.groups, group_in, group_out, stored - span)

    @property
    def span(self) -> int:
        """Input channels that a vector of output channels reads."""
        return self.steps * self.inner

    def start(self, block: int) -> int:
        """The first input channel that output block `block` reads."""
        return min(block * self.lanes // self.group_out * self.group_in, self.last)

    @property
    def sharing(self) -> int:
        """How many neighbouring output blocks read the same channels."""
        if self.groups == 1:
            return -(-self.group_out // self.lanes)
        return self.group_out // self.lanes if self.group_out % self.lanes == 0 else 1


def narrow(s: ConvShape, target: Target) -> bool:
    """Whether the input has so few channels that it is read in plain layout."""
    return s.groups == 1 and s.ic <= 4


def by_channel(s: ConvShape) -> bool:
    """Whether a convolution multiplies vectors of channels, each channel being a group of its own."""
    return s.depthwise and s.groups > 1


def direct_tiles(s: ConvShape, target: Target) -> list[Tile]:
    """The tiles by which `direct` can cover an output: exact in rows and blocks, and in padded columns."""
    columns = divisors(padded_columns(s.output[-1], target))
    rows = divisors(s.output[-2]) if len(s.output) > 1 else [1]
    shared = 1 if by_channel(s) else Channels.of(s, target.lanes).sharing
    tiles = (
        Tile(r, c, b)
        for c in columns
        for r in rows
        for b in divisors(shared)
        if r == 1 or c >= s.output[-1]
    )  # fmt: skip
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


def tile_cycles(tile: Tile, terms: int) -> float:
    """Cycles that a tile takes for each of its multiply-adds, at best 1.

    A multiply-add has a latency of 4 cycles, and a core may start two a cycle: with fewer than 8 sums they
    wait for each other. Every block needs a weight vector and every pixel a broadcast, and there are as many
    loads a cycle as multiply-adds (with AVX-512 on Zen 4 two); counter and addresses of the loop cost about
    half a cycle a step. Clearing, finishing and storing a sum costs 1.5 cycles, and entering a tile 10; all
    measured on Zen 4.
    """
    step = max(tile.sums, tile.pixels + tile.blocks, 8.0) + 0.5
    return (step + (1.5 * tile.sums + 10) / terms) / tile.sums


def direct_tile(s: ConvShape, target: Target) -> Tile:
    """The best tile for `direct`."""
    tiles = direct_tiles(s, target)
    if taps_share_inputs(s, target):
        tiles = [t for t in tiles if t.sums <= target.registers // 2] or tiles
    return min(tiles, key=lambda t: (tile_cycles(t, terms(s, target)), t.blocks))


def blocks_last(s: ConvShape, tile: Tile, target: Target) -> bool:
    """Whether input should stay in cache while all weights pass, rather than the other way round.

    Weights that come from memory are best read once, front to back, while the input passes from L2 or L3:
    measured on ResNet-50's 1x1 layers, 95 % of peak against 85 %. Small weights stay in L2 in either order,
    and then a large input is better read once.
    """
    if s.groups > 1:  # no two groups share any input
        return False
    weights = 4 * s.oc * s.ic * math.prod(s.kernel)
    pixels = 4 * s.n * s.ic * math.prod(s.input)
    if weights <= target.l2 // 4:
        return pixels > target.l2
    if pixels <= target.l3:
        return False
    passes_of_weights = s.n * math.prod(s.output) / tile.pixels
    passes_of_input = s.oc / (target.lanes * tile.blocks)
    return weights * passes_of_weights < pixels * passes_of_input


def imbalance(tasks: int, threads: int) -> float:
    """Time of the busiest thread, relative to perfectly even work."""
    return -(-tasks // threads) * threads / tasks


def memory_seconds(nbytes: float, target: Target) -> float:
    """Seconds to move so many bytes once, from the nearest cache that holds them all."""
    if nbytes <= target.threads * target.l2:
        return nbytes / (target.threads * target.l2_bandwidth)
    if nbytes <= target.l3:
        return nbytes / (target.threads * target.l3_bandwidth)
    return nbytes / target.memory_bandwidth


def product_seconds(s: ConvShape, tile: Tile, pixels: int, terms: int, target: Target) -> float:
    """Predicted time of a convolution's kernel that makes `pixels` sums of `terms` products in each channel.

    Arithmetic at the tile's efficiency, spread over threads by whole tiles, overlaps with the traffic of
    inputs, weights and outputs but for a part.
    """
    blocks = -(-s.oc // target.lanes)
    work = 2 * s.n * blocks * target.lanes * pixels * terms
    tasks = s.n * blocks * pixels // (tile.blocks * tile.pixels)
    arithmetic = work * tile_cycles(tile, terms) * imbalance(tasks, target.threads) / target.peak
    values = s.n * (s.ic * math.prod(s.input) + s.oc * math.prod(s.output))
    weights = s.oc * (s.ic // s.groups) * math.prod(s.kernel)
    traffic = memory_seconds(4 * values, target) + 4 * weights / target.memory_bandwidth
    return max(arithmetic, traffic) + EXPOSED * min(arithmetic, traffic) + target.launch_seconds


EXPOSED = 0.15
"""Part of the shorter of arithmetic and traffic that does not hide behind the other."""


def direct_seconds(s: ConvShape, target: Target) -> float:
    """Predicted time of `direct`."""
    pixels = math.prod(s.output[:-1]) * padded_columns(s.output[-1], target)
    return product_seconds(s, direct_tile(s, target), pixels, terms(s, target), target)


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
    tiles = (Tile(1, c, b) for c in columns for b in divisors(shared))
    return [t for t in tiles if t.fits(target)]


def im2col_tile(s: ConvShape, target: Target) -> Tile:
    """The best tile for `im2col`."""
    return min(im2col_tiles(s, target), key=lambda t: (tile_cycles(t, terms(s, target)), t.blocks))


def im2col_run(s: ConvShape, tile: Tile, target: Target) -> int:
    """How many tiles of pixels to gather patches for at once: a cache full, with work for all threads.

    Out of blocked input the copies are long and half of L2 may hold them; single elements out of plain input
    are gathered at nearly twice the speed while they stay in a quarter of L1.
    """
    row = 4 * math.prod(s.kernel) * (s.ic if narrow(s, target) else -(-s.ic // target.lanes) * target.lanes)
    tiles = padded_columns(math.prod(s.output), target) // tile.pixels
    room = target.l1 // 4 if narrow(s, target) else target.l2 // 2
    fitting = [d for d in divisors(tiles) if d == 1 or d * tile.pixels * row <= room]
    return min(fitting, key=lambda d: (imbalance(s.n * tiles // d, target.threads), -d))


def im2col_seconds(s: ConvShape, target: Target) -> float:
    """Predicted time of `im2col`: the product, and the patches, which are written to L2 and read from there.

    Out of plain input they are gathered one by one, at a cycle each as measured on Zen 4.
    """
    pixels = padded_columns(math.prod(s.output), target)
    tile = im2col_tile(s, target)
    seconds = product_seconds(s, tile, pixels, terms(s, target), target)
    if not gathers(s, target):
        return seconds
    elements = s.n * pixels * math.prod(s.kernel) * -(-s.ic // target.lanes) * target.lanes
    each = 2 * 4 / target.l2_bandwidth
    if narrow(s, target):
        elements = s.n * pixels * math.prod(s.kernel) * s.ic
        each = 2 * target.lanes / target.flops
    runs = s.n * pixels // (tile.pixels * im2col_run(s, tile, target))
    return seconds + elements * each * imbalance(runs, target.threads) / target.threads


@dataclass(frozen=True)
class GemmShape:
    """A product of matrices m x k and k x n."""

    m: int
    k: int
    n: int

    @classmethod
    def of(cls, w: Workload) -> GemmShape:
        """Read a `gemm` workload, or a `matmul` workload whose right-hand side is one matrix."""
        out = w.outputs[0].shape
        a = w.inputs[0]
        assert a is not None
        transposed = w.op == "gemm" and w.attrs.trans_a  # type: ignore[attr-defined]
        return cls(math.prod(out[:-1]), a.shape[0 if transposed else -1], out[-1])


def gemm_width(g: GemmShape, target: Target) -> int:
    """Columns of the right-hand matrix that are stored side by side."""
    most = 4 if g.m == 1 else 2
    vectors = -(-g.n // target.lanes)
    for count in range(most, 1, -1):
        if -(-vectors // count) >= 4 * target.threads:
            return count * target.lanes
    return target.lanes


def gemm_tile(g: GemmShape, target: Target) -> Tile:
    """The best tile for `gemm`: as many rows as divide `m` and fit the registers."""
    vectors = gemm_width(g, target) // target.lanes
    tiles = (Tile(1, rows, vectors) for rows in divisors(g.m))
    return max((t for t in tiles if t.fits(target)), key=lambda t: t.cols)


def gemm_seconds(g: GemmShape, target: Target) -> float:
    """Predicted time of `gemm`: with few rows, that of reading the constant matrix from memory."""
    width = gemm_width(g, target)
    columns = -(-g.n // width)
    tile = gemm_tile(g, target)
    even = imbalance(columns * g.m // tile.cols, target.threads)
    arithmetic = 2 * g.m * g.k * columns * width * tile_cycles(tile, g.k) * even / target.peak
    traffic = 4 * g.k * columns * width / target.memory_bandwidth
    return max(arithmetic, traffic) + EXPOSED * min(arithmetic, traffic) + target.launch_seconds
