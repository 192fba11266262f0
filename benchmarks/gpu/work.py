"""The jobs of a GPU machine, one entry of the index after another, in a process that a failure may end.

A kernel that accesses what it must not leaves the process without a device: the process says so and ends, and
`run.py` starts another for the rest. What it finds goes to standard output, a line of JSON each.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import store
from driver import CudaError, Driver
from store import Array, Conv, relative_error
from timing import Call, DriverMemory, Figures, Memory, Stopwatch

import convc
from convc.errors import ConvcError, DeviceError

Entry = dict[str, Any]
MARK = "@ "
"""Begins a line for `run.py`; others are a library's."""

LOST = 3
"""Exit status of a process that lost its device."""

SECONDS = {"check": 2, "layer": 8, "network": 20}
"""What a job may take, so that none is begun that the budget would cut."""

PROFILES = 10
"""Runs that the time of each kernel is the median of."""

COMPILING = 8
"""Times longer that a network takes with torch.compile."""


def tell(**fields: Any) -> None:
    """A line for `run.py`."""
    print(MARK + json.dumps(fields), flush=True)


class Worker:
    """The device, PyTorch where it is wanted and there, and the folder."""

    def __init__(self, folder: Path, options: Entry) -> None:
        self.folder, self.options = folder, options
        self.driver = Driver()
        self.torch = None
        if options["torch"]:
            tell(phase="torch")  # its import may take long, or never end
            self.torch = _torch()
            tell(phase="start")
        self.stream = self.torch.stream if self.torch else self.driver.stream()
        self.memory: Memory = self.torch or DriverMemory(self.driver, self.stream)
        self.watch = Stopwatch(self.driver, self.stream)
        versions = {"python": sys.version.split()[0], "numpy": np.__version__}
        tell(
            machine=self.driver.describe(), versions=versions | (self.torch.versions() if self.torch else {})
        )

    # ---- checks ----

    def check(self, entry: Entry) -> Entry:
        """Compare with float64, from the host's memory and from the device's, several times."""
        module = self.load(entry)
        arrays, expected = self._case(entry)
        found = module.run(None, dict(zip([i.name for i in module.inputs], arrays, strict=True)))[0]
        results = [found]
        given = [self.memory.upload(array) for array in arrays]
        info = module.outputs[0]
        for _ in range(3):
            out = self.memory.poisoned(info.shape, info.dtype)
            module(*given, stream=self.stream, out=out)
            self.driver.synchronise(self.stream)
            results.append(self.memory.read(out))
        errors = [relative_error(result, expected) for result in results]
        row = {"error": _number(max(errors)), "limit": entry["limit"], "lowering": entry["lowering"]}
        if max(errors) > entry["limit"] or not all(map(math.isfinite, errors)):
            where = [
                name for name, e in zip(("host", *["device"] * 3), errors, strict=True) if e > entry["limit"]
            ]
            row["failed"] = f"error {max(errors):.1e}, {entry['limit']:.1e} is allowed ({', '.join(where)})"
        elif any(not np.array_equal(results[0], other) for other in results[1:]):
            row["failed"] = "results differ from run to run"
        return row

    def _case(self, entry: Entry) -> tuple[list[Array], Array]:
        if "conv" in entry:
            conv = Conv.of(entry["conv"])
            x, weight, bias = conv.few.operands()
            each = np.arange(conv.input[0]) % 2
            return [x[each]], conv.few.reference(x, weight, bias)[each]
        with np.load(self.folder / entry["arrays"]) as arrays:
            inputs = [arrays[name] for name in arrays.files if name.startswith("input_")]
            return inputs, arrays["expected"].astype(np.float64)

    # ---- layers ----

    def layer(self, entry: Entry) -> Entry:
        """A layer's kernel on many inputs in a row, beside PyTorch's on as many."""
        conv, sets = Conv.of(entry["conv"]), entry["sets"]
        module = self.load(entry)
        x, weight, bias = conv.few.operands()
        given = self.memory.spread(_stored(x, entry["lanes"][0], entry["dtype"]), conv.input[0], sets)
        info = module.outputs[0]
        out = self.memory.poisoned(info.shape, info.dtype)

        def call() -> None:
            module(given, stream=self.stream, out=out)

        call()
        self.driver.synchronise(self.stream)
        first, last = (self.memory.part(out, index) for index in (0, sets - 1))
        expected = conv.few.reference(x, weight, bias)
        error = max(self._image_error(entry, conv, first[n : n + 1], expected, n) for n in range(len(first)))
        row: Entry = {"error": _number(error), "limit": entry["limit"]}
        if error > entry["limit"]:
            row["failed"] = f"error {error:.1e}, {entry['limit']:.1e} is allowed"
        elif not np.array_equal(first, last):
            row["failed"] = f"set {sets - 1} differs from set 0, whose input is the same"
        calls: dict[str, Call] = {"convc": call}
        if peer := self.torch:
            calls |= _attempt(row, lambda: peer.layer(conv, entry["precision"], x, sets))
        turns = self.watch.in_turns(calls, self.options["seconds"])
        return row | self._compared({name: figures.each(sets) for name, figures in turns.items()})

    def _image_error(self, entry: Entry, conv: Conv, stored: Array, expected: Array, n: int) -> float:
        """Of image `n` of a layer's result, as it is stored; images are two in turn."""
        found = store.unblock(stored, conv.weight[0]) if entry["lanes"][1] > 1 else stored
        return relative_error(found, expected[n % 2 : n % 2 + 1])

    # ---- networks ----

    def network(self, entry: Entry) -> Entry:
        """A network beside PyTorch's. Its weights are drawn, so only its agreement with itself is judged."""
        start = time.perf_counter()
        module = self.load(entry)
        row: Entry = {"limit": entry["limit"], "load_s": time.perf_counter() - start}
        (input_info,), info = module.inputs, module.outputs[0]
        image = np.random.default_rng(0).standard_normal(input_info.shape, dtype=np.float32)
        image[-1] = image[0]
        given, out = self.memory.upload(image), self.memory.poisoned(info.shape, info.dtype)

        def call() -> None:
            module(given, stream=self.stream, out=out)

        results = []
        for _ in range(2):
            call()
            self.driver.synchronise(self.stream)
            results.append(self.memory.read(out))
        row |= _agreement(results, entry["limit"])
        calls: dict[str, Call] = {"convc": call}
        if peer := self.torch:
            names = ("model", "options", "precision", "batch")
            asked = [*(entry[name] for name in names), self.options["compile"]]
            calls |= _attempt(row, lambda: peer.network(*asked))
        row |= self._compared(self.watch.in_turns(calls, self.options["seconds"]))
        return row | _kernels(module, {input_info.name: image})

    def _compared(self, turns: dict[str, Figures]) -> Entry:
        """The figures, and convc's median over the best of PyTorch's."""
        peers = [figures.median_ms for name, figures in turns.items() if name != "convc"]
        ratio = turns["convc"].median_ms / min(peers) if peers else None
        return {"engines": {name: asdict(figures) for name, figures in turns.items()}, "ratio": ratio}

    # ---- ceilings ----

    def ceilings(self) -> Entry:
        """Bytes a second of a copy, read and written; FLOP/s of a product in each precision."""
        if not self.torch:
            return {}
        nbytes = 1 << 32
        calls: dict[str, Call] = {"copy": self.torch.copy(nbytes)}
        found = {}
        ms = self.watch.in_turns(calls)["copy"].median_ms
        found["copy_bytes_s"] = 2 * nbytes / ms * 1e3
        for precision in ("float16", "tf32", "float32"):
            call = self.torch.product(precision)
            ms = self.watch.in_turns({precision: call})[precision].median_ms
            found[precision] = 2 * 8192**3 / ms * 1e3
        return found

    # ---- all of them ----

    def load(self, entry: Entry) -> convc.Module:
        """The module of an entry, with its weights drawn."""
        with tempfile.TemporaryDirectory(prefix="convc-") as name:
            path = Path(name) / "module.so"
            store.unpack(self.folder / entry["file"], path)
            return convc.load(path)

    def run(self, entries: list[Entry], deadline: float) -> int:
        """Do jobs until the deadline (of the wall clock); the process's exit status."""
        if any(entry["kind"] != "check" for entry in entries) and self.options["ceilings"]:
            tell(phase="ceilings")
            try:
                tell(ceilings=self.ceilings())
            except Exception as error:
                tell(failed={"ceilings": reason(error)})
            tell(phase="start")
        for entry in entries:
            compiles = self.options["compile"] and entry["kind"] == "network"
            needed = SECONDS[entry["kind"]] * (COMPILING if compiles else 1)
            if time.time() + needed > deadline:
                break
            tell(begin=entry["key"])
            start = time.perf_counter()
            try:
                row = getattr(self, entry["kind"])(entry)
            except (CudaError, DeviceError) as error:
                tell(key=entry["key"], row={"failed": f"{type(error).__name__}: {error}"})
                return LOST
            except Exception as error:
                row = {"failed": reason(error)}
            gc.collect()
            if self.torch:
                self.torch.release()
            tell(key=entry["key"], row=row | {"seconds": time.perf_counter() - start})
        return 0


def begin(folder: Path, options: Entry) -> Worker:
    """A worker; ends the process with a line that says why where there is no GPU to work on."""
    try:
        return Worker(folder, options)
    except (OSError, CudaError) as error:
        sys.exit(f"error: no GPU can be used here: {error}. Run this on a machine with one and its driver.")


def reason(error: Exception) -> str:
    """What is written down of an error."""
    return f"{type(error).__name__}: {error}"[:2000]


def _torch() -> Any:
    """PyTorch, or None where it or a GPU for it is not there: it may raise anything, and costs no row."""
    try:
        import peers

        return peers.Torch()
    except Exception as error:
        tell(failed={"torch": reason(error)})
        return None


def _kernels(module: convc.Module, feeds: dict[str, Array]) -> Entry:
    """The time of each step by itself, with the algorithm of its layer, or why there are none."""
    lowerings = {layer.name: layer.chosen for layer in module.plan}
    try:
        times = module.profile(feeds, repeat=PROFILES)
    except (ConvcError, CudaError) as error:
        return {"kernels_failed": reason(error)}
    steps = zip(module.manifest.steps, times, strict=True)
    return {"kernels": [{"step": s, "lowering": lowerings.get(s, ""), "ms": 1e3 * t} for s, t in steps]}


def _agreement(results: list[Array], limit: float) -> Entry:
    """Whether two runs agree, and in each the last image, which is the first again."""
    difference = relative_error(results[0][-1:], results[0][:1].astype(np.float64))
    row: Entry = {"difference": _number(difference)}
    if not np.isfinite(results[0]).all():
        row["failed"] = "the result has elements that are not finite"
    elif difference > limit:
        row["failed"] = f"the last image, which is the first again, differs by {difference:.1e}"
    elif not np.array_equal(results[0], results[1]):
        row["failed"] = "results differ from run to run"
    return row


def _attempt(row: Entry, make: Callable[[], dict[str, Call]]) -> dict[str, Call]:
    """PyTorch's engines, or none where it fails: convc is measured all the same, and the row says why."""
    try:
        return make()
    except Exception as error:
        row["peer_failed"] = reason(error)
        return {}


def _stored(x: Array, lanes: int, dtype: str) -> Array:
    return (store.block(x, lanes) if lanes > 1 else x).astype(dtype)


def _number(error: float) -> float:
    """JSON knows no infinity: results that do not compare at all are 1e9 off."""
    return min(error, 1e9) if error == error else 1e9
