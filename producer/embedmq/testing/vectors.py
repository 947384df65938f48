"""Which vector does a text have in a test: one that is the same everywhere, and like that of similar texts? Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import shake_256
from typing import Final

import numpy as np
from embedmq_schemas.requests import Item
from embedmq_schemas.results import Sparse, Tensor
from embedmq_schemas.vectors import Array
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WHOLE_WEIGHT: Final = 0.3
"""What the text as a whole weighs beside each of its words: enough to tell apart texts of the same words."""
VOCABULARY: Final = 30_522
SMALLEST_LENGTH: Final = 1e-12

_WORD: Final = re.compile(r"\w+")


def words_of(item: Item) -> list[str]:
    """The words of a text, of any case, or the token ids; a text without words is one empty word."""
    found = _WORD.findall(item.casefold()) if isinstance(item, str) else [f"#{id}" for id in item]
    return found or [""]


def dense(model: str, item: Item, words: Sequence[str], dimensions: int) -> Floats:
    """The directions of the words added up, `(d,)`: texts that share words are similar, others nearly orthogonal."""
    counted = Counter(words)
    rows = np.stack([_direction(model, word, dimensions) * count for word, count in counted.items()])
    whole: Floats = rows.sum(0) + WHOLE_WEIGHT * _direction(model, f"whole\0{item}", dimensions)
    return whole


def multivector(model: str, words: Sequence[str], dimensions: int) -> Floats:
    """A direction for each word, `(words, d)`."""
    rows = [_direction(model, word, dimensions) for word in words]
    return np.array(rows, np.float32).reshape(len(rows), dimensions)


def sparse(words: Sequence[str]) -> Sparse:
    """How often each word occurs, at its place in a vocabulary."""
    counted = Counter(int.from_bytes(shake_256(word.encode()).digest(4)) % VOCABULARY for word in words)
    return Sparse(sorted(counted), [float(counted[index]) for index in sorted(counted)])


def finish(rows: Floats, dimensions: int | None, dtype: str, *, normalize: bool) -> Tensor:
    """Slice, normalise, cast: in this order, as a worker does, to the block that it sends."""
    rows = rows[:, :dimensions]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), SMALLEST_LENGTH) if normalize else rows
    block, scales = _cast(rows, dtype)
    return Tensor(dtype, (len(block), block.shape[1]), memoryview(block.tobytes()), scales)


def _cast(rows: Floats, dtype: str) -> tuple[Array, list[float] | None]:
    if dtype == "int8":
        scales = np.maximum(np.abs(rows).max(1), SMALLEST_LENGTH) / 127
        return np.rint(rows / scales[:, None]).astype(np.int8), scales.tolist()
    if dtype == "ubinary":
        return np.packbits(rows > 0, axis=1), None
    return rows.astype("<f2" if dtype == "float16" else "<f4"), None


def _direction(model: str, word: str, dimensions: int) -> Floats:
    """A unit vector made of the hash of a word, whose beginning does not depend on the number of dimensions."""
    data = shake_256(f"{model}\0{word}".encode(errors="replace")).digest(dimensions)
    row = np.frombuffer(data, np.uint8).astype(np.float32) - 127.5
    return row / np.float32(np.linalg.norm(row))
