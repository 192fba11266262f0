"""A change of the code of a lowering's kernels is a new version: older times are those of other kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tvm_ffi

from convc.codegen.kernel import Kernel, scheduled
from convc.codegen.machine import resolve
from convc.compilation import fusions
from convc.compiler import Options
from convc.frontends.builder import Network
from convc.lowering.base import Lowering
from convc.lowering.registry import CUDA_LOWERINGS, LOWERINGS
from convc.passes.pipeline import PIPELINE, run_pipeline
from convc.plan.select import Selector
from convc.schedules.registry import schedules
from convc.types import Array
from convc.workload import Workload

KNOWN = {
    "haswell Direct": (1, 11846434752022305838),
    "haswell Grouped": (1, 17467231516206890122),
    "haswell DirectTranspose": (1, 1495078487847454434),
    "haswell Im2col": (1, 124593044849725882),
    "haswell Winograd2": (1, 18273585329800305200),
    "haswell Winograd4": (1, 1755272208461163454),
    "haswell Winograd6": (1, 3223440053516499963),
    "haswell Winograd2In24": (1, 14463798939672430614),
    "haswell Winograd4In24": (1, 4889706329162677936),
    "haswell WinogradRows": (1, 11478026957280908417),
    "haswell Fft": (1, 7204743901770135247),
    "haswell Separable": (1, 5026208735421620985),
    "haswell Gemm": (2, 13816886585094660107),
    "haswell Gemm24": (2, 1865414174158814234),
    "haswell Generic": (1, 4212519758726508648),
    "cuda DeviceDepthwise": (1, 2957841939980275108),
    "cuda DeviceGemv": (1, 17333433227956468196),
    "cuda ImplicitGemm": (1, 5105455724920051976),
    "cuda ImplicitGemmWgmma": (1, 6118250527066425038),
    "cuda ImplicitGemmMma": (1, 802023844595308971),
    "cuda DeviceWinograd2": (1, 2588282686839972794),
    "cuda DeviceWinograd4": (1, 13137601552991436062),
    "cuda DeviceFft": (1, 11485037492937372521),
    "cuda DeviceGeneric": (1, 15180778764845901755),
}
"""The version of each lowering, and the structural hash of an example of its kernels."""


Layer = tuple[Workload, list[Array | None]]


def layers(name: str, precision: str) -> Iterator[Layer]:
    """Small layers of many kinds, with their constants; every lowering computes one of them."""
    net = Network("kinds", seed=0)
    x, image = net.input("x", (1, 32, 14, 14)), net.input("image", (1, 3, 28, 28))
    made = [
        net.conv(x, 48, 3, padding=1),
        net.conv(x, 32, 3, padding=1, groups=32),
        net.conv(x, 32, 3, padding=1, groups=8),
        net.conv(x, 32, 9, padding=4),
        net.conv(image, 16, 7, stride=2, padding=3),
        net.conv_transpose(x, 16, 2, stride=2),
        net.linear(net.flatten(net.global_average_pool(x)), 64),
        net.conv(net.conv(x, 64, 1), 64, 3, padding=1, groups=64),
    ]
    for value in made:
        net.output(value)
    options = Options(target=name, precision=precision)
    run_pipeline(net.graph, (*PIPELINE, *fusions(options, resolve(name, 2, precision))))
    for node in net.graph.nodes:
        yield Workload.of(net.graph, node), [net.graph.constant(value) for value in node.inputs]


def example(lowering: Lowering, name: str, precision: str) -> int:
    """The hash of the first of the layers that this lowering computes."""
    target = resolve(name, 2, precision)
    for work, constants in layers(name, precision):
        if work.op not in lowering.ops or lowering.applies(work, target) is not None:
            continue
        options = Selector(target).every(work, constants, lowering.name)
        work = next(o.workload for o in options if o.lowering is lowering)
        schedule = schedules(target)[lowering.schedule]
        config = schedule.default(work, target)
        kernel = Kernel(lowering.name, lowering.schedule, work, config, (), target)
        return int(tvm_ffi.structural_hash(scheduled(kernel, lowering, schedule), map_free_vars=True))
    raise AssertionError(f"no layer for {lowering.name}: add one to `layers`")


CASES = [
    *(("haswell", "float32", lowering) for lowering in LOWERINGS),
    *(
        ("cuda:sm_90", "float16" if "gemm_" in lowering.name else "float32", lowering)
        for lowering in CUDA_LOWERINGS
    ),
]


@pytest.mark.parametrize(
    ("name", "precision", "lowering"),
    CASES,
    ids=[f"{t.split(':')[0]}-{type(lw).__name__}" for t, _, lw in CASES],
)
def test_a_change_of_code_is_a_new_version(name: str, precision: str, lowering: Lowering) -> None:
    found = lowering.version, example(lowering, name, precision)
    key = f"{name.split(':')[0]} {type(lowering).__name__}"
    assert KNOWN.get(key) == found, (
        f"The kernels of '{lowering.name}' have other code than when they were version {lowering.version}: "
        f"raise `version` in its class, and write '{key}': ({lowering.version + 1}, {found[1]})."
    )
