"""What happened to this request before, and what is written on it when it is tried again later?

A record on a retry topic is the request as it came, key, value and headers, with these headers of its own: id, lane and
model, as they were found at the first reading; when and where it was read first; attempts spent, how often it was
parked, and when it is due. They count on retry topics only, which nobody but workers may write: elsewhere anybody could
claim them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from embedmq_schemas import headers as h

if TYPE_CHECKING:
    from embedmq_schemas.envelope import Envelope, Record

Header = tuple[str, bytes | None]

PLACE: Final = (h.FIRST_SEEN, h.DLT_TOPIC, h.DLT_PARTITION, h.DLT_OFFSET)
"""When and where a request was read first."""
OWN: Final = frozenset({h.ID, h.LANE, h.MODEL, h.ATTEMPT, h.PARKED, h.ALONE, h.NOT_BEFORE})
"""What is written anew each time."""


class Journey(Struct, frozen=True, gc=False):
    """A request's past: attempts spent, how often it was parked, whether it is to be run alone, and when it is due."""

    attempts: int = 0
    parked: int = 0
    alone: bool = False
    not_before_unix_ms: int = 0
    first_seen_unix_ms: int | None = None
    """When Kafka had it first; None for a request that was not tried before."""


FRESH: Final = Journey()


def read(found: h.Found, max_attempts: int) -> Journey:
    """Read the headers of a record of a retry topic. What cannot be read counts as never written, and attempts out of
    range as one left, so that no header can make a request go round for ever.
    """
    attempts = h.number(found, h.ATTEMPT) or 0
    return Journey(
        attempts=min(attempts, max_attempts - 1),
        parked=h.number(found, h.PARKED) or 0,
        alone=found.get(h.ALONE) == b"1",
        not_before_unix_ms=h.number(found, h.NOT_BEFORE) or 0,
        first_seen_unix_ms=h.number(found, h.FIRST_SEEN),
    )


def send_on(record: Record, envelope: Envelope, journey: Journey, *, tried: bool) -> list[Header]:
    """The headers of a request that is tried again: its own, and what `journey` says. `tried`: it comes from a retry
    topic, so that its first place is known already.
    """
    dropped = OWN if tried else OWN.union(PLACE)
    kept = [(name, value) for name, value in record.headers if name not in dropped]
    first = [] if tried else place(record)
    own: list[Header] = [
        (h.ID, envelope.id.encode()),
        (h.LANE, envelope.lane.encode()),
        (h.MODEL, envelope.model.encode()),
        (h.ATTEMPT, str(journey.attempts).encode()),
        (h.PARKED, str(journey.parked).encode()),
        (h.NOT_BEFORE, str(journey.not_before_unix_ms).encode()),
    ]
    alone: list[Header] = [(h.ALONE, b"1")] if journey.alone else []
    return [*kept, *first, *own, *alone]


def place(record: Record) -> list[Header]:
    """When and where a request was read first."""
    return [
        (h.FIRST_SEEN, str(record.timestamp_ms).encode()),
        (h.DLT_TOPIC, record.topic.encode()),
        (h.DLT_PARTITION, record.partition.to_bytes(4, "big")),
        (h.DLT_OFFSET, record.offset.to_bytes(8, "big")),
    ]
