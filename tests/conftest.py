"""What all tests share: the helpers in `tests/support` are importable by name, and choices are repeatable.

The fixtures are of the tests that load GPU modules; what they need is imported when they are asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fake_driver import FakeDriver

sys.path.insert(0, str(Path(__file__).parent / "support"))

# Tests run in several processes, and the threads of each one's BLAS would spin in the others' way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from machines import VARIABLE, file_of

# Which lowering is best must not depend on how fast the machine at hand is. Its instruction sets, its caches
# and the number of its processors still decide: `.ci/run` has another machine stand in each time, and a test
# that needs the choices of a certain one names it, by the fixture `stand_in` or as its target.
if os.environ.get(VARIABLE):
    os.environ["CONVC_CALIBRATION"] = str(file_of(os.environ[VARIABLE]))
os.environ.setdefault("CONVC_CALIBRATION", "nominal")

# A shell starts what is to run in the background with interrupts ignored: children would inherit that, and
# tests of interrupts would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes the machine at hand for the one of a name in `tests/support/machines`, for one test."""
    return lambda name: monkeypatch.setenv("CONVC_CALIBRATION", str(file_of(name)))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the modules and the driver that tests share."""
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture(scope="session")
def library(folder: Path) -> FakeDriver:
    """A driver without a device, as a library that the runtime can open."""
    from fake_driver import FakeDriver, build_driver

    return FakeDriver(build_driver(folder))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module for the CPU, whose inputs have the same type and its outputs too."""
    import convc
    from convc.frontends.builder import Network

    net = Network("small", seed=3)
    x, y = net.input("x", (1, 4, 6, 6)), net.input("y", (1, 4, 6, 6))
    net.output(net.conv(x, 8, 3, padding=1, name="first"), "a")
    net.output(net.relu(net.conv(y, 8, 1, name="second")), "b")
    path = tmp_path_factory.mktemp("small") / "small.so"
    convc.compile(net.graph, threads=1, verify=False).save(path)
    return path


@pytest.fixture
def driver(library: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """The driver for one test, after which nothing may be left of what the test made."""
    from fake_driver import watched

    yield from watched(library, monkeypatch)


@pytest.fixture(scope="session")
def pair(folder: Path) -> Path:
    """A module of two inputs and two outputs."""
    import fake_networks

    return fake_networks.pair().write(folder, folder, "pair.so")


@pytest.fixture(scope="session")
def chain(folder: Path) -> Path:
    """A module of one input and one output."""
    import fake_networks

    return fake_networks.chain().write(folder, folder, "chain.so")
