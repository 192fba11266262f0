"""Every node test of the ONNX suite through `convc.backend`, in children that may crash or hang.

    python -P tests/support/onnx_suite_run.py [--jobs 2] [--limit 60] [WORD ...]

Prints what is wrong, refused without a type, crashed or hung, and counts of all. Tests whose names contain a
word are run, all without one. `OTHERWISE` (tests/test_onnx_backend.py) lists what differs for a reason.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

sys.path.insert(0, str(Path(__file__).parent))

FAULTS = ("wrong", "untyped", "crash", "hang")


def judged(name: str) -> tuple[str, str]:
    """What becomes of one test: pass, refused, wrong or untyped, and the words that say why."""
    from onnx_suite import disagreement, node_tests

    import convc.backend
    from convc.errors import ConvcError

    test = node_tests()[name]
    try:
        prepared = convc.backend.prepare(test.model)
        for inputs, expected in test.data:
            if difference := disagreement(test, prepared.run(inputs), expected):
                return "wrong", difference
    except ConvcError as error:
        text = str(error)
        return ("untyped" if "\n" in text else "refused"), f"{type(error).__name__}: {text}"
    except Exception as error:
        return "untyped", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return "pass", ""


def _serve(pipe: Connection) -> None:
    """A child: judge the tests whose names arrive."""
    warnings.simplefilter("ignore")
    while True:
        pipe.send(judged(pipe.recv()))


def _run(names: SimpleQueue[str], limit: float) -> Iterator[tuple[str, str, str]]:
    """Judge tests from the queue in a child, which is replaced when it is lost."""
    context = multiprocessing.get_context("spawn")
    child = None
    while True:
        try:
            name = names.get_nowait()
        except Empty:
            break
        if child is None:
            ours, theirs = context.Pipe()
            child = context.Process(target=_serve, args=(theirs,), daemon=True)
            child.start()
            theirs.close()
            patience = limit + 120  # the first answer waits for imports and for the suite's own data
        ours.send(name)
        try:
            found = ours.recv() if ours.poll(patience) else ("hang", f"no answer in {limit:.0f} s")
        except EOFError:
            child.join()
            found = ("crash", f"exit {child.exitcode}")
        patience = limit
        if found[0] in ("crash", "hang"):
            child.kill()
            child.join()
            child = None
        yield (name, *found)
    if child is not None:
        child.kill()


def main() -> None:
    """Run the chosen tests; the exit status says whether there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a test may take")
    parser.add_argument("--refusals", action="store_true", help="print these too")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    from onnx_suite import node_tests

    queue: SimpleQueue[str] = SimpleQueue()
    for name in node_tests():
        if not options.words or any(word in name for word in options.words):
            queue.put(name)
    counts: Counter[str] = Counter()
    shown = {*FAULTS, *(["refused"] if options.refusals else [])}

    def work(_: int) -> None:
        for name, kind, why in _run(queue, options.limit):
            counts[kind] += 1
            if kind in shown:
                print(f"{kind:8s} {name}: {why[:300]}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(work, range(options.jobs)))
    print(", ".join(f"{counts[kind]} {kind}" for kind in ("pass", "refused", *FAULTS)))
    sys.exit(any(counts[kind] for kind in FAULTS))


if __name__ == "__main__":
    main()
