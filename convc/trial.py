"""A module tried on one input after another, until each of its outputs has been tested or inputs run out.

An output tells nothing where it is zero, beyond float32, or the same for every input: dead units, saturation.
Others are tried then, and what stays the same is to be right to rounding, element by element.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from convc.draw import ancestors
from convc.dtype import DType
from convc.evaluate import EXACT, Exact, evaluate
from convc.ir import Graph
from convc.judge import Judgement, explain
from convc.rounding import Perturbed
from convc.runtime.manifest import Manifest
from convc.runtime.module import Module
from convc.types import Array

CONSTANT_ERROR = 1e-5
"""How far off an element may be, relative to itself, of an output that no input was seen to change."""
DTYPE_FACTOR = 10
"""How much more than the rounding of its dtype an output may be off."""
MOST_DRAWS = 8
"""References with errors that are made before an output is refused."""
AMPLIFIED = 0.1
"""Effect of rounding on an output, relative to it, from which on comparing with a reference says little."""

Outputs = dict[str, Array]


class Trial:
    """A module beside its graph, and what has been found out so far.

    `limit` is the error that an output may have without a reason, relative to its largest value; where it is
    `strict` there are no reasons. `judged` has the worst of each output.
    """

    def __init__(self, graph: Graph, module: Module, limit: float, *, strict: bool = False) -> None:
        self.judged: dict[str, Judgement] = {}
        self._graph, self._module, self._limit, self._strict = graph, module, limit, strict
        self._by_element = by_element(module.manifest) and not strict
        self._feeds: list[Mapping[str, Array]] = []
        self._runs: list[Outputs] = []
        self._compared: list[int] = []  # the runs that the reference was evaluated for
        self._expected: Outputs = {}  # of the first run
        self._constant: tuple[str, ...] = ()

    def run(self, feeds: Mapping[str, Array]) -> None:
        """Run the module, and compare where that says something new."""
        names = self._graph.output_names
        expected = None if self._runs else self._reference(feeds)  # it finds indices that are out of range
        found = dict(zip(names, self._module.run(None, feeds), strict=True))
        self._feeds.append(feeds)
        self._runs.append(found)
        last = len(self._runs) - 1
        if expected is None and not any(self._tells(name, last) for name in self.untested):
            return
        expected = expected or self._reference(feeds)
        self._expected = self._expected or expected
        self._compared.append(last)
        self._judge(feeds, {n: Judgement(found[n], expected[n], self._limit_of(found[n])) for n in names})

    @property
    def untested(self) -> tuple[str, ...]:
        """Outputs that have told nothing in all comparisons."""
        names = self._graph.output_names
        return tuple(n for n in names if not any(self._tells(n, run) for run in self._compared))

    def finish(self) -> None:
        """Compare what no input has changed once more, element by element."""
        names = self.untested
        if len(self._runs) == 1:  # there is no other input
            names = tuple(n for n in names if not _values(self._runs[0][n]))
        self._constant = names
        if not self._strict:
            first, expected = self._runs[0], self._expected
            each = {n: Judgement(first[n], expected[n], CONSTANT_ERROR, elementwise=True) for n in names}
            self._judge(self._feeds[0], each)

    @property
    def wrong(self) -> str | None:
        """The first output that is not right."""
        return next((name for name, judgement in self.judged.items() if not judgement.right), None)

    @property
    def complaint(self) -> str:
        """What is wrong with it."""
        judgement = self.judged[self.wrong or ""]
        return (
            f"Output '{self.wrong}' is off by {judgement.error:.1e} of its largest value; "
            f"{judgement.limit:.1e} is allowed."
        )

    @property
    def feeds(self) -> Mapping[str, Array]:
        """The inputs of the last comparison."""
        return self._feeds[self._compared[-1]]

    @property
    def amplified(self) -> tuple[str, ...]:
        """Outputs that rounding changes so much that little has been proved of them."""
        return tuple(n for n, j in self.judged.items() if j.suspects.any() and j.amplification > AMPLIFIED)

    def notices(self) -> list[str]:
        """What a user should know of a module that is right."""
        texts: list[str] = []
        if not self._constant and not any(j.suspects.any() for j in self.judged.values()):
            return texts
        fixed = {n for n, v in zip(self._graph.output_names, self._graph.outputs, strict=True)
                 if not ancestors(self._graph, [v]).intersection(self._graph.inputs)}  # fmt: skip
        for name in self._constant:
            if name not in fixed:
                texts.append(
                    f"Output '{name}' was the same for all inputs tried, or only zeros and infinities: "
                    "not verified but for that. Give inputs with --verify-input."
                )
        for name, judgement in self.judged.items():
            count = int(judgement.suspects.sum())
            if count and not self._by_element:
                texts.append(
                    f"{count} of {judgement.found.size} elements of output '{name}' are off by more than "
                    f"{judgement.limit:.0e} of the largest, as rounding in float32 explains."
                )
        return texts

    def figures(self) -> dict[str, Any]:
        """What the manifest says of the comparison."""
        errors = {name: judgement.error for name, judgement in self.judged.items()}
        return {
            "error": max(errors.values(), default=0.0),
            "limit": self._limit,
            "errors": errors,
            "excused": {}
            if self._by_element
            else {n: int(j.suspects.sum()) for n, j in self.judged.items() if j.suspects.any()},
            "untested": list(self._constant),
        }

    def _limit_of(self, found: Array) -> float:
        if self._by_element:
            return 0.0  # each element is held against references with errors
        rounding = DType.of(found.dtype.name).rounding
        return max(self._limit, DTYPE_FACTOR * rounding)

    def _tells(self, name: str, run: int) -> bool:
        """Whether an output of a run has values that depend on the input."""
        found = self._runs[run][name]
        others = (r[name] for i, r in enumerate(self._runs) if i != run)
        return _values(found) and any(not np.array_equal(found, other) for other in others)

    def _reference(self, feeds: Mapping[str, Array], arithmetic: Exact = EXACT) -> Outputs:
        return dict(zip(self._graph.output_names, evaluate(self._graph, feeds, arithmetic), strict=True))

    def _judge(self, feeds: Mapping[str, Array], judgements: Mapping[str, Judgement]) -> None:
        """Explain what can be explained, and keep the worst judgement of each output."""
        if not self._strict:
            explain(judgements, (self._reference(feeds, a) for a in arithmetics(self._module.manifest)))
        for name, judgement in judgements.items():
            before = self.judged.get(name)
            if before is None or (before.right and (not judgement.right or before.error < judgement.error)):
                self.judged[name] = judgement


def arithmetics(manifest: Manifest) -> Iterator[Perturbed]:
    """The arithmetics that show how far off a module may be, each with other errors."""
    errors = planned_errors(manifest)
    keep_denormals = bool(manifest.options.get("keep_denormals", True))
    return (
        Perturbed(keep_denormals, errors, seed, elementwise=by_element(manifest))
        for seed in range(MOST_DRAWS)
    )


def by_element(manifest: Manifest) -> bool:
    """Whether the errors of a module's lowerings are in proportion to each element's own terms."""
    return manifest.options.get("error_measure") == "element"


def planned_errors(manifest: Manifest) -> dict[str, float]:
    """The errors of a module's lowerings by the names of the nodes that they compute."""
    errors: dict[str, float] = {}
    for layer in manifest.plan:
        chosen = (c.error for c in layer.candidates if c.lowering == layer.chosen and c.error is not None)
        for name in (layer.name, *layer.origin):
            errors[name] = max(errors.get(name, 0.0), *chosen, 0.0)
    return {name: error for name, error in errors.items() if error}


def _values(found: Array) -> bool:
    """Whether an output holds anything but zeros and what is beyond its dtype."""
    return found.dtype.kind != "f" or bool((np.isfinite(found) & (found != 0)).any())
