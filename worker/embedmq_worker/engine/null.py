"""How fast is everything around the device? An engine whose vectors are constant and cost nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import parse_qs

import numpy as np
from embedmq_schemas.vectors import Array, row_bytes

from embedmq_worker.engine.seam import Ask, Block, Encoded, ModelFacts, Prepared, Slice
from embedmq_worker.errors import CheckpointInvalid

MAX_WIDTH = 65_536
MAX_BATCH_MS = 60_000
ROWS = 64
"""Rows kept ready of each dtype, so that a batch of small requests costs nothing at all."""


class Done:
    """A batch that is already computed."""

    def __init__(self, answers: list[Encoded]) -> None:
        self._answers = answers

    def collect(self) -> list[Encoded]:
        """Hand the answers out."""
        return self._answers


class NullEngine:
    """Constant unit vectors of a given width; `batch_ms` makes each batch take that long."""

    def __init__(self, dimensions: int, batch_ms: float = 0.0, max_tokens: int = 8_192) -> None:
        self._batch_s = batch_ms / 1000
        self._rows: dict[str, Array] = {
            "float32": np.full((ROWS, dimensions), dimensions**-0.5, np.float32),
            "float16": np.full((ROWS, dimensions), dimensions**-0.5, np.float16),
            "int8": np.full((ROWS, dimensions), 127, np.int8),
            "ubinary": np.full((ROWS, row_bytes("ubinary", dimensions)), 255, np.uint8),
        }
        self.facts = ModelFacts(
            dimensions=dimensions, max_tokens=max_tokens, vocabulary=2**31 - 1, path="null", tokenizes=False
        )

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """Count a token per four characters, as a rule of thumb."""
        return [Prepared([len(item) // 4 + 1 for item in ask.items], None, [], {}) for ask in asks]

    def launch(self, batch: Sequence[Slice]) -> Done:
        """Hand out rows that were made at load."""
        if self._batch_s:
            time.sleep(self._batch_s)
        return Done([self._encode(part) for part in batch])

    def free_cache(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to give back."""

    def _encode(self, part: Slice) -> Encoded:
        options, count = part.options, part.stop - part.start
        rows = self._rows[options.dtype]
        if options.dimensions is not None:
            rows = rows[:, : row_bytes(options.dtype, options.dimensions) // rows.itemsize]
        dense: Array = rows[:count] if count <= ROWS else np.repeat(rows[:1], count, axis=0)
        if options.dtype == "int8":
            return Encoded(dense=Block(dense, np.full(count, dense.shape[1] ** -0.5 / 127, np.float32)))
        return Encoded(dense=Block(dense))


def parse(rest: str) -> NullEngine:
    """Read `WIDTH?batch_ms=N`.

    Raises:
        CheckpointInvalid: not of that form.
    """
    width, _, query = rest.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    try:
        batch_ms = float(options.pop("batch_ms", ["0"])[-1])
        if options or not 1 <= int(width) <= MAX_WIDTH or not 0 <= batch_ms <= MAX_BATCH_MS:
            raise ValueError
        return NullEngine(int(width), batch_ms)
    except ValueError:
        raise CheckpointInvalid(f"null:{rest}: write null:WIDTH or null:WIDTH?batch_ms=N, as in null:384") from None
