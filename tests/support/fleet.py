"""TVM's RPC tracker and servers, as processes on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from convc.errors import TargetError
from convc.tune.tracker import Tracker

KEY = "board"
START_SECONDS = 60.0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
    return port


class Process:
    """`python -m tvm.exec.NAME` on a port of its own, with all that it starts."""

    def __init__(self, log: Path, name: str, *arguments: str) -> None:
        self.log, self.port = log, free_port()
        # without --port-end TVM tries no port above 9198, and says nothing
        place = ("--host", "127.0.0.1", "--port", str(self.port), "--port-end", str(self.port + 1))
        command = [sys.executable, "-m", f"tvm.exec.{name}", *place, *arguments]
        environment = {**os.environ, "TMPDIR": str(log.parent)}  # who is killed leaves files behind
        with log.open("ab") as words:
            self._process = subprocess.Popen(
                command, stdout=words, stderr=words, env=environment, start_new_session=True
            )

    @property
    def modules(self) -> list[str]:
        """Names of the modules that a server was given, in order."""
        lines = self.log.read_text().splitlines()
        return [line.rpartition("/")[2] for line in lines if "load_module" in line]

    def kill(self) -> None:
        """End it as a loss of power would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Fleet:
    """A tracker, and the boards that it knows."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._servers: list[Process] = []
        self._process = Process(folder / "tracker.log", "rpc_tracker")
        self.tracker = Tracker("127.0.0.1", self._process.port)
        self.address = str(self.tracker)
        wait(self._answers)

    def close(self) -> None:
        """End all processes."""
        for process in (*self._servers, self._process):
            process.kill()

    def boards(self, count: int) -> list[Process]:
        """So many boards, new ones where some were killed; their logs begin anew."""
        for _ in range(count - len(self._servers)):
            self._count += 1
            log = self._folder / f"server{self._count}.log"
            self._servers.append(Process(log, "rpc_server", "--tracker", self.address, "--key", KEY))
        wait(lambda: self._known() == count)
        for server in self._servers:
            os.truncate(server.log, 0)
        return list(self._servers)

    def kill(self, *servers: Process) -> None:
        """End some boards."""
        for server in servers:
            server.kill()
            self._servers.remove(server)

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.tracker.host, self.tracker.port), 1).close()
        except OSError:
            return False
        return True

    def _known(self) -> int:
        try:
            return len(self.tracker.boards(KEY))
        except TargetError:
            return 0


def wait(done: Callable[[], bool]) -> None:
    """Return as soon as something is so. Raises TimeoutError."""
    end = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("it did not come to be")
        time.sleep(0.02)
