"""Which topics should there be, and with which settings? Pure; workers create theirs by the same rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embedmq_schemas.limits import Limits
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES
from embedmq_schemas.topics import (
    KAFKA_BATCH_BYTES,
    RETRY_DELAYS_S,
    RETRY_PARTITIONS,
    SLACK_BYTES,
    Topic,
    control_settings,
    dead_settings,
    request_settings,
)

PARTITIONS = 8
MAX_REPLICATION = 3
RETENTION_DAYS = 7
DAY_MS = 24 * 3600 * 1000


def request_topics(names: Names, models: Sequence[str], *, shared: bool) -> list[str]:
    """The topics of these models, and the shared ones."""
    own = [names.requests(model, lane) for model in models for lane in LANES]
    return own + ([names.shared(lane) for lane in LANES] if shared else [])


def wanted(names: Names, requests: Sequence[str], partitions: int, retention_days: float) -> list[Topic]:
    """Request topics, the retry topics, the dead-letter topic and the control topic."""
    retention_ms, limits = int(retention_days * DAY_MS), Limits()
    plain, wide = request_settings(retention_ms, limits), dead_settings(retention_ms, limits)
    return [
        *(Topic(topic, partitions, plain) for topic in requests),
        *(Topic(names.retry(delay_s), RETRY_PARTITIONS, wide) for delay_s in RETRY_DELAYS_S),
        Topic(names.dead, 1, wide),
        Topic(names.control, 1, control_settings()),
    ]


def faults(topic: str, settings: Mapping[str, str], *, requests: bool) -> list[tuple[str, str]]:
    """What is wrong with a topic's settings, and what to do: pairs."""
    found: list[tuple[str, str]] = []
    days = int(settings.get("retention.ms", "-1")) / DAY_MS
    if 0 <= days < RETENTION_DAYS:
        found.append(
            (f"keeps records for {days:g} days", f"set retention.ms={RETENTION_DAYS * DAY_MS}: what is older is lost")
        )
    if requests and settings.get("compression.type") != "uncompressed":
        found.append(
            (
                f"compression.type={settings.get('compression.type')}",
                "set compression.type=uncompressed, so that no compressed batch swells in a worker's memory",
            )
        )
    size = int(settings.get("max.message.bytes", "0"))
    if requests and size < Limits().max_request_bytes + SLACK_BYTES:
        found.append((f"max.message.bytes={size}", f"set max.message.bytes={KAFKA_BATCH_BYTES}"))
    return [(f"{topic}: {what}", remedy) for what, remedy in found]
