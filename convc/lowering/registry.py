"""All lowerings. Order breaks ties between equal prices."""

from __future__ import annotations

from convc.lowering.base import Lowering
from convc.lowering.direct import Direct
from convc.lowering.fft import Fft
from convc.lowering.generic import Generic
from convc.lowering.grouped import Grouped
from convc.lowering.im2col import Im2col
from convc.lowering.linear import Gemm, Gemm24
from convc.lowering.separable import Separable
from convc.lowering.transpose import DirectTranspose
from convc.lowering.winograd import Winograd2, Winograd2In24, Winograd4, Winograd4In24, Winograd6
from convc.lowering.winograd_rows import WinogradRows

LOWERINGS: tuple[Lowering, ...] = (
    Direct(),
    Grouped(),
    DirectTranspose(),
    Im2col(),
    Winograd2(),
    Winograd4(),
    Winograd6(),
    Winograd2In24(),
    Winograd4In24(),
    WinogradRows(),
    Fft(),
    Separable(),
    Gemm(),
    Gemm24(),
    Generic(),
)
