"""The command line, run inside the test's process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from convc.cli.main import main


@dataclass(frozen=True)
class Result:
    """What a command left: exit status, standard output, standard error."""

    code: int
    out: str
    err: str


def convc(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run `convc ARGUMENTS`."""
    capsys.readouterr()
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as exit:
        code = int(exit.code or 0)
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)
