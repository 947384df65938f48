"""Which Kafka headers do we read and write, and what do their bytes mean?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
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
MODEL: Final = "embedmq-model"
PARKED: Final = "embedmq-parked"
ALONE: Final = "embedmq-alone"
REPLAYED: Final = "embedmq-replayed"
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

REQUEST_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        CONTENT_TYPE: "`application/json`, `application/msgpack` or `text/plain`; missing: by the first byte",
        CE_SPECVERSION: "CloudEvents in binary mode: `1.0`",
        CE_ID: "the id of a request that states none",
        CE_SOURCE: "who sent it; our clients write `embedmq/client/<uuid>`",
        CE_TYPE: "`embedmq.embed.v1` or `embedmq.score.v1`",
        TRACEPARENT: "W3C trace context, carried to the reply as it is",
        TRACESTATE: "W3C trace context, carried to the reply as it is",
        REPLY_TOPIC: "reply topic of a request that states none, UTF-8",
        REPLY_PARTITION: "reply partition: 4 bytes big-endian, or ASCII digits",
        CORRELATION_ID: "any bytes, carried to the reply byte for byte",
        TENANT: "tenant of a request that states none, UTF-8",
        KEEP_S: "`keep_s` of a `text/plain` request, ASCII digits",
        ID: "the id, frozen at the first reading; comes before all others",
        LANE: "the lane, frozen at the first reading; counts where the topic names none",
        ATTEMPT: "attempts already spent, ASCII digits; written by workers only",
        NOT_BEFORE: "earliest time to run, Unix milliseconds in ASCII digits; written by workers only",
        FIRST_SEEN: "timestamp of the first record, Unix milliseconds in ASCII digits; written by workers only",
        MODEL: "the model, frozen at the first reading; counts on retry topics only, and is written by workers only",
        PARKED: "how often it was laid aside without spending an attempt, ASCII digits; written by workers only",
        ALONE: "`1`: it may have broken a device, and is run in a batch of its own; written by workers only",
        REPLAYED: "when a dead letter was replayed, Unix milliseconds in ASCII digits; lifts the deadline",
    }
)
"""What a request may carry, and how its bytes are read."""

REPLY_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        CONTENT_TYPE: "`application/json` or `application/msgpack`",
        CE_SPECVERSION: "`1.0`",
        CE_ID: "the request's id",
        CE_SOURCE: "`<prefix>/worker/<id>`",
        CE_TYPE: "`embedmq.embedded.v1`, `embedmq.scored.v1` or `embedmq.failed.v1`",
        CORRELATION_ID: "the request's last one, byte for byte",
        TRACEPARENT: "the request's",
        TRACESTATE: "the request's",
    }
)
"""What a reply carries; nothing else of the request's headers comes back."""

DEAD_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ERROR_CODE: "the code, UTF-8",
        FIRST_SEEN: "the record's timestamp, Unix milliseconds in ASCII digits",
        DLT_TOPIC: "the first topic, UTF-8",
        DLT_PARTITION: "the first partition, 4 bytes big-endian",
        DLT_OFFSET: "the first offset, 8 bytes big-endian",
        DLT_EXCEPTION: "`embedmq.` and the code in camel case: `unknown_model` is `embedmq.UnknownModel`",
        DLT_MESSAGE: "what went wrong, UTF-8; never the request's text",
        ID: "the id that the answer had",
        LANE: "`interactive` or `bulk`",
        ATTEMPT: "attempts that were made, ASCII digits",
    }
)
"""What a dead letter carries besides the headers that its record came with."""

Headers = Sequence[tuple[str, bytes | None]]


Found = Mapping[str, bytes]
"""Headers by name; of repeated ones the last."""


def find(headers: Headers) -> Found:
    """Index headers for several look-ups. A null value counts as absent."""
    return {name: value for name, value in headers if value is not None}  # Kafka allows null headers


def last(headers: Headers, name: str) -> bytes | None:
    """The value of a header; of repeated ones the last, as Kafka's own `lastHeader`. A null value counts as absent."""
    for key, value in reversed(headers):
        if key == name and value is not None:  # Kafka allows null headers
            return value
    return None


def text(found: Found, name: str) -> str | None:
    """A header as UTF-8 text, without surrounding quotes (Spring's JSON mapper adds them); None if it is no UTF-8."""
    value = found.get(name)
    if value is None:
        return None
    try:
        return value.decode("utf-8").strip().strip('"')
    except UnicodeDecodeError:
        return None


def number(found: Found, name: str) -> int | None:
    """A header as a whole number in ASCII digits; None if it is none."""
    value = text(found, name)
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 18 else None


def reply_partition(found: Found) -> int | None:
    """The reply partition: 4 bytes big-endian (Spring's template), or ASCII digits. Four digits are read as digits."""
    value = found.get(REPLY_PARTITION)
    if value is None:
        return None
    if len(value) == 4 and not value.isdigit():
        partition = int.from_bytes(value, "big", signed=True)
        return partition if partition >= 0 else None
    return number(found, REPLY_PARTITION)


def lane(found: Found) -> Lane | None:
    """The lane that an earlier reader froze on the record."""
    value = found.get(LANE)
    if value == b"interactive":
        return "interactive"
    return "bulk" if value == b"bulk" else None
