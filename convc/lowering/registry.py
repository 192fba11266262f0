"""All lowerings. Order breaks ties between equal prices."""

from __future__ import annotations

from convc.lowering.base import Lowering
from convc.lowering.direct import Direct
from convc.lowering.generic import Generic

LOWERINGS: tuple[Lowering, ...] = (Direct(), Generic())
