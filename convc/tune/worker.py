"""A process of our own that answers requests, and that may crash, hang or be killed without harm to us.

Requests and answers are pickles, each behind its length, over the process's standard input and a pipe of its
own; what the process prints goes to a file, from which its last words are taken. A service is a class: one
object of it answers, `(method, arguments)` being a request.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from convc import children
from convc.errors import ConvcError

_LENGTH = struct.Struct("<Q")
_ORPHAN_SECONDS = 1.0
_CLOSE_SECONDS = 2.0


class Gone(Exception):
    """All that the service held is gone. It may say so itself, of what it holds elsewhere."""


class Died(Gone):
    """The process ended while it worked on a request; the message says how, and its last words.

    `killed`: by somebody else, be it a person or a system without memory. Nothing that a kernel does ends its
    process by SIGKILL.
    """

    def __init__(self, message: str, *, killed: bool = False) -> None:
        super().__init__(message)
        self.killed = killed


class Hung(Gone):
    """The process did not answer in time and was killed."""


class Worker:
    """A process that serves `service` ("package.module:Class"). It is started when it is first needed.

    `arguments` are those of the class.
    """

    def __init__(
        self, service: str, environment: dict[str, str] | None = None, arguments: Sequence[str] = ()
    ) -> None:
        self._service, self._arguments = service, arguments
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.running = False
        """Whether the service holds what it was given: after `Gone` it has to be given all of it again."""
        self._closed = False
        self._answers = -1
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the worker is)

    def ask(self, method: str, *arguments: Any, timeout: float) -> Any:
        """What the service's method returns.

        Raises what the method raised where that is a ConvcError or `Gone`, else `Died` or, after `timeout`
        seconds, `Hung`.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        data = pickle.dumps((method, arguments))
        try:
            process.stdin.write(_LENGTH.pack(len(data)) + data)
            process.stdin.flush()
            answer = self._receive(time.monotonic() + timeout)
        except (BrokenPipeError, EOFError):
            raise self._death() from None
        except TimeoutError:
            self._stop(kill=True)
            raise Hung(f"no answer within {timeout:.0f} s") from None
        kind, value = pickle.loads(answer)
        self.running = not isinstance(value, Gone)
        if kind == "error":
            raise value
        return value

    def restart(self) -> None:
        """End the process; the next request starts another."""
        self._stop(kill=True)

    def close(self) -> None:
        """End the process, if there is one, whatever it is doing; there will be no other."""
        self._closed = True
        self._stop(kill=True)

    def _stop(self, *, kill: bool) -> None:
        process, self._process, self.running = self._process, None, False
        if process is None:
            return
        if kill:
            process.kill()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(self._answers)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._stop(kill=False)
        self._words.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise Died("it was closed")
        self._words.seek(0)
        self._words.truncate()
        self._answers, theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, self._service, str(theirs), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=self._words,
            stderr=self._words,
            pass_fds=(theirs,),
            env={**children.environment(), **self._environment},
            start_new_session=True,  # an interrupt from the keyboard is ours to handle
        )
        os.close(theirs)
        return self._process

    def _receive(self, deadline: float) -> bytes:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return self._read(length, deadline)

    def _read(self, nbytes: int, deadline: float) -> bytes:
        """So many bytes. Raises EOFError or TimeoutError."""
        parts: list[bytes] = []
        while nbytes:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = os.read(self._answers, min(nbytes, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            nbytes -= len(part)
        return b"".join(parts)

    def _death(self) -> Died:
        """How the process ended."""
        process = self._process
        assert process is not None
        try:
            status = process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            status = 0
        self._stop(kill=True)
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return Died(f"{how}: {lines[-1]}" if lines else how, killed=status == -signal.SIGKILL)


_MAIN = """
import sys
sys.path[:] = filter(None, sys.path)  # "" is the working folder, which may have a folder named convc
from convc.tune.worker import serve
serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
"""


def serve(service: str, answers: int, *arguments: str) -> None:
    """The process's side: answer requests from standard input until that is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, name = service.partition(":")
    made = getattr(importlib.import_module(module), name)(*arguments)
    requests = os.fdopen(os.dup(0), "rb")
    with os.fdopen(answers, "wb") as out, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        while (request := _next(requests)) is not None:
            data = _answer(made, *request)
            out.write(_LENGTH.pack(len(data)) + data)
            out.flush()


def _answer(service: Any, method: str, arguments: tuple[Any, ...]) -> bytes:
    """What a method returns or raises. No error stays here: its frames hold what may have to be freed."""
    try:
        return pickle.dumps(("value", getattr(service, method)(*arguments)))
    except (ConvcError, MemoryError, Gone) as error:
        return pickle.dumps(("error", error))


def _next(requests: BinaryIO) -> Any:
    header = requests.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    return pickle.loads(requests.read(*_LENGTH.unpack(header)))


def _end_with_parent() -> None:
    """A kernel that never ends must not outlive the tuner, however that was killed."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(_ORPHAN_SECONDS)
    os._exit(1)
