"""PyTorch as an engine: the ONNX file through onnx2torch, in inference mode, channels last.

Channels last is the layout in which PyTorch's CPU convolutions are fastest. The modules are called as they
are: no script, no compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def load(path: str, threads: int, feeds: Mapping[str, Any]) -> Callable[[], list[Any]]:
    """As the loaders of `convc.report.engine_child`; inputs in the order of the file."""
    import onnx2torch
    import torch

    torch.set_num_threads(threads)
    network = onnx2torch.convert(path).eval().to(memory_format=torch.channels_last)

    def tensor(array: Any) -> Any:
        made = torch.from_numpy(array)
        return made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made

    inputs = [tensor(array) for array in feeds.values()]

    def run() -> list[Any]:
        with torch.inference_mode():
            outputs = network(*inputs)
        return [o.numpy() for o in (outputs if isinstance(outputs, tuple | list) else [outputs])]

    return run
