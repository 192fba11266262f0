"""A tuning run while it happens, on standard error: a live table on a terminal, lines of news elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from convc.tune.progress import LayerState, Status, Watcher
from convc.tune.trial import Trial, Variant

if TYPE_CHECKING:
    from rich.console import JustifyMethod

QUIET_S = 10.0
"""Least time between two lines about the whole run where there is no terminal."""

HEAD_LINES = 2
"""Titles and the rule below them."""


def plain(text: str) -> str:
    """A name without characters that would steer a terminal or break its line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def words(variant: Variant | None) -> str:
    """A variant in short: `winograd4 16,16>16 rows=7 cols=2`."""
    if variant is None:
        return ""
    return " ".join(part for part in (variant.lowering, variant.layouts, setting(variant)) if part)


def setting(variant: Variant) -> str:
    """A variant's configuration in short: `rows=7 cols=2`."""
    return " ".join(f"{name}={value}" for name, value in variant.numbers.items())


def ms(seconds: float | None) -> str:
    """Milliseconds; nothing for the unknown."""
    return "" if seconds is None else f"{seconds * 1e3:.3f}"


def times(gain: float | None) -> str:
    """A gain as a factor; nothing for the unknown."""
    return "" if gain is None else f"{gain:.2f}x"


def duration(seconds: float) -> str:
    """`2:05` or `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True)
class Column:
    """A column of the live table; a terminal narrower than `width` does without it."""

    title: str
    width: int
    justify: JustifyMethod
    cell: Callable[[LayerState], str]


COLUMNS = (
    Column("layer", 0, "left", lambda s: plain(s.name)),
    Column("count", 90, "right", lambda s: str(s.count)),
    Column("untuned ms", 60, "right", lambda s: ms(s.untuned)),
    Column("best ms", 30, "right", lambda s: ms(s.best)),
    Column("gain", 20, "right", lambda s: times(s.gain)),
    Column("trials", 45, "right", lambda s: f"{s.trials}/{s.space}"),
    Column("failed", 80, "right", lambda s: str(s.failures or "")),
    Column("best variant", 100, "left", lambda s: plain(words(s.variant))),
)


class LiveView(Watcher):
    """Shows a run to a person. As a context it leaves the terminal in order whatever ends the run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.animated = self.console.is_terminal and not self.console.is_dumb_terminal
        self._live: Live | None = None
        self._status: Status | None = None
        self._told_at = 0.0  # seconds of the run
        self._seen_at = 0.0  # of the clock
        self._last = ""

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last picture standing and give the terminal back; again does nothing."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begin(self, status: Status) -> None:
        self._keep(status)
        if not self.animated:
            self._print(_opening(status))
            return
        # Standard output is the program's own: rich would send it to standard error.
        self._live = Live(get_renderable=self._frame, console=self.console, redirect_stdout=False)
        self._live.start()

    def trial(self, trial: Trial, status: Status) -> None:
        before = self._status
        self._keep(status)
        if not self.animated:
            self._tell(before.layers if before else (), status)
            return
        name = next((s.name for s in status.layers if s.layer == trial.layer), trial.workload)
        came = f"{ms(trial.seconds)} ms" if trial.ok else f"{trial.outcome.value} {trial.message}"
        self._last = plain(f"{name}: {words(trial.variant)}: {came}")

    def notice(self, text: str) -> None:
        self._print("\n".join(map(plain, text.splitlines())), style="yellow")

    def end(self, status: Status) -> None:
        status = replace(status, budget=None, limit=None)  # nothing is left
        self._keep(status)
        self._last = ""
        self.close()
        if not self.animated:
            self._print(_overall(status))

    def _keep(self, status: Status) -> None:
        self._status, self._seen_at = status, time.monotonic()

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def _tell(self, before: Sequence[LayerState], status: Status) -> None:
        """The news since `before`, and from time to time how the run stands."""
        known = {state.layer: state for state in before}
        for state in status.layers:
            for line in _news(known.get(state.layer), state):
                self._print(line)
        if status.elapsed - self._told_at >= QUIET_S:
            self._told_at = status.elapsed
            self._print(_overall(status))

    def _frame(self) -> Group:
        """The picture of this moment: its clock goes on while a trial takes its time."""
        if self._status is None:
            return Group()
        since = time.monotonic() - self._seen_at if self._live is not None else 0.0
        now = replace(self._status, elapsed=self._status.elapsed + since)
        return frame(now, self.console.width, self.console.height, self._last)


def frame(status: Status, width: int, height: int, last: str = "") -> Group:
    """The table of the layers that matter most and the line below it, in less than `height` lines."""
    foot = [_trials(status), _network(status), *([last] if last else [])]
    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in foot]
    room = height - 1 - len(lines) - HEAD_LINES
    if room < 2:
        return Group(*lines[: max(1, height - 1)])
    layers = sorted(status.layers, key=lambda state: -state.weight)
    shown = layers if len(layers) <= room else layers[: room - 1]
    table = _table(shown, width)
    if len(shown) < len(layers):
        rest = Text(f"and {len(layers) - len(shown)} more", style="dim", no_wrap=True, overflow="ellipsis")
        return Group(table, rest, *lines)
    return Group(table, *lines)


def _table(layers: Sequence[LayerState], width: int) -> Table:
    columns = [column for column in COLUMNS if column.width <= width]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        text = column.justify == "left"  # it gives way to numbers where there is little room
        title = Text(column.title, no_wrap=True, overflow="ellipsis")
        table.add_column(title, justify=column.justify, no_wrap=not text, overflow="ellipsis")
    for state in layers:
        cells = [Text(column.cell(state), no_wrap=True, overflow="ellipsis") for column in columns]
        table.add_row(*cells, style="dim" if state.done else "")
    return table


def _opening(status: Status) -> str:
    ends = [duration(status.budget)] if status.budget is not None else []
    ends += [f"{status.limit} trials"] if status.limit is not None else []
    spend = f", for {' or '.join(ends)}" if ends else ""
    return f"tuning {len(status.layers)} layers, {ms(status.untuned)} ms untuned{spend}"


def _news(before: LayerState | None, now: LayerState) -> list[str]:
    """A line where the best improved, and one where the layer is finished."""
    lines = []
    known = now.untuned if before is None or before.best is None else before.best
    if now.best is not None and (known is None or now.best < known):
        was = "" if known is None else f"{ms(known)} -> "
        gain = "" if now.gain is None else f" ({times(now.gain)})"
        lines.append(f"{now.name}: {was}{ms(now.best)} ms{gain}, {words(now.variant)}")
    if now.done and not (before and before.done):
        best = "nothing worked" if now.best is None else f"best {ms(now.best)} ms"
        tried = f"{now.trials} of {now.space} candidates tried, {now.failures} failed"
        lines.append(f"{now.name}: finished, {tried}, {best}")
    return [plain(line) for line in lines]


def _overall(status: Status) -> str:
    return f"{_trials(status)}; {_network(status)}"


def _trials(status: Status) -> str:
    limit = "" if status.limit is None else f" of {status.limit}"
    failed = f", {status.failures} failed" if status.failures else ""
    left = "" if status.left is None else f", {duration(status.left)} left"
    spent = duration(status.elapsed)
    return f"{status.trials}{limit} trials{failed}, {status.rate:.1f} a second, {spent} passed{left}"


def _network(status: Status) -> str:
    gains = f"{times(status.gain)}, the model hopes for {times(status.predicted_gain)}"
    return f"tuned layers {ms(status.untuned)} -> {ms(status.best)} ms ({gains})"
