"""Plots of the records, small enough for a README. Losses are drawn as plainly as gains.

python benchmarks/plots.py RECORD.json...     # again from the files
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_rows import CONVOLUTIONS

from convc.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from record import Record

GAIN, LOSS, INK, FAINT = "#2a6f97", "#c8553d", "#333333", "#bbbbbb"
OTHERS = "others"
FAMILIES = {"direct": INK, "im2col": "#7a9e7e", "winograd": GAIN, "fft": LOSS, OTHERS: FAINT}
"""The lowerings that a plot tells apart, by how their names begin, and their colours."""
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.prop_cycle": "cycler('color', ['2a6f97', '333333', 'c8553d', '7a9e7e'])",
    "svg.hashsalt": "convc",  # equal records make equal files
}


def write(draw: Callable[[Record], Figure | None], log: Record, output: Path) -> Path | None:
    """Draw a record into an SVG file beside its JSON file; None without matplotlib or figures to draw."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("No plot: matplotlib is not installed.", file=sys.stderr)
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    if not log.rows:
        return None
    path = output.with_suffix(".svg")
    with matplotlib.rc_context(STYLE):
        figure = draw(log)
        if figure is None:
            return None
        figure.text(0.995, 0.005, caption(log), ha="right", va="bottom", fontsize=7, color="#777777")
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
    return path


def caption(log: Record) -> str:
    """Where and when: under every plot."""
    return f"{log.machine['cpu']}, {log.date}"


def _panels(count: int, height: float, width: float = 3.6) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, count, figsize=(1.0 + width * count, height), sharey=True, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(rect=(0, 0.3 / height, 1, 1 - 0.3 / height))
    return figure, list(axes[0])


def networks(log: Record) -> Figure | None:
    """Ratio to the faster peer: a bar a network, a panel for each number of threads and batch size."""
    rows = [row for row in log.rows if row["ratio"] is not None]
    if not rows:
        return None
    kinds = list(dict.fromkeys((row["threads"], row["batch"]) for row in rows))
    first = {row["model"]: row["ratio"] for row in rows if (row["threads"], row["batch"]) == kinds[0]}
    names = sorted({row["model"] for row in rows}, key=lambda name: first.get(name, 9.0), reverse=True)
    figure, axes = _panels(len(kinds), 0.9 + 0.22 * len(names), 4.8 if len(kinds) == 1 else 2.6)
    for axis, (threads, batch) in zip(axes, kinds, strict=True):
        here = {r["model"]: r["ratio"] for r in rows if (r["threads"], r["batch"]) == (threads, batch)}
        for place, name in enumerate(names):
            if name not in here:
                continue
            ratio = here[name]
            axis.barh(place, ratio, height=0.62, color=LOSS if ratio > 1 else GAIN)
            # at the bar's end, but not on the line at 1
            axis.text(
                min(ratio, 1) - 0.02,
                place,
                f"{ratio:.2f}",
                va="center",
                ha="right",
                fontsize=8,
                color="white",
            )
        axis.axvline(1, color=INK, linewidth=0.8)
        axis.set_xlim(0, 1.05 * max(1.05, *(row["ratio"] for row in rows)))
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        axis.set_yticks(range(len(names)), names)
        axis.tick_params(length=0)
        axis.set_title(f"{threads} thread{'s' * (threads > 1)}, batch {batch}")
    label = axes[0].set_xlabel("convc's time / the faster peer's (onnxruntime, OpenVINO)", loc="left")
    label.set_in_layout(False)  # it runs on below the other panels
    return figure


def layers(log: Record) -> Figure:
    """Left: direct-equivalent speed of each convolution's choice, by its work. Right: regret."""
    figure, (speed, loss) = _two()
    # before the points, of which there may be none: a scale that comes after them must find a positive one
    speed.set(xscale="log", yscale="log", xlabel="GFLOP of the layer, computed directly")
    convolutions = [row for row in log.rows if row["op"] in CONVOLUTIONS and row["chosen_ms"]]
    for family, colour in FAMILIES.items():
        points = [row for row in convolutions if _family(row["chosen"]) == family]
        speed.scatter(
            [r["flops"] / 1e9 for r in points],
            [r["flops"] / r["chosen_ms"] / 1e6 for r in points],
            s=11,
            color=colour,
            label=family,
            linewidths=0,
        )
    speed.axhline(log.settings["peak_gflops"], color=FAINT, linewidth=0.8)
    speed.annotate("peak", (1, log.settings["peak_gflops"]), xycoords=("axes fraction", "data"), fontsize=8)
    speed.set_title("Effective GFLOP/s of each convolution's choice")
    speed.yaxis.set_major_formatter("{x:g}")
    speed.yaxis.set_minor_formatter("{x:g}")
    speed.legend(frameon=False, fontsize=8, handletextpad=0.1)
    totals = {k: v for k, v in log.summary["networks"].items() if v["regret"] is not None}
    names = sorted(totals, key=lambda name: totals[name]["regret"], reverse=True)[::-1]
    for place, name in enumerate(names):
        share = 100 * totals[name]["regret"]
        loss.barh(place, share, height=0.62, color=LOSS if share > 5 else GAIN)
        loss.annotate(
            f"{share:.1f}", (share, place), (3, 0), textcoords="offset points", va="center", fontsize=8
        )
    loss.axvline(5, color=FAINT, linewidth=0.8)
    loss.set_xlim(0, max([7.0, *(115 * t["regret"] for t in totals.values())]))
    loss.set_yticks(range(len(names)), names)
    loss.tick_params(length=0)
    loss.set_title("Time lost by the untuned choice")
    loss.set_xlabel("% above the best measured candidates")
    return figure


def _family(lowering: str) -> str:
    return next((name for name in FAMILIES if lowering.startswith(name)), OTHERS)


def _two() -> tuple[Figure, Sequence[Axes]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.06, 1, 0.94))
    return figure, axes


def scaling(log: Record) -> Figure:
    """Time for each unit of work, relative to the median past the smallest point, and the fitted line there.

    Proportional time is flat at 1; a straight line with a constant part comes down to it.
    """
    figure, axes = _two()
    for axis, (kind, label) in zip(axes, (("size", "image size"), ("batch", "batch size")), strict=True):
        for threads in sorted({row["threads"] for row in log.rows}):
            rows = [r for r in log.rows if r["threads"] == threads and r["axis"] == kind]
            rows.sort(key=lambda r: r[kind])
            marks = "s" if threads == 1 else "o"
            points = [r[kind] for r in rows], [r["relative"] for r in rows]
            (drawn,) = axis.plot(*points, marks, label=f"{threads} thread{'s' * (threads > 1)}", markersize=4)
            line = log.summary.get(f"{kind}, threads {threads}", {}).get("line")
            if line:
                _fitted(axis, rows, kind, line, drawn.get_color())
        ticks = sorted({r[kind] for r in log.rows if r["axis"] == kind})
        axis.axhline(1, color=FAINT, linewidth=0.8, zorder=0)
        axis.set_xscale("log")
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
        axis.set(xlabel=label, ylim=(0, max(2.0, 1.2 * max(r["relative"] for r in log.rows))))
        axis.set_title("Time for the same work (1: proportional; grey: line ± 15 %)")
        axis.legend(frameon=False, fontsize=8)
    return figure


def _fitted(axis: Axes, rows: Sequence[Any], kind: str, line: dict[str, float], colour: str) -> None:
    """The fitted line at each point, and 15 % around it: `relative` with the point's deviation taken out."""
    places = [r[kind] for r in rows]
    heights = [r["relative"] / r["deviation"] for r in rows]
    text = f"{line['constant_ms']:.2f} ms + {line['ms_per_giga']:.2f} ms / G multiply-adds"
    axis.plot(places, heights, "-", color=colour, linewidth=1.0, label=text)
    low, high = ([share * h for h in heights] for share in (0.85, 1.15))
    axis.fill_between(places, low, high, color="#eeeeee", zorder=0)


def steadiness(log: Record) -> Figure:
    """The median of each process as a dot, in percent of the middle one."""
    kinds = [(r["model"] + f" ({r['engine']})" * (r["engine"] != "convc"), r["product"]) for r in log.rows]
    figure, (axis,) = _panels(1, 0.9 + 0.35 * len(kinds), 6.5)
    for place, row in enumerate(log.rows):
        shares = [100 * ms / row["median_ms"] for ms in row["medians_ms"]]
        inside = row["spread"] <= 0.1
        axis.plot(shares, [place] * len(shares), "o", markersize=4, alpha=0.5, color=GAIN if inside else LOSS)
    axis.axvspan(95, 105, color="#eeeeee", zorder=0)
    axis.set_yticks(
        range(len(kinds)), [name + (", NumPy products between" if size else "") for name, size in kinds]
    )
    axis.set_ylim(-0.6, len(kinds) - 0.4)
    axis.tick_params(length=0)
    axis.set_xlabel("median of one process, % of the middle one (grey: a spread of 10 %)")
    return figure


DRAW = {"networks": networks, "layers": layers, "scaling": scaling, "steadiness": steadiness}

if __name__ == "__main__":
    import record

    for argument in sys.argv[1:]:
        try:
            log = record.load(Path(argument))
            print(write(DRAW[log.benchmark], log, Path(argument)))
        except OptionError as error:
            sys.exit(f"error: {error}")
