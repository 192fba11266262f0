"""What all tests share: the helpers in `tests/support` are importable by name, and choices are repeatable."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

# Tests run in several processes, and the threads of each one's BLAS would spin in the others' way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Which lowering is best must not depend on how fast the machine at hand is.
os.environ.setdefault("CONVC_CALIBRATION", "nominal")
