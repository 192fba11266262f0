"""What a file is, by its first and last bytes: whoever gives the wrong one is told what it is instead."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

MODULE_MAGIC = b"CONVCMOD"
"""The last bytes of a compiled module."""

_BEGINNING = 1 << 16
"""Bytes in which files of protocol buffers are searched for names that only one program writes."""


@dataclass(frozen=True)
class Format:
    """A kind of file, with its article, and what to do with one."""

    name: str
    advice: str = ""


MODULE = Format(
    "a convc module",
    "It is compiled already: `convc run`, `inspect`, `explain`, `bench` and `verify` take it.",
)
MODEL = Format("an ONNX model", "Make a module of it: `convc compile MODEL.onnx -o MODULE.so`.")

ARRAY = Format("a NumPy array", "As an input: `convc run MODULE.so --input NAME=FILE.npy`.")
LIBRARY = Format("a shared library or program")
"""As a module is that lost its end."""

_TENSORFLOW = "Convert it with tf2onnx."
_TORCH = "Load it in PyTorch and export it: torch.onnx.export(model, (example,), 'model.onnx')."
_WEIGHTS = "It holds weights without a network; export the network that they belong to as ONNX."
_PADDLE = "Convert it with paddle2onnx."
_UNPACK = "Unpack it, and give the ONNX file."
_IMAGE = "A model is needed."

_BEGINNINGS = (
    (b"\x7fELF", LIBRARY),
    (b"\x89HDF\r\n\x1a\n", Format("an HDF5 file, as Keras writes them", _TENSORFLOW)),
    (b"\x80\x02\x8a\nl\xfcF\x9cF\xf9 j\xa8P\x19", Format("a file of old PyTorch", _TORCH)),
    (b"\x93NUMPY", ARRAY),
    (b"\x1f\x8b", Format("a gzip archive", _UNPACK)),
    (b"\xfd7zXZ", Format("an xz archive", _UNPACK)),
    (b"7z\xbc\xaf", Format("a 7z archive", _UNPACK)),
    (b"BZh", Format("a bzip2 archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Format("a Zstandard archive", _UNPACK)),
    (b"\x89PNG", Format("a PNG image", _IMAGE)),
    (b"\xff\xd8\xff", Format("a JPEG image", _IMAGE)),
    (b"GGUF", Format("a GGUF file of llama.cpp", _WEIGHTS)),
    (b"SQLite format 3", Format("an SQLite database, perhaps of tuning", "`convc db --db FILE` takes it.")),
    (b"version https://git-lfs", Format("a pointer of Git LFS", "Fetch the file itself: `git lfs pull`.")),
    (b"7767517", Format("a network of ncnn", "Give the ONNX file that it was made from.")),
)  # fmt: skip

_TEXTS = (
    (b"<!doctype html", Format("a web page", "Download the file itself, not the page that shows it.")),
    (b"<html", Format("a web page", "Download the file itself, not the page that shows it.")),
    (b"<?xml", Format("an XML file, as OpenVINO's", "Give the ONNX file that it was made from.")),
    (b"import ", Format("a Python program", "Run it, if it exports a model.")),
    (b"{", Format("a JSON file")),
)

_MARKS = (
    ((b"\x04feed", b"\x05fetch"), Format("a network of Paddle", _PADDLE)),
    ((b"pd_op.",), Format("a network of Paddle", _PADDLE)),
    ((b"saved_model",), Format("a network of TensorFlow", _TENSORFLOW)),
    ((b"Placeholder", b"\x05Const"), Format("a network of TensorFlow", _TENSORFLOW)),
    ((b"_output_shapes",), Format("a network of TensorFlow", _TENSORFLOW)),
)
"""Names within protocol buffers, which have no magic number; ONNX models may have them too."""

_ENDINGS = {
    ".pdmodel": Format("a network of Paddle", _PADDLE),
    ".pdiparams": Format("a file of Paddle's weights", _WEIGHTS),
    ".pb": Format("a network of TensorFlow", _TENSORFLOW),
    ".caffemodel": Format("a file of Caffe", "Convert it to ONNX."),
    ".prototxt": Format("a network of Caffe", "Convert it to ONNX."),
    ".mlmodel": Format("a network of Core ML", "Give the ONNX file that it was made from."),
}


def is_module(path: Path) -> bool:
    """Whether a file is, by its end, a compiled module, or, by its name, was one or is to be one."""
    return path.suffix == ".so" or _is(path, MODULE)


def recognised(path: str | os.PathLike[str]) -> Format | None:
    """What a file is, if that can be told. Reads its ends and, of an archive, the names; never raises."""
    try:
        with open(path, "rb") as file:
            head = file.read(_BEGINNING)
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(MODULE_MAGIC)))
            tail = file.read()
    except OSError:
        return None
    if tail == MODULE_MAGIC:
        return MODULE
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    begins = [form for magic, form in _BEGINNINGS if head.startswith(magic)]
    text = head.lstrip().lower()
    begins += [form for start, form in _TEXTS if text.startswith(start)]
    return begins[0] if begins else _binary(head) or _ENDINGS.get(Path(path).suffix.lower())


def not_a(path: str | os.PathLike[str], wanted: Format) -> tuple[str, str]:
    """That a file is not what is wanted, with what it is instead if that is known; and what to do."""
    found = recognised(path)
    if found is None or found == wanted or (found == LIBRARY and wanted == MODULE):
        return f"'{path}' is not {wanted.name}", ""
    return f"'{path}' is {found.name}, not {wanted.name}", found.advice


def _is(path: Path, form: Format) -> bool:
    return recognised(path) == form


def _binary(head: bytes) -> Format | None:
    if head[4:8] == b"TFL3":
        return Format("a network of TensorFlow Lite", "Convert it with tf2onnx --tflite.")
    if head[8:10] == b'{"':
        return Format("a file of safetensors", _WEIGHTS)
    for marks, form in _MARKS:
        if all(mark in head for mark in marks):
            return form
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Format("a pickle, as of weights of PyTorch or Paddle", _WEIGHTS)
    # ModelProto begins with its IR version, a small number, and the length of one of the next fields.
    begins = len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x20 and head[2] in range(0x12, 0x43, 8)
    return MODEL if begins else None


def _archive(path: str | os.PathLike[str]) -> Format:
    """A ZIP archive by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return Format("a ZIP archive, or the beginning of one", "Download it again.")
    if any(name.endswith("data.pkl") for name in names):
        return Format("a file of PyTorch", _TORCH)
    if any(name.endswith(".npy") for name in names):
        return Format("an archive of NumPy arrays")
    if any(name.endswith(".weights.h5") for name in names):
        return Format("a model of Keras", "Convert it: model.export('model.onnx', format='onnx').")
    models = [name for name in names if name.endswith(".onnx")]
    return Format("a ZIP archive" + (f" with '{models[0]}' in it" if models else ""), _UNPACK)
