"""Which Kafka headers do we read and write, and what do their bytes mean?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from embedmq_schemas.requests import Lane

CONTENT_TYPE: Final = "content-type"
CE_SPECVERSION: Final = "ce_specversion"
CE_ID: Final = "ce_id"
CE_SOURCE: Final = "ce_source"
CE_TYPE: Final = "ce_type"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

ATTEMPT: Final = "embedmq-attempt"
NOT_BEFORE: Final = "embedmq-not-before"
FIRST_SEEN: Final = "embedmq-first-seen"
ID: Final = "embedmq-id"
LANE: Final = "embedmq-lane"
KEEP_S: Final = "embedmq-keep-s"
TENANT: Final = "embedmq-tenant"
ERROR_CODE: Final = "embedmq-error-code"

REPLY_TOPIC: Final = "kafka_replyTopic"
REPLY_PARTITION: Final = "kafka_replyPartition"
CORRELATION_ID: Final = "kafka_correlationId"

DLT_TOPIC: Final = "kafka_dlt-original-topic"
DLT_PARTITION: Final = "kafka_dlt-original-partition"
DLT_OFFSET: Final = "kafka_dlt-original-offset"
DLT_EXCEPTION: Final = "kafka_dlt-exception-fqcn"
DLT_MESSAGE: Final = "kafka_dlt-exception-message"

CE_TYPES: Final = {
    "embed": "embedmq.embed.v1",
    "score": "embedmq.score.v1",
    "embedded": "embedmq.embedded.v1",
    "scored": "embedmq.scored.v1",
    "failed": "embedmq.failed.v1",
}

Headers = Sequence[tuple[str, bytes]]


def last(headers: Headers, name: str) -> bytes | None:
    """The value of a header; of repeated ones the last, as Kafka's own `lastHeader`. A null value counts as absent."""
    for key, value in reversed(headers):
        if key == name and value is not None:  # Kafka allows null headers
            return value
    return None


def text(headers: Headers, name: str) -> str | None:
    """A header as UTF-8 text, without surrounding quotes (Spring's JSON mapper adds them); None if it is no UTF-8."""
    value = last(headers, name)
    if value is None:
        return None
    try:
        return value.decode("utf-8").strip().strip('"')
    except UnicodeDecodeError:
        return None


def number(headers: Headers, name: str) -> int | None:
    """A header as a whole number in ASCII digits; None if it is none."""
    value = text(headers, name)
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 18 else None


def reply_partition(headers: Headers) -> int | None:
    """The reply partition: 4 bytes big-endian (Spring's template), or ASCII digits. Four digits are read as digits."""
    value = last(headers, REPLY_PARTITION)
    if value is None:
        return None
    if len(value) == 4 and not value.isdigit():
        partition = int.from_bytes(value, "big", signed=True)
        return partition if partition >= 0 else None
    return number(headers, REPLY_PARTITION)


def lane(headers: Headers) -> Lane | None:
    """The lane that an earlier reader froze on the record."""
    value = last(headers, LANE)
    if value == b"interactive":
        return "interactive"
    return "bulk" if value == b"bulk" else None
