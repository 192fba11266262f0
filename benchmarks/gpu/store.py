"""Module files on their way to a GPU machine, without what can be made again there: most of their weights.

A stored file is xz-compressed: one line of JSON, the module's code, its manifest, and the weights that are
carried. The others are drawn anew, with the mean and deviation that they had: how long a kernel takes depends
on the bits that change from one operand to the next, so weights of zero would flatter it.

This file and those that import it run on the GPU machine, on Python, NumPy and convc's runtime alone.
"""

from __future__ import annotations

import io
import json
import lzma
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from convc.runtime import container

Array = npt.NDArray[Any]

DRAWN_BYTES = 2048
"""Smaller weights are carried: tables and biases, of which a draw might make something else."""

SLICES = 1024
"""Weights have a deviation for each index of their first axis up to so many: one for each frequency of a
transform, which differ by orders of magnitude."""

PERIOD = 12
"""Filters of a layer's weights that differ. Weights that are compared with float64 are carried, and to a
compressor filter 12 is filter 0 again. Not a power of two, so that no tile of columns is the same as the one
before it."""


@dataclass(frozen=True)
class Region:
    """A constant of a module: bytes from `offset` on. `deviations` is empty where its bytes are carried."""

    offset: int
    nbytes: int
    dtype: str
    mean: float = 0.0
    deviations: tuple[float, ...] = ()


def regions_of(weights: Sequence[tuple[int, Array]], carry: bool) -> list[Region]:
    """How the weights of a program are stored; all in full if `carry`."""
    found = []
    for offset, array in weights:
        name = str(array.dtype)
        deviations: tuple[float, ...] = ()
        if not carry and array.nbytes > DRAWN_BYTES and name in ("float32", "float16"):
            rows = array.reshape(array.shape[0] if array.shape[0] <= SLICES else 1, -1)
            deviations = tuple(float(d) for d in rows.std(axis=1, dtype=np.float32))
        mean = float(array.mean(dtype=np.float32)) if any(deviations) else 0.0
        found.append(Region(offset, array.nbytes, name, mean, deviations if any(deviations) else ()))
    return found


def pack(module: Path, regions: Sequence[Region], out: Path) -> int:
    """Store a module file at `out`; returns the bytes that it takes."""
    with container.opened(module) as contents, module.open("rb") as file:
        weights, text = contents.parts.weights, contents.text()
        head = {
            "code": weights.offset,
            "weights": weights.nbytes,
            "manifest": len(text),
            "regions": [asdict(region) for region in regions],
        }
        parts = [json.dumps(head).encode() + b"\n", contents.code(), text]
        parts += [_read(file, weights.offset + r.offset, r.nbytes) for r in regions if not r.deviations]
    compressed = lzma.compress(b"".join(parts), preset=6)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(compressed)
    return len(compressed)


def _read(file: BinaryIO, offset: int, nbytes: int) -> bytes:
    file.seek(offset)
    return file.read(nbytes)


def unpack(stored: Path, out: Path, seed: int = 0) -> None:
    """Write the module file that `pack` stored, with drawn weights where it left them out."""
    data = io.BytesIO(lzma.decompress(stored.read_bytes()))
    head = json.loads(data.readline())
    with out.open("wb") as file:
        file.write(data.read(head["code"]))
        manifest = data.read(head["manifest"])
        rng = np.random.default_rng(seed)
        for fields in head["regions"]:
            region = Region(**{**fields, "deviations": tuple(fields["deviations"])})
            file.seek(head["code"] + region.offset)
            file.write(_draw(region, rng) if region.deviations else data.read(region.nbytes))
    container.finish(out, container.Weights(head["code"], head["weights"]), manifest)


def _draw(region: Region, rng: np.random.Generator) -> bytes:
    """Normally distributed numbers; those that leave half precision's range would be infinite."""
    count = region.nbytes // np.dtype(region.dtype).itemsize
    values = rng.standard_normal(count, dtype=np.float32).reshape(len(region.deviations), -1)
    values *= np.asarray(region.deviations, np.float32)[:, None]
    values += np.float32(region.mean)
    return np.clip(values, -6e4, 6e4).astype(region.dtype).tobytes()


# ---- arrays that both machines make ----


def noise(shape: Sequence[int], seed: int, scale: float = 1.0) -> Array:
    """Float32 numbers, near normal with deviation `scale`, cut to the 8 bits of bfloat16's mantissa.

    They are exact in every precision that kernels multiply in, so that what is off by more than sums and
    results may be is a mistake; and the same with any version of NumPy: sums of four 16-bit parts of a mixed
    counter (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014, mix of variant 13).
    """
    with np.errstate(over="ignore"):
        z = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    # The deviation of the sum of four uniform numbers of [0, 1) is 1 / sqrt(3).
    total = z.view(np.uint16).reshape(-1, 4).sum(axis=1, dtype=np.int32) - 131070
    values: Array = total.astype(np.float32) * np.float32(scale * math.sqrt(3) / 65536)
    values.view(np.uint32)[:] &= np.uint32(0xFFFF0000)
    return values.reshape(tuple(shape))


def filters(shape: Sequence[int], seed: int, period: int = 0) -> Array:
    """Weights (K, C / groups, *kernel) of variance 2 over their terms; every `period`th is the same."""
    distinct = min(shape[0], period or shape[0])
    scale = math.sqrt(2.0 / math.prod(shape[1:]))
    drawn = noise((distinct, *shape[1:]), seed, scale)
    return drawn[np.arange(shape[0]) % distinct]


def images(shape: Sequence[int], seed: int) -> Array:
    """An input (N, C, *spatial) whose images are two in turn."""
    return noise((min(shape[0], 2), *shape[1:]), seed)[np.arange(shape[0]) % 2]


def block(array: Array, lanes: int) -> Array:
    """(N, C, *spatial) as convc stores it between layers: (N, C / lanes, *spatial, lanes), 0 beyond C."""
    blocks = -(-array.shape[1] // lanes)
    padding = [(0, 0)] * array.ndim
    padding[1] = (0, blocks * lanes - array.shape[1])
    split = np.pad(array, padding).reshape(array.shape[0], blocks, lanes, *array.shape[2:])
    return np.ascontiguousarray(np.moveaxis(split, 2, -1))


def unblock(array: Array, channels: int) -> Array:
    """The (N, C, *spatial) that `block` stored."""
    merged = np.moveaxis(array, -1, 2)
    merged = merged.reshape(array.shape[0], -1, *array.shape[2:-1])
    return np.ascontiguousarray(merged[:, :channels])


@dataclass(frozen=True)
class Conv:
    """A convolution's geometry. `weight` is (K, C / groups, *kernel); `period` as in `filters`."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]
    groups: int = 1
    bias: bool = False
    relu: bool = False
    period: int = 0

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Conv:
        """From JSON."""
        pairs = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
        return cls(**{**fields, **pairs, "pads": tuple(tuple(p) for p in fields["pads"])})

    @property
    def output(self) -> tuple[int, ...]:
        """The result's shape."""
        spatial = (
            (size + sum(pads) - dilation * (taps - 1) - 1) // stride + 1
            for size, pads, dilation, taps, stride in zip(
                self.input[2:], self.pads, self.dilations, self.weight[2:], self.strides, strict=True
            )
        )
        return self.input[0], self.weight[0], *spatial

    @property
    def flops(self) -> int:
        """A multiply-add counts as 2."""
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])

    @property
    def few(self) -> Conv:
        """The same of the two images that all others repeat."""
        return replace(self, input=(min(self.input[0], 2), *self.input[1:]))

    def operands(self) -> tuple[Array, Array, Array | None]:
        """Input, weights and bias, always the same for the same geometry."""
        seed = sum((i + 1) * n for i, n in enumerate((*self.weight, *self.input[1:])))
        bias = noise(self.weight[:1], seed + 2, 0.1) if self.bias else None
        return images(self.input, seed), filters(self.weight, seed + 1, self.period), bias

    def reference(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """The result in float64, tap after tap."""
        g, (k, c) = self.groups, self.weight[:2]
        wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *self.pads))
        output = self.output[2:]
        total = np.zeros((x.shape[0], g, k // g, math.prod(output)))
        for tap in np.ndindex(*self.weight[2:]):
            window: list[Any] = [...]
            for t, d, o, s in zip(tap, self.dilations, output, self.strides, strict=True):
                window.append(slice(t * d, t * d + (o - 1) * s + 1, s))
            place: tuple[Any, ...] = (..., *tap)
            part = wide[tuple(window)].reshape(x.shape[0], g, c, -1)
            matrix = weight[place].reshape(g, k // g, c).astype(np.float64)
            total += matrix * part if c == 1 and k == g else matrix @ part
        result = total.reshape(x.shape[0], k, *output)
        if bias is not None:
            result += bias.astype(np.float64).reshape(-1, *[1] * len(output))
        return np.maximum(result, 0) if self.relu else result


def relative_error(found: Array, expected: Array) -> float:
    """The largest difference relative to the largest expected magnitude; infinite unless all is finite."""
    if found.shape != expected.shape or not np.isfinite(found.astype(np.float32)).all():
        return math.inf
    scale = float(np.abs(expected).max(initial=0.0))
    difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return difference / scale if scale else (math.inf if difference else 0.0)
