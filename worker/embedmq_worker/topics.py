"""Which topics exist, and how are ours created?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import NoBrokersAvailable, for_code
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES, Lane
from embedmq_schemas.topics import Topic, control_settings, dead_settings, request_settings

from embedmq_worker.config import Config, Kafka, Model
from embedmq_worker.login import connection_options
from embedmq_worker.parting import part

NO_TOPIC = frozenset({3, 17, 29})
"""Kafka's error codes UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION and TOPIC_AUTHORIZATION_FAILED."""

EXISTS = 36
"""Kafka's error code TOPIC_ALREADY_EXISTS."""

log = logging.getLogger(__name__)


def request_topics(models: Mapping[str, Model], names: Names) -> dict[Lane, list[str]]:
    """The topics of the models that are served, by lane."""
    found: dict[Lane, list[str]] = {lane: [] for lane in LANES}
    for lane in LANES:
        for name, model in models.items():
            if not model.served:
                continue
            topic = names.shared(lane) if model.shared else names.requests(name, lane)
            if topic not in found[lane]:
                found[lane].append(topic)
    return found


def retry_topics(config: Config, names: Names) -> list[str]:
    """The topics of requests that are tried again, one for each delay."""
    return list(dict.fromkeys(names.retry(delay_s) for delay_s in config.worker.retry_delays_s))


def wanted(config: Config, names: Names) -> list[Topic]:
    """The topics that must exist whatever is served."""
    kafka = config.kafka
    for_dead = dead_settings(kafka.retention_ms, config.limits)
    return [
        *(Topic(name, kafka.retry_partitions, for_dead) for name in retry_topics(config, names)),
        Topic(names.dead, 1, for_dead),
        Topic(names.control, 1, control_settings()),
    ]


def wanted_requests(config: Config, models: Mapping[str, Model], names: Names) -> list[Topic]:
    """The topics that must exist before they are read."""
    settings = request_settings(config.kafka.retention_ms, config.limits)
    topics = [topic for topics in request_topics(models, names).values() for topic in topics]
    return [Topic(name, config.kafka.partitions, settings) for name in topics]


class Topics:
    """Creates topics and looks them up; what was found is remembered for a while."""

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings
        self.admin = AIOKafkaAdminClient(**connection_options(settings), client_id="embedmq-admin")
        self._known: dict[str, tuple[float, int]] = {}

    async def start(self) -> None:
        """Connect; raises KafkaError."""
        await self.admin.start()

    async def close(self) -> None:
        """Disconnect."""
        await part(self.admin.close())

    async def create(self, topics: Iterable[Topic]) -> list[str]:
        """Create what is missing; returns what could not be created, with the reason. Raises KafkaError."""
        missing = list(topics)
        present = await self._describe([topic.name for topic in missing])
        missing = [topic for topic in missing if topic.name not in present]
        if not missing:
            return []
        cluster = await self.admin.describe_cluster()
        replicas = min(self._settings.replication, len(cluster["brokers"]))
        created = [NewTopic(topic.name, topic.partitions, replicas, topic_configs=topic.settings) for topic in missing]
        try:
            response = await self.admin.create_topics(created)
        except AttributeError as error:  # aiokafka's admin client on a cluster that knows no controller yet
            raise NoBrokersAvailable("no controller") from error
        refused = {
            name: f"{message or code}" for name, code, message in response.topic_errors if code not in {0, EXISTS}
        }
        await self._await_leaders([topic.name for topic in missing if topic.name not in refused])
        for topic in missing:
            self._known.pop(topic.name, None)
        return [f"{name}: {reason}" for name, reason in refused.items()]

    async def partitions(self, topic: str, ttl_s: float = 30.0) -> int:
        """How many partitions a topic has; 0 when it does not exist or is not ours to see. Never creates it.

        Raises KafkaError when no broker can tell.
        """
        now = asyncio.get_running_loop().time()
        at, count = self._known.get(topic, (0.0, -1))
        # a missing topic may appear at any moment, an existing one rarely goes
        if count >= 0 and now - at < (ttl_s if count else 1.0):
            return count
        (found,) = await self.admin.describe_topics([topic])
        count = count_partitions(found)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[topic] = (now, count)
        return count

    async def _await_leaders(self, names: list[str], timeout_s: float = 15.0) -> None:
        """A topic that was just created is unknown to some brokers for a moment."""
        end = asyncio.get_running_loop().time() + timeout_s
        while len(await self._describe(names)) < len(names):
            if asyncio.get_running_loop().time() > end:
                return
            await asyncio.sleep(0.1)

    async def _describe(self, names: list[str]) -> Mapping[str, int]:
        found = await self.admin.describe_topics(names)
        return {
            topic["topic"]: len(topic["partitions"])
            for topic in found
            if topic["error_code"] == 0 and all(part["leader"] >= 0 for part in topic["partitions"])
        }


def count_partitions(found: Mapping[str, Any]) -> int:
    """Read one topic's metadata: its partitions, or 0 where Kafka says for good that there is no such topic for us.

    A partition without a leader is one that will have a leader again. Raises KafkaError for what will pass.
    """
    code: int = found["error_code"]
    if code in NO_TOPIC:
        return 0
    partitions: list[object] = found["partitions"]
    if not partitions:
        raise for_code(code)(found["topic"])
    return len(partitions)


async def ensure(topics: Topics, wanted: Sequence[Topic]) -> list[str]:
    """Create what is missing; returns what could not be created, with the reason. Raises KafkaError."""
    refused = await topics.create(wanted)
    for refusal in refused:
        log.warning("topic_not_created", extra={"reason": refusal})
    return refused
