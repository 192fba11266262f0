"""Offsets for buffers that share one workspace: those alive together lie apart, others overlap.

A buffer may come alive piece by piece. The result of a concatenation is written by several layers, and may
be needed long after the first of them (the skip connections of U-Net): the place of a slice that nobody has
written yet serves others until then. So a buffer is a set of pieces, each a run of bytes with a life of its
own, that keep their distances; in the plane of time and address it is a staircase where an ordinary buffer
is a rectangle.

No packing is smaller than the most bytes alive at once. First fit in a good order comes close (Pisarchyk and
Lee, arXiv 2001.03288, section 4.2), so several orders are tried, then those buffers that ended up on top are
placed first and all is packed again, until the bound is met or ROUNDS are over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector."""
ROUNDS = 12
COMPARISONS = 1 << 25
"""Of pairs of pieces, in the rounds of an order after the first: less than a second."""


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `end` of a buffer, alive from step `first` to step `last`, both included."""

    start: int
    end: int
    first: int
    last: int

    def aligned(self) -> Piece:
        """The whole cache lines that this piece touches."""
        return replace(self, start=self.start // ALIGNMENT * ALIGNMENT, end=_up(self.end))


def _up(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


Buffer = Sequence[Piece]


@dataclass(frozen=True)
class Packing:
    """An offset for each buffer, in the order given; the bytes that they span, and the least possible.

    `busiest` is the first step at which that many are alive.
    """

    offsets: tuple[int, ...]
    nbytes: int
    bound: int
    busiest: int


def pack(buffers: Sequence[Buffer]) -> Packing:
    """The smallest packing found; deterministic."""
    aligned = [[piece.aligned() for piece in buffer] for buffer in buffers]
    bound, busiest = most_alive(buffers)
    size = [max((p.end for p in buffer), default=0) for buffer in aligned]
    life = [max((p.last for p in b), default=0) - min((p.first for p in b), default=0) + 1 for b in aligned]
    born = [min((p.first for p in buffer), default=0) for buffer in aligned]
    best: Packing | None = None
    rounds = min(ROUNDS, 1 + COMPARISONS // max(1, sum(map(len, buffers)) ** 2))
    for key in ([(-s, f) for s, f in zip(size, born, strict=True)],
                [(-s * n, f) for s, n, f in zip(size, life, born, strict=True)],
                [(-n, -s) for s, n in zip(size, life, strict=True)]):  # fmt: skip
        order = sorted(range(len(buffers)), key=key.__getitem__)
        for _ in range(rounds):
            offsets = _first_fit(aligned, order)
            tops = [o + s for o, s in zip(offsets, size, strict=True)]
            total = max(tops, default=0)
            if best is None or total < best.nbytes:
                best = Packing(tuple(offsets), total, bound, busiest)
            if best.nbytes == bound:
                return best
            order.sort(key=lambda i: tops[i] != total)  # stable: the rest stays in order
    assert best is not None
    return best


def most_alive(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """The most bytes alive in one step, in whole cache lines, and the first such step.

    No packing can go below.
    """
    steps = max((piece.last for buffer in buffers for piece in buffer), default=-1) + 2
    change = np.zeros(steps, "int64")
    for buffer in buffers:
        for piece in buffer:
            # a line that two pieces share counts once
            change[piece.first] += _up(piece.end) - _up(piece.start)
            change[piece.last + 1] -= _up(piece.end) - _up(piece.start)
    alive = np.cumsum(change)
    return int(alive.max()), int(alive.argmax())


def _first_fit(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    """Each buffer in turn at the lowest offset where none of its pieces meets one that has been placed."""
    count = sum(len(buffer) for buffer in buffers)
    first, last, start, end = np.empty((4, count), "int64")
    placed = 0
    offsets = [0] * len(buffers)
    for index in order:
        taken = []
        for piece in buffers[index]:
            meets = (first[:placed] <= piece.last) & (last[:placed] >= piece.first)
            # the offsets, ends excluded, at which this piece would overlap those
            taken.append(np.stack([start[:placed][meets] - piece.end, end[:placed][meets] - piece.start]))
        offset = offsets[index] = _lowest_free(np.concatenate(taken, axis=1)) if taken else 0
        for piece in buffers[index]:
            first[placed], last[placed] = piece.first, piece.last
            start[placed], end[placed] = offset + piece.start, offset + piece.end
            placed += 1
    return offsets


def _lowest_free(taken: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
    """The lowest offset, from 0 on, inside none of the open intervals (below, above)."""
    below, above = taken[:, np.argsort(taken[0])]
    reached = np.maximum.accumulate(np.concatenate([[0], above]))
    gaps = np.flatnonzero(below >= reached[:-1])
    return int(reached[gaps[0] if len(gaps) else -1])
