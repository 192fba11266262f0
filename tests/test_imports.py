"""Imports point one way, and heavy packages are imported in their own rooms only."""

from __future__ import annotations

from pathlib import Path

import house
import networkx as nx
import pytest
from house import GROUND, SOURCES, drawing, drawn, imports, room

VALUES = ("dtype", "types", "errors", "files", "unit", "target", "formats", "arguments")

ALLOWED: dict[str, tuple[str, ...]] = {
    "dtype": ("errors",),
    "types": ("dtype",),
    "errors": (),
    "files": ("errors",),
    "unit": ("dtype",),
    "target": ("dtype", "unit", "types", "errors"),
    "ir": VALUES,
    "ops": (*VALUES, "ir"),
    "frontends": (*VALUES, "naming", "ir", "ops"),
    "evaluate": (*VALUES, "ir", "ops"),
    "rounding": (*VALUES, "ir", "evaluate"),
    "runtime": VALUES,
}
"""Rooms with a list of their own: all that they may import."""

ORDER = (
    GROUND,
    ("ir",),
    ("ops",),
    ("workload", "evaluate", "rounding", "runtime", "frontends"),
    ("tiling",),  # what lowering and schedules share
    ("passes", "lowering", "schedules"),
    ("plan",),
    ("codegen",),
    ("options", "judge", "draw"),
    ("compilation", "trial"),
    ("verify",),
    ("compiler",),
    ("report", "tune"),
    ("backend", "cli", "__main__"),
)
"""From the bottom up. A room sees those on lower steps and on its own."""

APART = [("lowering", "schedules"), ("schedules", "lowering")]
"""Neighbours that never meet."""

HEAVY = {
    "tvm": ("lowering", "schedules", "codegen", "tune"),
    "onnx": ("frontends.onnx", "backend"),
    "torch": (),
    "tempfile": ("files", "tune.worker"),  # folders of `files` do not outlive a killed process for long
}


EVERY = sorted(SOURCES.items())


@pytest.mark.parametrize(("module", "path"), EVERY, ids=[m for m, _ in EVERY])
def test_arrows_point_down(module: str, path: Path):
    here = room(module)
    steps = {name: number for number, names in enumerate(ORDER) for name in names}
    assert not here or here in steps, f"{module} has no step: write '{here}' into ORDER"
    for target in imports(path):
        there = room(target)
        if not target.startswith("convc.") or there == here:
            continue
        if here in ALLOWED:
            assert there in ALLOWED[here], f"{module} imports {target}; {here} may import {ALLOWED[here]}"
        if here:
            assert there in steps, f"{target} has no step: write '{there}' into ORDER"
            assert steps[there] <= steps[here], f"{module} imports {target}, which stands above it"
        assert (here, there) not in APART, f"{module} imports {target}; these rooms never meet"


@pytest.mark.parametrize(("module", "path"), EVERY, ids=[m for m, _ in EVERY])
def test_heavy_packages_stay_in_their_rooms(module: str, path: Path):
    for target in imports(path):
        package = target.split(".")[0]
        rooms = HEAVY.get(package)
        if rooms is not None:
            inside = any(module == f"convc.{r}" or module.startswith(f"convc.{r}.") for r in rooms)
            assert inside, f"{module} imports {target}, which belongs to {rooms or 'no room'}"


def test_no_two_files_need_each_other():
    circles = [sorted(c) for c in nx.strongly_connected_components(house.arrows_of_files()) if len(c) > 1]
    assert circles == []


def test_the_drawing_is_of_the_house_as_it_is():
    assert drawn() == drawing(), "draw it anew: python -P tests/support/house.py"


def test_importing_convc_loads_no_compiler():
    """What `import convc` pulls in at once, followed file by file, holds neither tvm nor onnx."""
    seen, pending = set(), ["convc", "convc.runtime"]
    while pending:
        module = pending.pop()
        if module in seen or module not in SOURCES:
            continue
        seen.add(module)
        for target in imports(SOURCES[module], top_level=True):
            assert target.split(".")[0] not in ("tvm", "onnx", "torch"), f"{module} imports {target}"
            parents = target.split(".")
            pending += [".".join(parents[:n]) for n in range(1, len(parents) + 1)]
    assert "convc.errors" in seen


def test_the_check_sees_arrows():
    """The walker finds imports of every form: the tests above would pass on a walker that finds none."""
    assert "convc.types" in imports(SOURCES["convc.ir.graph"])
    assert "convc.ir.graph" in imports(SOURCES["convc.ir"])
    assert "ml_dtypes" in imports(SOURCES["convc.dtype"])  # inside a function
    assert "ml_dtypes" not in imports(SOURCES["convc.dtype"], top_level=True)
    assert {room(m) for m in SOURCES} >= {"ir", "ops", "passes", "lowering", "frontends", "schedules"}
