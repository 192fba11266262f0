"""Variable elimination against all assignments, and the bound where tables are kept small."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convc.plan.elimination import Factor, minimise

Problem = tuple[list[int], list[Factor]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to seven variables of up to three states, factors of up to three of them, whole prices."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=7))
    factors = []
    for _ in range(draw(st.integers(0, 10))):
        variables = draw(st.permutations(range(len(sizes))))[: draw(st.integers(1, 3))]
        shape = [sizes[v] for v in variables]
        prices = draw(st.lists(st.integers(0, 9), min_size=math.prod(shape), max_size=math.prod(shape)))
        factors.append(Factor(tuple(variables), np.array(prices, float).reshape(shape)))
    return sizes, factors


def least(problem: Problem) -> float:
    sizes, factors = problem
    every = itertools.product(*map(range, sizes))
    return min(sum(f.at(states) for f in factors) for states in every)


@given(problems())
def test_no_assignment_is_cheaper(problem: Problem) -> None:
    solution = minimise(*problem)
    assert solution.cost == solution.bound == least(problem)
    assert solution.cost == sum(f.at(solution.states) for f in problem[1])


@given(problems(), st.integers(1, 12))
def test_small_tables_still_give_a_bound(problem: Problem, limit: int) -> None:
    solution = minimise(*problem, limit=limit)
    assert solution.bound <= least(problem) <= solution.cost
    assert solution.cost == sum(f.at(solution.states) for f in problem[1])


def test_ties_go_to_the_first_state() -> None:
    assert minimise([3, 2], [Factor((0, 1), np.ones((3, 2)))]).states == (0, 0)


def test_cheapest_states_give_way_to_their_neighbours() -> None:
    """A chain whose ends want state 1; the middle prefers 0, but less than a change costs twice."""
    change = np.array([[0.0, 3.0], [3.0, 0.0]])
    factors = [Factor((0, 1), change), Factor((1, 2), change)]
    factors += [Factor((v,), np.array(prices)) for v, prices in ((0, [9.0, 0]), (1, [0, 5.0]), (2, [9.0, 0]))]
    solution = minimise([2, 2, 2], factors)
    assert (solution.states, solution.cost) == ((1, 1, 1), 5)


@pytest.mark.parametrize("blocks", [1, 200])
def test_long_chain_of_residual_blocks_is_exact(blocks: int) -> None:
    """Width stays 2 however long the network is: one table over all would have 4^601 entries."""
    rng = np.random.default_rng(0)
    factors = []
    for first in range(0, 3 * blocks, 3):
        for a, b in ((0, 1), (1, 2), (2, 3), (0, 3)):
            factors.append(Factor((first + a, first + b), rng.integers(0, 9, (4, 4)).astype(float)))
    solution = minimise([4] * (3 * blocks + 1), factors, limit=64)
    assert solution.cost == solution.bound
    if blocks == 1:
        assert solution.cost == least(([4] * 4, factors))


@pytest.mark.parametrize("states", [1, 2])
def test_a_variable_with_many_neighbours(states: int) -> None:
    """One value with 200 readers, or a split into 200: more than an array has axes."""
    rng = np.random.default_rng(0)
    leaves = range(1, 201)
    factors = [Factor((0, leaf), rng.integers(0, 9, (3, states)).astype(float)) for leaf in leaves]
    factors += [Factor((a, a + 1), rng.integers(0, 9, (states, states)).astype(float)) for a in leaves[:-1]]
    solution = minimise([3, *[states] * 200], factors)
    assert solution.cost == solution.bound == sum(f.at(solution.states) for f in factors)
    alone = [
        minimise(
            [1, *[states] * 200],
            [Factor(f.variables, f.costs[[hub]]) if f.variables[0] == 0 else f for f in factors],
        )
        for hub in range(3)
    ]
    assert solution.cost == min(s.cost for s in alone)
