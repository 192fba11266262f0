"""TVM's schedules of kernels, without the part of their work that is done twice."""

from __future__ import annotations

from inspect import isfunction
from typing import Any

from tvm import s_tir


class Schedule(s_tir.Schedule):  # type: ignore[misc]
    """A schedule whose primitives go straight to C++, which checks the types of their arguments itself.

    TVM's Python side compares each argument with its annotation first: a tenth of the time of a small kernel.
    """


def _unwrapped() -> dict[str, Any]:
    checked = {name: method for name, method in vars(s_tir.Schedule).items() if isfunction(method)}
    return {name: method.__wrapped__ for name, method in checked.items() if hasattr(method, "__wrapped__")}


for _name, _method in _unwrapped().items():
    setattr(Schedule, _name, _method)
