"""All lowerings for CPUs and for CUDA devices. Order breaks ties between equal prices."""

from __future__ import annotations

from convc.lowering.base import Lowering
from convc.lowering.device_depthwise import DeviceDepthwise
from convc.lowering.device_fft import DeviceFft
from convc.lowering.device_gemv import DeviceGemv
from convc.lowering.device_generic import DeviceGeneric
from convc.lowering.device_winograd import DeviceWinograd2, DeviceWinograd4
from convc.lowering.direct import Direct
from convc.lowering.fft import Fft
from convc.lowering.generic import Generic
from convc.lowering.grouped import Grouped
from convc.lowering.im2col import Im2col
from convc.lowering.implicit_gemm import ImplicitGemm, ImplicitGemmMma, ImplicitGemmWgmma
from convc.lowering.linear import Gemm, Gemm24
from convc.lowering.separable import Separable
from convc.lowering.transpose import DirectTranspose
from convc.lowering.winograd import Winograd2, Winograd2In24, Winograd4, Winograd4In24, Winograd6
from convc.lowering.winograd_rows import WinogradRows
from convc.target import Target

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

CUDA_LOWERINGS: tuple[Lowering, ...] = (
    DeviceDepthwise(),
    DeviceGemv(),
    ImplicitGemm(),
    ImplicitGemmWgmma(),
    ImplicitGemmMma(),
    DeviceWinograd2(),
    DeviceWinograd4(),
    DeviceFft(),
    DeviceGeneric(),
)


def lowerings(target: Target) -> tuple[Lowering, ...]:
    """The lowerings that could be chosen for a target."""
    return LOWERINGS if target.gpu is None else CUDA_LOWERINGS
