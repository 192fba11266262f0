"""Which launches wait for which, and the checks before linking."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import fake_networks
import pytest
from fake_networks import IN, OUT, space

from convc.codegen.cuda_link import Access, compute_capability, dependencies, tables_source
from convc.errors import CompileError
from convc.plan.program import Location


def reads(start: int, stop: int, where: str = "workspace") -> Access:
    return Access(Location(where, 0, start), stop - start)  # type: ignore[arg-type]


def writes(start: int, stop: int, where: str = "workspace") -> Access:
    return replace(reads(start, stop, where), writes=True)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([writes(0, 8)], [reads(4, 12)], (0,)),
        ([reads(0, 8)], [writes(4, 12)], (0,)),
        ([writes(0, 8)], [writes(7, 12)], (0,)),
        ([reads(0, 8)], [reads(0, 8)], ()),
        ([writes(0, 8)], [reads(8, 12), writes(12, 16)], ()),
        ([writes(0, 8)], [reads(0, 8, "weights")], ()),
        ([writes(0, 8, "output")], [reads(0, 8, "output")], (0,)),
    ],
    ids=[
        "read after write",
        "write after read",
        "write after write",
        "two reads",
        "apart",
        "weights",
        "output",
    ],
)
def test_two_launches(first: list[Access], second: list[Access], expected: tuple[int, ...]) -> None:
    assert dependencies([first, second]) == [(), expected]


def test_outputs_are_apart() -> None:
    first, second = (Access(Location("output", i), 8, writes=True) for i in range(2))
    assert dependencies([[first], [second]]) == [(), ()]


def test_branches_run_side_by_side() -> None:
    after = [launch.after for launch in fake_networks.diamond().program.launches]
    assert after == [(), (0,), (0,), (1, 2), (3,)]


def _closure(edges: list[tuple[int, ...]]) -> set[tuple[int, int]]:
    behind: list[set[int]] = []
    for after in edges:
        behind.append(set(after).union(*(behind[i] for i in after)))
    return {(i, j) for i, found in enumerate(behind) for j in found}


def test_edges_order_every_conflict_and_none_is_redundant() -> None:
    generator = random.Random(1)
    for _ in range(40):
        accesses = [
            [
                Access(Location("workspace", 0, generator.randrange(40)), generator.randrange(1, 9), writes)
                for writes in (True, False, False)
            ]
            for _ in range(14)
        ]
        edges = dependencies(accesses)
        conflicts = [
            tuple(j for j in range(i) if any(a.conflicts(b) for a in accesses[i] for b in accesses[j]))
            for i in range(len(accesses))
        ]
        assert _closure(edges) == _closure(conflicts)
        for i, after in enumerate(edges):
            for left_out in after:
                fewer = list(edges)
                fewer[i] = tuple(j for j in after if j != left_out)
                assert (i, left_out) not in _closure(fewer)


def test_a_long_chain_takes_no_quadratic_time() -> None:
    rows = [[reads(8 * i, 8 * i + 8), writes(8 * i + 8, 8 * i + 16)] for i in range(3000)]
    assert dependencies(rows) == [(), *((i,) for i in range(2999))]


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("sm_80", (8, 0, False)),
        ("sm_90a", (9, 0, True)),
        ("sm_120", (12, 0, False)),
        ("sm_103f", (10, 3, False)),
    ],
)
def test_compute_capabilities(arch: str, expected: tuple[int, int, bool]) -> None:
    assert compute_capability(arch) == expected


def test_unknown_architectures_are_refused() -> None:
    with pytest.raises(CompileError, match="'hopper' is not the name of a GPU architecture"):
        compute_capability("hopper")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "other"}, "kernel 'other', which has no code"),
        ({"after": (4,)}, r"comes after \(4,\), not all of them earlier"),
        ({"arguments": (IN[1], OUT[0])}, "takes input 1 of 1"),
        ({"arguments": (IN[0], space(9))}, "takes byte 288 of 96 of workspace"),
    ],
)
def test_unsound_programs_are_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    case = fake_networks.diamond()
    case.program.launches[4] = replace(case.program.launches[4], **changes)  # type: ignore[arg-type]
    with pytest.raises(CompileError, match=message):
        case.write(tmp_path, tmp_path)


def test_folders_may_have_any_name(tmp_path: Path) -> None:
    """The assembler is given the cubins' paths in a string within a string."""
    odd = tmp_path / 'a "b" \\c, d'
    odd.mkdir()
    path = fake_networks.chain().write(odd, tmp_path)
    assert fake_networks.cubin() in path.read_bytes()


def test_tables_are_the_program(tmp_path: Path) -> None:
    text = tables_source(fake_networks.pair().program, tmp_path, "00")
    assert "{0, {2, 1, 1}, {4, 1, 1}, 0, 0, 3, 0, 0}" in text  # the first launch: no edges
    assert "{1, {2, 1, 1}, {4, 1, 1}, 0, 6, 3, 0, 2}" in text  # the last one: arguments 6 to 8, two edges
    assert "convc_afters[] = {\n  0, 1}" in text
    assert all(f"{name} = {n};" in text for name, n in {"input_count": 2, "workspace_bytes": 32}.items())


def test_random_orders_of_a_sound_graph_agree() -> None:
    """Every order that respects the edges keeps each conflicting pair as the program has it."""
    launches = fake_networks.diamond().program.launches
    sound = [
        order
        for order in itertools.permutations(range(5))
        if all(order.index(j) < order.index(i) for i, it in enumerate(launches) for j in it.after)
    ]
    assert sound == [(0, 1, 2, 3, 4), (0, 2, 1, 3, 4)]
