"""What of a dead letter is sent again, where to, and which letters may not be?"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from embedmq_schemas import headers as h
from msgspec import Struct

if TYPE_CHECKING:
    from embedmq_schemas.names import Names

    from embedmq.dead import DeadLetter
    from embedmq.dead_selection import Chosen

ADDED: Final = frozenset(
    {h.ERROR_CODE, h.ATTEMPT, h.PARKED, h.NOT_BEFORE, h.ALONE, h.MODEL, h.FIRST_SEEN, h.REPLAYED, h.ID, h.LANE}
)
"""What giving up and trying again wrote on a request; id and lane are written anew, once."""
DLT_PREFIX: Final = "kafka_dlt-"


class Replay(Struct, frozen=True):
    """A record to be written; key and value as they came."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes | None]]


class Refusal(Struct, frozen=True):
    """Why a letter is not sent again."""

    reason: str


class Superseded(Struct, frozen=True):
    """A later letter of the same id is sent instead."""


def decide(
    letter: DeadLetter, chosen: Chosen, names: Names, topics: Collection[str], now_unix_ms: int
) -> Replay | Refusal | Superseded:
    """What to do with a chosen letter. To replay it is to ask once more: the same id, no attempt spent, no deadline.

    Its first topic is read from a header, which anybody could have written: only one of the request topics that exist
    (`topics`) is written to.
    """
    if letter.fault or letter.lane is None:
        return Refusal(f"no worker wrote this letter: {letter.fault}")
    if chosen.last[letter.id] != letter.place:
        return Superseded()
    if names.parse(letter.topic) is None:
        return Refusal(f"its first topic, {letter.topic}, is no request topic of the prefix {names.prefix}")
    if letter.topic not in topics:
        return Refusal(f"its first topic, {letter.topic}, is not there: embedmq topics create makes it")
    if letter.value is None:
        return Refusal("its value is null: there is nothing to compute")
    kept = [(name, value) for name, value in letter.headers if name not in ADDED and not name.startswith(DLT_PREFIX)]
    own = [
        (h.ID, letter.id.encode()),
        (h.LANE, letter.lane.encode()),
        (h.REPLAYED, str(now_unix_ms).encode()),
    ]
    return Replay(letter.topic, letter.key, letter.value, [*kept, *own])
