"""The search: what it proposes, in which order, and that it finds what there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from formula_measurer import seconds_of

from convc.compilation import plan
from convc.compiler import Options
from convc.frontends.builder import Network
from convc.progress import Progress
from convc.tune.grid import Grid
from convc.tune.judge import interval, ratio, winner
from convc.tune.model import LayerModel
from convc.tune.search import RANKED, Search
from convc.tune.tasks import Task, tasks
from convc.tune.trial import Machine, Outcome, Trial, Variant


@pytest.fixture(scope="module")
def task() -> Task:
    net = Network("conv", seed=0)
    net.output(net.conv(net.input("x", (1, 64, 28, 28)), 64, 3, padding=1))
    options = Options(target="znver5", threads=2)  # the candidates are those of one machine
    found = tasks(plan(net.graph, options, Progress()))
    return max(found, key=lambda t: len(t.candidates))


def test_candidates_start_with_the_untuned_choice_and_ascend(task: Task) -> None:
    plan = {c.lowering.name for c in task.candidates}
    assert {"direct", "winograd4", "winograd2"} <= plan
    prices = [c.predicted for c in task.candidates[1:]]
    assert prices == sorted(prices)
    assert len({c.variant for c in task.candidates}) == len(task.candidates)
    assert task.untuned.predicted <= prices[0] * 1.0001


def test_the_first_are_the_untuned_choice_and_the_cheapest(task: Task) -> None:
    assert Search(task, 0).propose(4) == list(task.candidates[:RANKED])
    seed = task.candidates[30].variant
    search = Search(task, 0)
    search.suggest([seed, Variant("direct", "?", "{}")])
    assert search.propose(2) == [task.untuned, task.candidates[30]]


def test_no_candidate_is_proposed_twice_and_the_search_ends(task: Task) -> None:
    search, seen = Search(task, 0), []
    while batch := search.propose(4):
        seen += batch
        for candidate in batch:
            search.learn(candidate.variant, seconds_of(task, candidate))
        assert len(seen) <= len(task.candidates)
    variants = [c.variant for c in seen]
    assert len(variants) == len(set(variants))
    assert search.gain == 0


def test_few_trials_find_nearly_the_best(task: Task) -> None:
    """A landscape whose optimum is not where the model has it, but smooth in the configurations' numbers."""
    target = task.candidates[len(task.candidates) // 3]
    grid = Grid(task.candidates)
    place = task.candidates.index(target)

    def truth(number: int) -> float:
        alike = bool(grid.alike[place, number])
        far = float(grid.distances[place, number]) if alike else 40.0
        return task.untuned.predicted * (0.6 + 0.02 * far)

    search, best, tried = Search(task, 0), np.inf, 0
    while tried < 60 and (batch := search.propose(4)):
        for candidate in batch:
            seconds = truth(task.candidates.index(candidate))
            best, tried = min(best, seconds), tried + 1
            search.learn(candidate.variant, seconds)
    least = min(truth(n) for n in range(len(task.candidates)))
    random = np.random.default_rng(0).choice(len(task.candidates), 60, replace=False)
    assert best <= 1.05 * least
    assert best <= min(truth(int(n)) for n in random)


def test_lowerings_are_tried_before_all_is_tried_of_the_cheapest() -> None:
    """A lowering is an error of the model by itself, which no configuration of another one tells of."""
    net = Network("strided", seed=0)
    net.output(net.conv(net.input("x", (1, 128, 56, 56)), 128, 3, stride=2, padding=1))
    options = Options(target="znver5", threads=2)  # where several lowerings are priced alike
    task = tasks(plan(net.graph, options, Progress()))[0]
    near = {c.lowering.name for c in task.candidates if c.predicted < 1.15 * task.untuned.predicted}
    search, tried = Search(task, 0), set()
    for _ in range(2):
        for candidate in search.propose(RANKED):
            tried.add(candidate.lowering.name)
            search.learn(candidate.variant, candidate.predicted)
    assert len(near) > 2
    assert near <= tried


def test_failures_are_not_proposed_again(task: Task) -> None:
    search = Search(task, 0)
    (untuned, *others) = search.propose(4)
    search.learn(untuned.variant, 1.0)
    for candidate in others:
        search.learn(candidate.variant, None)
    assert search.best == 1.0
    assert not set(search.propose(8)) & {untuned, *others}


def test_the_same_seed_takes_the_same_steps(task: Task) -> None:
    def steps(seed: int) -> list[Variant]:
        search, found = Search(task, seed), []
        for _ in range(40):
            for candidate in search.propose(4):
                found.append(candidate.variant)
                search.learn(candidate.variant, seconds_of(task, candidate))
        return found

    assert steps(3) == steps(3)


def test_the_model_learns_from_neighbours(task: Task) -> None:
    grid = Grid(task.candidates)
    model = LayerModel(task.candidates, grid)
    prices = np.array([c.predicted for c in task.candidates])
    np.testing.assert_allclose(model.expected(), prices, rtol=1e-9)
    model.learn(0, 2 * prices[0])
    scale = model.expected() / prices
    assert scale[0] == pytest.approx(2, rel=0.05)
    alike = grid.alike[0]
    assert scale[alike].min() > scale[~alike].max() > 1  # of the layer's error all have a part
    near, far = np.argsort(np.where(alike, grid.distances[0], np.inf))[[1, alike.sum() - 1]]
    assert scale[near] > scale[far]
    assert model.improvement()[0] == 0


def test_neighbours_are_a_step_away_and_children_between(task: Task) -> None:
    grid = Grid(task.candidates)
    random = np.random.default_rng(0)
    for number in range(0, len(task.candidates), 7):
        for other in grid.neighbours(number):
            assert grid.alike[number, other]
            assert other != number
            assert number in grid.neighbours(other)
        assert grid.alike[number, grid.child(number, 0, random)]
        assert grid.child(number, number, np.random.default_rng(5)) in range(len(task.candidates))


def test_intervals_hold_the_median_19_times_of_20() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        found = interval(list(random.lognormal(0, 0.1, 25)))
        inside += found.low <= 1.0 <= found.high
    assert 0.93 <= inside / 2000 <= 0.985
    drift = np.linspace(1, 3, 15)
    relative = ratio(list(2 * drift), list(drift))
    assert (relative.low, relative.middle, relative.high) == (2, 2, 2)


def trial(name: str, seconds: float, width: float = 0.0, number: int = 0) -> Trial:
    return Trial(
        "layer", "conv", "conv()", Variant(name, "", "{}"), 1, Machine("{}", 2), Outcome.OK, seconds,
        seconds * (1 - width), seconds * (1 + width), measured_at="2026-01-01", number=number,
    )  # fmt: skip


def test_of_ties_the_first_measured_wins() -> None:
    slow, fast, other = trial("a", 1.2), trial("b", 1.0, 0.05, 2), trial("c", 1.02, 0.05, 1)
    assert winner([slow, fast, other]) is other
    assert winner([other, fast, slow]) is other
    assert winner([slow, fast]) is fast
    earlier = replace(fast, measured_at="2025-01-01")
    assert winner([other, earlier]) is earlier
    same = trial("z", 1.02, 0.05, 1)
    assert winner([same, other]) is other
    failed = Trial("layer", "conv", "", Variant("d", "", "{}"), 1, Machine("{}", 2), Outcome.WRONG)
    assert winner([failed]) is None
    assert winner([failed, slow]) is slow
