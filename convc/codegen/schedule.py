"""TVM's schedules of kernels, without the part of their work that is done twice."""

from __future__ import annotations

from typing import Any

from tvm import s_tir


class Schedule(s_tir.Schedule):  # type: ignore[misc]
    """A schedule whose primitives go straight to C++, which checks the types of their arguments itself.

    TVM's Python side compares each argument with its annotation first: a tenth of the time of a small kernel.
    """


def _unwrapped() -> dict[str, Any]:
    methods = {name: getattr(method, "__wrapped__", None) for name, method in vars(s_tir.Schedule).items()}
    return {name: method for name, method in methods.items() if method is not None}


for _name, _method in _unwrapped().items():
    setattr(Schedule, _name, _method)
