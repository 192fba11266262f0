"""Times of a module's steps, in a process of their own: prints a line of JSON. See `convc.report.measure`.

Arguments: module, threads, .npz of inputs, .npz to write outputs to, seconds to spend. A process of its own
gives back what a module maps and starts; a kernel that crashes ends it alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

FEWEST, MOST = 7, 50
"""Runs that the medians are taken over; 3 where one takes longer than all of them should."""


def profile(module_path: str, threads: str, feeds_path: str, outputs_path: str, seconds: str) -> list[float]:
    """Median seconds of each step; the number of runs follows from the time of the first few."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np

    import convc

    module = convc.load(module_path, threads=int(threads))
    with np.load(feeds_path) as file:
        feeds = dict(file)
    np.savez(outputs_path, *module.run(None, feeds))
    begin = time.perf_counter()
    module.profile(feeds, repeat=2)  # warms up as well
    once = (time.perf_counter() - begin) / 2
    fewest = FEWEST if once < float(seconds) else 3
    return module.profile(feeds, repeat=max(fewest, min(MOST, int(float(seconds) / once))))


if __name__ == "__main__":
    # The folder of this file holds modules of convc.report, which nobody shall import by their bare names.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    print(json.dumps(profile(*sys.argv[1:6])))
