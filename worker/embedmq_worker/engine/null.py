"""How fast is everything around the device? An engine whose vectors are constant and cost nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs

import numpy as np
from embedmq_schemas.limits import MIB
from embedmq_schemas.vectors import Array, row_bytes
from msgspec import Struct

from embedmq_worker.config import Model
from embedmq_worker.engine.seam import Ask, Block, Done, Encoded, ModelFacts, Prepared, Slice
from embedmq_worker.errors import CheckpointInvalid

MAX_WIDTH = 65_536
MAX_MS = 60_000
MAX_MIB = 1_048_576
ROWS = 64
"""Rows kept ready of each dtype, so that a batch of small requests costs nothing at all."""


class NullEngine:
    """Constant unit vectors of a given width; `batch_ms` makes each batch take that long, `mib` poses as that large."""

    def __init__(self, dimensions: int, batch_ms: float = 0.0, max_tokens: int = 8_192, mib: int = 0) -> None:
        self._batch_s = batch_ms / 1000
        self._rows: dict[str, Array] = {
            "float32": np.full((ROWS, dimensions), dimensions**-0.5, np.float32),
            "float16": np.full((ROWS, dimensions), dimensions**-0.5, np.float16),
            "int8": np.full((ROWS, dimensions), 127, np.int8),
            "ubinary": np.full((ROWS, row_bytes("ubinary", dimensions)), 255, np.uint8),
        }
        self.facts = ModelFacts(
            dimensions=dimensions,
            max_tokens=max_tokens,
            vocabulary=2**31 - 1,
            path="null",
            reason="constant vectors, to measure what is around them",
            bytes=mib * MIB,
            tokenizes=False,
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


def all_are(models: Iterable[Model]) -> bool:
    """Whether none of them needs a device."""
    return all(model.checkpoint.startswith("null:") for model in models)


class Form(Struct, frozen=True):
    """What `null:…` says."""

    dimensions: int
    batch_ms: float = 0.0
    load_ms: float = 0.0
    mib: int = 0


def read(rest: str) -> Form:
    """Read `WIDTH?batch_ms=N&load_ms=N&mib=N`.

    Raises:
        CheckpointInvalid: not of that form.
    """
    width, _, query = rest.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    try:
        form = Form(
            int(width),
            float(options.pop("batch_ms", ["0"])[-1]),
            float(options.pop("load_ms", ["0"])[-1]),
            int(options.pop("mib", ["0"])[-1]),
        )
    except ValueError:
        form = Form(0)
    times = 0 <= form.batch_ms <= MAX_MS and 0 <= form.load_ms <= MAX_MS
    if options or not times or not 1 <= form.dimensions <= MAX_WIDTH or not 0 <= form.mib <= MAX_MIB:
        raise CheckpointInvalid(
            f"null:{rest}: write null:WIDTH or null:WIDTH?batch_ms=N&load_ms=N&mib=N, as in null:384"
        )
    return form


def parse(rest: str) -> NullEngine:
    """Make one, after `load_ms`; raises as `read` does."""
    form = read(rest)
    time.sleep(form.load_ms / 1000)
    return NullEngine(form.dimensions, form.batch_ms, mib=form.mib)
