"""The nouns of tuning: a layer on a machine, a way to compute it, and what came of trying it.

All are plain values that go to a database, a file or another machine and come back equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from convc.target import Target

HEADER = {"format": "convc tuning records", "version": 1}
"""The first line of a file of trials; each other line is one as JSON, see `Trial.to_json`."""


class Outcome(str, Enum):
    """What came of a trial. Only `OK` has a time that may be used; the others say why there is none."""

    OK = "ok"
    WRONG = "wrong"
    """The results are further from float64 than the algorithm's error allows."""
    OUT_OF_BOUNDS = "out_of_bounds"
    """The kernel wrote beside its results."""
    CRASH = "crash"
    """The process ended: a signal, or an error of the runtime."""
    TIMEOUT = "timeout"
    """The kernel did not end in time and was killed."""
    MEMORY = "memory"
    """There was not enough memory."""
    BUILD = "build"
    """No code came out: the schedule refused, or the compiler failed."""


@dataclass(frozen=True, order=True)
class Variant:
    """A way to compute a layer: the algorithm, how its operands are stored, and its schedule's numbers.

    `layouts` has the channel block of each input and result ("16,1>16"; 1 is row-major, "-" an input that is
    not there), `config` the fields of the schedule's configuration as JSON with sorted keys.
    """

    lowering: str
    layouts: str
    config: str

    @property
    def numbers(self) -> Mapping[str, Any]:
        """The configuration as a mapping."""
        found: dict[str, Any] = json.loads(self.config)
        return found


@dataclass(frozen=True)
class Machine:
    """What a time depends on besides the kernel: the target's fixed features and the number of threads.

    `target` is JSON with sorted keys: instruction set, vector lanes, caches and model of a CPU; architecture,
    multiprocessors, name and driver of a GPU. Measured speeds are not part of it: they wander.
    """

    target: str
    threads: int

    @classmethod
    def of(cls, target: Target, **more: str | int) -> Machine:
        """The machine that a target describes; `more` is what only a look at it tells (model, driver)."""
        gpu = target.gpu
        features: dict[str, Any]
        if gpu is None:
            features = {
                "kind": "cpu",
                "isa": target.isa,
                "mcpu": target.mcpu,
                "triple": target.triple,
                "lanes": target.lanes,
                "l1": target.l1,
                "l2": target.l2,
                "l3": target.l3,
            }
        else:
            features = {"kind": "cuda", "arch": gpu.arch, "sms": gpu.sms, "precision": gpu.precision}
        text = json.dumps({**features, **more}, sort_keys=True, separators=(",", ":"))
        return cls(text, 1 if gpu is not None else target.threads)

    def with_features(self, **more: str) -> Machine:
        """The same machine, known better."""
        text = json.dumps({**self.features, **more}, sort_keys=True, separators=(",", ":"))
        return Machine(text, self.threads)

    @property
    def features(self) -> Mapping[str, Any]:
        """The target as a mapping."""
        found: dict[str, Any] = json.loads(self.target)
        return found

    @property
    def digest(self) -> str:
        """A short name that is the same for equal machines."""
        return hashlib.sha256(f"{self.target} {self.threads}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """One candidate, tried once on one machine.

    `layer` identifies the work however it is stored (see `tasks.layer_key`), `workload` says it in words and
    `op` is its operator. `version` is the schedule's: a time is that of another kernel when it differs.
    `seconds` is the median of `runs` runs, [`low`, `high`] its 95 % confidence interval; `error` is the
    largest error of the results relative to the largest of them, `predicted` the model's seconds before the
    trial. `measured_at` is UTC in ISO 8601, `session` names the run of the tuner, `number` counts its trials.
    """

    layer: str
    op: str
    workload: str
    variant: Variant
    version: int
    machine: Machine
    outcome: Outcome
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 0
    error: float | None = None
    predicted: float | None = None
    message: str = ""
    measured_at: str = ""
    session: str = ""
    number: int = 0

    @property
    def ok(self) -> bool:
        """Whether the time may be used."""
        return self.outcome is Outcome.OK

    def to_json(self) -> dict[str, Any]:
        """The trial as nested JSON values; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """The trial that `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            **{
                **data,
                "variant": Variant(**data["variant"]),
                "machine": Machine(**data["machine"]),
                "outcome": Outcome(data["outcome"]),
            }
        )
