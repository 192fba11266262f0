"""Runs modules once each, in fresh memory; under LD_PRELOAD of `poison_memory.c` that is full of NaN.

python poisoned_child.py FOLDER     NAME.so and NAME.in.npz there become NAME.out.npz
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

from convc.runtime.module import load

block = ctypes.c_void_p()
assert ctypes.CDLL(None).posix_memalign(ctypes.byref(block), 64, 64) == 0
assert ctypes.string_at(block, 64) == b"\xff" * 64, "memory is not what poison_memory.c makes of it"

for path in sorted(Path(sys.argv[1]).glob("*.so")):
    module = load(path)
    with np.load(path.with_suffix(".in.npz")) as feeds:
        results = module.run(None, dict(feeds))
    np.savez(path.with_suffix(".out.npz"), *results)
