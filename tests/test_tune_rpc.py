"""Tuning on boards behind a TVM RPC tracker: two servers on this machine, which tests may kill."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import bad_kernels
import pytest
from bad_kernels import GOOD, SLOW, behaving, measured
from fleet import KEY, Fleet, Process, free_port, wait

from convc.cli.main import main
from convc.compilation import Compilation, plan
from convc.compiler import Options
from convc.errors import ConvcError, OptionError, TargetError
from convc.frontends.builder import Network
from convc.frontends.onnx import to_onnx
from convc.ir import Graph
from convc.progress import Progress
from convc.tune.autotune import autotune
from convc.tune.boards import board_stations
from convc.tune.database import Database
from convc.tune.measurer import Builders, StationMeasurer
from convc.tune.progress import Status, Watcher
from convc.tune.records import machine_of
from convc.tune.tasks import Task, tasks
from convc.tune.tracker import Tracker
from convc.tune.trial import Outcome, Trial
from convc.tune.tuner import Budget, Tuner

LIMIT, PATIENCE = 1.0, 1.5
"""Seconds of a run, and of waiting for a board."""

EXPECTED = {
    10: (Outcome.TIMEOUT, "no end within 1 s on the board"),
    11: (Outcome.CRASH, "SIGSEGV on the board"),
    13: (Outcome.OUT_OF_BOUNDS, "beside a result"),
    14: (Outcome.OUT_OF_BOUNDS, "beside a result"),
    15: (Outcome.WRONG, "is allowed"),
    17: (Outcome.WRONG, "later runs"),
    18: (Outcome.OUT_OF_BOUNDS, "an input was changed"),
    19: (Outcome.MEMORY, "not enough memory for the kernel on the board"),
    20: (Outcome.CRASH, "SIGABRT on the board"),
    21: (Outcome.CRASH, "SIGILL on the board, whose processor lacks an instruction"),
    22: (Outcome.CRASH, "SIGABRT on the board"),
    23: (Outcome.CRASH, "SIGSEGV on the board"),
    24: (Outcome.CRASH, "the board ended the session"),
}


def network() -> Graph:
    """Two layers that can be computed in many ways."""
    net = Network("small", seed=0)
    x = net.relu(net.conv(net.input("x", (1, 16, 12, 10)), 16, 3, padding=1))
    net.output(net.conv(x, 16, 1))
    return net.graph


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


@pytest.fixture
def boards(fleet: Fleet) -> list[Process]:
    return fleet.boards(2)


@pytest.fixture(scope="module")
def layer() -> Compilation:
    return bad_kernels.one_layer()


@pytest.fixture(scope="module")
def task(layer: Compilation) -> Task:
    (found,) = tasks(layer)
    return found


@pytest.fixture
def bad(fleet: Fleet, boards: list[Process], layer: Compilation, cache: Path) -> Iterator[StationMeasurer]:
    """A measurer of candidates that misbehave, on two boards."""
    builders = bad_kernels.builders(layer, cache, remote=True)
    with StationMeasurer(builders, board_stations(fleet.address, KEY, LIMIT, PATIENCE)) as made:
        yield made


def test_a_network_is_tuned_on_both_boards(
    boards: list[Process], fleet: Fleet, tmp_path: Path, cache: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import onnx

    monkeypatch.setenv("CONVC_CACHE", str(cache))
    onnx.save(to_onnx(network()), tmp_path / "network.onnx")
    database, out = tmp_path / "tuning.db", tmp_path / "network.so"
    arguments = [
        "tune", str(tmp_path / "network.onnx"), "-o", str(out), "--target", "x86-64", "--threads", "1",
        "--trials", "10", "--db", str(database), "--tracker", fleet.address, "--device-key", KEY,
    ]  # fmt: skip
    main([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["trials"], told["failures"], told["measured_ratio"]) == (10, 0, None)
    assert out.exists()
    assert all(board.modules for board in boards)
    planned = plan(network(), Options("x86-64", threads=1), Progress())
    with Database.open(database) as opened:
        trials = opened.trials()
    assert len(trials) == 10
    assert {trial.machine for trial in trials} == {machine_of(planned.target)}
    assert all(trial.seconds is not None and 0 < trial.seconds < 1 for trial in trials)
    main(arguments)  # all of it is known
    assert re.search(r"10 trials of 2 layers, 0 failed; predicted [01]\.\d+ of the untuned time; \d+ s$",
                     capsys.readouterr().out.strip())  # fmt: skip


def test_a_key_that_no_board_has(fleet: Fleet, boards: list[Process]) -> None:
    words = rf"knows no board by the key 'absent'; its boards' keys: '{KEY}'\. Run `python -m tvm.exec"
    with pytest.raises(TargetError, match=words):
        board_stations(fleet.address, "absent")


def test_each_misdeed_has_its_name(bad: StationMeasurer, task: Task, boards: list[Process]) -> None:
    found = measured(bad, task, [*EXPECTED, GOOD, SLOW])
    for number, (outcome, words) in EXPECTED.items():
        assert found[number].outcome is outcome, (number, found[number])
        assert words in found[number].message
        assert found[number].seconds is None
    assert found[GOOD].outcome is found[SLOW].outcome is Outcome.OK
    relative = found[SLOW].relative
    assert relative is not None
    assert relative.middle == pytest.approx(1.5)
    assert len(bad.stations) == 2
    assert all(board.modules for board in boards)


def test_what_a_board_was_at_is_measured_by_the_other(
    bad: StationMeasurer, task: Task, fleet: Fleet, boards: list[Process]
) -> None:
    slow = 25
    candidates = [behaving(task, number) for number in (slow, GOOD, slow, GOOD)]
    found: list[Outcome] = []
    measuring = threading.Thread(
        target=lambda: found.extend(result.outcome for _, result in bad.measure(task, candidates))
    )
    measuring.start()
    killed, other = boards
    wait(lambda: len(killed.modules) == 2)  # the untuned choice, then the slow one, which takes 2 seconds
    fleet.kill(killed)
    measuring.join()
    assert found == [Outcome.OK] * 4
    assert set(killed.modules) < set(other.modules)
    assert len(bad.stations) == 1


class Killer(Watcher):
    """Kills a board after so many trials."""

    def __init__(self, fleet: Fleet, after: int, server: Process) -> None:
        self._fleet, self._after, self._server = fleet, after, server

    def trial(self, trial: Trial, status: Status) -> None:
        if status.trials == self._after:
            self._fleet.kill(self._server)


def test_a_run_goes_on_until_no_board_is_left(
    fleet: Fleet, boards: list[Process], tmp_path: Path, cache: Path
) -> None:
    planned = plan(network(), Options("x86-64", threads=1), Progress())
    machine, found = machine_of(planned.target), tasks(planned)
    stations = board_stations(fleet.address, KEY, patience=PATIENCE)
    with (
        Database.open(tmp_path / "tuning.db") as database,
        StationMeasurer(Builders(planned.target, 1 << 20, cache, remote=True), stations) as measurer,
    ):
        killer = Killer(fleet, 5, boards[0])
        Tuner(found, machine, database, measurer, Budget(None, 14), watcher=killer).run()
        trials = database.trials()
        assert len({(trial.layer, trial.variant) for trial in trials}) == len(trials) == 14
        assert all(trial.ok for trial in trials)
        assert len(stations) == 1

        killer = Killer(fleet, 16, boards[1])
        with pytest.raises(ConvcError, match=r"No machine is left to measure on: the .*; what was measured"):
            Tuner(found, machine, database, measurer, Budget(None, 24), watcher=killer).run()
        trials = database.trials()
        assert len({(trial.layer, trial.variant) for trial in trials}) == len(trials)
        assert 16 <= len(trials) < 24
        assert all(trial.ok for trial in trials)


def test_what_is_no_tracker() -> None:
    with pytest.raises(TargetError, match=r"No tracker answers at 127.0.0.1:\d+: Connection refused\. Start"):
        board_stations(f"127.0.0.1:{free_port()}", KEY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP")).start()
        with pytest.raises(TargetError, match=r"What answers at 127.0.0.1:\d+ is no TVM RPC tracker"):
            board_stations(f"127.0.0.1:{port}", KEY)


@pytest.mark.parametrize("address", ["host", "host:", ":9190", "host:0", "host:70000", "host:²", "host:-1"])
def test_addresses(address: str) -> None:
    with pytest.raises(OptionError, match=f"--tracker: '{address}' is not HOST:PORT"):
        Tracker.parse(address)


@pytest.mark.parametrize(
    ("target", "given", "words"),
    [
        ("host", {"tracker": "a:1"}, "--tracker was given without --device-key. Give both"),
        ("host", {"device_key": "a"}, "--device-key was given without --tracker. Give both"),
        ("cuda:sm_90", {"tracker": "a:1", "device_key": "a"}, "cannot be measured through a tracker: it is"),
        ("x86-64", {}, "cannot be measured on this machine. Tune on the machine itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_at_once(target: str, given: dict[str, str], words: str) -> None:
    with pytest.raises(ConvcError, match=words):
        autotune(network(), Options(target), **given)
