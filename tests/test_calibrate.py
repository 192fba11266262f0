"""Calibration: the probe does the work that it claims to time, and figures are kept, rounded and applied."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from convc.codegen import calibrate
from convc.codegen.calibrate import calibrated
from convc.codegen.figures import VARIABLE, Calibration, read, rounded
from convc.codegen.machine import linker, resolve, this_machine
from convc.errors import CompileError
from convc.progress import Progress
from convc.target import Target
from convc.unit import UNITS

HOST = Target("host", "x86_64-linux-gnu", "znver4", "avx512", 16, 32, (), 2)
FIGURES = Calibration(
    clock=3.7e9, core_flops=118e9, flops=113e9, broadcast_flops=112e9, unpacked_flops=95e9,
    l1_loads=3.6e9,
    l2_bandwidth=110e9, l2_copy_bandwidth=90e9, l3_bandwidth=60e9, l3_copy_bandwidth=50e9,
    core_memory_bandwidth=31e9, memory_bandwidth=55e9, memory_copy_bandwidth=45e9, launch_seconds=3e-7,
)  # fmt: skip


class Listener(Progress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    @contextmanager
    def stage(self, name: str, total: int = 1) -> Iterator[Callable[[], None]]:
        self.stages.append(name)
        yield lambda: None


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Target]:
    """An empty cache, and a machine that measures `FIGURES`; the list tells how often it was asked."""
    asked: list[Target] = []

    def measure(target: Target) -> Calibration:
        asked.append(target)
        return FIGURES

    monkeypatch.setattr(calibrate, "measure", measure)
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return asked


def test_a_machine_is_measured_once(measured: list[Target]):
    first, second = Listener(), Listener()
    target = calibrated(HOST, first)
    assert calibrated(HOST, second) == target
    assert target == FIGURES.apply(HOST)
    assert len(measured) == 1
    assert (first.stages, second.stages) == (["calibrate"], [])
    assert not first.notices


def test_another_machine_is_measured_anew(measured: list[Target], monkeypatch: pytest.MonkeyPatch):
    calibrated(HOST, Progress())
    calibrated(replace(HOST, l2=2 << 20), Progress())
    calibrated(replace(HOST, lanes=8, isa="avx2"), Progress())
    monkeypatch.setattr(calibrate, "available_cpus", lambda: 77)
    calibrated(HOST, Progress())
    monkeypatch.setattr(calibrate, "_cpu_name", lambda: "another")
    calibrated(HOST, Progress())
    assert len(measured) == 5
    calibrated(replace(HOST, threads=1, flops=1.0), Progress())
    assert len(measured) == 5


def test_a_damaged_file_is_replaced(measured: list[Target]):
    calibrated(HOST, Progress())
    path = calibrate.cached_at(HOST)
    for damage in ("", "{}", '{"figures": {}}', json.dumps({"figures": {**asdict(FIGURES), "flops": -1.0}})):
        path.write_text(damage)
        assert calibrated(HOST, Progress()) == FIGURES.apply(HOST)
        assert read(path) == FIGURES
    assert len(measured) == 5


def test_refreshing_measures_again(measured: list[Target]):
    calibrated(HOST, Progress())
    path, found = calibrate.refresh(HOST)
    assert (path, found, len(measured)) == (calibrate.cached_at(HOST), FIGURES, 2)


def test_named_targets_and_nominal_figures_are_left_alone(
    measured: list[Target], monkeypatch: pytest.MonkeyPatch
):
    named = resolve("haswell")
    assert calibrated(named, Progress()) is named
    monkeypatch.setenv(VARIABLE, "nominal")
    assert calibrated(HOST, Progress()) is HOST
    assert not measured


def test_failing_to_measure_leaves_nominal_figures_and_a_notice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    monkeypatch.delenv(VARIABLE, raising=False)
    listener = Listener()
    assert calibrated(HOST, listener) is HOST
    (notice,) = listener.notices
    assert "not calibrated, nominal figures decide" in notice
    assert "'false' failed" in notice
    assert not list(tmp_path.glob("calibration-*.json"))


def test_a_probe_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibrate, "_build", lambda path, target: path.write_bytes(b"no module"))
    with pytest.raises(CompileError, match=r"failed while calibrating: (.|\n)*is not a convc module"):
        calibrate.measure(HOST)


def test_rounding_is_to_five_percent():
    figures = [1.003**n for n in range(-6000, 9000, 7)]
    steps = sorted({rounded(f) for f in figures})
    assert all(abs(rounded(f) / f - 1) < 0.025 + 0.005 for f in figures)  # half a step, and three digits
    assert all(rounded(s) == s for s in steps)
    assert all(1.035 < b / a < 1.065 for a, b in itertools.pairwise(steps))


def test_fewer_threads_draw_less_from_memory():
    alike = replace(FIGURES, core_flops=FIGURES.flops)
    two, one = alike.apply(HOST), alike.apply(replace(HOST, threads=1))
    assert two.memory_bandwidth == 1.2 * rounded(31e9)
    assert one.memory_bandwidth == one.memory_copy_bandwidth == rounded(31e9)
    assert replace(one, threads=2, memory_bandwidth=two.memory_bandwidth,
                   memory_copy_bandwidth=two.memory_copy_bandwidth) == two  # fmt: skip


def test_every_figure_has_a_place_in_the_probe_and_in_the_target():
    source = calibrate._sources()["calibrate.c"]
    reported = re.search(r"enum \{ /\* figures(.*?)FIGURES", source, re.DOTALL)
    assert reported
    names = [name.lower() for name in re.findall(r"^  ([A-Z_0-9]+),", reported[1], re.MULTILINE)]
    assert names == [field.name for field in fields(Calibration)]
    assert {*names} - {field.name for field in fields(Target)} == {"clock", "core_flops"}


@pytest.mark.parametrize(
    ("isa", "lanes", "arithmetic", "broadcast"),
    [
        ("avx512", 16, r"vfmadd\w+\s+%zmm\d+, %zmm\d+, %zmm", r"vfmadd\w+\s+\d*\(.*\)\{1to16\}, %zmm"),
        ("avx2", 8, r"vfmadd\w+\s+%ymm\d+, %ymm\d+, %ymm", r"vbroadcastss\s+\d*\(.*\), %ymm"),
    ],
)
def test_the_probe_does_what_it_counts(isa: str, lanes: int, arithmetic: str, broadcast: str, tmp_path: Path):
    """Compilers merge equal sums and hoist what does not change: look for all twelve in the assembly."""
    flags = UNITS[isa].flags
    if UNITS[isa].architecture != this_machine().triple.split("-")[0]:
        pytest.skip("reads x86 assembly")
    for name, content in calibrate._sources().items():
        (tmp_path / name).write_text(content)
    sizes = [f"-DL{n}={2**p}UL" for n, p in ((1, 15), (2, 20), (3, 25))]
    command = [*linker(this_machine()).split(), "-O2", "-S", "-o", "-", *flags, f"-DLANES={lanes}UL",
               "-DTHREADS=2UL", "-DWORKSPACE=134217728UL", *sizes, str(tmp_path / "calibrate.c")]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def body(name: str) -> str:
        found = re.search(rf"^{name}:\n(.*?)^\s+ret$", text, re.DOTALL | re.MULTILINE)
        assert found, name
        return found[1]

    # a register is added, never a constant, and every instruction waits for the one before
    steps = re.findall(r"\s(\w+)\s+(\S+), (%\w+)$", body("add_and_rotate"), re.MULTILINE)
    chain = [step for step in steps if step[0] in ("add", "rol")]
    assert [name for name, _, _ in chain] == ["add", "rol"] * 12
    assert len({to for _, _, to in chain}) == 1
    assert len({source for name, source, _ in chain if name == "add"} - {chain[0][2]}) == 1
    assert all(source.startswith("%") for name, source, _ in chain if name == "add")
    assert len(re.findall(arithmetic, body("multiply_add"))) == 12
    assert len(re.findall(broadcast, body("multiply_add_broadcast"))) == 12
    assert len(re.findall(broadcast, body("multiply_add_unpacked"))) == 4 * 8
    assert len(re.findall(r"vps(ra|ll)d", body("multiply_add_unpacked"))) >= 4 + 3
    assert len(re.findall(r"vmovaps\s+\d*\(.*\), %.mm", body("read_all"))) == 8
    assert len(re.findall(r"vmovaps\s+%.mm\d+, \d*\(", body("copy"))) == 8
    assert "memcpy" not in body("copy")


def test_a_busy_machine_is_not_remembered(measured: list[Target], monkeypatch: pytest.MonkeyPatch):
    assert not FIGURES.disturbed
    for name, figure in (("flops", 40e9), ("memory_bandwidth", 15e9), ("launch_seconds", 1e-4)):
        monkeypatch.setattr(calibrate, "measure", lambda target, f={name: figure}: replace(FIGURES, **f))
        listener = Listener()
        assert calibrated(HOST, listener) is HOST
        (notice,) = listener.notices
        assert "too busy to be measured. Run `convc calibrate` when it is idle." in notice
        with pytest.raises(CompileError, match="too busy"):
            calibrate.refresh(HOST)
    assert not calibrate.cached_at(HOST).exists()


def test_the_verb_prints_and_keeps_what_was_measured(measured: list[Target]):
    from convc.cli.calibrate import command

    text = CliRunner().invoke(command, []).output
    assert re.search(r"^memory_bandwidth +55\.000  GB/s, reads of all cores together$", text, re.MULTILINE)
    assert re.search(r"^launch_seconds +0\.300  us", text, re.MULTILINE)
    path = calibrate.cached_at(this_machine())
    assert f"kept in {path}" in text
    assert json.loads(CliRunner().invoke(command, ["--json"]).output) == json.loads(path.read_text())
    assert json.loads(path.read_text())["figures"] == asdict(FIGURES)
    assert len(measured) == 2


def test_real_figures_are_possible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Bounds that a disturbed measurement cannot break: work that was optimised away would."""
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path))
    real = asdict(calibrate.measure(this_machine()))
    lanes = this_machine().lanes
    assert all(math.isfinite(v) and v > 0 for v in real.values())
    assert real["clock"] < 8e9
    units = 2 if this_machine().triple.startswith("x86_64") else 4
    for name in ("core_flops", "flops", "broadcast_flops", "unpacked_flops"):
        assert real[name] < 1.15 * 2 * units * lanes * real["clock"], name
    assert real["l1_loads"] < 1.15 * 4 * real["clock"]


def test_a_thread_alone_has_its_core_for_itself():
    """Where two processors are one core, each does half as much while both run."""
    halves = replace(FIGURES, core_flops=2 * FIGURES.flops)
    one, two = (halves.apply(replace(HOST, threads=n)) for n in (1, 2))
    for name in (
        "flops",
        "broadcast_flops",
        "unpacked_flops",
        "l1_loads",
        "l2_bandwidth",
        "l2_copy_bandwidth",
    ):
        assert getattr(one, name) == rounded(2 * getattr(FIGURES, name)), name
        assert getattr(two, name) == rounded(getattr(FIGURES, name)), name
    assert one.l3_bandwidth == two.l3_bandwidth


def test_processors_that_seem_to_share_a_core_are_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path))
    shared = replace(FIGURES, flops=FIGURES.flops / 2)
    for answers, kept, times in (
        ([FIGURES], FIGURES, 1),
        ([shared, FIGURES], FIGURES, 2),
        ([shared, shared, shared], shared, 3),  # threads of one core, always
    ):
        left = list(answers)
        monkeypatch.setattr(calibrate, "measure", lambda target, left=left: left.pop(0))
        assert calibrate.refresh(HOST)[1] == kept
        assert len(answers) - len(left) == times
