"""Pickles as sources, read without running anything that they name.

A pickle is a program: it may name any function of any module and call it. The unpickler here resolves no name by
importing. It has a closed list of names, each of which stands for a function or class that only makes data, and refuses
every other name. It is built on the pickle module's own Python implementation, since the C one reserves memory for
whatever memo index a file claims.
"""

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from affectus.corpus.readers.base import PICKLE, check_file
from affectus.errors import AffectusError

MAX_ARRAY_BYTES = 1 << 38
"""No feature file comes near 256 GiB; a pickle that claims such an array is broken or hostile."""

_PLAIN_KINDS = "biufcSU"
"""Kinds of NumPy numbers and strings; objects are only admitted as elements that the pickle spells out."""


class _Closed:
    """A callable that stands for an admitted name; without attributes, so that a pickle cannot change it."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("it sets the state of a function")


class _NdarrayName(_Closed):
    """Stands for ``numpy.ndarray`` as the argument of ``_reconstruct``; it cannot be called itself."""

    __slots__ = ()


_NDARRAY = _NdarrayName()


class _Reconstruct(_Closed):
    """``numpy.core.multiarray._reconstruct``: an empty array, which the pickle then gives shape, dtype and bytes."""

    __slots__ = ()

    def __call__(self, kind: object, shape: object, code: object) -> npt.NDArray[Any]:
        if kind is not _NDARRAY:
            raise pickle.UnpicklingError("it makes an array of another class than numpy.ndarray")
        return np.zeros(0, np.int8)


class _Scalar(_Closed):
    """``numpy.core.multiarray.scalar``: one number or string from its bytes."""

    __slots__ = ()

    def __call__(self, dtype: object, data: object = b"") -> Any:
        if not isinstance(dtype, np.dtype) or dtype.kind not in _PLAIN_KINDS:
            raise pickle.UnpicklingError("it makes a NumPy scalar that is neither number nor string")
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, bytes) or len(raw) != dtype.itemsize:
            raise pickle.UnpicklingError("it makes a NumPy scalar of the wrong size")
        return np.frombuffer(raw, dtype)[0] if raw else dtype.type()


class _FromBuffer(_Closed):
    """``numpy.core.numeric._frombuffer``: an array over bytes that the pickle holds (protocol 5)."""

    __slots__ = ()

    def __call__(self, buffer: object, dtype: object, shape: Any, order: Any) -> npt.NDArray[Any]:
        if not isinstance(buffer, bytes | bytearray | memoryview) or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("it makes an array from something else than bytes")
        if dtype.kind not in _PLAIN_KINDS:
            raise pickle.UnpicklingError("it makes an array of objects from bytes")
        array: npt.NDArray[Any] = np.frombuffer(buffer, dtype).reshape(shape, order=order)
        return array


class _Dtype(_Closed):
    """``numpy.dtype`` of a type code such as ``f4`` or ``O``, never of a structure."""

    __slots__ = ()

    def __call__(self, code: object, align: object = False, copy: object = False) -> np.dtype[Any]:
        if not isinstance(code, str | bytes):
            raise pickle.UnpicklingError("it makes a structured dtype")
        # a copy, since numpy shares one object per dtype and the pickle may give this one another byte order
        dtype = np.dtype(np.dtype(code.decode("ascii") if isinstance(code, bytes) else code), copy=True)
        if dtype.kind not in _PLAIN_KINDS + "O" or dtype.itemsize > 1 << 20:
            raise pickle.UnpicklingError(f"it makes an array of {dtype}")
        return dtype


class _Encode(_Closed):
    """``_codecs.encode``, with which protocols below 3 write bytes."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
            raise pickle.UnpicklingError("it encodes something else than text")
        return text.encode(str(encoding))


class _Container(_Closed):
    """A plain container made from another one (or from nothing)."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *items: Any) -> Any:
        if len(items) > 1 or any(not isinstance(item, list | tuple | dict | set | frozenset) for item in items):
            raise pickle.UnpicklingError("it makes a container from something else than a container")
        return self._make(*items)


class _Bytearray(_Closed):
    """``bytearray`` of bytes; of a number it would reserve that much memory."""

    __slots__ = ()

    def __call__(self, data: object = b"", encoding: object = "latin1") -> bytearray:
        if isinstance(data, str):
            data = data.encode("latin1")
        if not isinstance(data, bytes):
            raise pickle.UnpicklingError("it makes a bytearray from something else than bytes")
        return bytearray(data)


class _NoBytes(_Closed):
    """``bytes()``, with which protocols below 3 write empty bytes."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _Complex(_Closed):
    """``complex`` of two numbers."""

    __slots__ = ()

    def __call__(self, real: object = 0.0, imaginary: object = 0.0) -> complex:
        if not isinstance(real, int | float) or not isinstance(imaginary, int | float):
            raise pickle.UnpicklingError("it makes a complex number from something else than numbers")
        return complex(real, imaginary)


def _admitted() -> dict[tuple[str, str], object]:
    names: dict[tuple[str, str], object] = {("numpy", "ndarray"): _NDARRAY, ("numpy", "dtype"): _Dtype()}
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = _Reconstruct()
        names[f"{core}.multiarray", "scalar"] = _Scalar()
        names[f"{core}.numeric", "_frombuffer"] = _FromBuffer()
    for builtins in ("builtins", "__builtin__"):
        for make in (list, tuple, dict, set, frozenset):
            names[builtins, make.__name__] = _Container(make)
        names[builtins, "bytes"] = _NoBytes()
        names[builtins, "bytearray"] = _Bytearray()
        names[builtins, "complex"] = _Complex()
    names["_codecs", "encode"] = _Encode()
    names["collections", "OrderedDict"] = _Container(OrderedDict)
    return names


_ADMITTED = _admitted()


class _Bounded(io.BufferedReader):
    """A file that refuses to read more than it holds, before memory is reserved for it."""

    def __init__(self, raw: io.FileIO, size: int) -> None:
        super().__init__(raw, buffer_size=1 << 20)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._size - self.tell():
            raise EOFError("it ends too early")
        return super().read(size)


class _RefusedError(Exception):
    """The pickle names something that is not on the list."""


class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def load_build(self) -> None:
        """Give an array its contents, or a dtype its byte order; nothing else has a state here."""
        state, target = self.stack[-1], self.stack[-2]  # type: ignore[attr-defined]
        if isinstance(target, np.ndarray):
            _check_array_state(state)
        elif isinstance(target, np.dtype):
            # (version, byte order, subarray, names, fields, ...): a plain dtype has no parts
            if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
                raise pickle.UnpicklingError("it makes a structured dtype")
            self.stack.pop()  # type: ignore[attr-defined]
            if state[1] in (">", b">"):
                self.stack[-1] = target.newbyteorder(">")  # type: ignore[attr-defined]
                self._replace_memo(target, self.stack[-1])  # type: ignore[attr-defined]
            return
        else:
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}")
        super().load_build()  # type: ignore[misc]

    def _replace_memo(self, old: object, new: object) -> None:
        memo = self.memo  # type: ignore[attr-defined]
        for key in [key for key, value in memo.items() if value is old]:
            memo[key] = new

    def load_bytearray8(self) -> None:
        """Read first and reserve after, since the size is only a claim."""
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def _check_array_state(state: object) -> None:
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise pickle.UnpicklingError("it gives an array a state that is none")
    shape, dtype, _, data = state[-4:]
    if not isinstance(dtype, np.dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("it gives an array a state that is none")
    size = 1
    for length in shape:
        if not isinstance(length, int) or length < 0:
            raise pickle.UnpicklingError("it gives an array a shape that is none")
        size *= length
    if size * dtype.itemsize > MAX_ARRAY_BYTES:
        raise pickle.UnpicklingError(f"it claims an array of shape {shape}")
    given = len(data) if isinstance(data, list | str | bytes | bytearray) else -1
    if given != (size if dtype.kind == "O" else size * dtype.itemsize):
        raise pickle.UnpicklingError(f"it gives an array of shape {shape} the wrong number of elements")


def load_pickle(path: Path) -> Any:
    """Read a pickle of NumPy arrays and plain containers, of Python 2 or 3.

    Strings of Python 2 are read as Latin-1; see ``as_text``.

    Raises:
        AffectusError: the file is absent or no whole pickle, or names anything but arrays and containers; nothing that
            it names is imported or called.
    """
    check_file(path, PICKLE)
    try:
        with _Bounded(io.FileIO(path), path.stat().st_size) as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except _RefusedError as refused:
        raise AffectusError(
            "The pickle names something that is not data, and was not run",
            where=path,
            got=refused,
            expected="NumPy arrays and plain containers only",
            remedy="Do not trust this file",
        ) from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AffectusError(
            "Not a whole pickle of arrays", where=path, got=reason, remedy="Fetch the file again"
        ) from None


def as_text(value: object) -> str:
    r"""Return a string of a pickle as text: bytes are UTF-8, as are Python 2's strings if they can be.

    >>> as_text(b"caf\xc3\xa9"), as_text("caf\xc3\xa9"), as_text("caf\xe9")
    ('café', 'café', 'café')
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    text = str(value)
    try:
        return text.encode("latin1").decode("utf-8")
    except UnicodeError:
        return text
