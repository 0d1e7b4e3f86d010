"""What becomes of memory that is freed, where GNU's C library gives it out."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
"""Environment variables by which a user has decided about it."""
LARGEST = 64 << 20
"""Bytes of the largest block that is kept."""
KEPT = 512 << 20
"""Bytes that are kept at most at the end of what was given out."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Let the C library keep what is freed within the block, and give it back to the system at the end.

    A step of training asks for the same tens of megabytes as the step before. If they were given back meanwhile, the
    system fills each page with zeros again, which took up to 8 % of an epoch. The settings themselves stay as they are
    after the block, since nobody can be asked what they were. Another C library is left alone, and so is what the
    environment has decided.
    """
    library = None if any(name in os.environ for name in SETTINGS) else _library()
    if library is not None:
        library.mallopt(MMAP_THRESHOLD, LARGEST)
        library.mallopt(TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        if library is not None:
            library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        # mallopt alone is in other libraries too, with other meanings
        return library if library.gnu_get_libc_version and library.malloc_trim and library.mallopt else None
    except (OSError, TypeError, AttributeError):
        return None
