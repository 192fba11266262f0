"""What a person sees of tuning: lines, a live table, a picture and a page, from trials that are made up."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import struct
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from convc.errors import OptionError
from convc.report import tuning_page, tuning_plot
from convc.report.tuning_view import LiveView, frame, plain
from convc.tune.progress import LayerState, Status, agreement, courses, rank_correlation, together
from convc.tune.trial import Machine, Outcome, Trial, Variant

MACHINE = Machine('{"isa":"avx512","kind":"cpu"}', 2)
LOWERINGS = ("direct", "fft", "gemm", "im2col", "winograd2", "winograd4", "winograd6", "winograd_rows")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "a<b & \"c\" 'd' <img src=x onerror=alert(1)>",
    "--> ]]> </title></svg></table>",
    "$title ${script} $\\frac{a}{b}$ 100%",
    "[red]\x1b[31mred\x07\nline \ud800",
)


def variant(lowering: str = "winograd4", **config: int) -> Variant:
    return Variant(lowering, "16,1>16", json.dumps(config, sort_keys=True))


def trial(layer: str, seconds: float | None, number: int, **more: object) -> Trial:
    outcome = Outcome.OK if seconds else Outcome.CRASH
    stamp = f"2026-05-04T10:{number // 60:02}:{number % 60:02}Z"
    made = Trial(layer, "conv", f"conv of {layer}", variant(rows=7), 1, MACHINE, outcome, seconds)
    return replace(made, **{"predicted": seconds, "measured_at": stamp, "number": number, **more})


def state(name: str, untuned: float | None = 1e-3, best: float | None = None, **more: object) -> LayerState:
    made = LayerState(name, f"key of {name}", "conv", 1, 1.1e-3, untuned, best, variant(rows=7), space=20)
    return replace(made, **more)


def status(*layers: LayerState, **more: object) -> Status:
    return replace(
        Status(layers, 1.0, None, 10, None, untuned=0.012, best=0.010, predicted_best=0.008), **more
    )


def run(layers: int, each: int, seed: int = 0) -> tuple[list[Trial], list[LayerState]]:
    """Trials of a run, about one in eight a failure, and the layers' states; some names are hostile."""
    draw = random.Random(seed)
    names = [*HOSTILE, *(f"block{number}/conv" for number in range(layers))][:layers]
    states = [state(name, 10 ** draw.uniform(-4.5, -2.5), count=draw.randint(1, 3)) for name in names]
    trials = []
    for number in range(layers * each):
        layer, first = states[number % layers], number < layers
        seconds = layer.untuned * (1.0 if first else draw.uniform(0.7, 3.0))
        failed = not first and draw.random() < 0.13
        kind = draw.choice(list(Outcome)[1:]) if failed else Outcome.OK
        made = trial(layer.layer, None if failed else seconds, number + 1, outcome=kind)
        made = replace(made, message=f"{kind.value} <{number}> & more" if failed else "")
        made = replace(made, predicted=seconds * draw.uniform(0.8, 1.3))
        trials.append(replace(made, variant=variant(draw.choice(LOWERINGS), rows=draw.choice([7, 14, 28]))))
    return trials, states


def test_gains_and_time_left() -> None:
    now = status(state("a", failures=2), state("b", failures=1), elapsed=4.0, limit=15, budget=9.0)
    assert (now.gain, now.predicted_gain, now.rate) == (pytest.approx(1.2), pytest.approx(1.5), 2.5)
    assert now.failures == 3
    assert now.left == pytest.approx(2.0)  # 5 trials more, where the budget would last for 5 seconds
    assert replace(now, limit=None).left == pytest.approx(5.0)
    assert replace(now, budget=3.0).left == 0
    assert replace(now, limit=None, budget=None).left is None
    assert (state("a", 3e-3, 2e-3).gain, state("a", None, 2e-3).gain) == (pytest.approx(1.5), None)


def test_courses_start_untuned_and_only_fall() -> None:
    times = [("a", 4.0), ("b", 1.0), ("a", None), ("a", 5.0), ("a", 3.0), ("b", 0.5), ("a", 3.5), ("a", 2.0)]
    trials = [trial(layer, seconds, number) for number, (layer, seconds) in enumerate(times, 1)]
    counted = [replace(state("the first", None), layer="a"), replace(state("idle", None), count=9000)]
    idle, first, second = courses(trials[::-1], counted)
    assert (idle.name, idle.trials, idle.best) == ("idle", (), None)
    assert (first.name, first.untuned, first.seconds, len(first.trials)) == ("the first", 4.0, 2.0, 6)
    assert [(p.place, p.seconds) for p in first.steps] == [(5, 3.0), (8, 2.0)]
    assert first.best == trials[7]
    assert (second.name, second.count) == ("conv of b", 1)
    assert together([idle, first, second]) == [(0, 5.0), (5, 4.0), (6, 3.5), (8, 2.5)]
    measured = [replace(counted[0], untuned=2.5)]
    assert [p.seconds for p in courses(trials, measured)[0].steps] == [2.0]


def test_machines_are_kept_apart() -> None:
    other = replace(MACHINE, threads=1)
    mixed = [trial("a", 2.0, 1), replace(trial("a", 1.0, 2), machine=other)]
    slow, fast = courses(mixed, [replace(state("a", untuned=9.0), layer="a")])
    assert (slow.untuned, fast.untuned) == (2.0, 1.0)
    assert fast.name == f"a @{other.digest[:6]}"


def test_rank_correlation() -> None:
    def found(*pairs: tuple[float, float]) -> float | None:
        made = [trial("a", measured, n, predicted=predicted) for n, (predicted, measured) in enumerate(pairs)]
        return rank_correlation(courses(made)[0].points)

    assert found((1, 1), (2, 10), (3, 11)) == pytest.approx(1)
    assert found((3, 1), (2, 10), (1, 11)) == pytest.approx(-1)
    assert found((1, 1), (2, 2), (2, 3), (3, 4)) == pytest.approx(0.9**0.5)  # a tie: ranks 1, 2.5, 2.5, 4
    assert found((1, 1), (2, 2)) is None
    assert found((1, 1), (1, 2), (1, 3)) is None
    rising = [trial("a", float(n), n) for n in range(1, 9)]
    falling = [trial("b", 100.0 - n, n + 10, predicted=1.0 * n) for n in range(1, 9)]
    assert agreement(courses([*rising, *falling])) == pytest.approx(0)


def told(*moments: Status, name: str = "a") -> list[str]:
    out = io.StringIO()
    with LiveView(Console(file=out, width=20, force_terminal=False)) as view:
        view.begin(
            status(state(name, untuned=None), state("b"), budget=moments[0].budget, limit=moments[0].limit)
        )
        for moment in moments:
            view.trial(trial(f"key of {name}", 1e-3, 1), moment)
        view.end(moments[-1])
    assert "\x1b" not in out.getvalue()
    return out.getvalue().splitlines()


def test_lines_tell_improvements_and_ends() -> None:
    b = state("b")
    lines = told(
        status(state("a", 1e-3, 1e-3), b),  # the untuned choice itself is no news
        status(state("a", 1e-3, 0.8e-3), b),
        status(state("a", 1e-3, 0.8e-3), b),
        status(state("a", 1e-3, 0.5e-3, trials=20, failures=3, done=True), b),
        status(state("a", 1e-3, 0.5e-3, trials=20, failures=3, done=True), replace(b, trials=1, done=True)),
    )
    assert lines == [
        "tuning 2 layers, 12.000 ms untuned",
        "a: 1.000 -> 0.800 ms (1.25x), winograd4 16,1>16 rows=7",
        "a: 0.800 -> 0.500 ms (2.00x), winograd4 16,1>16 rows=7",
        "a: finished, 20 of 20 candidates tried, 3 failed, best 0.500 ms",
        "b: finished, 1 of 20 candidates tried, 0 failed, nothing worked",
        "10 trials, 3 failed, 10.0 a second, 0:01 passed; "
        "tuned layers 12.000 -> 10.000 ms (1.20x, the model hopes for 1.50x)",
    ]


def test_the_run_is_told_every_ten_seconds() -> None:
    a = state("a")
    moments = [status(a, elapsed=float(t), budget=3700.0, limit=2000) for t in range(1, 35)]
    first, *lines, last = told(*moments)
    assert last.startswith("10 trials, 0.3 a second, 0:34 passed; ")
    assert first == "tuning 2 layers, 12.000 ms untuned, for 1:01:40 or 2000 trials"
    assert [line.split(" passed")[0].rsplit(" ", 1)[-1] for line in lines] == ["0:10", "0:20", "0:30"]
    assert lines[0].startswith("10 of 2000 trials, 1.0 a second, 0:10 passed, 33:10 left; ")


def test_lines_are_inert(capsys: pytest.CaptureFixture[str]) -> None:
    name = HOSTILE[-1]
    lines = told(status(state(name, 1e-3, 0.5e-3), state("b")), name=name)
    assert lines[1].startswith("[red]�[31mred��line �: 1.000 -> 0.500 ms")
    LiveView().notice("[b]a notice[/b] \x1b[1m\nof two lines")
    assert capsys.readouterr() == ("", "[b]a notice[/b] �[1m\nof two lines\n")


def picture(now: Status, width: int, height: int, last: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as capture:
        console.print(frame(now, width, height, last))
    return capture.get().splitlines()


def words(line: str) -> str:
    return " ".join(line.split())


@pytest.mark.parametrize("width", [1, 3, 12, 25, 47, 79, 80, 100, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 7, 12, 24, 50, 80])
def test_the_table_fits_the_terminal(width: int, height: int) -> None:
    layers = [
        state(name * 3, 1e-3 * (n + 1), 0.9e-3 * (n + 1), variant=variant(rows=7, cols=2, blocks=1, parts=8))
        for n, name in enumerate((*HOSTILE, *(f"block{n}/conv" for n in range(55))))
    ]
    lines = picture(status(*layers), width, height, "a trial " * 40)
    assert 1 <= len(lines) <= max(1, height - 1)
    assert all(cell_len(line) <= width for line in lines)


def test_the_dearest_layers_are_shown() -> None:
    layers = [state(f"layer{n}", n * 1e-3, 0.5e-3 * n, trials=3, failures=n % 2) for n in range(1, 31)]
    layers[4] = replace(layers[4], count=100)
    lines = picture(status(*layers), 120, 24, "the last trial")
    assert words(lines[0]) == "layer count untuned ms best ms gain trials failed best variant"
    assert words(lines[2]) == "layer5 100 5.000 2.500 2.00x 3/20 1 winograd4 16,1>16 rows=7"
    assert [line.split()[0] for line in lines[3:19]] == [f"layer{n}" for n in range(30, 14, -1)]
    assert lines[19:] == [
        "and 13 more",
        "10 trials, 15 failed, 10.0 a second, 0:01 passed",
        "tuned layers 12.000 -> 10.000 ms (1.20x, the model hopes for 1.50x)",
        "the last trial",
    ]
    everything = picture(status(*layers), 120, 40)
    assert len(everything) == 2 + 30 + 2
    narrow = picture(status(*layers), 40, 24)
    assert words(narrow[0]) == "layer best ms gain"
    assert words(narrow[2]) == "layer5 2.500 2.00x"


def test_the_terminal_is_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, height=20, force_terminal=True, color_system=None, _environ={})
    name = HOSTILE[0]

    def interrupted() -> None:
        with LiveView(console) as view:
            view.begin(status(state(name)))
            print("a result")
            view.trial(trial(f"key of {name}", None, 1, message="signal 11"), status(state(name)))
            view.notice("a notice")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().out == "a result\n"
    assert out.getvalue().count("\x1b[?25h") == out.getvalue().count("\x1b[?25l") == 1
    assert "a notice" in out.getvalue()
    assert f"{name}: winograd4 16,1>16 rows=7: crash signal 11" in out.getvalue()


class Reader(HTMLParser):
    """What a browser would see: texts, tags with their attributes, and what scripts and styles hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    @property
    def labels(self) -> list[float]:
        return [float(a["y"]) for _, a in self.tags if a.get("class") == "name"]

    def having(self, tag: str, kind: str = "") -> int:
        return sum(t == tag and kind in ("", *(a.get("class") or "").split()) for t, a in self.tags)


def test_the_page_has_every_layer_and_every_trial() -> None:
    trials, states = run(16, 12)
    reader = Reader(tuning_page.render(trials, [*states, state("untouched")], title="Tuning <x>"))
    assert (reader.open, reader.texts["h1"]) == ([], ["Tuning <x>"])
    names = [state.name for state in states] + ["untouched"]
    assert sorted(reader.texts["a"]) == sorted("\n".join(map(plain, name.splitlines())) for name in names)
    failures = [t for t in trials if not t.ok]
    assert len(failures) > 10
    for failure in failures:
        assert f"{failure.outcome.value.replace('_', ' ')}: {failure.message}" in reader.texts["td"]
    assert reader.having("tr") == 1 + 17 + 17 + len(trials)
    assert (reader.having("tr", "bad"), reader.having("tr", "best")) == (len(failures), 16)
    assert reader.having("circle") == sum(t.ok for t in trials) + len({t.variant.lowering for t in trials})
    others = courses(trials, states)[tuning_plot.NAMED :]
    assert reader.having("circle", "rest") == sum(len(course.points) for course in others)
    assert (reader.having("path"), reader.having("path", "rest")) == (16 + 1, 16 - tuning_plot.LABELLED)
    gains = [text[:5] for text in reader.texts["text"] if "x " in text]
    assert len(gains) == tuning_plot.LABELLED + 1
    assert [gain for _, gain in sorted(zip(reader.labels, gains, strict=True))] == sorted(gains)
    level = Reader(tuning_page.render([trial(str(n), 1e-3, n) for n in range(20)]))  # where all labels meet
    assert all(0 < y < tuning_page.HEIGHT for y in level.labels)
    targets = {a["id"] for _, a in reader.tags if "id" in a}
    assert all(a["href"].removeprefix("#") in targets for tag, a in reader.tags if tag == "a")


def test_the_page_is_inert() -> None:
    trials, states = run(len(HOSTILE), 6)
    hostile = [replace(t, op=HOSTILE[1], message=HOSTILE[n % len(HOSTILE)]) for n, t in enumerate(trials)]
    page = tuning_page.render(hostile, [replace(s, op=HOSTILE[0]) for s in states], title=HOSTILE[2])
    page.encode()
    reader = Reader(page)
    assert reader.open == []
    assert (reader.having("script"), reader.having("img"), reader.having("link")) == (1, 0, 0)
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "style", "xlink:href")}
    assert all(a["href"].startswith("#") for _, a in reader.tags if "href" in a)
    (policy,) = (a["content"] for tag, a in reader.tags if tag == "meta" and "http-equiv" in a)
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256("".join(reader.texts[tag]).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "alert" not in "".join(reader.texts["script"])


def test_pages_need_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    trials, states = run(2, 5)
    written = tuning_page.write(tmp_path / "page.html", trials, states)
    assert written.read_text(encoding="utf-8") == tuning_page.render(trials, states)
    tuning_page.render([trial("a", None, 1)])  # nothing worked
    tuning_page.render([trial("a", 1e-3, 1, predicted=None)])


@pytest.mark.parametrize("layers", [1, 60])
def test_the_picture_has_a_sensible_size(tmp_path: Path, layers: int) -> None:
    path = tuning_plot.write(tmp_path / "plot.png", *run(layers, 8), title="$x")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 1000 < width < 3000
    assert 700 < height < 2500
    assert os.listdir(tmp_path) == ["plot.png"]


def test_the_picture_names_what_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    trials, states = run(60, 8)
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    tuning_plot.write(tmp_path / "plot.png", trials, states)
    texts = [text.get_text() for text in drawn[0].findobj(Text)]
    first = [tuning_plot.shortened(course.name) for course in courses(trials, states)]
    for number, name in enumerate(first):
        assert any(name == text.split("\n")[0] for text in texts) == (number < tuning_plot.NAMED)
    assert "48 other layers" in texts
    *_, failures = drawn[0].axes
    assert sum(int(text.get_text()) for text in failures.texts) == sum(not t.ok for t in trials)


@pytest.mark.filterwarnings("error")
def test_pictures_of_little(tmp_path: Path) -> None:
    tuning_plot.write(tmp_path / "failed.png", [trial("a", None, 1)])
    tuning_plot.write(tmp_path / "single.png", [trial("a", 1e-3, 1, predicted=None)])
    with pytest.raises(OptionError, match=r"There are no trials to show\. Tune a network first\."):
        tuning_plot.write(tmp_path / "none.png", [])
    with pytest.raises(OptionError, match="There are no trials to show"):
        tuning_page.write(tmp_path / "none.html", [], [state("a")])
    assert sorted(os.listdir(tmp_path)) == ["failed.png", "single.png"]


def test_without_matplotlib_there_is_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OptionError, match="which is not installed") as caught:
        tuning_plot.write(tmp_path / "plot.png", *run(1, 3))
    assert caught.value.hint == "pip install 'convc[plot]'"
    assert os.listdir(tmp_path) == []


def test_labels_are_spread() -> None:
    places = [0.5, 0.1, 0.52, 0.51, 0.99, 0.98]
    moved = tuning_plot.spread(places, 0.1, 1.0)
    assert moved == pytest.approx([0.41, 0.1, 0.61, 0.51, 1.0, 0.9])
    assert tuning_plot.spread([], 0.1, 1.0) == []


@pytest.mark.parametrize("write", [tuning_page.write, tuning_plot.write], ids=["page", "plot"])
def test_files_appear_whole_or_not_at_all(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials, states = run(1, 3)
    path = tmp_path / "report"
    path.write_text("as before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OptionError, match=r"Cannot write '.*report': No space left on device\."):
            write(path, trials, states)
    assert path.read_text() == "as before"
    assert os.listdir(tmp_path) == ["report"]
    write(path, trials, states)
    assert path.stat().st_size > 1000
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(OptionError, match="Give a folder that exists"):
        write(tmp_path / "nowhere" / "report", trials, states)
