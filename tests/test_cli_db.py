"""`convc db`, verb by verb, and what each refuses."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command import Result, convc

from convc.tune.database import HEADER, Database
from convc.tune.trial import Machine, Outcome, Trial, Variant

CPU = Machine('{"kind":"cpu","mcpu":"znver4"}', 2)
GPU = Machine('{"arch":"sm_90","kind":"cuda","name":"NVIDIA [H100]"}', 1)

STEM = Trial(
    layer="5eed",
    op="conv",
    workload="conv(float32[1, 3, 224, 224]) ConvAttrs(strides=(2, 2)) -> float32[1, 64, 112, 112]",
    variant=Variant("direct", "1>16", '{"oc":28,"ow":16}'),
    version=1,
    machine=CPU,
    outcome=Outcome.OK,
    seconds=0.0012,
    low=0.0011,
    high=0.0013,
    runs=31,
    predicted=0.002,
    measured_at="2026-05-09T07:35:25+00:00",
    session="s",
)
BODY = replace(STEM, layer="b0d7", workload="conv(float32[1, 64, 56, 56]) -> float32[1, 64, 56, 56]")

TRIALS = (
    STEM,
    replace(STEM, number=1, seconds=0.0007, variant=replace(STEM.variant, lowering="winograd4")),
    replace(
        STEM, number=2, outcome=Outcome.BUILD, seconds=None, low=None, high=None, message="[/no] code\nat"
    ),
    replace(STEM, number=3, machine=GPU, version=2),
    replace(BODY, number=4, measured_at="2026-01-01T00:00:00+00:00"),
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with trials; the environment names another that does not exist."""
    monkeypatch.setenv("CONVC_TUNING_DB", str(tmp_path / "absent.db"))
    path = tmp_path / "tuning.db"
    with Database.open(path) as database:
        for trial in TRIALS:
            database.add(trial)
    return path


def stored(path: Path) -> list[Trial]:
    with Database.open(path, create=False) as database:
        return database.trials()


def done(result: Result) -> str:
    """The output of a command that must succeed."""
    assert (result.code, result.err) == (0, "")
    return result.out


def assert_refused(result: Result, *parts: str) -> None:
    assert result.code == 2, result
    assert result.err.startswith("convc: error: ")
    assert result.err.count("\n") == 1
    for part in parts:
        assert part in result.err, result.err


def test_list(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = done(convc(capsys, "db", "list", "--db", path)).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.split()[1:]}
    assert rows[CPU.digest] == ["znver4", "2", "2", "4", "3", "2026-05-09T07:35:25+00:00"]
    assert rows[GPU.digest] == ["sm_90,", "NVIDIA", "[H100]", "1", "1", "1", "1", STEM.measured_at]
    values = json.loads(done(convc(capsys, "db", "list", "--json", "--db", path)))
    assert [v for v in values if v["threads"] == 2] == [
        {
            "machine": CPU.digest,
            "target": {"kind": "cpu", "mcpu": "znver4"},
            "threads": 2,
            "layers": 2,
            "trials": 4,
            "ok": 3,
            "last": "2026-05-09T07:35:25+00:00",
        }
    ]


def test_the_environment_names_the_database(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_refused(convc(capsys, "db", "list", "--db", path.with_name("absent.db")), "absent.db", "--db")
    assert not path.with_name("absent.db").exists()
    monkeypatch.setenv("CONVC_TUNING_DB", str(path))
    assert CPU.digest in done(convc(capsys, "db", "list"))


@pytest.mark.parametrize(
    ("verb", "out"),
    [
        ("list", ""),
        ("list --json", "[]\n"),
        ("show conv", ""),
        ("show conv --json", "[]\n"),
        ("prune --yes", ""),
    ],
)
def test_before_any_tuning_there_are_no_records(
    verb: str, out: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = convc(capsys, "db", *verb.split())
    assert (result.code, result.out) == (0, out)
    assert result.err.startswith("No trials are recorded yet; `convc tune` will keep them in ")
    assert result.err.endswith("absent.db.\n")
    assert not path.with_name("absent.db").exists()


def test_nothing_is_not_exported(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("-", path.with_name("trials.jsonl")):
        assert_refused(convc(capsys, "db", "export", file), "No trials are recorded yet", "absent.db", "--db")
    assert not path.with_name("trials.jsonl").exists()


def test_a_database_without_trials_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.db"
    Database.open(empty).close()
    result = convc(capsys, "db", "list", "--db", empty)
    assert (result.code, result.out, result.err) == (0, "", f"No trials are recorded in {empty}.\n")
    assert_refused(convc(capsys, "db", "show", "conv", "--db", empty), "It has no trials")


def test_show_lists_the_fastest_first_and_failures_last(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = done(convc(capsys, "db", "show", "224", "--machine", CPU.digest[:6], "--db", path))
    assert STEM.workload in text
    assert f"5eed on {CPU.digest}" in text
    assert "56, 56" not in text
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["ok"], ["build"])]
    assert rows == [
        ["ok", "0.7000", "1.1000", "..", "1.3000", "2.0000", "winograd4", "1", "1>16", "oc=28", "ow=16"],
        ["ok", "1.2000", "1.1000", "..", "1.3000", "2.0000", "direct", "1", "1>16", "oc=28", "ow=16"],
        ["build", "2.0000", "direct", "1", "1>16", "oc=28", "ow=16"],
    ]
    assert "[/no] code" in text
    assert "at" not in text.split("[/no] code")[1]


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        (["224"], {"5eed"}),
        (["b0d7"], {"b0d7"}),
        (["CONV", "strides=(2"], {"5eed"}),
        (["conv"], {"5eed", "b0d7"}),
    ],
)
def test_show_finds_layers_by_words_and_key(
    words: list[str], layers: set[str], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = json.loads(done(convc(capsys, "db", "show", *words, "--json", "--db", path)))
    assert {t["layer"] for t in trials} == layers


def test_show_json_is_the_trials(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(done(convc(capsys, "db", "show", "224", "--json", "--db", path)))
    here = [Trial.from_json(t) for t in found if t["machine"]["threads"] == 2]
    assert here == [TRIALS[1], TRIALS[0], TRIALS[2]]
    top = json.loads(done(convc(capsys, "db", "show", "conv", "--top", 1, "--json", "--db", path)))
    assert sorted(t["number"] for t in top) == [1, 3, 4]


def test_show_of_what_is_not_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(convc(capsys, "db", "show", "conv", "57", "--db", path), str(path), "'conv 57'")
    assert_refused(
        convc(capsys, "db", "show", "conv", "--machine", "xyz", "--db", path),
        "'xyz' names 0 machines",
        GPU.digest,
    )
    assert_refused(convc(capsys, "db", "show", "conv", "--machine", "", "--db", path), "names 2 machines")
    assert_refused(convc(capsys, "db", "show", "--db", path), "WORDS")


def test_merge(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "all.db"
    assert done(convc(capsys, "db", "merge", path, path, "--db", target)) == (
        f"{path}: 5 trials added\n{path}: 0 trials added\n"
    )
    assert stored(target) == list(TRIALS)
    assert_refused(convc(capsys, "db", "merge", tmp_path / "none.db", "--db", target), "none.db")


def test_prune_asks_before_it_removes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = ("db", "prune", "--failed", "--db", path)
    assert done(convc(capsys, *failed, "--dry-run")) == "1 trials would be removed\n"
    assert_refused(convc(capsys, *failed), "1 trials would be removed", "--yes")
    assert stored(path) == list(TRIALS)
    assert done(convc(capsys, *failed, "--yes")) == "1 trials removed\n"
    assert stored(path) == [t for t in TRIALS if t.ok]


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 4), ("n\n", 130, 5), ("", 130, 5)])
def test_prune_on_a_terminal(
    answer: str,
    code: int,
    left: int,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    result = convc(capsys, "db", "prune", "--failed", "--db", path)
    assert result.code == code
    assert "Remove 1 trials?" in result.out
    assert len(stored(path)) == left


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (("--before", "2026-01-02"), {4}),
        (("--keep-version", 2), {0, 1, 2, 4}),
        (("--keep-version", 2, "--keep-version", 1), set()),
        (("--keep-best", 1), {0, 2}),
        (("--machine", GPU.digest), {3}),
        (("--keep-best", 1, "--failed"), {2}),
    ],
)
def test_prune_by(
    options: tuple[object, ...], gone: set[int], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done(convc(capsys, "db", "prune", *options, "--yes", "--db", path))
    assert {t.number for t in stored(path)} == {0, 1, 2, 3, 4} - gone


def test_prune_needs_to_be_told_what(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(convc(capsys, "db", "prune", "--yes", "--db", path), "Nothing says which trials")
    assert_refused(convc(capsys, "db", "prune", "--before", "soon", "--yes", "--db", path), "soon")
    assert stored(path) == list(TRIALS)


def test_export_and_import(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, copy = tmp_path / "records.jsonl", tmp_path / "copy.db"
    assert done(convc(capsys, "db", "export", file, "--db", path)) == f"5 trials written to {file}\n"
    assert done(convc(capsys, "db", "export", "-", "--db", path)) == file.read_text(encoding="utf-8")
    assert done(convc(capsys, "db", "import", file, "--db", copy)) == "5 trials added\n"
    assert done(convc(capsys, "db", "import", file, "--db", copy)) == "0 trials added\n"
    assert stored(copy) == list(TRIALS)


def test_import_from_standard_input(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = done(convc(capsys, "db", "export", "-", "--db", path))
    command = [sys.executable, "-I", "-c", "from convc.cli import main; main()"]
    finished = subprocess.run(
        [*command, "db", "import", "-", "--db", str(tmp_path / "copy.db")],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "5 trials added\n", "")
    assert stored(tmp_path / "copy.db") == list(TRIALS)


def test_import_of_a_bad_line(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.jsonl"
    good = json.dumps(replace(BODY, number=9).to_json())
    file.write_text("\n".join([json.dumps(HEADER), good, '{"layer": 1}']))
    assert_refused(
        convc(capsys, "db", "import", file, "--db", path),
        str(file),
        "line 3",
        "'variant' is missing",
        "None of it was taken",
    )
    assert stored(path) == list(TRIALS)
    assert_refused(convc(capsys, "db", "import", tmp_path / "none.jsonl", "--db", path), "none.jsonl")
    assert_refused(convc(capsys, "db", "import", tmp_path, "--db", path), "Is a directory")


@pytest.mark.parametrize(
    "verb",
    [("list",), ("show", "conv"), ("prune", "--failed"), ("export", "x.jsonl"), ("merge", "tuning.db")],
)
def test_file_that_is_not_a_database(
    verb: tuple[str, ...],
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("these are notes and no database\n" * 50)
    assert_refused(convc(capsys, "db", *verb, "--db", "notes.txt"), "notes.txt", "not a database")
    assert not (tmp_path / "x.jsonl").exists()


def test_the_compiler_is_not_loaded(path: Path) -> None:
    """`convc db` answers at once."""
    program = (
        "import sys\nfrom convc.cli import main\n"
        "try: main()\n"
        "finally: print(*{'tvm', 'onnx', 'torch'} & set(sys.modules), file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-I", "-c", program, "db", "list"],
        env={**os.environ, "CONVC_TUNING_DB": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert CPU.digest in finished.stdout
    assert finished.stderr == "\n"
