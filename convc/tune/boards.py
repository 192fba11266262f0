"""Stations on boards behind a TVM RPC tracker."""

from __future__ import annotations

from convc.tune.measurer import ENVIRONMENT
from convc.tune.station import RUN_SECONDS, Station
from convc.tune.tracker import Tracker
from convc.tune.worker import Worker

ANSWER_SECONDS = 300.0
"""In which a board answers to anything: modules and arrays travel on a network that may be slow.

A kernel that hangs is found out much earlier, on the board.
"""
PATIENCE = 30.0
"""For a board to come back, after its server was lost or had to end a session."""


def board_stations(
    tracker: str, key: str, run_seconds: float = RUN_SECONDS, patience: float = PATIENCE
) -> list[Station]:
    """A station for each board that the tracker (`HOST:PORT`) knows by the key.

    A run on a board may take `run_seconds`. Raises OptionError and TargetError, see `Tracker`.
    """
    found = Tracker.parse(tracker)
    arguments = (str(found), key, str(run_seconds), str(patience))
    return [
        Station(Worker("convc.tune.rpc_runner:RpcRunner", ENVIRONMENT, arguments), ANSWER_SECONDS)
        for _ in found.boards(key)
    ]
