"""What a trial found must hold in the network: layers that are slower in place get another choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formula_measurer import FormulaMeasurer

from convc import compiler
from convc.compilation import Compilation, plan
from convc.compiler import Options
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.progress import Progress
from convc.tune import autotune, settle
from convc.tune.database import Database
from convc.tune.judge import Interval
from convc.tune.records import TunedRecords, machine_of, records_of
from convc.tune.settle import LEAST_RUNS, Comparison, Profile, compare, corrections
from convc.tune.tasks import tasks
from convc.tune.trial import Trial
from convc.tune.tuner import Budget, Tuner
from convc.tune.worker import Died

OPTIONS = Options(threads=2)
ROUNDS = 20


def network() -> Graph:
    """Two layers of equal work among others."""
    net = Network("twins", seed=4)
    x = net.relu(net.conv(net.input("image", (1, 3, 20, 18)), 16, 3, padding=1))
    for _ in range(2):
        x = net.relu(net.conv(x, 16, 3, padding=1))
    x = net.relu(net.conv(x, 40, 1, stride=2))
    net.output(net.linear(net.flatten(net.global_average_pool(x)), 7))
    return net.graph


@pytest.fixture(autouse=True)
def machine(stand_in: Callable[[str], None]) -> None:
    """What is changed by tuning, and what then is the second best, depends on it."""
    stand_in("znver4")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Trials of the network, by formula: many a layer is faster tuned."""
    untuned = planned()
    with Database.open(tmp_path / "tuning.db") as opened:
        machine = machine_of(untuned.target)
        Tuner(tasks(untuned), machine, opened, FormulaMeasurer(), Budget(None, 60)).run()
        yield opened


def planned(records: TunedRecords | None = None) -> Compilation:
    return plan(network(), replace(OPTIONS, records=records), Progress())


def described(compilation: Compilation) -> dict[str, tuple[str, Mapping[str, int]]]:
    return {p.name: (p.chosen, p.config) for p in compiler.layer_plans(compilation)}


def differing(tuned: Compilation, untuned: Compilation) -> list[str]:
    mine, other = described(tuned), described(untuned)
    return [name for name in mine if mine[name] != other[name]]


def ran(tuned: Compilation, times: Callable[[str], float], wander: float = 0.001) -> Comparison:
    """Both networks in turns: each step takes 1 ms untuned, and so many times that tuned."""
    steps = compiler.describe(tuned).steps
    noise = 1 + wander * np.random.default_rng(0).standard_normal((ROUNDS, len(steps)))
    usual = 1e-3 * np.ones((ROUNDS, len(steps)))
    return Comparison(Profile(steps, usual * noise * [times(s) for s in steps]), Profile(steps, usual))


def corrected(database: Database, times: Callable[[str], float], wander: float = 0.001) -> list[Trial]:
    tuned = planned(records_of(database))
    return corrections(tuned, planned(), ran(tuned, times, wander), keys(tuned), database)


def keys(compilation: Compilation) -> set[str]:
    return {choice.workload.key for choice in compilation.choices.values()}


def test_a_layer_that_is_slower_in_place_gets_another_choice(database: Database) -> None:
    tuned = planned(records_of(database))
    slow = differing(tuned, planned())[0]
    found = corrected(database, lambda step: 1.3 if step == slow else 0.9)
    assert len(found) == 1
    node = next(n for n in tuned.choices if n.name == slow)
    (trial,) = found
    assert trial.layer == tuned.choices[node].workload.key
    database.add(trial)
    assert described(planned(records_of(database)))[slow] != described(tuned)[slow]
    others = {name: how for name, how in described(tuned).items() if name != slow}
    again = described(planned(records_of(database)))
    assert {name: again[name] for name in others} == others


def test_the_time_is_the_untuned_choice_s_times_the_ratio(database: Database) -> None:
    slow = differing(planned(records_of(database)), planned())[0]
    (trial,) = corrected(database, lambda step: 1.3 if step == slow else 1.0)
    untuned = next(t for t in database.trials() if t.layer == trial.layer)
    assert trial.seconds is not None
    assert untuned.seconds is not None
    assert trial.seconds == pytest.approx(1.3 * untuned.seconds, rel=1e-3)
    assert trial.low <= trial.seconds <= trial.high
    assert trial.runs == ROUNDS
    assert trial.message == "in the network"


@pytest.mark.parametrize(("times", "wander"), [(0.9, 0.001), (1.0, 0.05)], ids=["faster", "unclear"])
def test_what_holds_stays(times: float, wander: float, database: Database) -> None:
    assert corrected(database, lambda step: times, wander) == []


def test_layers_that_are_as_untuned_are_left(database: Database) -> None:
    changed = differing(planned(records_of(database)), planned())
    assert corrected(database, lambda step: 0.9 if step in changed else 2.0) == []


def test_layers_of_equal_work_are_judged_together(database: Database) -> None:
    tuned = planned(records_of(database))
    changed = differing(tuned, planned())
    alike: dict[tuple[str, str], list[str]] = {}
    for node, choice in tuned.choices.items():
        if node.name in changed:
            alike.setdefault((choice.workload.key, str(described(tuned)[node.name])), []).append(node.name)
    pair = next(names for names in alike.values() if len(names) > 1)
    assert corrected(database, lambda step: {pair[0]: 1.2, pair[1]: 0.7}.get(step, 1.0)) == []
    assert len(corrected(database, lambda step: {pair[0]: 1.4, pair[1]: 0.7}.get(step, 1.0))) == 1


def test_tuning_goes_on_until_all_holds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this network whatever is not untuned is slower. No module is needed to say so."""
    monkeypatch.setattr(settle, "ROUNDS", 1000)
    monkeypatch.setattr(settle, "build", lambda *_, **__: None)
    untuned, compared = planned(), []

    def compare(path: Path, other: Path) -> Comparison:
        tuned = planned(records_of(database))
        slow = differing(tuned, untuned)
        compared.append(slow)
        return ran(tuned, lambda step: 1.2 if step in slow else 1.0, wander=0.0)

    monkeypatch.setattr(settle, "compare", compare)
    before = len(database.trials())
    tuned = autotune.autotune(network(), OPTIONS, time_budget=1e-9, database=database.path)
    assert len(compared) > 1
    assert compared[-1] == []
    assert tuned.kept
    assert set(tuned.withdrawn) == {t.workload for t in database.trials()[before:]}
    plans = {p.name: (p.chosen, p.config) for p in tuned.module.plan}
    assert plans == described(untuned)


def test_the_fastest_of_the_networks_is_taken(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All corrections but the first make it worse, and there is none after the last comparison."""
    untuned, ratios = planned(), [1.1, 0.8, 0.9]
    monkeypatch.setattr(settle, "ROUNDS", len(ratios))
    monkeypatch.setattr(settle, "build", lambda *_, **__: None)
    networks, counts, left = [], [], iter(ratios)

    def compare(path: Path, other: Path) -> Comparison:
        tuned, time = planned(records_of(database)), next(left)
        slow = differing(tuned, untuned)
        networks.append(described(tuned))
        counts.append(len(database.trials()))
        many = len(compiler.describe(tuned).steps) - len(slow)
        rest = (time * (many + len(slow)) - 1.2 * len(slow)) / many
        return ran(tuned, lambda step: 1.2 if step in slow else rest)

    monkeypatch.setattr(settle, "compare", compare)
    tuned = autotune.autotune(network(), OPTIONS, time_budget=1e-9, database=database.path)
    assert tuned.ratio is not None
    assert tuned.ratio.middle == pytest.approx(0.8, rel=0.01)
    assert {p.name: (p.chosen, p.config) for p in tuned.module.plan} == networks[1] != networks[2]
    assert len(database.trials()) == counts[-1]


def test_what_is_known_to_be_slower_is_not_corrected_again(database: Database) -> None:
    """It was chosen for the sake of other layers."""
    slow = differing(planned(records_of(database)), planned())[0]
    records, times = records_of(database), lambda step: 1.3 if step == slow else 1.0
    tuned = planned(records)
    (trial,) = corrections(tuned, planned(), ran(tuned, times), keys(tuned), database)
    database.add(trial)
    assert corrections(tuned, planned(), ran(tuned, times), keys(tuned), database) == []


def test_layers_that_were_not_asked_for_are_left(database: Database) -> None:
    tuned = planned(records_of(database))
    assert corrections(tuned, planned(), ran(tuned, lambda step: 1.3), set(), database) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Died("signal 9")], ids=["interrupt", "crash"])
def test_a_comparison_may_be_cut_short(
    error: BaseException, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(path: Path, other: Path) -> Comparison:
        raise error

    monkeypatch.setattr(settle, "compare", compare)
    tuned = autotune.autotune(network(), OPTIONS, time_budget=1e-9, database=database.path)
    assert (tuned.ratio, tuned.kept, tuned.withdrawn) == (None, True, ())
    assert any(p.measured for p in tuned.module.plan)


def test_two_modules_are_compared_step_by_step(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "MOST_RUNS", LEAST_RUNS)
    paths = []
    for name, records in (("tuned.so", records_of(database)), ("untuned.so", None)):
        compiler.build(planned(records), tmp_path / name, Progress(), verify=False)
        paths.append(tmp_path / name)
    found = compare(*paths)
    assert found.untuned.steps == compiler.describe(planned()).steps
    assert found.tuned.seconds.shape[0] == found.untuned.seconds.shape[0] >= LEAST_RUNS
    assert (found.tuned.seconds > 0).all()
    whole = found.of({*found.tuned.steps, *found.untuned.steps})
    assert whole.middle == pytest.approx(found.whole.middle, rel=1e-9)
    assert isinstance(found.whole, Interval)
