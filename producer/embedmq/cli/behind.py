"""Do requests wait so long that Kafka may remove them before they are read?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, KafkaError
from aiokafka.structs import TopicPartition
from embedmq_schemas.check import Check, Look
from embedmq_schemas.names import Names

from embedmq.cli.survey import Seen
from embedmq.consumer import close_consumer
from embedmq.kafka import connection_options
from embedmq.settings import Setup

NEAR: Final = 0.5
"""Which part of the retention may pass before it is told."""
MAX_PARTITIONS: Final = 20_000

LAG: Final = Look(
    name="lag",
    at="how long the oldest request of each topic waits that its group has not read, by the time of its record",
    bad_is="longer than half of what the topic keeps",
    remedy="start workers that serve the model, or raise retention.ms before Kafka removes what waits",
)


def late(
    committed: Mapping[TopicPartition, int],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    young: Mapping[TopicPartition, int | None],
) -> dict[str, int]:
    """How many records of each topic are unread and old; `young` is the first offset that is not old, None where all
    are. Of a partition without a commit, all is unread. Pure.
    """
    found: dict[str, int] = {}
    for place, end in ends.items():
        first, begin = young[place], begins[place]
        read = max(committed.get(place, begin), begin)
        if (count := (end if first is None else first) - read) > 0:
            found[place.topic] = found.get(place.topic, 0) + count
    return found


async def lag(
    setup: Setup, names: Names, topics: Sequence[Seen], settings: Mapping[str, Mapping[str, str]], limit_s: float
) -> Check:
    """Look at the request topics whose settings are known."""
    ages_ms: dict[TopicPartition, int] = {}
    groups: dict[str, str] = {}
    for seen in topics:
        parsed, kept_ms = names.parse(seen.name), int(settings.get(seen.name, {}).get("retention.ms", "-1"))
        if parsed is None or kept_ms <= 0 or not seen.allows("Describe"):
            continue
        groups[seen.name] = names.group(parsed[1])
        ages_ms |= {TopicPartition(seen.name, part.number): int(kept_ms * NEAR) for part in seen.partitions}
    if not ages_ms or len(ages_ms) > MAX_PARTITIONS:
        return LAG.skipped("no topic's retention is known" if not ages_ms else f"{len(ages_ms)} partitions are many")
    try:
        async with asyncio.timeout(limit_s):
            found = late(await _committed(setup, groups), *await _offsets(setup, ages_ms))
    except GroupAuthorizationFailedError:
        who = ", ".join(sorted(set(groups.values())))
        return LAG.skipped(f"this user lacks Describe on group {who}", "have an ACL allow it, or ask as another user")
    except (KafkaError, OSError) as error:
        return LAG.skipped(f"{type(error).__name__} while asking for offsets")
    if not found:
        return LAG.good("no request waits longer than half of its topic's retention")
    told = ", ".join(f"{topic} has {count}" for topic, count in sorted(found.items()))
    return LAG.bad(f"unread records older than half of their topic's retention: {told}")


async def _committed(setup: Setup, groups: Mapping[str, str]) -> dict[TopicPartition, int]:
    """How far each topic's group has read."""
    admin = AIOKafkaAdminClient(**connection_options(setup))
    found: dict[TopicPartition, int] = {}
    try:
        await admin.start()
        for group in sorted(set(groups.values())):
            try:
                offsets = await admin.list_consumer_group_offsets(group)
            except CoordinatorNotAvailableError:  # on a new cluster, until the first group commits
                continue
            found |= {place: told.offset for place, told in offsets.items() if groups.get(place.topic) == group}
    finally:
        await admin.close()
    return found


async def _offsets(
    setup: Setup, ages_ms: Mapping[TopicPartition, int]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int], dict[TopicPartition, int | None]]:
    """Where partitions begin and end, and where what is younger than so many milliseconds does."""
    consumer, now_unix_ms = AIOKafkaConsumer(**connection_options(setup)), int(time.time() * 1000)
    try:
        await consumer.start()
        begins = await consumer.beginning_offsets(list(ages_ms))
        ends = await consumer.end_offsets(list(ages_ms))
        times = await consumer.offsets_for_times({place: now_unix_ms - age for place, age in ages_ms.items()})
    finally:
        await close_consumer(consumer)
    return begins, ends, {place: None if told is None else told.offset for place, told in times.items()}
