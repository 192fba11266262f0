"""CPU schedules by name. A lowering names the schedule that knows its blocks."""

from __future__ import annotations

from convc.schedules.base import Schedule
from convc.schedules.cpu import direct, generic

SCHEDULES: dict[str, Schedule] = {"direct": direct, "generic": generic}
