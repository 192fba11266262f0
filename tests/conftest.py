"""What all tests share: the helpers in `tests/support` are importable by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
