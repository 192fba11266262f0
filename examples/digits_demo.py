"""Read handwritten digits with a compiled LeNet-5: accuracy, plan, verification, latency.

    python examples/digits_demo.py [MODEL.onnx]

The model is `lenet5_digits.onnx` (made by `train_lenet5.py`); the digits come with scikit-learn.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import digits
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import convc
from convc.types import Array

MODEL = Path(__file__).with_name("lenet5_digits.onnx")
THREADS = 1
"""A network of 0.4 million multiply-adds is done before a second thread would have begun."""

ROUNDS, CALLS = 40, 25
SHADES = " .:-=+*#%@"


def picture(image: Array) -> list[str]:
    """A digit (1, 32, 32) as 12 lines of text, two characters a pixel."""
    pixels = image[0, 4:28:2, 4:28:2]
    levels = np.clip((pixels + 0.1) / 1.275 * len(SHADES), 0, len(SHADES) - 1).astype(int)
    return ["".join(2 * SHADES[level] for level in row) for row in levels]


def latencies(engines: dict[str, Callable[[Array], Array]], image: Array) -> dict[str, float]:
    """Median milliseconds of a call for each engine, taken in turns so that all meet the same machine."""
    samples: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            engine(image)  # what the other engine left in the caches is not this one's fault
            start = time.perf_counter()
            for _ in range(CALLS):
                engine(image)
            samples[name].append((time.perf_counter() - start) / CALLS * 1e3)
    return {name: statistics.median(times) for name, times in samples.items()}


def onnxruntime_engine(path: Path) -> Callable[[Array], Array] | None:
    """The same model in onnxruntime with the same number of threads, if it is installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def main() -> None:
    """Compile, read the test digits, and report."""
    console = Console()
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL
    data = digits.load()

    start = time.perf_counter()
    module = convc.compile(path, threads=THREADS, input_shapes={"image": (1, 1, 32, 32)})
    seconds = time.perf_counter() - start
    console.print(f"Compiled {path.name} to native code in {seconds:.1f} s.\n")

    predicted = np.array([module(image[None])[0].argmax() for image in data.test_images])
    for row in zip(*(picture(image) for image in data.test_images[:3]), strict=True):
        console.print("  ".join(row), markup=False, highlight=False)
    console.print(f"\nRead as {', '.join(map(str, predicted[:3]))}.")
    right = int((predicted == data.test_labels).sum())
    console.print(
        f"Accuracy on digits not trained with: {right} of {len(predicted)}, {right / len(predicted):.2%}."
    )

    table = Table("layer", "operator", "computed by", "rather than", title="\nPlan", box=box.SIMPLE_HEAD)
    for layer in module.plan:
        others = [c.lowering for c in layer.candidates if c.lowering != layer.chosen and not c.rejected]
        table.add_row(layer.name, layer.op, layer.chosen, ", ".join(others))
    console.print(table)

    error = module.manifest.verification["error"]
    console.print(f"Verified: off by {error:.1e} of the largest output from the float64 reference.\n")

    engines: dict[str, Callable[[Array], Array]] = {"convc": module}
    other = onnxruntime_engine(path)
    if other is None:
        console.print("onnxruntime is not installed (pip install 'convc[bench]'): no comparison.")
    else:
        engines["onnxruntime"] = other
    for name, milliseconds in latencies(engines, data.test_images[:1]).items():
        console.print(f"{name:>12}: {milliseconds * 1e3:7.1f} us a digit, {THREADS} thread")


if __name__ == "__main__":
    main()
