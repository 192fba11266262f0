"""Layers measured alone: every candidate runs, in one module, and computes the layer. No time is asserted."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from convc import compiler
from convc.compilation import Compilation, plan
from convc.errors import CompileError
from convc.frontends.builder import Network
from convc.progress import Progress
from convc.report import measure
from convc.report.measure import candidates, measured


@pytest.fixture(scope="module")
def compilation() -> Compilation:
    """A residual block with two equal convolutions, a pooling and a linear layer."""
    net = Network("block", seed=1)
    x = net.input("image", (1, 16, 14, 14))
    for index in range(2):
        x = net.relu(net.conv(x, 16, 3, padding=1, name=f"body{index}"))
    y = net.add(net.conv(x, 16, 1, name="shortcut"), x, name="sum")
    net.output(net.linear(net.global_average_pool(y, name="pool"), 5, name="head"), "scores")
    options = compiler.Options(threads=2, all_errors=True)
    return plan(net.graph, options, Progress())


@pytest.mark.parametrize("name", ["body1", "shortcut", "pool", "head"])
def test_every_candidate_is_measured_and_right(compilation: Compilation, name: str) -> None:
    (plan,) = (p for p in compiler.layer_plans(compilation) if name in (p.name, *p.origin))
    node = compilation.graph.node(plan.name)
    names = candidates(node, plan)
    trials = measure.measure(compilation, node, names, errors=True, warm=("direct",))
    assert set(trials) == set(names)
    assert [name for name, trial in trials.items() if trial.warm_seconds] == ["direct"] * ("direct" in names)
    for lowering, trial in trials.items():
        assert trial.seconds > 0
        assert trial.error is not None
        # 16 x 9 products at most, and Winograd's transforms at tiles of up to 8
        assert trial.error < (1e-4 if lowering.startswith("winograd") else 145 * np.finfo("f4").eps)
    if name == "body1":
        assert trials["winograd4"].error != trials["direct"].error


def test_equal_layers_are_measured_once(compilation: Compilation, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake(_: object, node: object, names: tuple[str, ...]) -> dict[str, measure.Trial]:
        asked.append(node.name)  # type: ignore[attr-defined]
        return {name: measure.Trial(0.001 * len(asked)) for name in names}

    monkeypatch.setattr(measure, "measure", fake)
    plans = compiler.layer_plans(compilation)
    found = {p.name: p for p in measured(compilation, plans)}
    assert asked.count("body0") + asked.count("body1") == 1
    assert len(asked) == len(set(asked))
    for row in found.values():
        for c in row.candidates:
            assert (c.measured_ms is None) == (c.predicted_ms is None)
    times = [{c.measured_ms for c in found[f"body{i}"].candidates if c.predicted_ms} for i in (0, 1)]
    assert times[0] == times[1]


def test_work_is_equal_however_it_is_stored(compilation: Compilation) -> None:
    node = compilation.graph.node("body0")
    work = compilation.choices[node].workload
    plain = work.unplaced
    assert "{c" not in str(plain)
    assert plain.unplaced == plain
    assert replace(work, outputs=plain.outputs).unplaced == plain


def test_a_kernel_that_crashes_is_named(compilation: Compilation, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], -11, "", "")

    node = compilation.graph.node("head")
    monkeypatch.setattr(measure.subprocess, "run", crash)
    with pytest.raises(CompileError, match=r"Layer 'head' could not be measured: exit status -11"):
        measure._profile(measure.Path("."), 1, node.name)
