"""PyTorch beside convc: the same networks and layers, in CUDA graphs. The only file that needs it."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from store import Array, Conv

Call = Callable[[], Any]


class Torch:
    """PyTorch on the current device, all on one stream of its own, and memory for convc's arrays too."""

    def __init__(self) -> None:
        import torch

        warnings.filterwarnings("ignore", category=UserWarning)
        self.torch: Any = torch
        self.device = "cuda"
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        self.queue = torch.cuda.Stream()
        torch.cuda.set_stream(self.queue)
        self.stream = int(self.queue.cuda_stream)

    def versions(self) -> dict[str, str]:
        """Of the libraries that compute."""
        found = {"torch": str(self.torch.__version__), "cuda": str(self.torch.version.cuda)}
        found["cudnn"] = str(self.torch.backends.cudnn.version())
        for name in ("torchvision", "triton"):
            try:
                found[name] = str(__import__(name).__version__)
            except ImportError:
                continue
        return found

    # ---- memory ----

    def upload(self, array: Array) -> Any:
        """A copy on the device."""
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def spread(self, images: Array, count: int, sets: int) -> Any:
        """(sets, count, ...): in each set `count` images, those given in turn."""
        given = self.upload(images)
        whole = given[self.torch.arange(count, device=self.device) % len(images)]
        return whole.unsqueeze(0).repeat(sets, *[1] * whole.dim())

    def poisoned(self, shape: tuple[int, ...], dtype: str) -> Any:
        """An array of bits that are no number."""
        kind = getattr(self.torch, dtype)
        nbytes = math.prod(shape) * kind.itemsize
        whole = self.torch.full((nbytes,), 255, dtype=self.torch.uint8, device=self.device)
        return whole.view(kind).view(shape)

    def read(self, array: Any) -> Array:
        """A copy on the host."""
        return np.asarray(array.cpu().numpy())

    def part(self, array: Any, index: int) -> Array:
        """The same of one index of the first axis."""
        return self.read(array[index])

    def release(self) -> None:
        """Give memory of graphs that nobody holds back to the device."""
        gc.collect()
        self.torch.cuda.empty_cache()

    # ---- engines ----

    def set_precision(self, precision: str) -> Any:
        """Let products of float32 take tf32 or not; the dtype of tensors."""
        self.torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.torch.backends.cudnn.allow_tf32 = precision == "tf32"
        return self.torch.float16 if precision == "float16" else self.torch.float32

    def capture(self, call: Call) -> Call:
        """A CUDA graph of a call: replaying it is all that the host does."""
        torch = self.torch
        with torch.no_grad():
            for _ in range(3):  # benchmarks of cuDNN and compilation happen now
                call()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self.queue):
                kept = call()

        # The graph knows addresses alone: weights and inputs live as long as the call does.
        def replay(_alive: Any = (call, kept)) -> None:
            graph.replay()

        return replay

    def layer(self, conv: Conv, precision: str, images: Array, sets: int) -> dict[str, Call]:
        """The convolution of as many inputs as convc's module has, without its bias, in both orders of axes.

        cuDNN adds a bias in a kernel of its own; leaving it out is to PyTorch's advantage.
        """
        torch, dtype = self.torch, self.set_precision(precision)
        axes = len(conv.input) - 2
        function = (torch.conv1d, torch.conv2d, torch.conv3d)[axes - 1]
        pads = tuple(before for before, _ in conv.pads)
        weight = self.upload(conv.few.operands()[1]).to(dtype)
        plain = self.spread(images.astype(np.float32), conv.input[0], sets).to(dtype)
        engines = {}
        formats = {"torch_channels_last": torch.channels_last} if axes == 2 else {}
        if precision != "float16" or not formats:
            formats["torch"] = torch.contiguous_format
        for name, order in formats.items():
            inputs = [plain[i].contiguous(memory_format=order) for i in range(sets)]
            w = weight.contiguous(memory_format=order)

            def call(inputs: Any = inputs, w: Any = w) -> Any:
                # All results are kept: outputs that share one memory would stay in the cache.
                return [function(x, w, None, conv.strides, pads, conv.dilations, conv.groups) for x in inputs]

            engines[name] = self.capture(call)
        return engines

    def network(
        self, model: str, options: dict[str, Any], precision: str, batch: int, compiled: bool
    ) -> dict[str, Call]:
        """The network with batch norm folded: channels last, compiled too if asked, NCHW where it may win."""
        torch, dtype = self.torch, self.set_precision(precision)
        net = self.fused(self.build(model, options)).to(self.device).to(dtype)
        channels, size = (
            (1, options["size"]) if model == "unet" else (3, 299 if model == "inception_v3" else 224)
        )
        x = torch.randn(batch, channels, size, size, device=self.device).to(dtype)
        engines = {}
        if precision != "float16":
            engines["torch"] = self.capture(lambda x=x: net(x))  # type: ignore[misc]
        last = (
            self.fused(self.build(model, options))
            .to(self.device)
            .to(dtype)
            .to(memory_format=torch.channels_last)
        )
        image = x.contiguous(memory_format=torch.channels_last)
        engines["torch_channels_last"] = self.capture(lambda: last(image))
        if compiled:
            torch._dynamo.reset()
            # Its own CUDA graphs would copy the input first; the graph that is captured here does not.
            faster = torch.compile(last, mode="max-autotune-no-cudagraphs", dynamic=False)
            engines["torch_compile"] = self.capture(lambda: faster(image))
        return engines

    def fused(self, net: Any) -> Any:
        """For inference, with batch norm folded into the convolutions before it, as convc does."""
        from torch.fx.experimental.optimization import fuse

        return fuse(net.eval())

    def build(self, model: str, options: dict[str, Any]) -> Any:
        """A torchvision model, or the U-Net of examples/, with weights as they are initialised."""
        if model == "unet":
            return _unet(self.torch, options["width"])
        from importlib import import_module

        make = getattr(import_module("torchvision").models, model)
        extra = {"aux_logits": False, "transform_input": False} if model == "inception_v3" else {}
        return make(weights=None, **({"init_weights": False} if extra else {}), **extra)

    # ---- ceilings ----

    def copy(self, nbytes: int = 1 << 32) -> Call:
        """A copy of so many bytes within the device."""
        source = self.torch.randn(nbytes // 4, device=self.device)
        target = self.torch.empty_like(source)
        return lambda: target.copy_(source)

    def product(self, precision: str, size: int = 8192) -> Call:
        """A product of two square matrices of random numbers."""
        dtype = self.set_precision(precision)
        a, b = (self.torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        out = self.torch.empty_like(a)
        return lambda: self.torch.mm(a, b, out=out)


def _unet(torch: Any, width: int) -> Any:
    """Padded U-Net with four levels, probabilities of two classes: see examples/unet.py."""
    nn = torch.nn

    def double(before: int, after: int) -> Any:
        layers: list[Any] = []
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, 3, padding=1), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    widths = [width << level for level in range(5)]

    class UNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            pairs = list(zip([1, *widths], widths, strict=False))
            self.down = nn.ModuleList(double(*pair) for pair in pairs)
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[3::-1])
            self.merge = nn.ModuleList(double(2 * w, w) for w in widths[3::-1])
            self.classes = nn.Conv2d(width, 2, 1)

        def forward(self, x: Any) -> Any:
            copies = []
            for level, block in enumerate(self.down):
                x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
                copies.append(x)
            for up, merge, copy in zip(self.up, self.merge, copies[3::-1], strict=True):
                x = merge(torch.cat([copy, up(x)], 1))
            return torch.softmax(self.classes(x), 1)

    return UNet()
