"""Time against work: the proportional reading, and the straight line that is fitted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmark_scripts import point, scaling


def test_cost_is_related_to_the_middle_of_the_line() -> None:
    points = [point("size", 1, 5), point("size", 3, 10.8), point("size", 2, 4), point("size", 4, 16)]
    found = {p.size: p.relative for p in scaling.related([*points, point("batch", 7, 1)])}
    assert found == pytest.approx({1: 5, 2: 1, 3: 1.2, 4: 1, 7: 1})
    (summary,) = scaling.summarise(scaling.related(points), 0).values()
    assert (summary["least"], summary["largest"]) == (pytest.approx(1), pytest.approx(1.2))
    assert not summary["linear"]
    assert scaling.table(scaling.related(points)).row_count == 4


def test_a_constant_part_is_found_and_told_as_reading_the_weights() -> None:
    # 2 ms, and 0.5 ms for each unit of size * size
    points = [point("size", n, 2 + 0.5 * n * n) for n in (1, 2, 4, 8)]
    assert all(p.deviation == pytest.approx(1) for p in scaling.related(points))
    summary = scaling.summarise(scaling.related(points), parameter_bytes=80_000_000)
    line = summary["size, threads 1"]["line"]
    assert (line["constant_ms"], line["ms_per_giga"]) == (pytest.approx(2), pytest.approx(0.5e9))
    assert (line["weights_mb"], line["gb_per_s"]) == (80, pytest.approx(40))
    assert line["straight"]
    assert not summary["size, threads 1"]["linear"]
    assert "2.00 ms + " in "".join(scaling.sentences(summary))
    assert "80 MB of weights at 40 GB/s" in "".join(scaling.sentences(summary))
    stored = [replace(p, weights_bytes=20_000_000) for p in points]
    assert scaling.summarise(stored, 0)["size, threads 1"]["line"]["gb_per_s"] == pytest.approx(10)


def test_the_line_weighs_relative_deviations() -> None:
    # 10 % off at both ends: with absolute squares the first, tiny in ms, would not move the line at all
    line = scaling.fitted([point("size", n, ms) for n, ms in ((1, 1.1), (10, 100.0), (100, 11000.0))])
    deviations = [1.1 / line.at(1), 100 / line.at(100), 11000 / line.at(10**4)]
    assert deviations == pytest.approx([1, 1, 1], abs=0.07)
    assert scaling.fitted([point("size", 1, 1.0), point("size", 2, 2.0)]) is None
    faster = [point("size", n, 0.001 * n**4) for n in (1, 2, 4)]
    summary = scaling.summarise(faster, 1)
    assert summary["size, threads 1"]["line"]["gb_per_s"] is None
    assert "grows faster than work" in "".join(scaling.sentences(summary))
