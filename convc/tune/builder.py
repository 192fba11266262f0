"""Builds candidates' modules: a service for `Worker`, since a compiler may crash or never end as well."""

from __future__ import annotations

from pathlib import Path

from convc.codegen.cache import ObjectCache
from convc.tune.trial_module import Packed, Spec, build


class Builder:
    """The service."""

    def __init__(self) -> None:
        self._cache: dict[Path | None, ObjectCache] = {}
        self._layer = ""
        self._packed: Packed = {}

    def build(self, spec: Spec, path: Path, cache: Path | None) -> None:
        """Write a candidate's module. Raises ConvcError."""
        if cache not in self._cache:
            self._cache[cache] = ObjectCache.open(cache)
        if spec.workload.key != self._layer:
            self._layer = spec.workload.key
            self._packed.clear()
        build(spec, path, self._cache[cache], self._packed)
