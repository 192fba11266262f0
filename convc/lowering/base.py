"""What an algorithm for an operator must offer. Selection, code generation and reports know only this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from convc.dtype import FLOAT32, DType
from convc.target import Target
from convc.types import PLAIN, Array, Layout, TensorType
from convc.workload import Halo, Workload


class Reach(IntEnum):
    """Which inputs the error of an output is in proportion to, beyond those that the output depends on.

    An algorithm that adds inputs up before it multiplies them rounds these sums. One large input then costs
    accuracy in outputs that never see it.
    """

    TERMS = 0  # the output's own terms: the error is a part of the sum of their magnitudes
    WINDOW = 1  # the largest input of the output's window
    TILE = 2  # the largest input of the tile that the output is computed in


@dataclass(frozen=True)
class Layouts:
    """The layouts that a kernel reads and writes: one for each input (None where it is absent) and output."""

    inputs: tuple[Layout | None, ...]
    outputs: tuple[Layout, ...]


class Lowering(ABC):
    """One way to compute an operator.

    The kernel's parameters are the node's inputs that are there, in order, then its outputs. A constant
    input is handed to the kernel as `pack` stored it, any other as its physical shape; input 0 is enlarged
    by `halo` on its spatial axes. `compute` names its blocks by the constants in `convc.workload`; the
    schedule of the same name finds them there.
    """

    name: ClassVar[str]
    ops: ClassVar[tuple[str, ...]]
    """The operators that this algorithm computes."""

    version: ClassVar[int] = 1
    """Raised whenever the code of its kernels changes, by this algorithm or its schedule: records of times
    that were measured before are those of other kernels."""

    exact: ClassVar[bool] = True
    """Whether the only error is that of rounding each product and sum of the definition."""

    spreads: ClassVar[str] = ""
    """What an infinity or NaN in the input may reach beside the outputs that see it, "" for nothing."""

    @property
    def schedule(self) -> str:
        """The schedule that knows this algorithm's blocks."""
        return self.name

    @abstractmethod
    def applies(self, w: Workload, target: Target) -> str | None:
        """None when this algorithm can compute `w`, else the reason why not, as part of a sentence."""

    @abstractmethod
    def layouts(self, w: Workload, target: Target) -> Layouts:
        """The layouts wanted; the types in `w` still carry those in which producers have left the inputs."""

    def halo(self, w: Workload, target: Target) -> Halo:
        """Zeros expected around input 0; () for none."""
        return ()

    def pack(self, w: Workload, target: Target, index: int, array: Array) -> Array:
        """Store constant input `index` as the kernel wants it; transforms are computed in float64."""
        kind = w.inputs[index]
        assert kind is not None
        return kind.layout.pack(array)

    @abstractmethod
    def compute(self, w: Workload, target: Target) -> Any:
        """The computation as an unscheduled `tvm.tirx.PrimFunc`."""

    def compute_for(self, w: Workload, target: Target, config: Any) -> Any:
        """The computation for a configuration of the schedule: another one only where tiles overlap, which
        no schedule could make of the same loops."""
        return self.compute(w, target)

    @abstractmethod
    def cost(self, w: Workload, target: Target) -> float:
        """Predicted seconds on all threads of the target."""

    def refuses_weights(self, w: Workload, weights: Sequence[Array | None]) -> str | None:
        """None when these constant inputs can be stored, else the reason why not, as part of a sentence."""
        return None

    def error_bound(self, w: Workload, weights: Sequence[Array | None]) -> float:
        """Predicted largest error, relative to the largest output; `weights` are the constant inputs.

        It is one for inputs of one size. With others an output's error is at most this part of the largest
        input in `reach` times the root of the sum of the squares of its weights.
        """
        return 1e-6

    def reach(self, w: Workload) -> Reach:
        """Which inputs the error of an output is in proportion to."""
        return Reach.TERMS


def other_format(w: Workload, dtype: DType = FLOAT32) -> str | None:
    """Why a lowering that computes in one number format cannot compute `w`; None if it can."""
    kinds = (w.inputs[0], *w.outputs)
    other = next((kind.dtype for kind in kinds if kind is not None and kind.dtype != dtype), None)
    return None if other is None else f"it computes in {dtype}, not {other}"


def blocked_like(w: Workload, target: Target, *, inputs: Sequence[int]) -> Layouts:
    """Blocked layout for the output, for the listed inputs and for the epilogue's operands of full rank."""
    blocked = Layout(target.lanes)
    rank = w.outputs[0].rank

    def choose(index: int, kind: TensorType | None) -> Layout | None:
        if kind is None:
            return None
        full = index in inputs or (index >= w.arity and kind.rank == rank)
        return blocked if full else PLAIN

    return Layouts(tuple(choose(i, t) for i, t in enumerate(w.inputs)), tuple(blocked for _ in w.outputs))
