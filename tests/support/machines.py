"""Machines that tests may take the place of the one at hand: what `convc calibrate --json` says of them.

Zen 4 and Zen 5 were measured; the others are plausible, and far enough apart that another choice is the best
for many a layer. They differ in the length of vectors, caches, speeds and the number of processors.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "machines"
VARIABLE = "CONVC_TEST_MACHINE"
"""Set to one of `NAMES`, this environment variable has all tests take the machine at hand for that one."""

NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def file_of(name: str) -> Path:
    """The description of a machine, for CONVC_CALIBRATION."""
    assert name in NAMES, f"{VARIABLE}={name}: there are {', '.join(NAMES)}"
    return FOLDER / f"{name}.json"
