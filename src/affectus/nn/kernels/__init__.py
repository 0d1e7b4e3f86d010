"""Recurrences compiled: one call for all steps, in place of up to twenty of PyTorch's operators for each of them.

For a processor with AVX2 or AVX-512, in single precision. The libraries are made where affectus is installed from
source and a C compiler is found, or by ``python -m affectus.nn.kernels``. Without them, or with
``AFFECTUS_KERNELS=0``, PyTorch's operators do the same; results differ by rounding.
"""

import ctypes
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from affectus.nn.kernels.build import library, stamp
from affectus.nn.tracing import is_plain

SWITCH = "AFFECTUS_KERNELS"
"""Environment variable; 0 leaves the kernels unused."""
NONE = "none"
FUNCTIONS = {
    **{"lstm": 4, "lstm_back": 5, "gru": 5, "gru_back": 6, "memory": 7, "memory_back": 8},
    **{"product": 1, "product_back": 1, "pack": 6, "weigh": 1, "weigh_back": 1},
    **{"means": 7, "gather": 1, "gather_back": 1, "moments": 4, "attend": 1, "attend_back": 1},
    "matmul": 13,
}
"""How many numbers and addresses each takes after its first argument, :class:`Arrays` or an address."""
PANEL = 32
"""Columns of packed weights that stand together."""
FIELDS = {
    "lstm": "gates cells squashed states slopes given of_cells carried carried_cell keep seen zeros",
    "gru": "gates product states bias keep seen slopes of_product given carried room zeros",
    "product": "left right weight words sums grad turned of_weight of_left of_right",
    "choice": "table out",
    "weighing": "places widths numbers out of_places of_numbers",
    "attention": "scores values weights out of_scores of_values",
    "memory": "hidden keep gates bias candidate memory slopes of_hidden of_candidate given carried zeros",
}
"""Of each structure in ``kernels.c``, the arrays after the widths."""
WIDTHS = {"lstm": 1, "gru": 1, "memory": 2, "product": 6, "choice": 3, "attention": 2, "weighing": 3}


class Arrays:
    """The arrays that kernels work on, as an argument of theirs; they stay alive as long as this.

    Args:
        kind: of :data:`FIELDS`.
        widths: the structure's sizes.
        arrays: by name; what is not given is absent.
    """

    def __init__(self, kind: str, *widths: int, **arrays: Tensor | None) -> None:
        assert len(widths) == WIDTHS[kind]
        if "zeros" in FIELDS[kind].split():
            arrays["zeros"] = torch.zeros(widths[0])
        addresses = []
        for name in FIELDS[kind].split():
            x = arrays.pop(name, None)
            if x is None:
                addresses.append(0)
                continue
            assert x.dtype in (torch.float32, torch.int32, torch.int64), name
            assert x.device.type == "cpu", name
            assert x.is_contiguous(), name
            addresses.append(x.data_ptr())
            setattr(self, name, x)
        assert not arrays, f"no such arrays: {list(arrays)}"
        self._structure = (ctypes.c_long * (len(widths) + len(addresses)))(*widths, *addresses)
        self._as_parameter_ = ctypes.c_void_p(ctypes.addressof(self._structure))


def pack(kernels: Any, weights: Tensor) -> Tensor:
    """Return a matrix (k, n), of any strides, as the kernels multiply with it from the right."""
    k, n = weights.shape
    packed = weights.new_empty(-(-n // PANEL) * PANEL * k)
    kernels.pack(weights.data_ptr(), packed.data_ptr(), k, n, *weights.stride(), torch.get_num_threads())
    return packed


def through(
    kernels: Any, function: str, arrays: Arrays, sizes: Sequence[int], weights: Sequence[Tensor], *numbers: int
) -> None:
    """Go through all steps of a recurrence.

    Args:
        kernels: of :func:`kernels_for`.
        function: of :data:`FUNCTIONS`.
        arrays: that it works on.
        sizes: rows of each step.
        weights: that it multiplies with from the right.
        *numbers: what else it takes.
    """
    samples, packed = count(sizes), [pack(kernels, matrix) for matrix in weights]
    addresses = (x.data_ptr() for x in packed)
    threads = torch.get_num_threads()
    getattr(kernels, function)(arrays, len(sizes), samples.data_ptr(), threads, *addresses, *numbers)


def count(sizes: Sequence[int]) -> Tensor:
    """Return whole numbers as the kernels read them, such as how many rows each step has."""
    return torch.tensor(sizes, dtype=torch.int64)


def places_of(arrays: Sequence[Tensor]) -> Tensor:
    """Return where arrays lie, as the kernels read it; they have to stay alive."""
    return count([x.data_ptr() for x in arrays])


@functools.cache
def level() -> str:
    """Return the instructions that the kernels use here: ``avx512``, ``avx2``, or ``none``."""
    return _load()[0]


def in_use() -> str:
    """Return what runs and ``affectus doctor`` tell of the kernels: the level, and whether products are theirs."""
    return f"{level()}, large products too" if multiplies() else level()


def kernels_for(x: Tensor) -> Any | None:
    """Return the library for rows such as these, None where PyTorch's operators have to do, as in plain form.

    Its functions take :class:`Arrays`, numbers, and addresses of what :func:`pack` and :func:`count` return.
    """
    if _off or x.dtype != torch.float32 or x.device.type != "cpu" or is_plain():
        return None
    return _load()[1]


def own_kernels(*arrays: Tensor) -> Any | None:
    """Return the library for what has no gradient to go through; None if one of the arrays is not for it."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in arrays):
        return None
    found = [kernels_for(x) for x in arrays]
    return None if None in found else found[0]


@functools.cache
def multiplies() -> bool:
    """True where large products are faster by the kernels than by PyTorch's library.

    That is Intel's, which takes the instructions of AVX2 on a processor of another maker, whatever it has.
    """
    name, found = _load()
    intel: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return found is not None and name == "avx512" and intel and bool(found.is_foreign())


_off = False


@contextmanager
def no_kernels() -> Iterator[None]:
    """Leave the kernels unused within the block: for tests, and to count operations, which only PyTorch's can be."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


@functools.cache
def _load() -> tuple[str, Any | None]:
    if os.environ.get(SWITCH) == "0" or ctypes.sizeof(ctypes.c_long) != ctypes.sizeof(ctypes.c_void_p):
        return NONE, None
    best = torch.backends.cpu.get_cpu_capability().lower()
    for name in {"avx512": ("avx512", "avx2"), "avx2": ("avx2",)}.get(best, ()):
        path = library(name)
        try:
            found = ctypes.CDLL(str(path))
            source = ctypes.c_char * len(stamp())
            if source.in_dll(found, "source").raw.decode("ascii") != stamp():  # made before the source was changed
                continue
        except (OSError, ValueError):  # absent; or not one of ours
            continue
        for function, arguments in FUNCTIONS.items():
            getattr(found, function).restype = None
            getattr(found, function).argtypes = [ctypes.c_void_p] + [ctypes.c_long] * arguments
        found.is_foreign.restype, found.is_foreign.argtypes = ctypes.c_long, []
        found.use_threads(_starter())
        return name, found
    return NONE, None


def _starter() -> Any | None:
    """Return what PyTorch starts its threads by (GNU's OpenMP); None where it has another way."""
    try:
        # what PyTorch's library was linked with is found through it
        return ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
