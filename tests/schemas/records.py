"""How do tests write a Kafka record?"""

from __future__ import annotations

import msgspec
from embedmq_schemas.envelope import Envelope, Record, Refusal, open_record
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Request

OWN = "embedmq.minilm.interactive"
SHARED = "embedmq.shared.bulk"


def make_record(
    value: object = None,
    *,
    raw: bytes | None = None,
    topic: str = OWN,
    key: bytes | None = None,
    headers: dict[str, bytes] | None = None,
) -> Record:
    """A record with `value` as JSON, or with the bytes `raw`."""
    return Record(
        topic=topic,
        partition=3,
        offset=17,
        timestamp_ms=1_700_000_000_000,
        key=key,
        value=raw if raw is not None else msgspec.json.encode(value),
        headers=list((headers or {}).items()),
    )


def accept(record: Record, prefix: str = "embedmq", max_request_bytes: int = 900 * 1024) -> tuple[Envelope, Request]:
    """Open a record that must be a request."""
    opened = open_record(record, Names(prefix), max_request_bytes)
    assert not isinstance(opened, Refusal), opened
    return opened


def refuse(record: Record, prefix: str = "embedmq", max_request_bytes: int = 900 * 1024) -> Refusal:
    """Open a record that must be refused."""
    opened = open_record(record, Names(prefix), max_request_bytes)
    assert isinstance(opened, Refusal), opened
    return opened
