#!/usr/bin/env python3
"""Tables of what `run.py` found, in Markdown, from one record or several of one device.

    python benchmarks/gpu/report.py results.json more.json > benchmarks/results/gpu.md

Of rows that are in several records the last one's count, unless it is a failure and an earlier one is none.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def merged(records: Iterable[Row]) -> Row:
    """One record with the rows of all, and the rest of the last."""
    rows: dict[str, Row] = {}
    whole: Row = {}
    for record in records:
        whole = {**whole, **record}
        for row in record["rows"]:
            if not row.get("failed") or row["key"] not in rows:
                rows[row["key"]] = row
    return {**whole, "rows": list(rows.values())}


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table whose first column is text and the others are figures."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return ["", *(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)), ""]


def ms(row: Row, engine: str) -> str:
    """An engine's median."""
    figures = row.get("engines", {}).get(engine)
    return "" if figures is None else f"{figures['median_ms']:.{4 if figures['median_ms'] < 1 else 2}f}"


def number(value: float | None, form: str) -> str:
    """A figure, or nothing where there is none."""
    return "" if value is None else format(value, form)


def comparison(rows: Sequence[Row], kind: str) -> list[str]:
    """A table of networks or layers of one precision, and the mean of their ratios."""
    engines = list(dict.fromkeys(name for row in rows for name in row.get("engines", {})))
    name = "model" if kind == "network" else "layer"
    columns = [kind, "batch", *(f"{engine} ms" for engine in engines), "convc p10 to p90", "ratio"]
    columns += ["TFLOP/s", "% of ceiling", "error" if kind == "layer" else "difference"]
    lines = []
    for row in sorted(rows, key=lambda r: (r["batch"], r[name])):
        if row.get("failed") and "engines" not in row:
            lines.append([row[name], str(row["batch"]), "failed", *[""] * (len(columns) - 3)])
            continue
        own = row["engines"]["convc"]
        lines.append(
            [
                row[name] + (" (failed)" if row.get("failed") else ""),
                str(row["batch"]),
                *(ms(row, engine) for engine in engines),
                f"{own['p10_ms']:.4g} to {own['p90_ms']:.4g}",
                number(row.get("ratio"), ".2f"),
                number(row.get("tflops"), ".1f"),
                number(row.get("percent_of_ceiling"), ".0f"),
                number(row.get("error", row.get("difference")), ".0e"),
            ]
        )
    return [*table(columns, lines), *means(rows)]


SLOWEST = 15


def kernels(row: Row) -> list[str]:
    """The kernels of a network that take most, with their share of the time of all."""
    whole = sum(kernel["ms"] for kernel in row["kernels"])
    ranked = sorted(row["kernels"], key=lambda kernel: -kernel["ms"])[:SLOWEST]
    lines = [
        [k["step"], k["lowering"], f"{k['ms']:.4f}", f"{100 * k['ms'] / whole:.1f}"] for k in ranked if whole
    ]
    return table(["kernel", "algorithm", "ms", "% of all"], lines)


def means(rows: Sequence[Row]) -> list[str]:
    """The geometric mean of the ratios for each batch size, and how many are above 1."""
    found = []
    for batch in sorted({row["batch"] for row in rows}):
        ratios = [row["ratio"] for row in rows if row["batch"] == batch and row.get("ratio")]
        if ratios:
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            slower = sum(ratio > 1 for ratio in ratios)
            found.append(
                f"Batch {batch}: geometric mean {mean:.3f}; {slower} of {len(ratios)} slower than PyTorch."
            )
    return found


def checks(rows: Sequence[Row]) -> list[str]:
    """For each precision and lowering: cases, the largest error beside its limit; then the failures."""
    lines = []
    for precision, lowering in sorted({(r["precision"], r.get("lowering", "")) for r in rows}):
        own = [r for r in rows if (r["precision"], r.get("lowering", "")) == (precision, lowering)]
        shares = [r["error"] / r["limit"] for r in own if r.get("limit") and r.get("error") is not None]
        failed = sum(bool(r.get("failed")) for r in own)
        worst = f"{max(shares):.2f}" if shares else ""
        lines.append([f"{lowering}, {precision}", str(len(own)), str(failed), worst])
    found = table(["lowering", "cases", "failed", "largest error / limit"], lines)
    return found + [f"- `{r['key']}`: {r['failed']}" for r in rows if r.get("failed")]


def report(paths: Sequence[Path]) -> str:
    """All tables as one page."""
    record = merged(json.loads(path.read_text()) for path in paths)
    machine, versions = record["machine"], record["versions"]
    about = [
        f"{machine.get('device', '?')} (sm_{machine.get('sm', '?')}), {record['date']}, `{record['command']}`"
    ]
    about.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    ceilings = record["ceilings"]
    if ceilings:
        products = (f"{p} {ceilings[p] / 1e12:.0f} TFLOP/s" for p in ("float16", "tf32", "float32"))
        about.append(
            f"Measured: copy {ceilings['copy_bytes_s'] / 1e12:.2f} TB/s; products {', '.join(products)}."
        )
    page = ["# convc on a GPU", "", *("\n".join(f"{line}  " for line in about).splitlines())]
    for kind, title in (("network", "Networks"), ("layer", "Layers")):
        for precision in ("float16", "tf32", "float32"):
            rows = [r for r in record["rows"] if r["kind"] == kind and r["precision"] == precision]
            if rows:
                page += ["", f"## {title}, {precision}", *comparison(rows, kind)]
    for row in record["rows"]:
        if row.get("kernels") and (row.get("model"), row["precision"]) == ("resnet50", "float16"):
            page += ["", f"## Slowest of {len(row['kernels'])} kernels, {row['key']}", *kernels(row)]
    if record.get("failed"):
        page += ["", *(f"Not measured, {part}: {reason}  " for part, reason in record["failed"].items())]
    rows = [r for r in record["rows"] if r["kind"] == "check"]
    if rows:
        page += ["", "## Checks against float64", *checks(rows)]
    return "\n".join(page) + "\n"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path, nargs="+")
    print(report(parser.parse_args().records), end="")


if __name__ == "__main__":
    main()
