"""Asking a TVM RPC tracker, which knows boards by a key for their kind, and lends each to one client."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from convc.codegen.pipeline import tvm
from convc.errors import OptionError, TargetError
from convc.tune.station import Lost

ANSWER_SECONDS = 5.0
"""In which a tracker answers that is there at all."""
RETRY_SECONDS = 0.2
SESSION_SECONDS = 24 * 3600
"""After these a server gives up a session whose client has vanished without a word."""

_base = tvm.rpc.base
_code = _base.TrackerCode


class Lent(NamedTuple):
    """A session with a board, and where that is."""

    session: Any
    address: str


@dataclass(frozen=True)
class Tracker:
    """The address of a tracker."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Tracker:
        """`HOST:PORT`. Raises OptionError for anything else."""
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise OptionError(
                f"--tracker: '{text}' is not HOST:PORT.",
                hint="TVM's tracker listens on port 9190 by default.",
            )
        return cls(host, int(port))

    def boards(self, key: str) -> list[str]:
        """The addresses of the boards that it knows by this key, busy ones included.

        Raises TargetError when it knows none, or does not answer.
        """
        try:
            _, summary = self._ask([_code.SUMMARY], ANSWER_SECONDS)
        except OSError as error:
            raise TargetError(
                f"No tracker answers at {self}: {error.strerror or error}.",
                hint=f"Start one with `python -m tvm.exec.rpc_tracker --port {self.port} "
                f"--port-end {self.port + 1}`.",
            ) from error
        known: dict[str, list[str]] = {}
        for server in summary["server_info"]:
            host, port = server["addr"]
            known.setdefault(server["key"].partition(":")[2], []).append(f"{host}:{port}")
        if key not in known:
            others = ", ".join(f"'{other}'" for other in sorted(known)) or "none"
            raise TargetError(
                f"The tracker at {self} knows no board by the key '{key}'; its boards' keys: {others}.",
                hint=f"Run `python -m tvm.exec.rpc_server --tracker {self} --key {key}` on the board.",
            )
        return known[key]

    def session(self, key: str, patience: float) -> Lent:
        """A board that is free, or becomes free within `patience` seconds. Raises Lost."""
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            try:
                _, (host, port, match) = self._ask([_code.REQUEST, key, "", 1], left)
                return Lent(tvm.rpc.connect(host, port, match, SESSION_SECONDS), f"{host}:{port}")
            except (OSError, RuntimeError):  # the tracker or the board is gone, perhaps for a moment
                time.sleep(RETRY_SECONDS)
        raise Lost(f"the tracker at {self} had no board with the key '{key}' free within {patience:.0f} s")

    def _ask(self, request: list[Any], seconds: float) -> Any:
        """The answer to a request. Raises OSError, or TargetError where no tracker answers."""
        with socket.create_connection((self.host, self.port), seconds) as connection:
            connection.sendall(struct.pack("<i", _base.RPC_TRACKER_MAGIC))
            if struct.unpack("<i", _base.recvall(connection, 4)) != (_base.RPC_TRACKER_MAGIC,):
                raise TargetError(f"What answers at {self} is no TVM RPC tracker.", hint="Is the port right?")
            _base.sendjson(connection, request)
            return _base.recvjson(connection)
