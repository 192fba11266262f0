"""What the code of a module says of itself, read from its bytes: nothing is mapped and nothing runs.

The compiler puts the digest of what it promises of a module (`manifest.Manifest.contract`) into a note of the
ELF file, beside the one of `native/services.c`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NOTE_NAME = b"convc\0"
NOTE_TYPE = 2
"""Of the note whose descriptor is the contract's digest, as hexadecimal text."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_SHARED_OBJECT = 3
_LOAD, _NOTES = 1, 4


def note_source(contract: str) -> str:
    """C code that makes the note."""
    lines = [
        '.pushsection .note.convc, "a", %note',
        ".balign 4",
        f".long {len(NOTE_NAME)}, {len(contract)}, {NOTE_TYPE}",
        '.asciz "convc"',
        ".balign 4",
        f'.ascii "{contract}"',
        ".balign 4",
        ".popsection",
    ]
    text = "\n".join('"{}\\n"'.format(line.replace('"', '\\"')) for line in lines)
    return f"__asm__(\n{text});"


def contract_of(code: bytes) -> str:
    """The contract's digest in a shared object.

    Raises ValueError, with the reason, for what is no whole shared object with such a note.
    """
    for offset, nbytes in list(_segments(code)):
        for kind, name, content in _notes(code[offset : offset + nbytes]):
            if (kind, name) == (NOTE_TYPE, NOTE_NAME):
                return content.decode("ascii", "replace")
    raise ValueError("its code does not say what it was compiled for")


def _segments(code: bytes) -> Iterator[tuple[int, int]]:
    """Where the notes are: their segments' places and bytes, after a look at all segments."""
    if len(code) < _HEADER.size or not code.startswith(_IDENT):
        raise ValueError("its code is no ELF file of 64 bits")
    _, kind, _, _, _, table, _, _, _, size, count, _, _, _ = _HEADER.unpack_from(code)
    if kind != _SHARED_OBJECT or size != _SEGMENT.size or table + count * size > len(code):
        raise ValueError("its code is no whole shared object")
    for number in range(count):
        what, _, offset, _, _, nbytes, memory, _ = _SEGMENT.unpack_from(code, table + number * size)
        if what in (_LOAD, _NOTES) and (offset + nbytes > len(code) or nbytes > memory):
            raise ValueError(f"segment {number} of its code ends at {offset + nbytes} of {len(code)} bytes")
        if what == _NOTES:
            yield offset, nbytes


def _notes(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Type, name and descriptor of the notes of a segment, whose parts are aligned to 4 bytes."""
    place = 0
    while place + _NOTE.size <= len(content):
        name_bytes, nbytes, kind = _NOTE.unpack_from(content, place)
        name = place + _NOTE.size
        start = name + -(-name_bytes // 4) * 4
        yield kind, content[name : name + name_bytes], content[start : start + nbytes]
        place = start + -(-nbytes // 4) * 4
