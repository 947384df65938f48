"""What travels through a bulk job: rows from a source, vectors for a sink?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

from embedmq_schemas.vectors import Array
from msgspec import Struct

Scalar = str | int | float | bool | None
Position = Mapping[str, Scalar | Mapping[str, Scalar]]
"""Where a source goes on after a block: what it needs to find the place again; the checkpoint has it as JSON."""
BulkDtype = Literal["float32", "float16"]

HASH_BYTES = 16
MAX_BLOCK_ROWS = 512
"""Most rows in a block: a checkpoint can only stand between two of them."""


class Columns(Struct, frozen=True, kw_only=True):
    """Which columns of a source mean what."""

    text: str = "text"
    id: str | None = None
    """None: the column `id` where the source has one, else the row's number, which wants a stable order."""
    keep: tuple[str, ...] = ()
    """Further columns that travel to the sink beside the vector."""


class Row(Struct, frozen=True, gc=False):
    """One text to embed. `kept` has the values of `Columns.keep`."""

    id: str
    text: str
    kept: Mapping[str, Scalar] = {}


class Flaw(Struct, frozen=True, gc=False):
    """A row that cannot be embedded, or was not: where it stands in the source, and why.

    `where` names it for a person (`docs.jsonl line 7`); `id` and `text` as far as they could be read.
    """

    where: str
    code: str
    message: str
    id: str | None = None
    text: str | None = None
    kept: Mapping[str, Scalar] = {}


class Block(Struct, frozen=True):
    """Up to `MAX_BLOCK_ROWS` rows as they follow each other in a source, and where it goes on after them.

    `places` has, for each of `rows`, where it stands, for a person: `line 7`, `row 12`, `partition 3 offset 88`.
    """

    rows: Sequence[Row]
    after: Position
    flaws: Sequence[Flaw] = ()
    places: Sequence[str] = ()


class Shape(Struct, frozen=True, kw_only=True):
    """What a sink is going to hold: vectors of one width and type, by one model and revision."""

    dimensions: int
    dtype: BulkDtype = "float32"
    model: str = ""
    revision: str = ""
    keep: tuple[str, ...] = ()
    """Names of the further columns."""


class Vectors(Struct, frozen=True):
    """Rows for a sink, no id twice: `dense` `(n, d)` of the shape's dtype, `hashes` of `content_hash`, one a row."""

    ids: Sequence[str]
    hashes: Sequence[bytes]
    dense: Array
    kept: Sequence[Mapping[str, Scalar]]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> Vectors:
        """Some of the rows."""
        some = slice(start, stop)
        return Vectors(self.ids[some], self.hashes[some], self.dense[some], self.kept[some])


def content_hash(settings: bytes, text: str) -> bytes:
    """`HASH_BYTES` that change when the text does, or `settings`: a digest of model, revision and options."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES, key=settings).digest()
