"""What is in Kafka: topics, their settings, and how far groups have read?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CoordinatorNotAvailableError, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.structs import TopicPartition
from embedmq_schemas.topics import Topic
from msgspec import Struct

from embedmq.cli.layout import MAX_REPLICATION
from embedmq.errors import Unavailable
from embedmq.kafka import away, connection_options, denied
from embedmq.settings import Setup


class Facts(Struct, frozen=True):
    """A topic as it is."""

    name: str
    partitions: int
    replication: int
    settings: dict[str, str]


class Lag(Struct, frozen=True):
    """How far a group is behind on a topic, in records; `committed` is None where it has committed nothing."""

    end: int
    committed: int | None
    lag: int


@asynccontextmanager
async def connect(setup: Setup) -> AsyncIterator[Cluster]:
    """Talk to Kafka's brokers for a while; raises Unavailable."""
    admin = AIOKafkaAdminClient(**connection_options(setup), request_timeout_ms=int(1000 * setup.connect_timeout_s))
    try:
        try:
            async with asyncio.timeout(setup.connect_timeout_s):
                await admin.start()
            yield Cluster(admin, setup)
        except (TimeoutError, KafkaError, OSError) as error:
            raise await away(setup, error, "Describe") from error
    finally:
        await admin.close()


class Cluster:
    """Questions to Kafka."""

    def __init__(self, admin: AIOKafkaAdminClient, setup: Setup) -> None:
        self._admin = admin
        self._setup = setup

    async def brokers(self) -> int:
        """How many brokers are up."""
        found: Mapping[str, Any] = await self._admin.describe_cluster()
        return len(found["brokers"])

    async def version(self) -> str:
        """What the brokers' protocol tells of their version, since they do not say it themselves."""
        client = self._admin._client  # aiokafka offers no other way to its versions
        answer = await client.send(client.get_random_node(), ApiVersionRequest())
        highest = {key: most for key, _, most in answer.api_versions}
        return release(highest)

    async def topics(self) -> list[str]:
        """All topics that we may see."""
        return sorted(await self._admin.list_topics())

    async def facts(self, topics: Sequence[str]) -> list[Facts]:
        """What some topics are like."""
        if not topics:
            return []
        described: Iterable[Mapping[str, Any]] = await self._admin.describe_topics(list(topics))
        settings = await self._settings(topics)
        return [
            Facts(
                topic["topic"],
                len(topic["partitions"]),
                min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
                settings.get(topic["topic"], {}),
            )
            for topic in sorted(described, key=lambda topic: str(topic["topic"]))
        ]

    async def create(self, topics: Sequence[Topic]) -> dict[str, str]:
        """Create those that are missing; says of each `created` or `there`. Raises KafkaError."""
        copies = min(MAX_REPLICATION, await self.brokers())
        new = [NewTopic(topic.name, topic.partitions, copies, topic_configs=topic.settings) for topic in topics]
        answer = await self._admin.create_topics(new)
        outcome: dict[str, str] = {}
        for name, code, *rest in answer.topic_errors:
            error = for_code(code)
            if why := denied(error(name), "Create"):
                raise Unavailable(why)
            if code and error is not TopicAlreadyExistsError:
                raise error(f"{name}: {rest[0] if rest and rest[0] else error.__name__}")
            outcome[name] = "there" if code else "created"
        return outcome

    async def lags(self, groups: Mapping[str, str]) -> dict[str, Lag]:
        """How far the group of each topic is behind."""
        if not groups:
            return {}  # a consumer that has nothing to ask cannot be stopped
        places = [
            TopicPartition(fact.name, number)
            for fact in await self.facts(list(groups))
            for number in range(fact.partitions)
        ]
        ends = await self._ends(places)
        committed: dict[TopicPartition, int] = {}
        for group in sorted(set(groups.values())):
            try:
                found = await self._admin.list_consumer_group_offsets(group)
            except CoordinatorNotAvailableError:  # on a new cluster, until the first group commits
                continue
            committed |= {place: found[place].offset for place in found if groups.get(place.topic) == group}
        return {topic: _lag([place for place in places if place.topic == topic], ends, committed) for topic in groups}

    async def _settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        found: dict[str, dict[str, str]] = {}
        for answer in await self._admin.describe_configs(wanted):
            for code, _, _, name, entries in answer.resources:
                if why := denied(for_code(code)(name), "DescribeConfigs"):
                    raise Unavailable(why)
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def _ends(self, places: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """First and next offset of each partition."""
        consumer = AIOKafkaConsumer(**connection_options(self._setup))
        try:
            await consumer.start()
            first = await consumer.beginning_offsets(places)
            last = await consumer.end_offsets(places)
        finally:
            await consumer.stop()
        return {place: (first[place], last[place]) for place in places}


def release(highest: Mapping[int, int]) -> str:
    """The oldest release that speaks these versions: key 0 (Produce) of
    https://kafka.apache.org/protocol.html grows with them.
    """
    if highest.get(0, 0) >= 12:
        name = "Kafka 4.0 or newer"
    elif highest.get(0, 0) >= 10:
        name = "Kafka 3.7 to 3.9"
    elif highest.get(0, 0) >= 9:
        name = "Kafka 2.8 to 3.6"
    else:
        name = "older than Kafka 2.8"
    return f"{name} (Produce {highest.get(0, 0)}, Fetch {highest.get(1, 0)})"


def _lag(
    places: Sequence[TopicPartition],
    ends: Mapping[TopicPartition, tuple[int, int]],
    committed: Mapping[TopicPartition, int],
) -> Lag:
    """A partition without a commit is behind by all that it has."""
    known = {place: committed[place] for place in places if committed.get(place, -1) >= 0}
    return Lag(
        end=sum(ends[place][1] for place in places),
        committed=sum(known.values()) if known else None,
        lag=sum(max(0, ends[place][1] - known.get(place, ends[place][0])) for place in places),
    )
