"""How the weights of a kernel are stored, and what it costs to read them."""

from __future__ import annotations

from dataclasses import dataclass

from convc.target import Target


@dataclass(frozen=True)
class Storage:
    """A format of weights. `rows` consecutive rows of vectors become float32 together, in registers."""

    bits: int
    """Of a weight."""
    rows: int
    temporaries: int
    """Registers that unpacking needs for itself."""

    def nbytes(self, count: int, target: Target) -> float:
        """Bytes to fetch for `count` weights: no fewer than of float32 where caches keep those."""
        whole = 4 * count
        return whole if whole <= target.threads * target.l2 else whole * self.bits / 32

    def unpacking(self, target: Target) -> float:
        """Multiply-adds in whose time a vector becomes float32: few where other ports do it beside them."""
        if self.rows == 1:
            return 0.0
        return SEEN * max(0.0, 8 * (target.broadcast_flops / target.unpacked_flops - 1))


SEEN = 0.25
"""Part of unpacking that kernels show, which meanwhile read a quarter less from L2.

Winograd of 512 channels at 28x28, which waits for nothing else, in tiles of 7 on Zen 5: 1.02 times the time
of float32, 128 channels 1.02 to 1.03 times, where unpacking alone takes as long as 1.5 multiply-adds.
"""


FLOAT32 = Storage(32, 1, 0)
FLOAT24 = Storage(24, 4, 3)
"""Three quarters of the bytes, for layers that wait for memory; `convc.lowering.weights` has the format."""
