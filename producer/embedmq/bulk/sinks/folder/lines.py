"""How are rows written and read as JSON, one object a line?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from embedmq_schemas.vectors import Array

from embedmq.bulk.rows import Scalar
from embedmq.bulk.sinks.folder.disk import abandon
from embedmq.bulk.sinks.folder.parts import READ_ROWS

T = TypeVar("T")
Line = Mapping[str, Scalar | list[float]]

_DIGITS = {"float32": 9, "float16": 5}
_LARGEST = 60
_POWERS = np.array([float(f"1e{k}") for k in range(-_LARGEST, _LARGEST + 1)])
"""Ten to the -60th up to the 60th, more than a float32 times nine digits needs: looking up is faster than `pow`."""


class LineWriter:
    """Appends lines to a new file. Methods but `abandon` raise OSError, UnicodeEncodeError."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - until `close` or `abandon`
        self._encoder = msgspec.json.Encoder()

    def write(self, lines: Sequence[Line]) -> None:
        self._file.write(self._encoder.encode_lines(lines))

    def close(self) -> None:
        self._file.close()

    def abandon(self) -> None:
        abandon(self._file)


def read_blocks(path: Path, decode: Callable[[bytes], T]) -> Iterator[list[T]]:
    """Lines as `decode` understands them, `READ_ROWS` at a time."""
    block: list[T] = []
    with open(path, "rb") as file:
        for line in file:
            block.append(decode(line))
            if len(block) == READ_ROWS:
                yield block
                block = []
    if block:
        yield block


def shortest(dense: Array) -> list[list[float]]:
    """Numbers that are written with as few digits as give the same float32 or float16 back.

    Nine significant decimal digits do for float32, five for float16 (IEEE 754, table of conversions): `tolist` alone
    would have them written with the seventeen of a double.
    """
    wide = dense.astype(np.float64)
    with np.errstate(divide="ignore"):
        exponents = np.floor(np.log10(np.abs(wide)))
    exponents[~np.isfinite(exponents)] = 0  # of zero
    scale = _POWERS[_DIGITS[dense.dtype.name] - 1 + _LARGEST - exponents.astype(np.int64)]
    rows: list[list[float]] = (np.rint(wide * scale) / scale).tolist()
    return rows
