"""Tuning as one HTML page that needs nothing but itself: tables, plots as SVG, every trial of every layer.

All text comes from elsewhere (a model's names, a compiler's messages) and is escaped. Nothing of it gets into
the script, and the page forbids every script and style but its own, and every request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

from convc.files import write_bytes
from convc.report.tuning_plot import (
    NAMED,
    PALETTE,
    best_lines,
    drawable,
    lowerings,
    shortened,
    spread,
)
from convc.report.tuning_view import ms, plain, setting, times
from convc.tune.progress import Course, LayerState, agreement, together
from convc.tune.trial import Machine, Trial

STYLE = """
:root { color-scheme: light dark; --ink: #222; --back: #fff; --grey: #bbb; --faint: #e4e4e4; --bad: #b03a00 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --back: #16181b; --grey: #5c6066; --faint: #2c2f33; --bad: #ff9a5c }
  svg { filter: brightness(1.3) }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 1200px; margin: 2em auto; padding: 0 1em }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1.2em }
dt { font-weight: 600 } dd { margin: 0 }
figure { display: inline-block; margin: 0 1em 1em 0; vertical-align: top; max-width: 100% }
figcaption { font-weight: 600 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2em .8em .2em 0; vertical-align: top;
  border-bottom: 1px solid var(--faint) }
th { cursor: pointer; white-space: nowrap; user-select: none }
th[aria-sort=ascending]::after { content: " \\2191" } th[aria-sort=descending]::after { content: " \\2193" }
.n { text-align: right; white-space: nowrap } .bad { color: var(--bad) } .best { font-weight: 600 }
a { color: inherit } summary { cursor: pointer; padding: .3em 0 }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1.2em; margin: 0; padding: 0; font-size: 13px }
svg { max-width: 100%; height: auto } svg text { fill: var(--ink); font-size: 11px }
.rest { --c: var(--grey) } .whole { --c: var(--ink) }
.rule { stroke: var(--faint) } .diagonal { stroke: var(--ink) }
.line { fill: none; stroke: var(--c); stroke-width: 1.6 } .line.rest { stroke-width: .7 }
.line.whole { stroke-width: 3 } .dot { fill: var(--c); stroke: var(--c); opacity: .75 } .ring { fill: none }
""" + "\n".join(f".c{number} {{ --c: {colour} }}" for number, colour in enumerate(PALETTE))

SCRIPT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const sign = head.ariaSort === "ascending" ? -1 : 1, body = head.closest("table").tBodies[0];
  const key = row => row.cells[head.cellIndex].dataset.v ?? row.cells[head.cellIndex].textContent;
  const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  const rows = [...body.rows].sort((a, b) =>
    (key(a) === "") - (key(b) === "") || sign * compare(key(a), key(b)));
  for (const other of head.parentNode.cells) other.ariaSort = null;
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  body.append(...rows);
});
"""

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src '$style_hash'; script-src '$script_hash'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<h1>$title</h1>
<dl>
$summary
</dl>
<figure><figcaption>Best time so far, relative to untuned</figcaption>
$best
</figure>
<figure><figcaption>Measured ms over predicted ms</figcaption>
$prediction
</figure>
$legend
<h2>Layers</h2>
<p>Those on which the network spends most come first. A click on a title sorts.</p>
$layers
<h2>Trials</h2>
$trials
<script>$script</script>
</body>
</html>
""")

WIDTH, HEIGHT = 480, 340
LEFT, TOP, BOTTOM = 48, 12, 40
NAMES = 170
"""Room for the names of lines, right of them."""


def write(
    path: Path, trials: Sequence[Trial], layers: Sequence[LayerState] = (), *, title: str = "Tuning"
) -> Path:
    """Write the page, whole or not at all; `layers` tell names and counts. Raises OptionError."""
    write_bytes(path, render(trials, layers, title=title).encode())
    return path


def render(trials: Sequence[Trial], layers: Sequence[LayerState] = (), *, title: str = "Tuning") -> str:
    """The page as text. Raises OptionError where there are no trials."""
    found = drawable(trials, layers)
    tried = [course for course in found if course.trials]
    styles = {name: _style(number) for name, number in lowerings(tried).items()}
    return PAGE.substitute(
        title=_text(title),
        style=STYLE,
        style_hash=_hash(STYLE),
        script=SCRIPT,
        script_hash=_hash(SCRIPT),
        summary=_summary(tried),
        best=_best_over_trials(tried, styles),
        prediction=_prediction(tried, styles),
        legend=_legend(tried, styles),
        layers=_layers(found),
        trials="\n".join(_trials(number, course) for number, course in enumerate(found)),
    )


def _text(text: object) -> str:
    return html.escape("\n".join(map(plain, str(text).splitlines())))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _style(number: int) -> str:
    """The class of a lowering's points and lines."""
    return f"c{number % len(PALETTE)}" + (" ring" if number >= len(PALETTE) else "")


def _summary(tried: Sequence[Course]) -> str:
    trials = [trial for course in tried for trial in course.trials]
    kinds = Counter(trial.outcome.value.replace("_", " ") for trial in trials if not trial.ok)
    failed = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    line = together(tried)
    start, end = line[0][1], line[-1][1]
    rank = agreement(tried)
    stamps = sorted(trial.measured_at for trial in trials if trial.measured_at)
    machines = sorted({trial.machine for trial in trials}, key=lambda machine: machine.digest)
    rows = [
        ("layers", str(len(tried))),
        ("together", f"{ms(start)} → {ms(end)} ms, {times(start / end)}" if end else ""),
        ("trials", str(len(trials))),
        ("failed", f"{kinds.total()} ({failed})" if kinds else "none"),
        ("rank correlation", "" if rank is None else f"{rank:.2f} of predicted and measured, within a layer"),
        ("measured", f"{stamps[0]} to {stamps[-1]}" if stamps else ""),
        *(("machine", _machine(machine)) for machine in machines),
    ]
    return "\n".join(f"<dt>{_text(term)}</dt><dd>{_text(said)}</dd>" for term, said in rows if said)


def _machine(machine: Machine) -> str:
    features = ", ".join(f"{name} {value}" for name, value in machine.features.items())
    return f"{machine.digest[:6]}: {features}, threads {machine.threads}"


def _number(text: str, value: float | None) -> str:
    return f'<td class="n" data-v="{"" if value is None else value}">{text}</td>'


def _word(text: str) -> str:
    return f"<td>{_text(text)}</td>"


def _table(titles: Iterable[str], rows: Iterable[str], name: str = "") -> str:
    head = "".join(f'<th scope="col">{_text(title)}</th>' for title in titles)
    body = "\n".join(rows)
    return (
        f'<div class="wide" id="{name}"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _layers(found: Sequence[Course]) -> str:
    rows = []
    for number, course in enumerate(found):
        best, gain = (
            course.best,
            course.untuned / course.seconds if course.untuned and course.seconds else None,
        )
        chosen = best.variant if best else None
        failed = sum(not trial.ok for trial in course.trials)
        cells = (
            f'<td><a href="#trials-{number}">{_text(course.name)}</a></td>',
            _word(course.op),
            _number(str(course.count), course.count),
            _number(ms(course.untuned), course.untuned),
            _number(ms(best.seconds if best else None), best.seconds if best else None),
            _number(times(gain), gain),
            _word(chosen.lowering if chosen else ""),
            _word(chosen.layouts if chosen else ""),
            _word(setting(chosen) if chosen else ""),
            _number(str(len(course.trials)), len(course.trials)),
            _number(str(failed or ""), failed),
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    titles = ("layer", "op", "count", "untuned ms", "best ms", "gain", "lowering", "layouts", "configuration")
    return _table((*titles, "trials", "failed"), rows)


def _trials(number: int, course: Course) -> str:
    rows = []
    for place, trial in enumerate(course.trials, 1):
        interval = f"{ms(trial.low)} to {ms(trial.high)}" if trial.low and trial.high else ""
        outcome = trial.outcome.value.replace("_", " ") + (f": {trial.message}" if trial.message else "")
        cells = (
            _number(str(place), place),
            _word(trial.variant.lowering),
            _word(trial.variant.layouts),
            _word(setting(trial.variant)),
            _number(ms(trial.predicted), trial.predicted),
            _number(ms(trial.seconds), trial.seconds),
            f'<td class="n">{interval}</td>',
            _number("" if trial.error is None else f"{trial.error:.0e}", trial.error),
            _word(outcome),
            _word(trial.measured_at),
        )
        kind = ' class="best"' if trial is course.best else "" if trial.ok else ' class="bad"'
        rows.append(f"<tr{kind}>{''.join(cells)}</tr>")
    titles = ("#", "lowering", "layouts", "configuration", "predicted ms", "measured ms", "95 % interval")
    table = _table((*titles, "error", "outcome", "when"), rows, f"trials-{number}")
    said = f"{_text(course.name)}: {len(course.trials)} trials"
    return f"<details><summary>{said}</summary>\n{table}\n</details>"


class Scale(NamedTuple):
    """A linear or logarithmic axis from `low` to `high`, between two places in the picture."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(powers) < 5 else (1,)
            return [s * 10.0**p for p in powers for s in steps if self.low <= s * 10.0**p <= self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _picture(x: Scale, y: Scale, label: str, drawn: Iterable[str], more: int = 0) -> str:
    """An SVG element with axes; `more` is room on its right."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH + more} {HEIGHT}" width="{WIDTH + more}" height="{HEIGHT}" role="img">'
    ]
    for tick in y.ticks():
        at = f"{y.at(tick):.1f}"
        parts.append(f'<line class="rule" x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at}" text-anchor="end" dy=".35em">{tick:g}</text>')
    for tick in x.ticks():
        parts.append(f'<text x="{x.at(tick):.1f}" y="{y.start + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(x.start + x.end) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>')
    return "\n".join((*parts, *drawn, "</svg>"))


def _best_over_trials(tried: Sequence[Course], styles: dict[str, str]) -> str:
    end = sum(len(course.trials) for course in tried)
    lines = best_lines(tried)
    least = min((line.last for line in lines), default=1.0)
    x, y = Scale(0, end, LEFT, WIDTH), Scale(min(least, 0.95) - 0.01, 1.01, HEIGHT - BOTTOM, TOP)
    drawn = []
    for line in reversed(lines):
        style = "whole" if line.lowering is None else styles[line.lowering] if line.named else "rest"
        path = "".join(f"H{x.at(place):.1f}V{y.at(share):.1f}" for place, share in line.shares)
        title = f"<title>{_text(line.name)} {times(1 / line.last)}</title>"
        drawn.append(f'<path class="line {style}" d="M{LEFT},{y.at(1):.1f}{path}H{WIDTH}">{title}</path>')
    named = [line for line in lines if line.named]
    heights = spread([-y.at(line.last) for line in named], 13, -TOP)
    for line, height in zip(named, heights, strict=True):
        said = f"{times(1 / line.last)} {_text(shortened(line.name, 24))}"
        drawn.append(f'<text class="name" x="{WIDTH + 8}" y="{-height:.1f}" dy=".35em">{said}</text>')
    return _picture(x, y, "trials", drawn, NAMES)


def _prediction(tried: Sequence[Course], styles: dict[str, str]) -> str:
    shown = [
        (number, course.name, p.trial.variant.lowering, 1e3 * p.trial.predicted, 1e3 * p.seconds)
        for number, course in enumerate(tried)
        for p in course.points
        if p.trial.predicted
    ]
    values = [value for *_, predicted, measured in shown for value in (predicted, measured)] or [1.0]
    low, high = min(values) / 1.2, max(values) * 1.2
    x, y = Scale(low, high, LEFT, WIDTH, log=True), Scale(low, high, HEIGHT - BOTTOM, TOP, log=True)
    drawn = [f'<line class="diagonal" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH}" y2="{TOP}"/>']
    for number, name, lowering, predicted, measured in reversed(shown):
        style = styles[lowering] if number < NAMED else "rest"
        drawn.append(
            f'<circle class="dot {style}" cx="{x.at(predicted):.1f}" cy="{y.at(measured):.1f}" r="2.5">'
            f"<title>{_text(name)}, {_text(lowering)}: {measured:.3f} ms</title></circle>"
        )
    return _picture(x, y, "predicted ms", drawn)


def _legend(tried: Sequence[Course], styles: dict[str, str]) -> str:
    items = ["<li>lowerings, with the rank correlation of predicted and measured within a layer:</li>"]
    for lowering, style in styles.items():
        rank = agreement(tried, lowering)
        items.append(
            f'<li><svg width="10" height="10"><circle class="dot {style}" cx="5" cy="5" r="3.5"/></svg> '
            f"{_text(lowering)}{'' if rank is None else f' {rank:.2f}'}</li>"
        )
    if len(tried) > NAMED:
        items.append(f"<li>grey: the other {len(tried) - NAMED} layers</li>")
    return f"<ul>{''.join(items)}</ul>"
