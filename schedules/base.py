"""What a schedule must offer: data that describes it, and one function that applies it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from convc.errors import ConvcError
from convc.target import Target
from convc.workload import Workload


class NotApplicable(ConvcError):
    """A configuration does not fit a workload; the message is the reason."""


@dataclass(frozen=True)
class Config:
    """Base of schedule configurations: named integers that serialise to JSON."""


class Schedule(Protocol):
    """A module under `convc.schedules.cpu` with these functions is a schedule."""

    def default(self, w: Workload, target: Target) -> Config:
        """The configuration to use when nothing was measured."""

    def space(self, w: Workload, target: Target) -> Iterator[Config]:
        """All configurations worth measuring."""

    def price(self, w: Workload, target: Target, config: Config) -> float:
        """Predicted seconds of one of `space`, by which those worth measuring are found.

        Optional: without it the order of `space` decides. Compared within a schedule only.
        """

    def apply(self, sch: Any, w: Workload, target: Target, config: Config) -> None:
        """Transform `sch` (a `tvm.s_tir.Schedule`) in place. Raises NotApplicable."""
