"""Arguments of the wrong kind in Python: an error that names the argument, before any work is done."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convc
from convc.compiler import Options
from convc.errors import ConvcError, InputError, OptionError


@pytest.fixture(scope="module")
def network() -> convc.Network:
    net = convc.Network("small")
    net.output(net.relu(net.input("image", (1, 3, 4, 5)), name="first"), "y")
    return net


@pytest.fixture(scope="module")
def module(network: convc.Network) -> convc.Module:
    return convc.compile(network, threads=1)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    *(({"threads": n}, f"threads={n!r} is not a number of thr") for n in (0, -1, 10**9, "2", 2.5)),
    *(({"max_error": n}, f"max_error={n!r} is not a numb") for n in (0, -1, float("nan"), "1e-4", True)),
    ({"target": None}, "target=None is not a string. For instance \"host\""),
    ({"target": 5}, "target=5 is not a string"),
    ({"precision": 16}, r'precision=16 is not a string\. For instance "float16"'),
    ({"algorithms": ["first=generic"]}, "is not an algorithm for each name of a layer. For instance"),
    ({"algorithms": "first=generic"}, "is not an algorithm for each name of a layer"),
    ({"algorithms": {"first": 4}}, "is not an algorithm for each name of a layer"),
    ({"algorithms": {"frist": "generic"}}, "no layer is named 'frist'. Close names: first"),
    ({"records": "tuning.db"}, "records='tuning.db' has none. Give convc.open_records"),
    ({"cache": 5}, "cache=5 is not a path. Give a string or"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), OPTIONS)
def test_options_are_checked(given: dict[str, Any], message: str, network: convc.Network) -> None:
    with pytest.raises(OptionError, match=message):
        convc.compile(network, **given)


def test_numbers_of_numpy_are_numbers(network: convc.Network) -> None:
    options = Options(threads=np.int64(2), max_error=np.float32(0.5))  # type: ignore[arg-type]
    assert json.loads(json.dumps(asdict(options)))["threads"] == 2
    assert Options(max_error=float("inf")).max_error == float("inf")


TUNING: list[tuple[dict[str, Any], str]] = [
    ({"trials": 0}, "trials=0 is not a positive integer"),
    ({"trials": 2.5}, "trials=2.5 is not a positive integer"),
    ({"time_budget": -5}, "time_budget=-5 is not a number above 0. For instance 60, in seconds"),
    ({"layers": "first"}, r"layers='first' is one name, not a list. Give \['first'\]"),
    ({"layers": ["frist"]}, "--layers: no layer is named 'frist'. Close names: first"),
    ({"database": 7}, "database=7 is not a path"),
]


@pytest.mark.parametrize(("given", "message"), TUNING)
def test_tuning_is_checked(
    given: dict[str, Any], message: str, network: convc.Network, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        convc.autotune(network, **{"database": str(tmp_path / "t.db"), **given})


def test_paths_may_be_strings(network: convc.Network, tmp_path: Path) -> None:
    convc.compile(network, threads=1, verify=False, cache=str(tmp_path))  # type: ignore[arg-type]
    assert (tmp_path / "kernels").is_dir()
    with pytest.raises(ConvcError, match=r"no tuning database .*none\.db"):
        convc.open_records(str(tmp_path / "none.db"))


GOOD = np.zeros((1, 3, 4, 5), np.float32)
ARRAYS: list[tuple[Any, str]] = [
    (np.zeros((1, 4, 5, 3), np.float32), r"\(1, 4, 5, 3\), expected \(1, 3, 4, 5\). Its channels are last; "
     r"bring them to the front: `x.transpose\(0, 3, 1, 2\)`"),
    (GOOD[0], r"It lacks the batch: `x\[None\]`"),
    (np.zeros((2, 3, 4, 5), np.float32), "Shapes are fixed when compiling"),
    (GOOD.astype(float), r"dtype float64, expected float32. Convert it with `.astype"),
    (None, "'image' is an object of NoneType, not an array. Give a NumPy array"),
    ("cat.png", "'image' is an object of str, not an array"),
    ({"image": GOOD}, "is an object of dict, not an array.*Arrays by name are for `module.run"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), ARRAYS)
def test_arrays_that_do_not_fit_say_what_would(given: Any, message: str, module: convc.Module) -> None:
    with pytest.raises(InputError, match=message):
        module(given)


def test_arrays_by_name_are_checked(module: convc.Module) -> None:
    for call in (lambda feeds: module.run(None, feeds), module.profile):
        for wrong in (GOOD, [GOOD], None):
            with pytest.raises(
                InputError, match=r"Arrays by the names of inputs are needed, not an object of"
            ):
                call(wrong)
        with pytest.raises(InputError, match="No array was given for input 'image'"):
            call({})
        with pytest.raises(InputError, match="There is no input named 'imag'"):
            call({"imag": GOOD})
    with pytest.raises(InputError, match=r"output_names='y' is one name. Give \['y'\]"):
        module.run("y", {"image": GOOD})
    with pytest.raises(OptionError, match="repeat=0 is not a positive integer"):
        module.profile({"image": GOOD}, repeat=0)
