"""DLPack capsules, read and made: how libraries hand each other arrays without a copy.

Structures as in dlpack.h, version 0.8, which consumers and producers of later versions go on to accept.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.types import Shape

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of devices."""

_NAME = b"dltensor"  # capsules refer to these bytes
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
_CODES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_kind", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER)]


# A library object of our own: signatures that are set on ctypes.pythonapi would be everybody's.
_python = ctypes.PyDLL(None)
_python.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_GetPointer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_IsValid.argtypes = (ctypes.c_void_p, ctypes.c_char_p)


@dataclass(frozen=True)
class Description:
    """An array that another library holds. `strides` are in elements; None where it is contiguous."""

    pointer: int
    shape: Shape
    strides: Shape | None
    dtype: str
    device: tuple[int, int]


def read(capsule: Any) -> Description:
    """What a capsule holds. It stays whole: its array lives as long as the capsule does.

    Raises ValueError for anything that is not a capsule of this version that nobody has taken yet.
    """
    address = _python.PyCapsule_GetPointer(id(capsule), _NAME)
    tensor = _Managed.from_address(address).tensor
    rank = tensor.rank
    name = _CODES.get(tensor.code, f"type {tensor.code} of DLPack")
    dtype = name if name == "bool" else f"{name}{tensor.bits}"
    return Description(
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[:rank]),
        tuple(tensor.strides[:rank]) if tensor.strides else None,
        dtype if tensor.lanes == 1 else f"{dtype}x{tensor.lanes}",
        (tensor.device_kind, tensor.device_id),
    )


_handed_out: dict[int, tuple[Any, ...]] = {}
"""By address, what must live until somebody calls a capsule's deleter."""


def _delete(address: int) -> None:
    _handed_out.pop(address, None)


def _drop(capsule: int) -> None:
    if _python.PyCapsule_IsValid(capsule, _NAME):  # nobody took the array and renamed the capsule
        _delete(_python.PyCapsule_GetPointer(capsule, _NAME))


_deleter, _destructor = _DELETER(_delete), _DELETER(_drop)


def make(pointer: int, shape: Shape, dtype: np.dtype[Any], device: tuple[int, int], owner: Any) -> Any:
    """A capsule for a contiguous array, which keeps `owner` alive."""
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    managed = _Managed()
    tensor = managed.tensor
    tensor.data = pointer
    tensor.device_kind, tensor.device_id = device
    tensor.rank = len(shape)
    tensor.code, tensor.bits, tensor.lanes = _KINDS[dtype.kind], 8 * dtype.itemsize, 1
    tensor.shape = ctypes.cast(sizes, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = _deleter
    address = ctypes.addressof(managed)
    _handed_out[address] = (managed, sizes, owner)
    return _python.PyCapsule_New(address, _NAME, ctypes.cast(_destructor, ctypes.c_void_p))
