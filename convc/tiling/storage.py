"""How the weights of a kernel are stored, and what it costs to read them."""

from __future__ import annotations

from dataclasses import dataclass

from convc.dtype import FLOAT32
from convc.target import Target


@dataclass(frozen=True)
class Storage:
    """A format of weights: `rows` rows of vectors are stored together and become float32 together."""

    bits: int
    """Bits of a weight."""
    rows: int
    temporaries: int
    """Vector registers that making them float32 takes, beside those for the rows themselves."""

    @property
    def words(self) -> int:
        """Rows of 32-bit words that hold `rows` rows of weights."""
        return self.rows * self.bits // 32

    def fetched(self, count: int, target: Target) -> float:
        """Bytes of `count` weights that are waited for.

        Those that the L2 caches could hold as float32 count as such: in a network of such layers they may
        stay there, and a shorter format then only costs.
        """
        whole = FLOAT32.nbytes * count
        return whole if whole <= target.threads * target.l2 else whole * self.bits / 32

    def unpacking(self, target: Target) -> float:
        """Multiply-adds in whose time a vector becomes float32: few where other ports do it beside them."""
        if self.rows == 1:
            return 0.0
        return SEEN * max(0.0, 8 * (target.broadcast_flops / target.unpacked_flops - 1))


SEEN = 0.25
"""Part of unpacking that kernels show, which meanwhile read a quarter less from L2.

Winograd of 512 channels at 28x28, which waits for nothing else and spends four fifths in its product, took
1.02 times as long as with float32 in tiles of 7 on Zen 5, 128 channels 1.02 to 1.03 times: 0.2 multiply-adds
a vector, where unpacking alone takes as long as 1.5. A quarter leaves ties to float32, which is more exact.
"""


UNPACKED = Storage(32, 1, 0)
FLOAT24 = Storage(24, 4, 3)
"""Three quarters of the bytes, for layers that wait for memory; `convc.lowering.weights` has the format."""
