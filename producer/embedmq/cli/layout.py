"""Which topics should there be, and with which settings? Pure; workers create theirs by the same rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from embedmq_schemas.limits import Limits
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES
from embedmq_schemas.topics import (
    CONTROL_BATCH_BYTES,
    KAFKA_BATCH_BYTES,
    RETRY_DELAYS_S,
    RETRY_PARTITIONS,
    SLACK_BYTES,
    Topic,
    control_settings,
    dead_settings,
    request_settings,
)

Role = Literal["interactive", "bulk", "retry", "dead", "control"]

PARTITIONS = 8
MAX_REPLICATION = 3
RETENTION_DAYS = 7
DAY_MS = 24 * 3600 * 1000
LEAST_DAYS: Final[Mapping[Role, float]] = {"interactive": 1, "bulk": 7, "retry": 7, "dead": 7}
"""What a lane's requests must outlast without being read, or a dead letter without being looked at: a night without
workers, or a week whose holidays nobody worked.
"""


class Fault(NamedTuple):
    """What is wrong with a topic, and what to do."""

    what: str
    remedy: str


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


def role(names: Names, topic: str) -> Role | None:
    """What a topic is for; None for one that is not ours."""
    if (parsed := names.parse(topic)) is not None:
        return parsed[1]
    if names.is_retry(topic):
        return "retry"
    others: dict[str, Role] = {names.dead: "dead", names.control: "control"}
    return others.get(topic)


def split(role: Role, partitions: int) -> Iterator[Fault]:
    """What is wrong with the number of a topic's partitions."""
    if role == "control" and partitions != 1:
        what = f"{partitions} partitions, so that orders overtake each other"
        yield Fault(what, "delete it and let a worker make it anew, with one; then give the orders again")
    elif role in ("interactive", "bulk", "retry") and partitions == 1:
        what = "one partition, which one worker reads while all others stand by"
        yield Fault(what, f"kafka-topics.sh --alter --partitions {PARTITIONS}")


def settings_faults(role: Role, settings: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong with a topic's settings, by Kafka's own names."""
    policy = settings.get("cleanup.policy", "delete")
    if role == "control":
        if policy != "compact":
            yield Fault(f"cleanup.policy={policy}", "set cleanup.policy=compact: orders would be forgotten")
    else:
        if "compact" in policy:
            yield Fault(f"cleanup.policy={policy}", "set cleanup.policy=delete: of each key only the last would remain")
        yield from _kept(role, settings)
    if role in ("interactive", "bulk") and settings.get("compression.type") != "uncompressed":
        yield Fault(
            f"compression.type={settings.get('compression.type')}",
            "set compression.type=uncompressed, so that no compressed batch swells in a worker's memory",
        )
    most, least = int(settings.get("max.message.bytes", "0")), largest_bytes(role)
    if most < least:
        wanted = CONTROL_BATCH_BYTES if role == "control" else max(KAFKA_BATCH_BYTES, least)
        yield Fault(f"max.message.bytes={most}", f"set max.message.bytes={wanted}")
    if settings.get("unclean.leader.election.enable") == "true":
        yield Fault(
            "unclean.leader.election.enable=true", "set it to false: a broker that lags behind would lose records"
        )


def copies_faults(replicas: int, in_sync: int, led: bool, wanted: int, least_in_sync: int) -> Iterator[Fault]:
    """What is wrong with the copies of a topic's partitions, by the worst of them; `wanted` many should there be."""
    if not led:
        yield Fault("a partition that no broker leads", "start the brokers that have it")
    if least_in_sync > replicas:
        yield Fault(
            f"min.insync.replicas={least_in_sync} of {replicas} copies",
            "set it to fewer than there are copies: nothing can be written",
        )
    elif in_sync < least_in_sync:
        yield Fault(
            f"{in_sync} of {replicas} copies in sync, which is fewer than min.insync.replicas={least_in_sync}",
            "start the brokers that have the others: nothing can be written meanwhile",
        )
    if replicas < wanted:
        yield Fault(f"{replicas} of {wanted} copies", f"reassign its partitions to {wanted} brokers")
    elif replicas >= MAX_REPLICATION and least_in_sync < 2:
        yield Fault(
            f"min.insync.replicas={least_in_sync}",
            "set min.insync.replicas=2: one broker that is lost may take acknowledged requests with it",
        )


def largest_bytes(role: Role) -> int:
    """Of the largest batch that a topic must take."""
    if role == "control":
        return CONTROL_BATCH_BYTES
    return Limits().max_request_bytes + SLACK_BYTES * (1 if role in ("interactive", "bulk") else 2)


def _kept(role: Role, settings: Mapping[str, str]) -> Iterator[Fault]:
    retention_ms, least_days = int(settings.get("retention.ms", "-1")), LEAST_DAYS[role]
    if 0 <= retention_ms < least_days * DAY_MS:
        yield Fault(
            f"keeps records for {retention_ms / DAY_MS:.3g} days, where {least_days:g} are the least",
            f"set retention.ms={RETENTION_DAYS * DAY_MS}: what is older is lost",
        )
    if (most := int(settings.get("retention.bytes", "-1"))) >= 0:
        yield Fault(f"retention.bytes={most}", "set retention.bytes=-1: what exceeds it is lost, however new it is")
