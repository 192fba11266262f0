"""The compiled network before it becomes code: steps over planned memory.

`memory` makes a program, `codegen` turns it into a module, `runtime` never sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from convc.dtype import FLOAT32
from convc.ir import Node
from convc.plan.select import Choice
from convc.rounding import without_denormals
from convc.types import Array, Shape

Space = Literal["input", "output", "weights", "workspace"]


@dataclass(frozen=True)
class Location:
    """Where a tensor's first element lies: a space, the number of an input or output, and a byte offset."""

    space: Space
    index: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Argument:
    """One tensor of a kernel call. `strides` are in elements; None where the tensor is contiguous."""

    location: Location
    strides: Shape | None = None
    itemsize: int = FLOAT32.nbytes

    @property
    def alignment(self) -> int:
        """Bytes to which the tensor's address is surely aligned; callers' inputs only to their elements."""
        if self.location.space == "input":
            return self.itemsize
        return min(64, self.location.offset & -self.location.offset or 64)


@dataclass(frozen=True)
class Run:
    """Call the kernel that a node's choice stands for."""

    node: Node
    choice: Choice
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Clear:
    """Zero the border of a buffer: `outer` contiguous boxes of `extent`, each element `inner` bytes."""

    node: Node
    location: Location
    outer: int
    extent: Shape
    before: Shape
    after: Shape
    inner: int


@dataclass(frozen=True)
class Evict:
    """Send so many bytes from the caches back to memory: for measurements, networks have no use for it."""

    node: Node
    location: Location
    nbytes: int


@dataclass
class Program:
    """Steps in order, the size of their workspace, and the constants with their byte offsets.

    `workspace_bound` is the most bytes alive in one step, the first such step being `busiest_step`: no plan
    of these steps can take less. Kernels take denormal numbers for zero and make none where the program does
    not keep them.
    """

    steps: list[Run | Clear | Evict] = field(default_factory=list)
    workspace_bytes: int = 0
    workspace_bound: int = 0
    busiest_step: int = 0
    weights: list[tuple[int, Array]] = field(default_factory=list)
    weights_bytes: int = 0
    keeps_denormals: bool = True

    def busiest(self) -> Node | None:
        """The node of the step at which most bytes are alive."""
        return self.steps[self.busiest_step].node if self.workspace_bound else None

    def drop_denormals(self) -> None:
        """Have the kernels flush, and hold no constants that they would take for zero."""
        self.keeps_denormals = False
        self.weights = [(offset, without_denormals(array)) for offset, array in self.weights]
