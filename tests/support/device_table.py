"""Awkward layers for the schedules of a GPU. A new schedule is an entry in TABLE, which tests go through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from case import Case, f32
from device_jobs import DeviceJob, device
from layer_cases import conv

from convc.ir import Attrs, Step, opdef
from convc.lowering.base import Lowering
from convc.lowering.implicit_gemm import ImplicitGemm, ImplicitGemmMma, ImplicitGemmWgmma
from convc.ops.linear import GemmAttrs
from convc.schedules.base import Config
from convc.schedules.cuda import SCHEDULES
from convc.types import Shape, TensorType
from convc.workload import Workload

RELU = Step("relu")
Epilogue = tuple[Step, ...]


@dataclass(frozen=True)
class Row:
    """A layer, its epilogue, and fields that the configuration must have: the first such one of the space.

    Operands of the epilogue are like the output unless `operands` gives their shapes.
    """

    case: Case
    epilogue: Epilogue = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    operands: tuple[Shape, ...] = ()

    @property
    def id(self) -> str:
        """The case's, the steps and the fields."""
        steps = [step.op for step in self.epilogue]
        return "-".join([self.case.id, *steps, *(f"{k}{v}" for k, v in self.fields.items())])


def product(id: str, op: str, attrs: Attrs, *shapes: Shape, bias: bool = False) -> Case:
    """A fully connected layer; with `bias`, a constant one."""
    return Case(f"{op}-{id}", op, attrs, tuple(f32(*s) for s in shapes), (1, 2) if bias else (1,))


ADD, ADD_BIASED = ((Step("add", Attrs(), arity),) for arity in (2, 3))
"""Another tensor added, of the output's shape unless a row says otherwise, without and with a bias."""

CONVOLUTIONS = (
    Row(conv("5-to-33-batch2", (2, 5, 9, 7), (33, 5, 3, 3), pads=1, bias=True)),
    Row(conv("20-asymmetric", (1, 20, 11, 8), (20, 20, 3, 3), strides=(2, 1), pads=((0, 1), (2, 0)))),
    Row(conv("dilated", (1, 16, 12, 10), (16, 16, 3, 3), pads=(2, 3), dilations=(2, 3)), (RELU,)),
    Row(conv("7x7-first-layer", (1, 3, 21, 18), (24, 3, 7, 7), pads=3, strides=2, bias=True), (RELU,)),
    Row(conv("1x1", (3, 33, 5, 5), (40, 33, 1, 1), bias=True), ADD_BIASED),
    Row(conv("1x1-below-one-iteration", (1, 3, 4, 3), (5, 3, 1, 1)), (*ADD, RELU)),
    Row(conv("1x1-strided", (1, 16, 9, 9), (16, 16, 1, 1), strides=3)),
    Row(conv("one-row", (1, 64, 1, 1), (48, 64, 1, 1), bias=True)),
    Row(conv("larger-than-map", (1, 8, 3, 2), (16, 8, 5, 5), pads=2)),
    Row(conv("1d", (2, 3, 31), (17, 3, 5), pads=((4, 0),), dilations=2, bias=True), (RELU,)),
    Row(conv("3d", (1, 3, 4, 5, 6), (20, 3, 3, 2, 3), pads=((1, 1), (0, 1), (1, 0)), strides=(1, 2, 1))),
    Row(conv("groups-of-4", (1, 32, 7, 6), (32, 4, 3, 3), pads=1, groups=8, bias=True), (RELU,)),
    Row(conv("groups-of-24", (1, 48, 6, 5), (48, 24, 3, 3), pads=1, groups=2), ADD),
    Row(conv("groups-of-8-to-16", (2, 32, 7, 5), (64, 8, 3, 3), pads=1, groups=4, bias=True)),
    Row(conv("groups-of-5", (1, 15, 6, 6), (9, 5, 3, 3), pads=1, groups=3)),
    Row(conv("split", (1, 64, 9, 8), (33, 64, 3, 3), pads=1, bias=True), (*ADD_BIASED, RELU), {"split": 3}),
    Row(conv("split-groups", (1, 64, 7, 10), (64, 32, 3, 3), pads=1, groups=2), (RELU,), {"split": 2}),
)  # fmt: skip

CONVOLUTIONS += tuple(
    Row(conv(f"operand-{id}", (2, 8, 5, 6), (20, 8, 1, 1)), (*ADD, RELU), {}, (shape,))
    for id, shape in (("channels", (1, 20, 1, 1)), ("places", (1, 1, 5, 6)), ("row", (6,)), ("scalar", ()))
)

LINEAR = (
    Row(product("trans-b", "gemm", GemmAttrs(trans_b=True), (1, 40), (17, 40), (17,), bias=True)),
    Row(product("scaled", "gemm", GemmAttrs(0.5, 2.0), (3, 64), (64, 33), (3, 1), bias=True), (RELU,)),
    Row(product("65-rows", "gemm", GemmAttrs(trans_b=True), (65, 72), (130, 72), (1,), bias=True)),
    Row(product("bias-of-rows", "gemm", GemmAttrs(beta=0.5), (7, 16), (16, 20), (7, 20)), ADD_BIASED),
    Row(product("bias-in-full", "gemm", GemmAttrs(), (5, 32), (32, 64), (5, 64), bias=True), ADD_BIASED),
    Row(product("rows", "matmul", Attrs(), (2, 3, 11, 24), (24, 9)), ADD),
    Row(product("maps", "matmul", Attrs(), (2, 7, 7, 16), (16, 24)), ADD),
    Row(product("operand", "matmul", Attrs(), (3, 7, 16), (16, 24)), ADD, {}, ((7, 1),)),
    Row(product("one-row", "matmul", Attrs(), (1, 8), (8, 1))),
    Row(product("vector", "matmul", Attrs(), (1, 1, 96), (96, 50)), (RELU,)),
    Row(product("split", "gemm", GemmAttrs(), (6, 512), (512, 31), (31,), bias=True), (RELU,), {"split": 4}),
)  # fmt: skip


@dataclass(frozen=True)
class Tested:
    """A schedule's lowering, the precisions that it is for, and its layers.

    `multiply` is a pattern of the instruction that makes its products, by precision; `loads` is another that
    it uses. `serial` are options of `apply` without which a CPU could not run the program.
    """

    lowering: Lowering
    multiply: Mapping[str, str]
    rows: tuple[Row, ...]
    loads: str = ""
    serial: Mapping[str, Any] = field(default_factory=dict)
    architectures: tuple[str, ...] = ("sm_80", "sm_90")

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that it is for."""
        return tuple(self.multiply)

    def jobs(self, precision: str, arch: str = "sm_90") -> Iterator[DeviceJob]:
        """The kernels of all rows."""
        for row in self.rows:
            yield job_of(row, self.lowering, precision, arch)


def at_least(results: int, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows of which each channel has so many results."""

    def count(case: Case) -> int:
        (out,) = opdef(case.op).infer(case.attrs, case.inputs)
        return out.size // out.shape[1 if case.op == "conv" else -1]

    return tuple(row for row in rows if count(row.case) >= results)


MMA = {
    "tf32": r"\bmma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
    "float16": r"\bmma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "bfloat16": r"\bmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
}
WGMMA = {
    "tf32": r"wgmma.mma_async.sync.aligned.m64n\d+k8.f32.tf32.tf32",
    "float16": r"wgmma.mma_async.sync.aligned.m64n\d+k16.f32.f16.f16",
    "bfloat16": r"wgmma.mma_async.sync.aligned.m64n\d+k16.f32.bf16.bf16",
}
FRAGMENTS = {"tensorize": False}
ALL = (*CONVOLUTIONS, *LINEAR)

TABLE: dict[str, Tested] = {
    "implicit_gemm": Tested(ImplicitGemm(), {"float32": "fma.rn.f32"}, ALL),
    "implicit_gemm_mma": Tested(ImplicitGemmMma(), MMA, ALL, "ldmatrix.sync", FRAGMENTS),
    "implicit_gemm_wgmma": Tested(
        ImplicitGemmWgmma(), WGMMA, at_least(64, ALL), "fence.proxy.async.shared::cta;", FRAGMENTS, ("sm_90",)
    ),
}
CELLS = [(schedule, precision) for schedule, tested in TABLE.items() for precision in tested.precisions]


def job_of(row: Row, lowering: Lowering, precision: str, arch: str = "sm_90") -> DeviceJob:
    """A row's kernel: with the default configuration, or the first of the space that has the row's fields."""
    job = DeviceJob.of(row.case, lowering, device(precision, arch), row.epilogue)
    if row.operands:
        job = replace(job, workload=_with_operands(job, row.operands))
    reason = lowering.applies(job.workload, job.target)
    assert reason is None, f"{row.id}: {reason}"
    if not row.fields:
        return job
    fitting = (c for c in space(job) if all(getattr(c, k) == v for k, v in row.fields.items()))
    found = next(fitting, None)
    assert found is not None, f"no configuration of {row.id} has {row.fields}"
    return replace(job, config=found)


def _with_operands(job: DeviceJob, shapes: tuple[Shape, ...]) -> Workload:
    w = job.workload
    operands = (TensorType(shape, w.outputs[0].dtype) for shape in shapes)
    logical = replace(w, inputs=(*w.inputs[: w.arity], *operands))
    layouts = job.lowering.layouts(logical, job.target)
    return logical.stored_as(layouts.inputs, layouts.outputs)


def space(job: DeviceJob) -> Iterator[Config]:
    """All configurations of a job's schedule."""
    yield from SCHEDULES[job.lowering.schedule].space(job.workload, job.target)


def covering(job: DeviceJob) -> list[DeviceJob]:
    """The job under few configurations that together have each value of each field that the space has.

    Greedily: next comes the one with most values that none before it had.
    """
    left = [(config, set(vars(config).items())) for config in space(job)]
    missing = set().union(*(values for _, values in left))
    jobs = []
    while missing:
        config, values = max(left, key=lambda pair: len(pair[1] & missing))
        missing -= values
        jobs.append(replace(job, config=config))
    return jobs
