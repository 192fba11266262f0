"""Module files damaged in every way that we can think of, each by a seed.

Bytes are changed, lost, added or moved, or the end of the file or the manifest is edited. A manifest that is
sealed has a checksum that fits, as if the edit had been meant: what it says must then be found out by
comparing it with the code. Code is never altered and sealed: that may do anything.
"""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TRAILER = struct.Struct("<QQQ8s")
SEAL = struct.Struct("<8sIII")

NUMBERS = (0, -1, 1, 255, 2**31, 2**32 + 1, 2**62, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf"))
OTHERS: tuple[Any, ...] = (
    "",
    "1",
    "float64",
    "x" * 10_000,
    "\ud800",
    "\0",
    None,
    True,
    [],
    {},
    [1],
    {"a": 1},
)
DEPTHS = (3, 9, 50, 900, 2000)
NESTED = "nested "

Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Layout:
    """The parts of a whole module file."""

    code: bytes
    weights: bytes
    text: bytes

    @classmethod
    def of(cls, data: bytes) -> Layout:
        offset, nbytes, length, _ = TRAILER.unpack(data[-TRAILER.size :])
        end = len(data) - TRAILER.size
        return cls(data[:offset], data[offset : offset + nbytes], data[end - length : end])

    def sealed(self, text: bytes) -> bytes:
        """The file with another manifest, and checksums that fit."""
        sums = (zlib.crc32(part) for part in (self.code, self.weights, text))
        trailer = TRAILER.pack(len(self.code), len(self.weights), len(text), b"CONVCMOD")
        return self.code + self.weights + SEAL.pack(b"CONVCSUM", *sums) + text + trailer


def damaged(data: bytes, seed: int) -> tuple[str, bytes]:
    """The file, damaged, and the name of the kind; seeds count through the kinds."""
    names = list(DAMAGES)
    name = names[seed % len(names)]
    return name, DAMAGES[name](data, random.Random(seed))


# ---- bytes ----


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((rng.randrange(len(data)), len(data) - 1 - rng.randrange(100)))]


def _headless(data: bytes, rng: random.Random) -> bytes:
    """The beginning is gone: the end of the file is as it was."""
    return data[rng.choice((1, 64, 4096, rng.randrange(1, len(data)))) :]


def _extended(data: bytes, rng: random.Random) -> bytes:
    more = rng.choice((b"\0", bytes(4096), rng.randbytes(100), data[-32:], data))
    return rng.choice((data + more, more + data))


def _inserted(data: bytes, rng: random.Random) -> bytes:
    place, count = rng.randrange(len(data)), rng.choice((1, 16, 4096))
    return data[:place] + rng.choice((bytes(count), rng.randbytes(count))) + data[place:]


def _removed(data: bytes, rng: random.Random) -> bytes:
    place, count = rng.randrange(len(data)), rng.choice((1, 16, 4096))
    return data[:place] + data[place + count :]


def _overwritten(data: bytes, rng: random.Random) -> bytes:
    count = rng.choice((4, 64, 512, 4096))
    place = rng.randrange(max(len(data) - count, 1))
    return (
        data[:place]
        + rng.choice((bytes(count), b"\xff" * count, rng.randbytes(count)))
        + data[place + count :]
    )


def _swapped(data: bytes, rng: random.Random) -> bytes:
    count = rng.choice((1, 8, 64, 1024, 4096))
    a, b = sorted(rng.randrange(len(data) - 2 * count) for _ in range(2))
    b += count
    return data[:a] + data[b : b + count] + data[a + count : b] + data[a : a + count] + data[b + count :]


# ---- the end ----


def _trailer(data: bytes, rng: random.Random) -> bytes:
    fields = list(TRAILER.unpack(data[-TRAILER.size :]))
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.randrange(3)
        step = rng.choice((1, 16, 4096, rng.randrange(1 << 20)))
        values = (
            0,
            fields[number] + step,
            fields[number] - step,
            len(data),
            1 << 40,
            (1 << 63) + 1,
            (1 << 64) - 1,
        )
        fields[number] = rng.choice(values) % (1 << 64)
    return data[: -TRAILER.size] + TRAILER.pack(*fields)


def _seal(data: bytes, rng: random.Random) -> bytes:
    parts = Layout.of(data)
    place = len(parts.code) + len(parts.weights) + rng.randrange(SEAL.size)
    return data[:place] + bytes([data[place] ^ rng.randrange(1, 256)]) + data[place + 1 :]


# ---- the manifest ----


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every list or object together with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((value, key), *_places(inner))]


def _edited(data: bytes, rng: random.Random) -> bytes:
    manifest = json.loads(Layout.of(data).text)
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = _chosen(manifest, rng)
        rng.choice((_other_number, _other_value, _lost, _added, _nested, _doubled, _exchanged))(
            holder, key, rng
        )
    text = re.sub(f'"{NESTED}([0-9]+)"', lambda match: _nest(int(match[1]), rng), json.dumps(manifest))
    if rng.random() < 0.05:
        text = rng.choice(
            ("[" * 100_000, text[:-1], text + "}", '{"a": ' * 5000, "9" * 5000, "null", "", "[]")
        )
    return text.encode(errors="surrogatepass")


def _chosen(manifest: Any, rng: random.Random) -> tuple[Any, Any]:
    """A place: any, or one at the top or in what running relies on, which are few among many."""
    top = [(manifest, key) for key in manifest]
    relied = [place for key in ("inputs", "outputs", "target") for place in _places(manifest.get(key))]
    return rng.choice(rng.choice((top, relied or top, _places(manifest))))


def _other_number(holder: Any, key: Any, rng: random.Random) -> None:
    value = holder[key]
    near = [value + 1, value - 1, value * 2, -value] if isinstance(value, int | float) else []
    holder[key] = rng.choice([*near, *NUMBERS])


def _other_value(holder: Any, key: Any, rng: random.Random) -> None:
    holder[key] = rng.choice(OTHERS)


def _lost(holder: Any, key: Any, rng: random.Random) -> None:
    del holder[key]


def _added(holder: Any, key: Any, rng: random.Random) -> None:
    if isinstance(holder, dict):
        holder[rng.choice(("more", "", "shape", "\ud800"))] = rng.choice(OTHERS)
    else:
        holder.append(rng.choice(OTHERS))


def _nested(holder: Any, key: Any, rng: random.Random) -> None:
    holder[key] = f"{NESTED}{rng.choice(DEPTHS)}"  # by Python itself no deep value can be written


def _nest(depth: int, rng: random.Random) -> str:
    """The text of a value that is nested so deep."""
    before, after = rng.choice((("[", "]"), ('{"a":', "}")))
    return before * depth + "1" + after * depth


def _doubled(holder: Any, key: Any, rng: random.Random) -> None:
    if isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[f"{key} "] = holder[key]


def _exchanged(holder: Any, key: Any, rng: random.Random) -> None:
    other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


def _edited_only(data: bytes, rng: random.Random) -> bytes:
    """The checksum is that of the manifest before."""
    text, end = _edited(data, rng), len(data) - TRAILER.size
    offset, nbytes, length, magic = TRAILER.unpack(data[end:])
    return data[: end - length] + text + TRAILER.pack(offset, nbytes, len(text), magic)


def _edited_and_sealed(data: bytes, rng: random.Random) -> bytes:
    return Layout.of(data).sealed(_edited(data, rng))


DAMAGES: dict[str, Damage] = {
    "flipped": _flipped,
    "cut": _cut,
    "headless": _headless,
    "extended": _extended,
    "inserted": _inserted,
    "removed": _removed,
    "overwritten": _overwritten,
    "swapped": _swapped,
    "trailer": _trailer,
    "seal": _seal,
    "edited": _edited_only,
    "sealed 1": _edited_and_sealed,
    "sealed 2": _edited_and_sealed,
    "sealed 3": _edited_and_sealed,
    "sealed 4": _edited_and_sealed,
}
"""The kinds; that which is hardest to refuse comes more often."""
