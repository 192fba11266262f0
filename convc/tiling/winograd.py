"""Tiles and groups of tiles of Winograd convolutions: arithmetic that lowering, price and schedule share.

A map is cut into tiles of m outputs on axes with more than one tap and of one output on the others; tiles
are computed in rectangular groups, so that the transformed tiles of a group stay in cache between the
stages. With dilation d the outputs of a tile are d apart, and d tiles lie interleaved on the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from convc.target import Target
from convc.tiling.registers import Tile, divisors, tile_cycles
from convc.tiling.storage import UNPACKED, Storage
from convc.workload import ConvShape

OVERRUN = 64
"""Most tiles by which a group may run over an edge of the map."""


def tile_outputs(s: ConvShape, m: int) -> tuple[int, ...]:
    """Outputs of a tile on each axis."""
    return tuple(m if r > 1 else 1 for r in s.kernel)


def tile_sizes(s: ConvShape, m: int) -> tuple[int, ...]:
    """Inputs of a tile on each axis."""
    axes = zip(tile_outputs(s, m), s.kernel, s.strides, strict=True)
    return tuple((o - 1) * stride + r for o, r, stride in axes)


def phases(s: ConvShape) -> tuple[int, ...]:
    """Interleaved maps on each axis: a dilated kernel sees every d-th pixel, and so does a tile."""
    return tuple(d if r > 1 else 1 for d, r in zip(s.dilations, s.kernel, strict=True))


def tile_counts(s: ConvShape, m: int) -> tuple[int, ...]:
    """Tiles on each axis, as many in each phase; the last may be partial, or empty."""
    axes = zip(s.output, tile_outputs(s, m), phases(s), strict=True)
    return tuple(-(-o // (t * d)) * d for o, t, d in axes)


@dataclass(frozen=True)
class Group:
    """A group of `images` x `rows` x `cols` tiles, made of register tiles of `t_*` tiles x `k_tile` vectors.

    `phased`: groups run one after the other, each stage of a group on all threads. Otherwise threads work
    on different groups. With one spatial axis `rows` and `t_rows` are 1.
    """

    images: int
    rows: int
    cols: int
    t_images: int
    t_rows: int
    t_cols: int
    k_tile: int
    k_panel: int
    phased: bool

    @property
    def tiles(self) -> int:
        """Tiles of the group, those beyond the map included."""
        return self.images * self.rows * self.cols

    @property
    def t_tile(self) -> int:
        """Tiles of a register tile."""
        return self.t_images * self.t_rows * self.t_cols


def fits_registers(t_tile: int, k_tile: int, target: Target, storage: Storage = UNPACKED) -> bool:
    """Whether sums, weights and a broadcast input fit: t * k sums, k weights a row, and 1 for the broadcast.

    AVX-512 takes the broadcast from memory as an operand of the multiply-add, and saves its register where
    it is used once. Without fused multiply-add one more register holds the product.
    """
    broadcast = 0 if k_tile == 1 and target.unit.folds_broadcast else 1
    product = 0 if target.unit.fused else 1
    weights = k_tile * storage.rows + storage.temporaries
    return t_tile * k_tile + weights + broadcast + product <= target.registers


def even_parts(count: int, longest: int) -> list[int]:
    """Lengths up to `longest` that cut `count` into equal parts with the least excess, longest first."""
    parts: dict[int, None] = {}
    for n in range(-(-count // longest), count + 1):
        parts.setdefault(-(-count // n))
    return list(parts)


@dataclass(frozen=True)
class RegisterTile:
    """Tiles by images, rows and columns whose sums a kernel keeps in registers, for `k_tile` vectors each."""

    images: int
    rows: int
    cols: int
    k_tile: int

    @property
    def sums(self) -> Tile:
        """The tile of the product."""
        return Tile(self.images * self.rows, self.cols, self.k_tile)


def register_tiles(
    s: ConvShape, m: int, target: Target, storage: Storage = UNPACKED
) -> Iterator[RegisterTile]:
    """All that are worth considering."""
    rows, cols = (1, *tile_counts(s, m))[-2:]
    blocks = -(-s.oc // target.lanes)
    longest = target.registers - 2
    for k_tile in (1, 2, 3, 4):
        if blocks % k_tile:
            continue
        for t_cols in even_parts(cols, longest)[:8]:
            for t_rows in even_parts(rows, longest):
                for t_images in divisors(s.n):
                    if (t_images > 1 and (t_rows < rows or t_cols < cols)) or (t_rows > 1 and t_cols < cols):
                        continue
                    if fits_registers(t_images * t_rows * t_cols, k_tile, target, storage):
                        yield RegisterTile(t_images, t_rows, t_cols, k_tile)


def groups(s: ConvShape, m: int, target: Target, storage: Storage = UNPACKED) -> Iterator[Group]:
    """All groups worth considering."""
    for tile in register_tiles(s, m, target, storage):
        yield from groups_of(tile, s, m, target)


def groups_of(tile: RegisterTile, s: ConvShape, m: int, target: Target) -> Iterator[Group]:
    """Those that are made of one register tile."""
    rows, cols = (1, *tile_counts(s, m))[-2:]
    return (g for g in _made_of(tile, s, (rows, cols), target.lanes) if whole_phases(s, g))


def whole_phases(s: ConvShape, g: Group) -> bool:
    """Whether the group has, on each axis, as many tiles of every phase."""
    sides = zip((g.rows, g.cols)[-len(s.kernel) :], phases(s), strict=True)
    return all(count % d == 0 for count, d in sides)


def _made_of(tile: RegisterTile, s: ConvShape, tiles: tuple[int, int], lanes: int) -> Iterator[Group]:
    blocks = -(-s.oc // lanes)
    panels = [k for k in divisors(blocks) if k % tile.k_tile == 0]
    register = (tile.images, tile.rows, tile.cols)
    most = [-(-total // t) for total, t in zip((s.n, *tiles), register, strict=True)]
    for c in even_parts(most[2], most[2]):
        for r in even_parts(most[1], most[1]) if c == most[2] else [1]:
            for i in divisors(most[0]) if (c, r) == (most[2], most[1]) else [1]:
                counts = (n * t for n, t in zip((i, r, c), register, strict=True))
                images, rows, cols = counts
                for panel in panels:
                    for phased in (False, True):
                        yield Group(images, rows, cols, *register, tile.k_tile, panel, phased)


def transform_operations(m: int, r: int, stride: int, *, inverse: bool) -> float:
    """Vector instructions of a 1-D transform of one tile, after sharing subexpressions.

    A fit to `cook_toom.straight_line`: B^T takes 4, 16, 26 and 46 for 4, 6, 8 and 10 inputs; A^T takes 4, 12,
    20 and 8, 16 for F(2, 3), F(4, 3), F(6, 3), F(2, 5), F(4, 5). With a stride each phase has its own, of
    which that of a single tap is the identity, and A^T adds the phases.
    """
    taps = [-(-(r - phase) // stride) for phase in range(stride if m > 1 else 1)]
    sizes = [m + t - 1 for t in taps if t > 1]
    return sum(0.43 * size * (m if inverse else size) for size in sizes) + inverse * m * (len(taps) - 1)


@dataclass(frozen=True)
class _Tiled:
    """What all groups of a layer share: frequencies of a tile, tiles of an image, instructions of a tile."""

    frequencies: int
    rows: int
    cols: int
    forward: float
    inverse: float


@lru_cache(maxsize=64)
def _tiled(s: ConvShape, m: int, registers: int) -> _Tiled:
    rows, cols = (1, *tile_counts(s, m))[-2:]
    forward, inverse = (_transform(s, m, registers, inverse=inverse) for inverse in (False, True))
    return _Tiled(math.prod(tile_sizes(s, m)), rows, cols, forward, inverse)


def _transform(s: ConvShape, m: int, registers: int, *, inverse: bool) -> float:
    """Instructions of one tile's transform for one vector of channels: arithmetic, loads, stores, spills."""
    extents = list(tile_sizes(s, m))
    area = math.prod(extents)
    total = area + SPILL * max(0, area - registers)
    for axis, outputs in enumerate(tile_outputs(s, m)):
        lines = math.prod(extents) // extents[axis]
        total += lines * transform_operations(outputs, s.kernel[axis], s.strides[axis], inverse=inverse)
        if inverse:
            extents[axis] = outputs
    return total + math.prod(extents)


def seconds(s: ConvShape, m: int, g: Group, target: Target, storage: Storage = UNPACKED) -> float:
    """Predicted time of a convolution that is computed in groups `g`, on all threads.

    Transformed weights come from memory once for each inference, since a network's weights exceed its
    caches. The product hides their traffic, and that of V where it has outgrown L2, but for a part
    (`_overlapped`); what the transforms read and write beyond L2 is seen.
    """
    rate = target.flops / (2 * target.lanes)  # vector instructions a second and thread
    threads = target.threads
    cb, kb = -(-s.ic // target.lanes), -(-s.oc // target.lanes)
    tiled = _tiled(s, m, target.registers)
    frequencies = tiled.frequencies
    count = s.n // g.images * -(-tiled.rows // g.rows) * -(-tiled.cols // g.cols)
    panels = kb // g.k_panel

    # one group, on one thread
    register = RegisterTile(g.t_images, g.t_rows, g.t_cols, g.k_tile)
    multiply = g.tiles * _product(s, m, register, target, storage)
    forward = TRANSFORM * g.tiles * cb * tiled.forward / rate
    inverse = TRANSFORM * g.tiles * kb * tiled.inverse / rate
    weights = storage.fetched(frequencies * cb * target.lanes * kb * target.lanes, target)
    v, m_panel = (frequencies * g.tiles * n * target.vector_bytes for n in (cb, g.k_panel))
    from_memory = UNEVEN * weights / target.memory_bandwidth
    spilled = _spilled(v + m_panel, target)  # part of V and M that L2 does not hold
    if g.phased:
        share = _imbalance(panels, threads) / threads
        forward *= _imbalance(cb * g.images * g.rows, threads) / threads
        again = 0.0 if weights < target.l3 / 2 else from_memory
        reads = panels * share * v * spilled / target.l3_bandwidth
        reads += FOREIGN * v * (threads - 1) / threads / target.l3_bandwidth
        region = target.launch_seconds + BARRIER if threads > 1 else 0.0
        total = count * (forward + inverse * share + 2 * region)
        total += _overlapped(multiply * share, from_memory + reads)
        total += (count - 1) * _overlapped(multiply * share, again + reads)
        seen = count * (v / threads + panels * share * 2 * m_panel) * spilled / target.l3_bandwidth
    else:
        rounds = -(-count // threads)
        again = weights / _bandwidth(weights + v + m_panel, target)
        reads = panels * v * spilled / target.l3_bandwidth
        total = rounds * (forward + inverse) + target.launch_seconds
        # every thread reads all weights, at times of its own
        total += _overlapped(multiply, (1.3 if threads > 1 else 1.0) * from_memory + reads)
        total += (rounds - 1) * _overlapped(multiply, again + reads)
        seen = rounds * (v + panels * 2 * m_panel) * spilled / target.l3_bandwidth
    moved = target.vector_bytes * s.n * (cb * math.prod(s.input) + kb * math.prod(s.stored))
    if moved > target.l3 / 4:
        # transforms that spill wait for memory more often
        total += moved / target.memory_bandwidth * (1.0 if frequencies < 1.5 * target.registers else 2.5)
    return (total + seen) * (LARGE if m >= 6 else 1.0) * (STRIDED if set(s.strides) != {1} else 1.0)


def _product(s: ConvShape, m: int, register: RegisterTile, target: Target, storage: Storage) -> float:
    """Seconds of one thread for the products of one tile."""
    cb, kb = -(-s.ic // target.lanes), -(-s.oc // target.lanes)
    steps = _tiled(s, m, target.registers).frequencies * kb * cb * target.lanes
    cycles = tile_cycles(register.sums, cb * target.lanes, target)
    unpacking = 1 + storage.unpacking(target) / (register.images * register.rows * register.cols)
    return steps * cycles * unpacking * 2 * target.lanes / target.flops


def least_seconds(s: ConvShape, m: int, register: RegisterTile, target: Target, storage: Storage) -> float:
    """Less than `seconds` of any group of that register tile: arithmetic alone, evenly shared."""
    tiled = _tiled(s, m, target.registers)
    cb, kb = -(-s.ic // target.lanes), -(-s.oc // target.lanes)
    transforms = TRANSFORM * (cb * tiled.forward + kb * tiled.inverse) * 2 * target.lanes / target.flops
    each = _product(s, m, register, target, storage) + transforms
    return 0.999 * s.n * tiled.rows * tiled.cols * each / target.threads


SPILL = 5.0
"""Instructions for each value of a tile that has no register."""
LARGE = 1.1
"""Time of F(6, r) relative to the sum of its parts: the lines of a tile, far apart, meet in few sets of L1.

In networks on two Zen 5 threads F(6, 3) measured 1.4 to 1.6 times its price, F(4, 3) 1.1 to 1.2 times.
"""
STRIDED = 1.1
"""Time with a stride, relative to the sum of the parts: in ResNet-18 and 50 on Zen 5, one and two threads,
0.95 to 1.3 times, most where U is largest (512 channels to 7x7 on one thread: 1.36 ms, `direct` 1.28)."""
TRANSFORM = 0.9
SEEN = 0.25
"""Part of the shorter of two overlapping activities that is seen nevertheless."""
UNEVEN = 1.2
"""Time to fetch weights, relative to a plain read of memory by all threads: they are not always asked for."""
FOREIGN = 3.0
"""Time to read lines that another core has just written, relative to a read from L3."""
BARRIER = 5e-6
"""Seconds that a region costs where threads meet often, beyond an empty one: each waits for the slowest."""


def _overlapped(work: float, traffic: float) -> float:
    """Time of arithmetic and of prefetched reads that run at once."""
    return max(work, traffic) + SEEN * min(work, traffic)


def _imbalance(units: int, threads: int) -> float:
    """Time of the slowest thread, relative to a perfect share."""
    return -(-units // threads) * threads / units


def _bandwidth(size: float, target: Target) -> float:
    """Bytes a second and thread from the cache that holds `size` bytes."""
    if size <= target.l2 * 0.75:
        return target.l2_bandwidth
    if size <= target.l3 * 0.75:
        return target.l3_bandwidth
    return target.memory_bandwidth / target.threads


def _spilled(size: float, target: Target) -> float:
    """Part of `size` bytes, used over and over, that three quarters of L2 do not hold."""
    return max(0.0, 1 - 0.75 * target.l2 / size)


@lru_cache(maxsize=1024)
def best_group(s: ConvShape, m: int, target: Target, storage: Storage = UNPACKED) -> tuple[float, Group]:
    """The predicted time of the fastest group, and that group."""
    tiles = enumerate(register_tiles(s, m, target, storage))
    bounds = ((least_seconds(s, m, t, target, storage), i, t) for i, t in tiles)
    bounded = sorted(bounds, key=lambda entry: entry[:2])
    best: list[tuple[float, int, Group]] = []
    for bound, index, tile in bounded:
        if best and bound > best[0][0]:
            break
        priced = ((seconds(s, m, g, target, storage), index, g) for g in groups_of(tile, s, m, target))
        best = sorted([*priced, *best], key=lambda entry: entry[:2])[:1]
    ((time, _, group),) = best
    return time, group
