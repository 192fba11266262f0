"""Candidates that misbehave are recorded as what they are, and do no harm to those that do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bad_kernels
import numpy as np
import pytest
from bad_kernels import BUILDER_DIES, BUILDER_HANGS, GOOD, SLOW, behaving, measured

from convc.compilation import Compilation, plan
from convc.compiler import Options
from convc.frontends.builder import Network
from convc.progress import Progress
from convc.tune import measurer as measuring
from convc.tune.measurer import Builders, StationMeasurer, local_station
from convc.tune.station import Unusable
from convc.tune.tasks import Task, tasks
from convc.tune.trial import Outcome
from convc.tune.worker import Worker

EXPECTED = {
    10: (Outcome.TIMEOUT, "no answer within"),
    11: (Outcome.CRASH, "SIGSEGV"),
    12: (Outcome.CRASH, "SIGABRT"),
    13: (Outcome.OUT_OF_BOUNDS, "beside a result"),
    14: (Outcome.OUT_OF_BOUNDS, "beside a result"),
    15: (Outcome.WRONG, "is allowed"),
    16: (Outcome.WRONG, "off by inf"),
    17: (Outcome.WRONG, "later runs"),
    18: (Outcome.OUT_OF_BOUNDS, "an input was changed"),
    19: (Outcome.MEMORY, "not enough memory"),
    20: (Outcome.CRASH, "SIGABRT"),
    26: (Outcome.MEMORY, "killed each time"),
    BUILDER_DIES: (Outcome.BUILD, "SIGABRT"),
    BUILDER_HANGS: (Outcome.BUILD, "no answer within"),
}


@pytest.fixture(scope="module")
def compilation() -> Compilation:
    return bad_kernels.one_layer()


@pytest.fixture(scope="module")
def task(compilation: Compilation) -> Task:
    (found,) = tasks(compilation)
    return found


@pytest.fixture
def measurer(
    compilation: Compilation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StationMeasurer]:
    """Impatient with what hangs, and patient with the rest on a slow machine."""
    ask = Worker.ask

    def asked(self: Worker, method: str, *arguments: Any, timeout: float) -> Any:
        hangs = method == "build" and arguments[0].config.get("threads") == BUILDER_HANGS
        return ask(self, method, *arguments, timeout=1.0 if hangs else timeout)

    monkeypatch.setattr(Worker, "ask", asked)
    builders = bad_kernels.builders(compilation, tmp_path)
    with StationMeasurer(builders, [local_station(run_seconds=6.0)]) as made:
        yield made


def test_each_misdeed_has_its_name(measurer: StationMeasurer, task: Task) -> None:
    found = measured(measurer, task, [*EXPECTED, GOOD, SLOW])
    for number, (outcome, words) in EXPECTED.items():
        assert found[number].outcome is outcome, (number, found[number])
        assert words in found[number].message
        assert found[number].seconds is None
    assert found[GOOD].outcome is found[SLOW].outcome is Outcome.OK
    relative = found[SLOW].relative
    assert relative is not None
    assert relative.middle == pytest.approx(1.5)


def test_a_process_that_somebody_kills_costs_no_candidate(measurer: StationMeasurer, task: Task) -> None:
    """While it is tried for the first time, and while several are timed."""
    found = measured(measurer, task, [GOOD, 27, SLOW, 28])
    assert {number: result.outcome for number, result in found.items()} == dict.fromkeys(
        [GOOD, 27, SLOW, 28], Outcome.OK
    )


def test_one_that_fails_late_does_not_take_others_along(measurer: StationMeasurer, task: Task) -> None:
    found = measured(measurer, task, [GOOD, 20, SLOW, 17])
    assert {n: r.outcome.value for n, r in found.items()} == {
        GOOD: "ok", 20: "crash", SLOW: "ok", 17: "wrong",
    }  # fmt: skip


def test_one_that_crashes_last_does_not_take_others_along(measurer: StationMeasurer, task: Task) -> None:
    found = measured(measurer, task, [GOOD, 11])
    assert (found[GOOD].outcome, found[11].outcome) == (Outcome.OK, Outcome.CRASH)


def test_an_untuned_choice_that_fails_ends_the_layer(measurer: StationMeasurer, task: Task) -> None:
    bad = replace(task, candidates=(behaving(task, 15), behaving(task, GOOD)))
    with pytest.raises(Unusable, match="wrong: off by"):
        list(measurer.measure(bad, bad.candidates))


def test_real_candidates_are_right_and_timed(compilation: Compilation, tmp_path: Path) -> None:
    net = Network("conv", seed=0)
    x = net.input("x", (2, 19, 11, 9))
    net.output(net.relu(net.add(net.conv(x, 24, 3, padding=1), net.conv(x, 24, 1))))
    net.output(net.conv_transpose(x, 8, 2, stride=2))
    planned = plan(net.graph, Options(threads=2), Progress())
    builders = Builders(planned.target, 1 << 20, tmp_path)
    with StationMeasurer(builders, [local_station()]) as measurer:
        for one in tasks(planned):
            by_lowering = {c.lowering.name: c for c in reversed(one.candidates)}
            chosen = list(dict.fromkeys((*by_lowering.values(), one.candidates[-1])))
            found = dict(measurer.measure(one, chosen))
            assert len(found) == len(chosen) > 1
            for candidate, result in found.items():
                assert result.outcome is Outcome.OK, (candidate.variant, result)
                assert result.seconds is not None
                assert 0 < result.seconds < 1
                assert result.error is not None
                assert result.error <= 1e-4
                assert result.relative is not None
                assert result.relative.low <= result.relative.middle <= result.relative.high


def test_examples_are_float64_results(task: Task) -> None:
    inputs, expected = measuring.example(task)
    np.testing.assert_array_equal(expected[0], np.maximum(inputs[0], 0))
