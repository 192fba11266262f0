"""Runs candidates' modules on a board, by TVM's RPC; `native/rpc.c` is what happens there.

A service for `Worker` that holds one session with one board at a time.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from convc.codegen.pipeline import tvm
from convc.dtype import FLOAT64, DType
from convc.errors import ModuleError, TargetError
from convc.runtime.manifest import TensorInfo
from convc.tune.proof import MARK, NO_RESULT, STRIP, Loaded, Proof
from convc.tune.runner import Runner
from convc.tune.station import Lost
from convc.tune.tracker import Lent, Tracker
from convc.tune.worker import Died, Hung
from convc.types import Array

NOTICE_SECONDS = 1.0
"""In which a tracker notices that a board is gone."""

_REASONS = {signal.SIGILL: ", whose processor lacks an instruction that the target has"}


class Board:
    """A session: memory and modules on a board. A run there may take `limit` seconds."""

    def __init__(self, lent: Lent, limit: int) -> None:
        self._session, self.address = lent
        self._limit = limit
        self._sweeps: dict[TensorInfo, Any] = {}
        self._written: dict[tuple[int, TensorInfo], GuardedOnBoard] = {}

    def load(self, path: Path) -> Any:
        """A module that is sent. It stays until the end of the session, though its file does not."""
        self._session.upload(str(path), path.name)
        module = self._session.load_module(path.name)
        self._session.remove(path.name)
        return module

    def allocate(self, nbytes: int) -> Any:
        """Memory of so many bytes."""
        return tvm.runtime.empty((nbytes,), "uint8", self._session.cpu())

    def send(self, array: Array) -> Any:
        """Memory that holds an array."""
        memory = self.allocate(array.nbytes)
        memory.copyfrom(array.reshape(-1).view(np.uint8))
        return memory

    def sweep(self, info: TensorInfo, module: Any) -> Any:
        """Bytes to push others out of the caches; all candidates read the same ones."""
        if info not in self._sweeps:
            self._sweeps[info] = self.allocate(_nbytes(info))
            module["convc_fill"](self._sweeps[info], 0, _nbytes(info), 0)
        return self._sweeps[info]

    def written(self, number: int, info: TensorInfo, module: Any) -> GuardedOnBoard:
        """The tensor that a candidate writes; others write the same one, see `runner.Memory`."""
        if (number, info) not in self._written:
            memory = self.allocate(STRIP + _nbytes(info) + STRIP)
            self._written[number, info] = GuardedOnBoard(memory, info, module)
        return self._written[number, info]

    def run(self, candidates: Sequence[LoadedOnBoard], runs: int) -> list[list[float]]:
        """Seconds of each candidate's layer (a row) in each of so many rounds, in which all take turns.

        Raises MemoryError; Died and Hung, after which the session is of no more use.
        """
        seconds = self.allocate(8 * runs * len(candidates))
        numbers = [one.number for one in candidates]
        status = candidates[0].module["convc_time"](self._limit, runs, seconds, *numbers)
        if status == signal.SIGALRM:
            raise Hung(f"no end within {self._limit} s on the board")
        if status > 0:
            raise Died(f"{signal.Signals(status).name} on the board{_REASONS.get(status, '')}")
        if status < 0:
            raise MemoryError("there was not enough memory for the kernel on the board")
        rounds = seconds.numpy().view(FLOAT64).reshape(runs, len(candidates))
        return [[float(value) for value in row] for row in rounds.T]


class GuardedOnBoard:
    """An array in the middle of memory on a board, between two strips of known bytes."""

    def __init__(self, memory: Any, info: TensorInfo, module: Any) -> None:
        self.memory, self._fill = memory, module["convc_fill"]
        self._shape, self._dtype, self._nbytes = info.shape, DType.of(info.dtype).numpy, _nbytes(info)

    def spoil(self) -> None:
        """Fill it with what is no result, and the strips with what they hold."""
        self._fill(self.memory, 0, STRIP + self._nbytes + STRIP, MARK)
        self._fill(self.memory, STRIP, self._nbytes, NO_RESULT)

    def read(self) -> tuple[Array, bool]:
        """What it holds, and whether nothing was written beside it."""
        found = self.memory.numpy()
        own, end = found[STRIP:], STRIP + self._nbytes
        intact = bool((found[:STRIP] == MARK).all() and (found[end:] == MARK).all())
        return own[: self._nbytes].view(self._dtype).reshape(self._shape), intact


class LoadedOnBoard(Loaded):
    """A module for a board's processor, in the session's process there, which knows it by a number."""

    def __init__(self, path: Path, inputs: Sequence[Array], board: Board) -> None:
        super().__init__(path, inputs)
        self._board, self.module = board, board.load(path)
        sweeps = self.manifest.inputs[len(self.given) :]
        self._read = [*map(board.send, self.given), *(board.sweep(info, self.module) for info in sweeps)]
        outputs = enumerate(self.manifest.outputs)
        self._written = [board.written(number, info, self.module) for number, info in outputs]
        self._found: dict[int, tuple[Array, bool]] = {}
        tensors = [*self._read, *(guarded.memory for guarded in self._written)]
        bind = self.module["convc_bind"]
        self.number: int = bind(self.manifest.threads, STRIP, len(self._read), *tensors)

    def seconds(self) -> float:
        """See `Loaded`."""
        self._found.clear()
        return self._board.run([self], 1)[0][0]

    def spoil(self) -> None:
        """See `Loaded`."""
        for guarded in self._written:
            guarded.spoil()

    def tensor(self, number: int) -> Array:
        """See `Loaded`."""
        return self._fetched(number)[0]

    def intact(self, number: int) -> bool:
        """See `Loaded`."""
        return self._fetched(number)[1]

    def _fetched(self, number: int) -> tuple[Array, bool]:
        """A tensor after the last run, which travels once."""
        if number not in self._found:
            self._found[number] = self._written[number].read()
        return self._found[number]


class RpcRunner(Runner):
    """The service. A run may take `limit` seconds, and a board `patience` seconds to be free."""

    def __init__(self, tracker: str, key: str, limit: str, patience: str) -> None:
        super().__init__()
        self._tracker, self._key = Tracker.parse(tracker), key
        self._limit, self._patience = math.ceil(float(limit)), float(patience)
        self._board: Board | None = None

    def open(self, layer: Path) -> None:
        """See `Runner`. Each layer has a session: modules stay in its memory. Raises Lost."""
        super().open(layer)
        self._board = None  # the board is free again when nothing refers to its session
        self._board = Board(self._tracker.session(self._key, self._patience), self._limit)

    def load(self, path: Path, inputs: Sequence[Array]) -> Loaded:
        """See `Runner`."""
        assert self._board is not None
        return LoadedOnBoard(path, inputs, self._board)

    def prove(self, path: Path) -> Proof:
        """See `Runner`. Raises Died, Hung and Lost, as do all others."""
        with self._answering():
            return super().prove(path)

    def time(self, paths: Sequence[Path], runs: int) -> list[list[float]]:
        """See `Runner`. All runs are one call, so that no network lies between them."""
        assert self._board is not None
        with self._answering():
            return self._board.run([cast("LoadedOnBoard", self._loaded[path]) for path in paths], runs)

    def errors(self, paths: Sequence[Path]) -> list[float]:
        """See `Runner`."""
        with self._answering():
            return super().errors(paths)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Say what it means that the board has no answer."""
        try:
            yield
        except tvm.error.RPCError as error:
            reason = str(error).strip().splitlines()[-1]
            if "bad_alloc" in reason:
                raise MemoryError("there was not enough memory on the board") from error
            raise ModuleError(f"The board reports: {reason}") from error
        except RuntimeError as error:
            assert self._board is not None
            if not self._is_known(self._board.address):
                raise Lost(f"the board at {self._board.address} is gone") from error
            raise Died("the board ended the session") from error

    def _is_known(self, address: str) -> bool:
        """Whether a board is there, as far as the tracker knows."""
        time.sleep(NOTICE_SECONDS)
        try:
            return address in self._tracker.boards(self._key)
        except TargetError:
            return False


def _nbytes(info: TensorInfo) -> int:
    return math.prod(info.shape) * DType.of(info.dtype).nbytes
