"""When does memory that was freed go back to the system? glibc's allocator is told; others have no `mallopt`.

Left alone, glibc raises its threshold by itself, up to the largest buffer that was ever freed.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

FETCH_BYTES: Final = 512 * 1024
"""Larger buffers are those of fetches, a megabyte each: kept in the heap, they would stay there as holes."""
TENSOR_BYTES: Final = 32 * 1024 * 1024
"""The most that glibc takes. A model on a CPU makes and frees large tensors at every layer: given back each time, their
pages would have to be made anew each time, which took a quarter of a forward pass."""
M_TRIM_THRESHOLD: Final = -1  # malloc.h
M_MMAP_THRESHOLD: Final = -3  # malloc.h


def return_large_buffers() -> None:
    """For a process that holds requests and results."""
    _set(M_MMAP_THRESHOLD, FETCH_BYTES)


def keep_large_buffers() -> None:
    """For a process in which models compute on the CPU."""
    _set(M_MMAP_THRESHOLD, TENSOR_BYTES)
    _set(M_TRIM_THRESHOLD, 4 * TENSOR_BYTES)


def _set(parameter: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(parameter, value)
