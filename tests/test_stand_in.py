"""A machine that stands in for the one at hand: its choices are made here, and its code runs here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machines
import numpy as np
import pytest

import convc
from convc import compiler
from convc.codegen.calibrate import calibrated
from convc.codegen.figures import VARIABLE, read
from convc.codegen.machine import resolve, this_machine
from convc.compilation import plan
from convc.errors import TargetError
from convc.frontends.builder import Network
from convc.ir import Graph
from convc.progress import Progress
from convc.runtime.cpu import host_features
from convc.target import Target

LANES = {"haswell": 8, "generic": 4}
"""Floats of a vector; 16 where a machine is not listed."""


def host(threads: int | None = None) -> Target:
    return calibrated(resolve("host", threads), Progress())


def network() -> Graph:
    net = Network("small", seed=3)
    x = net.relu(net.conv(net.input("image", (1, 3, 24, 22)), 20, 3, padding=1, name="first"))
    net.output(net.conv(net.max_pool(x, 2), 40, 3, padding=1, name="second"))
    return net.graph


@pytest.mark.parametrize("name", machines.NAMES)
def test_host_is_what_the_file_says(name: str, stand_in: Callable[[str], None]) -> None:
    stand_in(name)
    file = json.loads(machines.file_of(name).read_text())
    target, calibration = host(), read(machines.file_of(name))
    assert calibration is not None
    assert (target.name, target.lanes) == ("host", LANES.get(name, 16))
    assert (target.threads, host(5).threads) == (file["machine"]["cores"], 5)
    assert [target.l1, target.l2, target.l3] == file["machine"]["caches"]
    assert calibration.apply(target) == target


@pytest.mark.parametrize("name", machines.NAMES)
def test_code_keeps_to_instructions_of_both(name: str, stand_in: Callable[[str], None]) -> None:
    stand_in(name)
    mcpu = json.loads(machines.file_of(name).read_text())["machine"]["mcpu"]
    there = set(resolve(mcpu).features)
    assert set(host().features) <= there & (host_features() or there)


def test_the_machine_at_hand_can_still_be_asked_for(stand_in: Callable[[str], None]) -> None:
    before = this_machine()
    stand_in("sapphirerapids")
    assert this_machine() == before
    assert resolve("haswell").lanes == 8


def test_targets_with_a_name_are_left_alone(stand_in: Callable[[str], None]) -> None:
    before = resolve("znver4", 2)
    stand_in("generic")
    assert calibrated(resolve("znver4", 2), Progress()) == before


def test_choices_are_those_of_the_machine(stand_in: Callable[[str], None]) -> None:
    configurations = {}
    for name in ("generic", "sapphirerapids"):
        stand_in(name)
        plans = compiler.layer_plans(plan(network(), compiler.Options(threads=1), Progress()))
        configurations[name] = [(p.chosen, p.config) for p in plans]
    assert configurations["generic"] != configurations["sapphirerapids"]


@pytest.mark.parametrize("name", ["znver5", "generic"])
def test_code_runs_here_and_is_verified(name: str, stand_in: Callable[[str], None]) -> None:
    stand_in(name)
    x = np.random.default_rng(0).standard_normal((1, 3, 24, 22), np.float32)
    module = convc.compile(network(), threads=1)
    assert module(x).shape == (1, 40, 12, 11)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("", "does not describe a machine: "),
        ("[]", "does not describe a machine: "),
        ("{}", "has no 'machine'"),
        ('{"machine": {"mcpu": "znver4"}}', "has no 'cores'"),
        ({"machine": {"cores": 0}}, "does not describe a machine: impossible machine"),
        ({"machine": {"caches": [1, 2]}}, "does not describe a machine: "),
        ({"figures": {"flops": -1.0}}, "does not describe a machine: impossible figures"),
        ({"figures": {"flips": 1.0}}, "does not describe a machine: "),
        ({"machine": {"mcpu": "neoverse-n1"}}, "describes a 'neoverse-n1', which is no CPU for"),
    ],
)
def test_files_that_describe_nothing(
    content: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "machine.json"
    monkeypatch.setenv(VARIABLE, str(path))
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(damaged(content)))
    with pytest.raises(TargetError) as caught:
        resolve("host")
    assert said in str(caught.value)
    assert VARIABLE in str(caught.value)


def damaged(changes: dict[str, Any]) -> dict[str, Any]:
    """A good description with some of its entries replaced."""
    good = json.loads(machines.file_of("znver4").read_text())
    return {key: {**part, **changes.get(key, {})} for key, part in good.items()}
