"""What does a dead letter say: whose request it was, what became of it, and where it was read first?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from embedmq_schemas import headers as h
from embedmq_schemas.envelope import Record, Refusal, open_record
from embedmq_schemas.limits import Limits
from embedmq_schemas.names import is_id, is_model_name, is_topic
from msgspec import Struct

if TYPE_CHECKING:
    from embedmq_schemas.names import Names
    from embedmq_schemas.requests import Lane

REQUIRED: Final = (h.ERROR_CODE, h.FIRST_SEEN, h.DLT_TOPIC, h.DLT_PARTITION, h.DLT_OFFSET, h.ID, h.LANE)
"""What every worker writes on a dead letter; a record that lacks one, or has a broken one, is no letter of ours."""

MAX_CODE: Final = 64
"""Characters of the longest code that a later version may have."""


class Place(NamedTuple):
    """Where a letter lies on the topic of dead letters; written `partition/offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One record of the topic of dead letters. What `fault` names could not be read; the rest is as it was found."""

    place: Place
    buried_unix_ms: int
    """Kafka's time of the letter: when the worker gave the request up."""
    key: bytes | None
    value: bytes | None
    headers: h.Headers
    fault: str = ""
    """Why this is no letter that a worker wrote; such a one is never replayed."""
    id: str = ""
    code: str = ""
    reason: str = ""
    model: str = ""
    lane: Lane | None = None
    attempts: int | None = None
    """How often it was tried; None where the worker did not say."""
    first_seen_unix_ms: int | None = None
    topic: str = ""
    partition: int | None = None
    offset: int | None = None


def read(
    place: Place, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: h.Headers, names: Names
) -> DeadLetter:
    """Read a record of the topic of dead letters. Of a repeated header the last counts: the worker's own, since a
    caller may have written any before it. Nothing is refused: what is broken is named in `fault`.
    """
    found = h.find(headers)
    code, id, topic = (h.text(found, name) or "" for name in (h.ERROR_CODE, h.ID, h.DLT_TOPIC))
    letter = DeadLetter(
        place=place,
        buried_unix_ms=timestamp_ms,
        key=key,
        value=value,
        headers=headers,
        id=id if is_id(id) else "",
        code=code if code.isprintable() and len(code) <= MAX_CODE else "",
        reason=h.text(found, h.DLT_MESSAGE) or "",
        lane=h.lane(found),
        attempts=h.number(found, h.ATTEMPT),
        first_seen_unix_ms=h.number(found, h.FIRST_SEEN),
        topic=topic if is_topic(topic) else "",
        partition=_big_endian(found, h.DLT_PARTITION, 4),
        offset=_big_endian(found, h.DLT_OFFSET, 8),
    )
    return _complete(letter, found, names)


def unreadable(place: Place, fault: str) -> DeadLetter:
    """Stand for a record that the Kafka client cannot give out at all."""
    return DeadLetter(place=place, buried_unix_ms=-1, key=None, value=None, headers=(), fault=fault)


def _complete(letter: DeadLetter, found: h.Found, names: Names) -> DeadLetter:
    """Add what follows from several headers: the model, and what is missing or broken."""
    place = (letter.topic, letter.partition, letter.offset)
    values = (letter.code, letter.first_seen_unix_ms, *place, letter.id, letter.lane)
    faults = [
        f"{name} is {'broken' if name in found else 'missing'}"
        for name, value in zip(REQUIRED, values, strict=True)
        if value is None or value == ""
    ]
    return msgspec.structs.replace(letter, model=_model(letter, names), fault=", ".join(faults))


def _model(letter: DeadLetter, names: Names) -> str:
    """The model of the first topic; on a shared one as the worker derived it, from the request or the record's key."""
    parsed = names.parse(letter.topic)
    if parsed is None:
        return ""
    if parsed[0] is not None:
        return parsed[0]
    record = Record(letter.topic, 0, 0, letter.buried_unix_ms, letter.key, letter.value, letter.headers)
    opened = open_record(record, names, Limits().max_request_bytes)
    envelope = opened.envelope if isinstance(opened, Refusal) else opened[0]
    return envelope.model if is_model_name(envelope.model) else ""


def _big_endian(found: h.Found, name: str, size: int) -> int | None:
    """A number as Spring writes it: so many bytes, the highest first; None for one that is negative."""
    value = found.get(name)
    if value is None or len(value) != size:
        return None
    number = int.from_bytes(value, "big", signed=True)
    return number if number >= 0 else None
