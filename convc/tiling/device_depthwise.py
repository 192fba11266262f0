"""Depthwise convolution on a GPU: how many rows of outputs a thread makes, and what that costs.

A thread makes `rows` outputs, one below the other, of four channels. They share input: rows of outputs look
at (rows - 1) stride + kernel rows, so that with stride 1 a column of 4 outputs and 3 x 3 taps reads 18
elements instead of 36. Outputs beside each other are made by threads beside each other, so that a warp reads
512 bytes in a row; what they share comes from L1. (Outputs beside each other in one thread would share as
much, but put threads 64 bytes apart, and L1 would serve a quarter of them at a time.)

What bounds a layer, beside memory (the wait for the first element is the same for all, and not counted):

    instructions   of all warps, over what the schedulers of the multiprocessors start, and of one warp alone
    reads from L1  64 bytes a cycle and multiprocessor: half of what it serves, since taps beside each other
                   are read in vectors that straddle its lines
    reads from L2  the rows that columns share are read by both

Long columns save instructions and reads, short ones make more threads: maps of 7 x 7 have few outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from convc.target import Gpu, Target
from convc.workload import ConvShape

FOUR = 4
"""Channels of a thread: 16 bytes of float32, the widest vector that CUDA loads."""
MOST_ROWS = 8
WARP = 32
_L1_BYTES_A_CYCLE = 64
_ENTRY = 60
"""Instructions that a thread spends on where its outputs are and on starting."""
_FINISH = 4
"""Instructions for each vector of outputs, to add the bias, finish and store it."""
_REGISTERS = 40
"""Of a thread, beside sums, weights and input."""


@dataclass(frozen=True)
class Column:
    """The outputs of a thread: `rows` below each other."""

    rows: int

    def reads(self, s: ConvShape) -> int:
        """Vectors of input that a thread loads."""
        return self.input_rows(s) * math.prod(s.kernel) // kernel_rows(s)

    def input_rows(self, s: ConvShape) -> int:
        """Rows of input that the outputs look at; with a dilation few of them are shared."""
        if len(s.kernel) == 1:
            return 1
        together = (self.rows - 1) * s.strides[-2] + (s.kernel[-2] - 1) * s.dilations[-2] + 1
        return min(together, self.rows * s.kernel[-2])

    def instructions(self, s: ConvShape, target: Target) -> int:
        """Instructions of a thread."""
        taps = math.prod(s.kernel)
        convert = 0 if target.lanes == FOUR else FOUR
        work = self.rows * (taps * FOUR + FOUR * _FINISH) + taps
        return work + self.reads(s) * (3 + convert) + _ENTRY

    def threads(self, s: ConvShape, target: Target) -> int:
        """Threads of the grid."""
        *outer, rows, columns = (1, *s.output)
        vectors = -(-s.oc // target.lanes) * (target.lanes // FOUR)
        return s.n * vectors * math.prod(outer) * -(-rows // self.rows) * columns

    def fits(self, s: ConvShape) -> bool:
        """Whether a thread's sums, and one column of taps with the input for it, stay in registers."""
        if self.rows > (s.output[-2] if len(s.output) > 1 else 1):
            return False
        needed = FOUR * (self.rows + kernel_rows(s) + self.input_rows(s))
        return self.rows == 1 or needed + _REGISTERS <= 200


def kernel_rows(s: ConvShape) -> int:
    """Taps below each other."""
    return s.kernel[-2] if len(s.kernel) > 1 else 1


def columns(s: ConvShape) -> Iterator[Column]:
    """All that fit."""
    for rows in range(1, MOST_ROWS + 1):
        if Column(rows).fits(s):
            yield Column(rows)


@cache
def best_column(s: ConvShape, target: Target) -> Column:
    """The column with the lowest predicted time, a thread's own included: nothing hides that of the last."""

    def seconds(column: Column) -> float:
        own = column.instructions(s, target) / clock(target.device)
        return column_seconds(s, column, target) + own

    return min(columns(s), key=seconds)


def column_seconds(s: ConvShape, column: Column, target: Target) -> float:
    """Predicted seconds of the arithmetic, and of the reads from L1 and L2."""
    gpu = target.device
    threads, size = column.threads(s, target), 16 * FOUR // target.lanes
    warps = -(-threads // WARP)
    each = -(-warps // gpu.sms)  # of a multiprocessor
    instructions = column.instructions(s, target)
    rate = gpu.float32_flops / gpu.sms / clock(gpu) / 2 / WARP  # instructions of a warp in a cycle
    issue = max(each * instructions / rate, instructions)
    reads = each * WARP * size * column.reads(s) / _L1_BYTES_A_CYCLE
    own_columns = min(s.strides[-1], s.kernel[-1])
    fetched = threads * size * (column.input_rows(s) * own_columns + column.rows)
    return max(max(issue, reads) / clock(gpu), fetched / gpu.l2_bandwidth)


MOST_ACROSS = 512
"""Threads of a block along a row."""


def even_part(count: int, most: int) -> int:
    """How many of `count` to take at a time, at most `most`, so that the last part is as full as may be."""
    parts = -(-count // max(most, 1))
    return -(-count // parts)


def clock(gpu: Gpu) -> float:
    """Cycles a second: the peak counts two operations for each of a multiprocessor's 64 or 128 units."""
    units = 64 if gpu.capability == 80 else 128
    return gpu.float32_flops / (2 * gpu.sms * units)
