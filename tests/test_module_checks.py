"""What is checked of a module before its code is mapped, and what `convc inspect --check` reads besides."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from command import convc as command
from damage import Layout

import convc
from convc.errors import ModuleError
from convc.runtime import container, elf
from convc.runtime import manifest as manifests
from convc.runtime.decode import Entries, FieldsOf, Mismatch, OneOf, Within, decoder
from convc.runtime.manifest import Manifest
from convc.runtime.module import Module
from convc.verify import random_feeds


def with_a_weight_changed(small: Path, path: Path) -> Path:
    data = bytearray(small.read_bytes())
    data[manifests.weights_of(small).offset + 3] ^= 0x40
    path.write_bytes(data)
    return path


def test_a_changed_weight_is_noticed_at_load(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match=r"changed\.so' is damaged: its weights are not as they were"):
        convc.load(with_a_weight_changed(small, tmp_path / "changed.so"))


def test_many_weights_are_read_by_inspect_alone(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_a_weight_changed(small, tmp_path / "changed.so")
    monkeypatch.setattr(manifests, "CHECKED_AT_LOAD", 0)
    convc.load(path)
    result = command(capsys, "inspect", path, "--check")
    assert (result.code, result.out) == (2, "")
    assert "weights are not as they were written" in result.err
    assert command(capsys, "inspect", path).code == 0
    assert (
        "manifest, code and weights are as they were written"
        in command(capsys, "inspect", small, "--check").out
    )
    assert json.loads(command(capsys, "inspect", small, "--check", "--json").out)["threads"] == 1


def test_changed_code_is_not_mapped(small: Path, tmp_path: Path) -> None:
    data = bytearray(small.read_bytes())
    data[len(Layout.of(bytes(data)).code) // 2] ^= 1
    path = tmp_path / "changed.so"
    path.write_bytes(data)
    code = (
        f"import convc\ntry: convc.load({str(path)!r})\n"
        "except convc.ConvcError as e: print(e)\n"
        f"print({path.name!r} in open('/proc/self/maps').read())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    message, mapped = done.stdout.splitlines()
    assert "its code is not as it was written" in message
    assert mapped == "False"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ()}, "is not the one of its code"),
        ({"workspace_bytes": 0}, "is not the one of its code"),
        ({"steps": ()}, "is not the one of its code"),
        ({"threads": 2}, "is not the one of its code"),
        ({"threads": 0}, r"threads: found 0, expected 1 to 65536"),
        ({"weights_bytes": 8}, r"bytes of weights, its manifest says 8\."),
        ({"format": 3}, r"has module format 3, this convc reads format 2\."),
        ({"name": 5}, r"name: found 5, expected a text"),
        ({"verification": {"error": "small"}}, r"verification\.error: found 'small', expected a number"),
        ({"versions": {"convc": None}}, r"versions\.convc: found None, expected a text"),
        ({"options": {"a": [[[[[[[[[[]]]]]]]]]]}}, r"options\.a: is nested more than 8 levels deep"),
    ],
)
def test_a_manifest_that_is_not_of_this_code(
    changes: dict[str, Any], message: str, small: Path, tmp_path: Path
) -> None:
    path = tmp_path / "edited.so"
    path.write_bytes(small.read_bytes())
    replace(manifests.read(small), **changes).write(path, manifests.weights_of(small))
    with pytest.raises(ModuleError, match=message):
        convc.load(path)


def test_what_a_manifest_tells_besides_may_differ(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "edited.so"
    path.write_bytes(small.read_bytes())
    replace(manifests.read(small), name="other", plan=()).write(path, manifests.weights_of(small))
    feeds = random_feeds(convc.load(small).inputs)
    expected = convc.load(small).run(None, feeds)
    np.testing.assert_array_equal(convc.load(path).run(None, feeds), expected)


def test_a_module_without_checksums(small: Path, tmp_path: Path) -> None:
    """As before there were any."""
    parts = Layout.of(small.read_bytes())
    path = tmp_path / "old.so"
    end = container._TRAILER.pack(len(parts.code), len(parts.weights), len(parts.text), b"CONVCMOD")
    path.write_bytes(parts.code + parts.weights + parts.text + end)
    with pytest.raises(ModuleError, match=r"has no checksums: an older convc made it\. Compile the model"):
        convc.load(path)


@pytest.mark.parametrize("numbers", [(1 << 40, 0), (4096, 1 << 40), (0, 8)])
def test_the_code_itself_maps_no_weights_that_are_not_there(
    numbers: tuple[int, int], small: Path, tmp_path: Path
) -> None:
    """As from other languages, where nobody has compared the file with its checksums."""
    manifest, parts = manifests.read(small), Layout.of(small.read_bytes())
    path = tmp_path / "false.so"
    path.write_bytes(parts.code + parts.weights + container._TRAILER.pack(*numbers, 0, b"CONVCMOD"))
    feeds = random_feeds(manifest.inputs)
    with pytest.raises(ModuleError, match=r"weights of '.*false\.so' could not be mapped"):
        Module(path, manifest, 1).run(None, feeds)


def test_code_without_its_functions(tmp_path: Path, small: Path) -> None:
    source = tmp_path / "empty.c"
    source.write_text("int nothing;")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "empty.so"), str(source)], check=True)
    with pytest.raises(
        ModuleError, match=r"empty\.so' cannot be loaded: .*convc_run.* Compile the model again"
    ):
        Module(tmp_path / "empty.so", manifests.read(small), 1)


# ---- code ----


def test_code_says_what_it_was_compiled_for(small: Path) -> None:
    code = Layout.of(small.read_bytes()).code
    assert elf.contract_of(code) == manifests.read(small).contract


def test_damaged_code_is_a_value_error_or_says_the_same(small: Path) -> None:
    """Whatever is done to an ELF file, looking for its note ends, and in one way."""
    code, rng = Layout.of(small.read_bytes()).code, random.Random(0)
    for cut in (0, 10, 63, 64, 100, 500, len(code) // 2):
        with pytest.raises(ValueError, match="its code"):
            elf.contract_of(code[:cut])
    reasons = set()
    for _ in range(500):
        changed = bytearray(code)
        for _ in range(rng.choice((1, 4))):  # where headers and notes are
            changed[rng.randrange(1500)] = rng.randrange(256)
        try:
            elf.contract_of(bytes(changed))
        except ValueError as error:
            reasons.add(str(error).split()[0])
    assert reasons == {"its", "segment"}


# ---- the checker of manifests ----


@dataclass(frozen=True)
class Inner:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Annotated[str, OneOf(("a", "b"))]
    count: Annotated[int, Within(1, 4)]
    ratio: float | None
    flag: bool
    more: dict[str, Any]
    words: dict[str, str]
    shaped: Annotated[dict[str, Any], FieldsOf(Inner)]
    known: Annotated[dict[str, Any], Entries(("x",), float)]


GOOD = {
    "inner": {"name": "n", "sizes": [1, 2]},
    "kind": "a",
    "count": 4,
    "ratio": 1,
    "flag": True,
    "more": {"a": [1, {"b": None}]},
    "words": {"k": "v"},
    "shaped": {"name": "m", "sizes": []},
    "known": {"x": 1.5, "y": "anything"},
}


def test_values_become_what_their_types_say() -> None:
    found = decoder(Outer)(GOOD)
    assert found.inner == Inner("n", (1, 2))
    assert asdict(found) == {**GOOD, "inner": {"name": "n", "sizes": (1, 2)}}
    assert isinstance(found.ratio, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": None}, "inner: found None, expected an object"),
        ({"inner": {"name": "n"}}, "inner.sizes: is missing"),
        ({"inner": {"name": "n", "sizes": [], "x": 1}}, "inner.x: is not known"),
        ({"inner": {"name": "n", "sizes": [], "a\nb": 1}}, r"inner['a\nb']: is not known"),
        ({"inner": {"name": "n", "sizes": [0, -1]}}, "inner.sizes[1]: found -1, expected a whole number"),
        ({"inner": {"name": "n", "sizes": [1.0]}}, "inner.sizes[0]: found 1.0, expected a whole number"),
        ({"inner": {"name": "n", "sizes": [True]}}, "inner.sizes[0]: found True, expected a whole number"),
        ({"inner": {"name": "n", "sizes": [2**63]}}, "inner.sizes[0]: found 9223372036854775808"),
        ({"inner": {"name": "\ud800", "sizes": []}}, "inner.name: found half a character"),
        ({"kind": "c"}, "kind: found 'c', expected one of a, b"),
        ({"count": 5}, "count: found 5, expected 1 to 4"),
        ({"ratio": "1"}, "ratio: found '1', expected a number"),
        ({"ratio": 10**400}, "ratio: found 1000"),
        ({"flag": 1}, "flag: found 1, expected true or false"),
        ({"more": {"a": {"\ud800": 1}}}, "more.a: found half a character"),
        ({"words": {"k": 1}}, "words.k: found 1, expected a text"),
        ({"shaped": {"name": "m"}}, "shaped.sizes: is missing"),
        ({"known": {"x": "1"}}, "known.x: found '1', expected a number"),
    ],
)
def test_what_is_not_of_its_type_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        decoder(Outer)({**GOOD, **change})
    assert str(caught.value).startswith(message)


def test_every_field_of_a_manifest_has_a_decoder(small: Path) -> None:
    manifest = manifests.read(small)
    assert decoder(Manifest)(json.loads(json.dumps(asdict(manifest)))) == manifest
