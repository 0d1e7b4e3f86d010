"""Pickles of arrays and plain containers, written piece by piece.

``pickle.dump`` copies an array as a whole before it writes it, and names NumPy's functions by where they lie in the
version at hand, so that a file of NumPy 2 is not read by older ones. Here an array may be larger than memory, and every
version of NumPy reads the file: protocol 4, the names of NumPy 1. The result is a plain pickle.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_PROTO, _STOP, _MARK = b"\x80\x04", b".", b"("
_NONE, _TRUE, _FALSE = b"N", b"\x88", b"\x89"
_EMPTY_DICT, _SETITEMS, _EMPTY_LIST, _APPENDS, _TUPLE = b"}", b"u", b"]", b"e", b"t"
_TUPLE1, _TUPLE3, _REDUCE, _BUILD = b"\x85", b"\x87", b"R", b"b"
_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + b"K\x00" + _TUPLE1 + b"C\x01b" + _TUPLE3 + _REDUCE


@dataclass(frozen=True, eq=False)
class StreamedArray:
    """An array that is made while it is written.

    Attributes:
        shape: of the whole.
        dtype: a number's, little-endian.
        chunks: its parts along the first axis, in order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: Iterable[npt.NDArray[Any]]


def write_pickle(value: Any, stream: IO[bytes]) -> None:
    """Write dictionaries, lists, tuples, strings, numbers, None, arrays of numbers and :class:`StreamedArray`.

    Raises:
        TypeError: the value holds anything else.
    """
    stream.write(_PROTO)
    _write(value, stream)
    stream.write(_STOP)


def _write(value: Any, stream: IO[bytes]) -> None:
    if value is None:
        stream.write(_NONE)
    elif isinstance(value, bool):
        stream.write(_TRUE if value else _FALSE)
    elif isinstance(value, int):
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        stream.write(b"\x8a" + bytes([len(raw)]) + raw)
    elif isinstance(value, float):
        stream.write(b"G" + struct.pack(">d", value))
    elif isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        stream.write(b"X" + struct.pack("<I", len(raw)) + raw)
    elif isinstance(value, Mapping):
        stream.write(_EMPTY_DICT + _MARK)
        for key, item in value.items():
            _write(key, stream)
            _write(item, stream)
        stream.write(_SETITEMS)
    elif isinstance(value, list | tuple):
        stream.write(_EMPTY_LIST + _MARK if isinstance(value, list) else _MARK)
        for item in value:
            _write(item, stream)
        stream.write(_APPENDS if isinstance(value, list) else _TUPLE)
    elif isinstance(value, np.ndarray):
        _write_array(StreamedArray(value.shape, value.dtype.newbyteorder("<"), [value]), stream)
    elif isinstance(value, StreamedArray):
        _write_array(value, stream)
    else:
        raise TypeError(f"cannot write a {type(value).__name__}")


def _write_array(array: StreamedArray, stream: IO[bytes]) -> None:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"cannot write an array of {array.dtype}")
    order = "|" if array.dtype.itemsize == 1 else "<"
    size = int(np.prod(array.shape, dtype=np.int64)) * array.dtype.itemsize
    # the state of an array: (version, shape, dtype, is it in Fortran's order, bytes)
    stream.write(_ARRAY + _MARK)
    _write(1, stream)
    _write(tuple(map(int, array.shape)), stream)
    stream.write(b"cnumpy\ndtype\n")
    _write(array.dtype.str[1:], stream)
    stream.write(_FALSE + _TRUE + _TUPLE3 + _REDUCE + _MARK)
    for part in (3, order, None, None, None, -1, -1, 0):
        _write(part, stream)
    stream.write(_TUPLE + _BUILD + _FALSE)
    stream.write(b"B" + struct.pack("<I", size) if size < 1 << 32 else b"\x8e" + struct.pack("<Q", size))
    for chunk in array.chunks:
        if chunk.size:
            raw = np.ascontiguousarray(chunk, array.dtype).data.cast("B")
            size -= len(raw)
            stream.write(raw)
    if size:
        raise ValueError(f"the parts of an array of shape {array.shape} have {size} bytes less than the whole")
    stream.write(_TUPLE + _BUILD)
