"""The benchmarks' arithmetic, records and commands, on a tiny network. No time is asserted."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from benchmark_scripts import point, scaling, script
from command import Result

from convc.errors import OptionError
from convc.frontends.builder import Network
from convc.frontends.onnx import to_onnx
from convc.report.engines import Turn

record, models, options, layer_rows = (
    importlib.import_module(name) for name in ("record", "models", "options", "layer_rows")
)
networks, layers, steadiness, plots = map(script, ("networks", "layers", "steadiness", "plots"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ONNX files: one of any batch, one whose batch is fixed at 3."""
    folder = tmp_path_factory.mktemp("models")
    for name, batch in (("any", 1), ("three", 3)):
        net = Network(name, seed=1)
        x = net.input("image", (batch, 3, 12, 12))
        for _ in range(2):
            x = net.conv(x, 3, 3, padding=1)
        net.output(x, "maps")
        model = to_onnx(net.graph)
        if name == "any":
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.shape.dim[0].dim_param = "N"
        onnx.save(model, folder / f"{name}.onnx")
    return folder


# ---- records


def test_records_survive_json_and_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    log = record.begin("networks", {"rounds": 3}, path, resume=False)
    log.rows.append({"model": "a", "ratio": 0.5})
    log.save(path)
    assert record.load(path) == log
    assert {"cpu", "cpus", "system"} <= log.machine.keys()
    assert {"python", "convc", "numpy"} <= log.versions.keys()
    assert len(log.date) == 10
    log.rows.append({"ratio": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        log.save(path)
    assert len(record.load(path).rows) == 1
    assert [p.name for p in path.parent.iterdir()] == ["r.json"]


def test_resuming_keeps_rows_only_of_equal_conditions(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert record.begin("networks", {"rounds": 3}, path, resume=True).rows == []
    log = record.begin("networks", {"rounds": 3, "sizes": (1, 2)}, path, resume=False)
    log.rows.append({"model": "a"})
    log.save(path)
    assert record.begin("networks", {"rounds": 3, "sizes": (1, 2)}, path, resume=True).rows == log.rows
    with pytest.raises(OptionError, match=r"another settings .*Run without --resume"):
        record.begin("networks", {"rounds": 5}, path, resume=True)
    path.write_text("{}")
    with pytest.raises(OptionError, match="not a benchmark's record"):
        record.begin("networks", {}, path, resume=True)


def test_commands_name_no_folders() -> None:
    found = record.command(["/x/benchmarks/networks.py", "--threads", "1,2", "/home/me/models", "a b"])
    assert found == "python benchmarks/networks.py --threads 1,2 models 'a b'"


# ---- models


def test_choosing_models(folder: Path, tmp_path: Path) -> None:
    assert [m.name for m in models.chosen([folder], ())] == ["any", "three"]
    assert [m.name for m in models.chosen([folder / "any.onnx"], ())] == ["any"]
    assert [m.name for m in models.chosen([folder], ("three",))] == ["three"]
    assert [m.name for m in models.chosen((), ())] == [m.name for m in models.SUITE]
    with pytest.raises(OptionError, match=r"--models names 'four'.*any, three"):
        models.chosen([folder], ("four",))
    for path in (tmp_path, tmp_path / "absent.onnx"):
        with pytest.raises(OptionError, match="There is no ONNX file"):
            models.chosen([path], ())


def test_batches_of_files(folder: Path, tmp_path: Path) -> None:
    any_batch, three = models.chosen([folder], ())
    assert any_batch.ready(tmp_path, 8).shapes == {"image": (8, 3, 12, 12)}
    assert three.ready(tmp_path, 3).shapes == {"image": (3, 3, 12, 12)}
    with pytest.raises(OptionError, match=r"'three' is fixed at 3; 8 was asked for"):
        three.ready(tmp_path, 8)
    (tmp_path / "bad.onnx").write_bytes(b"import torch\n" * 50)
    with pytest.raises(OptionError, match="is not an ONNX model"):
        models.FileModel(tmp_path / "bad.onnx").ready(tmp_path, 1)


@pytest.mark.parametrize("model", [*models.SUITE, *models.MORE], ids=lambda m: m.name)
def test_examples_build_at_any_batch(model: Any) -> None:
    graph = model.graph(2, seed=None)
    assert graph.inputs[0].type.shape[0] == 2


def test_an_example_as_a_file(tmp_path: Path) -> None:
    (lenet,) = models.chosen((), ("lenet5",))
    ready = lenet.ready(tmp_path, 2)
    assert ready.shapes == {"image": (2, 1, 32, 32)}
    assert models.FileModel(ready.path).ready(tmp_path, 2).shapes == ready.shapes


# ---- networks


def turn(*milliseconds: float) -> Turn:
    return Turn(tuple(ms / 1e3 for ms in milliseconds), 0.25, 0.5, 10 << 20, 30 << 20)


def test_figures_of_an_engine() -> None:
    (found,) = networks.figures({"convc": [turn(1, 2, 3), turn(4, 5)]}).values()
    assert (found.median_ms, found.runs, found.load_s, found.first_s) == (pytest.approx(3), 5, 0.25, 0.5)
    assert found.memory_mb == pytest.approx(20 * 1.048576)


def row(model: str, ratio: float | None, **others: Any) -> Any:
    figures = networks.figures({"convc": [turn(1)], "openvino": [turn(2)]})
    return networks.Row(model, 2, 1, figures, ratio, 1e-6, 3.0, 1.5, 2.5, **others)


def test_summary_of_networks_prints_losses() -> None:
    rows = [
        row("a", 0.5),
        row("b", 1.28),
        networks.Row("c", 2, 1, failed="why"),
        networks.Row("d", 1, 1, failed="too"),
    ]
    (found,) = networks.summarise(rows).values()
    assert found["geometric_mean"] == pytest.approx(0.8)
    assert found["worst"] == {"b": 1.28}
    assert (found["slower"], found["failed"], found["wrong"]) == (["b"], ["c"], [])
    assert "[red]why" in networks.sentence(rows[2])
    assert "ratio 1.280" in networks.sentence(rows[1])
    assert len(networks.tables(rows)) == 3
    for one in rows:
        assert networks.Row.of(json.loads(json.dumps(asdict(one)))) == one


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs a script's command as from the shell, but in this process."""

    def call(module: ModuleType, *arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *map(str, arguments)])
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # which a script may set; undone after the test
        code = 0
        try:
            options.run(module.command)
        except SystemExit as end:
            code = int(end.code or 0)
        return Result(code, *capsys.readouterr())

    return call


def test_networks_command_writes_record_and_plot(
    run: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "n.json"
    few = ("--rounds", 1, "--seconds", 0.01, "--engines", "onnxruntime", "--output", out)
    done = run(networks, folder, "--batch", "2", *few)
    assert done.code == 0, done.err
    log = record.load(out)
    good, bad = (networks.Row.of(r) for r in log.rows)
    assert (good.model, good.batch, good.threads) == ("any", 2, 2)
    assert good.engines.keys() == {"convc", "onnxruntime"}
    assert good.ratio is not None
    assert good.error is not None
    assert good.error < 1e-5
    assert "fixed at 3" in bad.failed
    assert log.summary["threads 2, batch 2"]["failed"] == ["three"]
    assert out.with_suffix(".svg").read_text().count("<svg") == 1
    again = run(networks, folder, "--batch", "2", "--models", "any", "--resume", *few)
    assert "0 rows" in again.out, again.err
    refused = run(networks, folder, "--engines", "tensorflow", "--output", out)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--engines names 'tensorflow'" in refused.err


# ---- layers


def tried(lowering: str, ms: float | None, rejected: str | None = None) -> Any:
    return layer_rows.Tried(lowering, ms, ms, 1e-6, rejected)


def timed(lowering: str, cold: float, warm: float | None) -> Any:
    return replace(tried(lowering, cold), warm_ms=warm, config={"rows": 1})


def layer(name: str, flops: int, chosen: str, counts: dict[str, int], *candidates: Any) -> Any:
    return layer_rows.LayerRow(name, "conv" if flops else "pool", name, flops, chosen, candidates, counts)


def test_regret_counts_only_what_was_allowed() -> None:
    one = layer(
        "a/x", 10**9, "direct", {"a": 2},
        tried("direct", 3.0), tried("winograd4", 2.0), tried("winograd6", 1.0, "error"), tried("fft", None),
    )  # fmt: skip
    assert (one.chosen_ms, one.best.lowering, one.regret) == (3.0, "winograd4", 0.5)
    pool = layer("a/pool", 0, "generic", {"a": 1, "b": 4}, tried("generic", 2.0))
    summary = layer_rows.summarise([one, pool], peak=1e12)
    a = summary["networks"]["a"]
    assert (a["layers"], a["chosen_ms"], a["best_ms"]) == (3, 8.0, 6.0)
    assert a["regret"] == pytest.approx(1 / 3)
    assert a["regret_of_choices"] == pytest.approx(0.5)
    assert summary["all"]["layers"] == 7
    assert layer_rows.time_lost(one) == 2.0
    assert "regret 50 %" in layers.sentence(one, 1e12)
    assert [t.row_count for t in layers.tables([one, pool], summary, 1e12)] == [3, 1, 1]
    for row in (one, pool):
        assert layer_rows.LayerRow.of(json.loads(json.dumps(row.to_json()))) == row


def test_direct_forms_are_told_cold_and_warm() -> None:
    # GFLOP in ms at 1 TFLOP/s: 50 and 80 % of peak cold, 100 % and unknown warm
    one = layer("a/x", 10**9, "direct", {"a": 3}, timed("direct", 2.0, 1.25), timed("im2col", 2.5, 1.0))
    two = layer("a/y", 4 * 10**9, "direct", {"a": 1, "b": 1}, timed("direct", 5.0, None))
    fast = layer("a/z", 10**9, "winograd4", {"b": 1}, timed("winograd4", 0.2, None))
    assert (one.exact("cold").lowering, one.exact("warm").lowering) == ("direct", "im2col")
    summary = layer_rows.summarise([one, two, fast], peak=1e12)
    a, b = (summary["networks"][name]["direct_forms"] for name in "ab")
    assert a["cold"] == {"mean": pytest.approx((3 * 0.5 + 0.8) / 4), "by_time": pytest.approx(7 / 11)}
    assert a["warm"] == {"mean": pytest.approx(1), "by_time": pytest.approx(1)}
    assert (b["cold"]["mean"], b["warm"]) == (pytest.approx(0.8), None)
    assert [row.name for row in layer_rows.weak([two, fast, one], 1e12)] == ["a/x", "a/y"]
    assert layer_rows.weak([one], 0.5e12) == []
    assert "50 % (warm 80 %)" in layers.sentence(one, 1e12)


def test_records_without_warm_times_are_read() -> None:
    (row,) = (layer("a/x", 10**9, "direct", {"a": 1}, tried("direct", 2.0)) for _ in range(1))
    old = row.to_json()
    for one in old["tried"]:
        del one["warm_ms"], one["config"]
    assert layer_rows.LayerRow.of(old) == row
    assert layer_rows.summarise([row], 1e12)["all"]["direct_forms"]["warm"] is None


def test_a_layers_shape_is_told() -> None:
    workload = (
        "conv(float32[1,64,56,56], float32[8,64,3,3]) ConvAttrs(strides=(2, 1), groups=1) -> float32[1]"
    )
    assert replace(layer("a", 1, "direct", {}), workload=workload).shape == "1x64x56x56 * 8x64x3x3 / 2x1"


def test_a_forced_choice_counts_although_its_error_was_refused() -> None:
    one = layer("a/x", 1, "fft", {"a": 1}, tried("fft", 1.0, "error"), tried("direct", 2.0))
    assert one.regret == 0


def test_layers_command(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "l.json"
    done = run(layers, folder / "any.onnx", "--hopeless", 3, "--output", out)
    assert done.code == 0, done.err
    log = record.load(out)
    rows = [layer_rows.LayerRow.of(r) for r in log.rows]
    assert sum(row.counts["any"] for row in rows) == log.summary["all"]["layers"]
    for one in (r for r in rows if r.op == "conv"):
        assert one.flops == 2 * 12 * 12 * 27 * 3
        assert one.regret is not None
        assert one.regret >= 0
        assert all(t.error is not None and t.error < 1e-4 for t in one.tried if t.measured_ms is not None)
        assert {t.lowering for t in one.tried if t.warm_ms} == {"direct", "im2col"} & {
            t.lowering for t in one.tried if t.measured_ms
        }
        config = one.exact("cold").config  # of whichever was the faster
        assert config
        assert all(isinstance(number, int) for number in config.values())
    assert out.with_suffix(".svg").exists()
    again = run(layers, folder / "any.onnx", "--hopeless", 3, "--output", out, "--resume")
    assert "0 layers that were not seen before" in again.out, again.err
    assert record.load(out).rows == log.rows
    assert "direct forms" in run(layers, "--report", "--output", out).out
    assert record.load(out) == log
    refused = run(
        layers, folder / "any.onnx", "--hopeless", 3, "--state", "cold", "--output", out, "--resume"
    )
    assert "another settings ({'state': ['cold', 'warm']})" in refused.err
    assert "--state is 'warm'" in run(layers, "--state", "warm", "--output", out).err


# ---- scaling and steadiness


def test_a_record_is_judged_again_without_measuring(run: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "scaling.json"
    done = run(scaling, "--report", "--output", out)
    assert (done.code, done.err.count("\n")) == (2, 1)
    # as records were before lines were fitted
    rows = [asdict(point("size", n, 2 + 0.5 * n * n)) for n in (1, 2, 4)]
    for old in rows:
        del old["deviation"], old["weights_bytes"]
    log = record.Record("scaling", "c", "2026-01-01", {"cpu": "a CPU"}, {}, {"model": "resnet18"}, rows)
    log.save(out)
    done = run(scaling, "--report", "--output", out)
    assert done.code == 0, done.err
    assert "47 MB of weights" in done.out
    again = record.load(out)
    assert (again.date, again.command) == (log.date, log.command)
    assert again.summary["size, threads 1"]["line"]["straight"]
    assert out.with_suffix(".svg").exists()
    replace(log, benchmark="layers").save(out)
    assert "is a record of 'layers'" in run(scaling, "--report", "--output", out).err
    assert "2 networks; one is measured" in run(scaling, "--models", "lenet5,vgg16", "--output", out).err


def test_spread_of_processes() -> None:
    one = steadiness.Steadiness("a", "convc", 2, 0, (1.0, 1.05, 1.2))
    assert (one.median_ms, one.spread) == (1.05, pytest.approx(0.2))
    assert steadiness.Steadiness.of(json.loads(json.dumps(one.to_json()))) == one
    assert steadiness.summarise([one]) == {"convc": {"worst": pytest.approx(0.2), "steady": False}}
    assert steadiness.table([one]).row_count == 1


def test_steadiness_command(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    few = ("--processes", 2, "--seconds", 0.01, "--product", 8, "--output", out)
    done = run(steadiness, folder / "any.onnx", *few)
    assert done.code == 0, done.err
    rows = [steadiness.Steadiness.of(r) for r in record.load(out).rows]
    assert [(r.product, len(r.medians_ms)) for r in rows] == [(0, 2), (8, 2)]


def test_every_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = layer("a/x", 10**9, "direct", {"a": 2}, tried("direct", 3.0), tried("winograd4", 2.0))
    scaled = scaling.related([point(axis, n, 2 + n * n) for axis in ("size", "batch") for n in (1, 2, 3)])
    parts: dict[str, tuple[Any, ...]] = {
        "networks": ([asdict(row("a", 0.5)), asdict(row("b", 1.3))], {}, {}),
        "layers": ([one.to_json()], layer_rows.summarise([one], 1e12), {"peak_gflops": 1000.0}),
        "scaling": ([asdict(p) for p in scaled], scaling.summarise(scaled, 1), {}),
        "steadiness": ([steadiness.Steadiness("a", "convc", 2, 0, (1.0, 1.2)).to_json()], {}, {}),
    }
    assert parts.keys() == plots.DRAW.keys()
    for name, (rows, summary, settings) in parts.items():
        log = record.Record(name, "", "2026-01-01", {"cpu": "a CPU"}, {}, settings, rows, summary)
        path = plots.write(plots.DRAW[name], log, tmp_path / f"{name}.json")
        first = path.read_bytes()
        assert plots.write(plots.DRAW[name], log, tmp_path / f"{name}.json").read_bytes() == first


@pytest.mark.filterwarnings("error:Attempt")  # matplotlib's, of axes without extent
@pytest.mark.parametrize("chosen", ["direct", "grouped", "generic"])
@pytest.mark.parametrize("ms", [2.0, None], ids=["measured", "failed"])
def test_layers_are_drawn_whatever_was_chosen(chosen: str, ms: float | None, tmp_path: Path) -> None:
    """Axes may be left without any point: log scales have no place for nothing."""
    pytest.importorskip("matplotlib")
    one = layer("a/x", 10**9, chosen, {"a": 2}, tried(chosen, ms))
    summary = layer_rows.summarise([one], 1e12)
    log = record.Record(
        "layers", "", "2026-01-01", {"cpu": "a CPU"}, {}, {"peak_gflops": 1e3}, [one.to_json()], summary
    )
    path = plots.write(plots.layers, log, tmp_path / "layers.json")
    assert path.read_text().count("<use") > 0
    from matplotlib import pyplot

    figure = plots.layers(log)
    points = sum(len(dots.get_offsets()) for dots in figure.axes[0].collections)
    assert points == (ms is not None)
    pyplot.close(figure)


def test_without_any_ratio_there_is_no_plot_of_networks(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [{**asdict(row("a", 0.5)), "ratio": None}]
    log = record.Record("networks", "", "2026-01-01", {"cpu": "a CPU"}, {}, {}, rows, {})
    assert plots.write(plots.networks, log, tmp_path / "networks.json") is None
    assert not list(tmp_path.iterdir())
