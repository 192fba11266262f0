"""Choices that depend on each other: the assignment of least total cost, by variable elimination.

Each variable takes one of a few states; each factor is a table that prices the states of some variables
together. A variable is eliminated by adding up the factors that mention it and keeping, for every assignment
of its neighbours, the cheapest of its states: what remains is one factor over the neighbours. In the end no
variable is left, and the states are read off backwards. On a chain this is the dynamic program of Viterbi; on
any graph it is exact, in time exponential in the width that the order of elimination meets (Bertele and
Brioschi, Nonserial Dynamic Programming, 1972; Dechter, Bucket elimination, 1999). Variables with the smallest
table go first, which meets a width of 2 or 3 on series-parallel graphs, as networks mostly are.

Where a table would exceed `limit` entries, the factors that mention a variable are divided into groups that
stay below, and each group keeps the cheapest state for itself (mini-buckets: Dechter and Rish, 2003). What is
left at the end is then a lower bound, and the solution says how far it may be off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import networkx as nx
import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Factor:
    """A price for the states of some variables: axis i of `costs` runs over the states of `variables[i]`."""

    variables: tuple[int, ...]
    costs: Costs

    def at(self, states: Sequence[int]) -> float:
        """The price where variable v is in `states[v]`."""
        return float(self.costs[tuple(states[v] for v in self.variables)])

    def along(self, variable: int, states: Sequence[int]) -> Costs:
        """The price of each state of one variable, the others being in `states`."""
        where = tuple(slice(None) if v == variable else states[v] for v in self.variables)
        prices: Costs = self.costs[where]
        return prices


@dataclass(frozen=True)
class Solution:
    """A state for each variable, their total cost, and a bound that no assignment goes below.

    The two are equal, up to rounding, where no table exceeded the limit.
    """

    states: tuple[int, ...]
    cost: float
    bound: float


def minimise(sizes: Sequence[int], factors: Sequence[Factor], limit: int = 1 << 18) -> Solution:
    """The assignment of least total cost; variable v has `sizes[v]` states. Ties go to the lowest state."""
    neighbours = nx.Graph()
    neighbours.add_nodes_from(range(len(sizes)))
    buckets: list[dict[int, Factor]] = [{} for _ in sizes]  # by variable: the factors that mention it
    constant = 0.0
    count = 0

    def add(factor: Factor) -> None:
        nonlocal constant, count
        if not factor.variables:
            constant += float(factor.costs)
        for i, v in enumerate(factor.variables):
            buckets[v][count] = factor
            neighbours.add_edges_from((v, w) for w in factor.variables[:i])
        count += 1

    for factor in factors:
        add(_decided(factor, sizes))
    queue = [(_table(v, neighbours, sizes), v) for v in range(len(sizes))]
    heapify(queue)
    trail: list[tuple[int, list[Factor]]] = []
    while queue:
        entries, variable = heappop(queue)
        if variable not in neighbours or entries != _table(variable, neighbours, sizes):
            continue  # eliminated, or queued again with the table that it has now
        bucket = buckets[variable]
        around = list(neighbours[variable])
        neighbours.remove_node(variable)
        for number, factor in bucket.items():
            for v in factor.variables:
                if v != variable:
                    del buckets[v][number]
        for group in _groups(list(bucket.values()), sizes, limit):
            add(_eliminate(group, variable, sizes))
        trail.append((variable, list(bucket.values())))
        for v in around:
            heappush(queue, (_table(v, neighbours, sizes), v))
    states = [0] * len(sizes)
    for variable, mentioned in reversed(trail):
        prices = sum((f.along(variable, states) for f in mentioned), np.zeros(sizes[variable]))
        states[variable] = int(prices.argmin())
    return Solution(tuple(states), sum(f.at(states) for f in factors), constant)


def _decided(factor: Factor, sizes: Sequence[int]) -> Factor:
    """A factor without the variables that have one state, of which a table may have more than NumPy has axes.

    Any other variable doubles a table at least, so that `limit` bounds their number.
    """
    open_ = tuple(v for v in factor.variables if sizes[v] > 1)
    return Factor(open_, factor.costs.reshape([sizes[v] for v in open_]))


def _table(variable: int, neighbours: nx.Graph, sizes: Sequence[int]) -> int:
    """Entries of the table in which a variable is eliminated."""
    entries: int = math.prod(sizes[v] for v in neighbours[variable]) * sizes[variable]
    return entries


def _groups(factors: list[Factor], sizes: Sequence[int], limit: int) -> list[list[Factor]]:
    """All factors together where their sum has at most `limit` entries, else in groups that have."""
    groups: list[tuple[set[int], list[Factor]]] = []
    for factor in sorted(factors, key=lambda f: -f.costs.size):
        for variables, group in groups:
            if math.prod(sizes[v] for v in variables | {*factor.variables}) <= limit:
                variables.update(factor.variables)
                group.append(factor)
                break
        else:
            groups.append(({*factor.variables}, [factor]))
    return [group for _, group in groups]


def _eliminate(factors: Sequence[Factor], variable: int, sizes: Sequence[int]) -> Factor:
    """The sum of factors over all their variables but one, which takes its cheapest state."""
    others = sorted({v for f in factors for v in f.variables} - {variable})
    axes = [*others, variable]
    total = np.zeros([sizes[v] for v in axes])
    for factor in factors:
        order = sorted(range(len(factor.variables)), key=lambda i: axes.index(factor.variables[i]))
        shape = [sizes[v] if v in factor.variables else 1 for v in axes]
        total += factor.costs.transpose(order).reshape(shape)
    return Factor(tuple(others), total.min(axis=-1))
