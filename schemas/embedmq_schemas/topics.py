"""With which settings is a topic created, by a worker or by hand?"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from embedmq_schemas.limits import KIB, Limits

SLACK_BYTES: Final = 64 * KIB
"""What headers and reasons add to the largest request."""
KAFKA_BATCH_BYTES: Final = 1_048_588
"""Kafka's own default bound of one batch of records; clients in the field rely on it."""

CONTROL_BATCH_BYTES: Final = 64 * KIB
"""Most bytes of a batch of orders, which take some hundred each."""

RETRY_DELAYS_S: Final = (10, 300)
"""After which delays a request is tried again, unless workers are told otherwise: a topic for each."""
RETRY_PARTITIONS: Final = 8
"""As many workers read each retry topic: one of them should be able to do what another could not."""


class Topic(Struct, frozen=True):
    """A topic as it should be; `settings` are Kafka's own names."""

    name: str
    partitions: int
    settings: dict[str, str]


def request_settings(retention_ms: int, limits: Limits) -> dict[str, str]:
    """Settings of a request topic.

    `compression.type=uncompressed` makes the broker unpack what producers compressed, and refuse a batch that is larger
    than `max.message.bytes` once unpacked. So no fetch can swell in a worker's memory, whatever was sent.
    """
    return {**_settings(retention_ms, limits.max_request_bytes), "compression.type": "uncompressed"}


def dead_settings(retention_ms: int, limits: Limits) -> dict[str, str]:
    """Settings of the dead-letter and the retry topics, which take the largest request with its reasons added."""
    return _settings(retention_ms, limits.max_request_bytes + SLACK_BYTES)


def control_settings() -> dict[str, str]:
    """Settings of the control topic, of which the last record of each key is kept for ever."""
    return {"cleanup.policy": "compact", "max.message.bytes": str(CONTROL_BATCH_BYTES)}


def _settings(retention_ms: int, record_bytes: int) -> dict[str, str]:
    return {
        "retention.ms": str(retention_ms),
        "max.message.bytes": str(max(KAFKA_BATCH_BYTES, record_bytes + SLACK_BYTES)),
    }
