"""Which rows of a block are embedded?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from embedmq.bulk.checkpoint import Mode
from embedmq.bulk.rows import Flaw, Row, content_hash


class Chosen(Struct, frozen=True, gc=False):
    """A row to embed: its hash, and where it stands."""

    row: Row
    hash: bytes
    place: str


class Selection(Struct, frozen=True):
    """What becomes of the rows of a block: to embed, wrong, and in the sink already."""

    chosen: list[Chosen]
    flaws: list[Flaw]
    skipped: int = 0


def select(
    rows: Sequence[tuple[Row, str]],
    mode: Mode,
    known: Mapping[str, bytes | None],
    settings: bytes,
    max_bytes: int,
) -> Selection:
    """Choose by what the sink has: with `missing` what it has not, with `changed` what it has not with this hash.

    `rows` come with their places, `known` has the hashes of those that the sink has; a text of more than `max_bytes`
    fits no request.
    """
    chosen: list[Chosen] = []
    flaws: list[Flaw] = []
    for row, place in rows:
        if (why := _refusal(row, max_bytes)) is not None:
            flaws.append(Flaw(place, *why, row.id, row.text, row.kept))
            continue
        hash = content_hash(settings, row.text)
        if mode == "all" or row.id not in known or (mode == "changed" and known[row.id] != hash):
            chosen.append(Chosen(row, hash, place))
    return Selection(chosen, flaws, len(rows) - len(chosen) - len(flaws))


def _refusal(row: Row, max_bytes: int) -> tuple[str, str] | None:
    for value in (row.text, row.id, *row.kept.values()):
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                what = "the text" if value is row.text else f"{value!r}"
                return "malformed", f"{what} cannot be written as UTF-8: character {error.start} is half of a pair"
    size = len(row.text) if row.text.isascii() else len(row.text.encode())
    if size > max_bytes:
        return "too_large", f"the text has {size} bytes, a request holds {max_bytes}: cut it into several rows"
    return None
