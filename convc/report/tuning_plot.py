"""A picture of tuning, drawn with matplotlib from trials of any origin: a run that ends, or a database.

Left, above: the best time of each layer and of all together, relative to untuned. Left, below: predicted and
measured times. Right: for each of the layers that matter most, the time of every trial, one line of points
for each lowering, and how many trials failed in which way. A colour is a lowering everywhere; layers that
matter less are grey.
"""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from convc.errors import OptionError
from convc.files import destination, write_bytes
from convc.report.tuning_view import ms, plain, times
from convc.tune.progress import Course, LayerState, agreement, courses, together
from convc.tune.trial import Outcome, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours that differ for colour-blind eyes too, of Okabe and Ito; first as filled points, then as rings."""

Styles = Mapping[str, Mapping[str, Any]]
"""How the points of each lowering look: arguments of `scatter`."""

INK, GREY, FAINT = "#222222", "#bdbdbd", "#dddddd"
NAMED = 12
"""Layers that are shown by name."""

LABELLED = 8
"""Of these, lines that bear it."""

LANE = 0.125
"""Inches between two lines of points."""

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "text.color": INK,
    "text.parse_math": False,  # a name may contain dollar signs
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def write(
    path: Path, trials: Sequence[Trial], layers: Sequence[LayerState] = (), *, title: str = "Tuning"
) -> Path:
    """Draw trials into a PNG file, which appears whole or not at all; `layers` tell names and counts.

    Raises OptionError without matplotlib, without trials, and where the file can't be written.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise OptionError(
            "Plots are drawn with matplotlib, which is not installed.", hint="pip install 'convc[plot]'"
        ) from error
    found = drawable(trials, layers)
    destination(path)  # refused now, not after drawing
    data = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        _figure(found, plain(title)).savefig(data, format="png", dpi=140)
    write_bytes(path, data.getvalue())
    return path


def drawable(trials: Sequence[Trial], layers: Sequence[LayerState]) -> list[Course]:
    """The courses of the trials. Raises OptionError where there are none."""
    if not trials:
        raise OptionError("There are no trials to show.", hint="Tune a network first.")
    return courses(trials, layers)


def lowerings(found: Sequence[Course]) -> dict[str, int]:
    """The number of each lowering that was tried: its place in `PALETTE`, rings after filled points."""
    names = sorted({trial.variant.lowering for course in found for trial in course.trials})
    return {name: number for number, name in enumerate(names)}


def spread(places: Sequence[float], gap: float, most: float) -> list[float]:
    """The places moved as little as they can be to lie `gap` apart, up to `most`; their order stays."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    clusters: list[list[float]] = []  # of places as if the gaps were taken out
    for number, i in enumerate(order):
        clusters.append([places[i] - number * gap])
        while len(clusters) > 1 and fmean(clusters[-2]) >= fmean(clusters[-1]):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    free = [fmean(cluster) for cluster in clusters for _ in cluster]
    bound = most - (len(places) - 1) * gap
    moved = dict(zip(order, (min(place, bound) + n * gap for n, place in enumerate(free)), strict=True))
    return [moved[i] for i in range(len(places))]


def shortened(name: str, most: int = 30) -> str:
    """A name that fits beside a plot; its end tells more than its middle."""
    name = plain(name)
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


class Line(NamedTuple):
    """The best time over the trials: after which one it was which share of the untuned time.

    `lowering` is that of the best; all layers together have none.
    """

    name: str
    lowering: str | None
    named: bool
    shares: list[tuple[int, float]]

    @property
    def last(self) -> float:
        """The share in the end."""
        return self.shares[-1][1]


def best_lines(found: Sequence[Course]) -> list[Line]:
    """A line for all layers together, then one for each layer that has a time."""
    total = together(found)
    start = total[0][1]
    if not start:
        return []
    lines = [Line("all together", None, True, [(place, seconds / start) for place, seconds in total])]
    for number, course in enumerate(found):
        if course.best is not None and course.untuned:
            steps = [(point.place, point.seconds / course.untuned) for point in course.steps]
            lowering = course.best.variant.lowering
            lines.append(Line(course.name, lowering, number < LABELLED, [(0, 1.0), *steps]))
    return lines


class Lane(NamedTuple):
    """A line of points on the right: one lowering's trials of one layer or, unnamed, of all the others.

    `shares` are their times relative to untuned, `failed` counts the kinds of failures.
    """

    lowering: str
    named: bool
    shares: list[float]
    failed: Counter[Outcome]


class Row(NamedTuple):
    """The lanes of a layer, and the row's height in lanes."""

    label: str
    lanes: list[Lane]
    height: float


def _figure(found: Sequence[Course], title: str) -> Figure:
    from matplotlib.figure import Figure

    tried = [course for course in found if course.trials]
    failed = {trial.outcome for course in tried for trial in course.trials if not trial.ok}
    kinds = [kind for kind in Outcome if kind in failed]
    styles = _styles(tried)
    rows = _rows(tried)
    height = 2.0 + max(5.0, LANE * sum(row.height for row in rows))
    figure = Figure(figsize=(15, height), layout="constrained")
    figure.suptitle(title, x=0.008, ha="left", fontsize=13, fontweight="bold")
    left, right = figure.subfigures(1, 2, squeeze=False, wspace=0.02)[0]
    above, below = left.subplots(2, 1)
    _best_over_trials(above, tried, styles)
    _prediction(below, tried, styles)
    space, failures = right.subplots(1, 2, sharey=True, width_ratios=(6, 0.01 + 0.3 * len(kinds)))
    _space(space, rows, styles)
    _failures(failures, rows, kinds, styles)
    return figure


def _styles(found: Sequence[Course]) -> Styles:
    styles = {}
    for name, number in lowerings(found).items():
        colour = PALETTE[number % len(PALETTE)]
        styles[name] = {"edgecolors": colour, "facecolors": colour if number < len(PALETTE) else "none"}
    return styles


def _best_over_trials(axis: Axes, tried: Sequence[Course], styles: Styles) -> None:
    end = sum(len(course.trials) for course in tried)
    marks: list[tuple[float, str, str]] = []
    for line in reversed(best_lines(tried)):
        colour, width, order = GREY, 0.6, 1
        if line.lowering is None:
            colour, width, order = INK, 2.6, 4
        elif line.named:
            colour, width, order = styles[line.lowering]["edgecolors"], 1.4, 3
        places, shares = zip(*line.shares, (end, line.last), strict=True)
        axis.plot(places, shares, drawstyle="steps-post", color=colour, linewidth=width, zorder=order)
        if line.named:
            marks.append((line.last, line.name, colour))
    axis.set(xlim=(0, end), xlabel="trials", title="Best time so far, relative to untuned")
    axis.grid(axis="y", color=FAINT, linewidth=0.6)
    _labels(axis, marks, end)


def _labels(axis: Axes, marks: Sequence[tuple[float, str, str]], end: int) -> None:
    """Names beside the ends of lines."""
    low, high = axis.get_ylim()
    heights = spread([(share - low) / (high - low) for share, _, _ in marks], 0.055, 1)
    for (share, name, colour), height in zip(marks, heights, strict=True):
        said = f"{times(1 / share)}  {shortened(name)}"
        axis.annotate(
            said, (end, share), (1.05, height), textcoords="axes fraction",
            va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": colour, "relpos": (0, 0.5), "shrinkB": 0},
        )  # fmt: skip


def _prediction(axis: Axes, tried: Sequence[Course], styles: Styles) -> None:
    named, others = tried[:NAMED], tried[NAMED:]
    groups: list[tuple[str | None, Sequence[Course], Mapping[str, Any]]] = [
        (None, others, {"color": GREY, "zorder": 1}),
        *((lowering, named, style) for lowering, style in styles.items()),
    ]
    for lowering, found, style in groups:
        points = [p for c in found for p in c.points if lowering in (None, p.trial.variant.lowering)]
        pairs = [(1e3 * p.trial.predicted, 1e3 * p.seconds) for p in points if p.trial.predicted]
        rank = agreement(tried, lowering) if lowering else agreement(others)
        label = f"{lowering or f'{len(others)} other layers'}" + ("" if rank is None else f"  {rank:.2f}")
        if pairs:
            predicted, measured = zip(*pairs, strict=True)
            axis.scatter(predicted, measured, s=9, alpha=0.75, linewidths=0.7, label=label, **style)
    axis.axline((1, 1), (2, 2), color=INK, linewidth=0.8, zorder=0)
    axis.set(xscale="log", yscale="log", xlabel="predicted ms", ylabel="measured ms")
    axis.set_title("Predicted and measured time")
    _log_ticks(axis.xaxis)
    _log_ticks(axis.yaxis)
    rank = agreement(tried)
    title = "rank correlation\nwithin a layer" + ("" if rank is None else f": {rank:.2f}")
    if axis.collections:
        axis.legend(title=title, loc="upper left", bbox_to_anchor=(1.02, 1), alignment="left")


def _log_ticks(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _rows(tried: Sequence[Course]) -> list[Row]:
    """A row for each layer that matters and one for all others, the fastest lowering first."""
    groups = [(_label(course), [course]) for course in tried[:NAMED]]
    others = list(tried[NAMED:])
    if others:
        groups.append((f"{len(others)} other layers", others))
    rows = []
    for label, found in groups:
        lanes = [_lane(found, name, found is not others) for name in lowerings(found)]
        lanes.sort(key=lambda lane: min(lane.shares, default=math.inf))
        rows.append(Row(label, lanes, 1 + max(3, len(lanes))))
    return rows


def _label(course: Course) -> str:
    often = f"{course.count} times " if course.count > 1 else ""
    return f"{shortened(course.name)}\n{often}{ms(course.untuned)} → {ms(course.seconds)} ms"


def _lane(found: Sequence[Course], lowering: str, named: bool) -> Lane:
    trials = [(course, t) for course in found for t in course.trials if t.variant.lowering == lowering]
    shares = [t.seconds / course.untuned for course, t in trials if t.ok and t.seconds and course.untuned]
    return Lane(lowering, named, shares, Counter(t.outcome for _, t in trials if not t.ok))


def _placed(rows: Sequence[Row]) -> Iterator[tuple[float, Lane]]:
    """Each lane with its place from above, in the middle of its row."""
    top = 0.0
    for row in rows:
        first = top + (row.height - len(row.lanes) + 1) / 2
        yield from ((first + number, lane) for number, lane in enumerate(row.lanes))
        top += row.height


def _space(axis: Axes, rows: Sequence[Row], styles: Styles) -> None:
    ends = list(itertools.accumulate(row.height for row in rows))
    for place, lane in _placed(rows):
        style = styles[lane.lowering] if lane.named else {"color": GREY}
        axis.scatter(lane.shares, [place] * len(lane.shares), s=9, alpha=0.6, linewidths=0.7, **style)
        at = (max(lane.shares, default=1.0), place)
        axis.annotate(lane.lowering, at, (5, 0), textcoords="offset points", va="center", fontsize=6.5)
    axis.axvline(1, color=INK, linewidth=0.8, zorder=0)
    axis.margins(x=0.12)
    axis.set(xscale="log", ylim=(ends[-1], 0), xlabel="time of each trial, relative to untuned")
    axis.set_yticks(
        [end - row.height / 2 for end, row in zip(ends, rows, strict=True)], [r.label for r in rows]
    )
    axis.set_title("The space explored, a line of points for each lowering")
    axis.hlines(ends[:-1], 0, 1, transform=axis.get_yaxis_transform(), color=FAINT, linewidth=0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    _log_ticks(axis.xaxis)


def _failures(axis: Axes, rows: Sequence[Row], kinds: Sequence[Outcome], styles: Styles) -> None:
    """How many trials failed: a column for each kind, at the height of the lowering and in its colour."""
    for place, lane in _placed(rows):
        colour = styles[lane.lowering]["edgecolors"] if lane.named else INK
        for column, kind in enumerate(kinds):
            if lane.failed[kind]:
                count = str(lane.failed[kind])
                axis.text(column, place, count, color=colour, fontsize=7, ha="center", va="center")
    axis.set_xlim(-0.6, max(0.6, len(kinds) - 0.4))
    axis.set_xticks(range(len(kinds)), [kind.value.replace("_", " ") for kind in kinds], rotation=90)
    axis.set_title("failed" if kinds else "")
    axis.tick_params(length=0, labelleft=False)
    axis.spines[:].set_visible(False)
