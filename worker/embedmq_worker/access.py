"""What must this worker be allowed to do in Kafka, and what of it is it not?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, KafkaError
from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String
from embedmq_schemas.names import READERS, Names

from embedmq_worker.config import Config
from embedmq_worker.metrics import Metrics
from embedmq_worker.topics import request_topics, retry_topics

LOOK_PERIOD_S: Final = 10.0
"""How often it is asked whether a right was taken away, or is back."""
BITS: Final[Mapping[str, int]] = {"Read": 3, "Write": 4}
"""Where each operation stands in the numbers in which Kafka lists what is allowed, which hold a bit for each:
https://kafka.apache.org/43/javadoc/org/apache/kafka/common/acl/AclOperation.html
"""
DENIED: Final = frozenset({29, 30})
"""Kafka's error codes TOPIC_AUTHORIZATION_FAILED and GROUP_AUTHORIZATION_FAILED: not even Describe."""

log = logging.getLogger(__name__)


class Need(NamedTuple):
    """One right: an operation on one topic or group."""

    operation: str
    resource: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


def needs(config: Config, names: Names) -> list[Need]:
    """What the worker cannot do without: where it reads, and where it puts what it cannot do."""
    requests = [topic for topics in request_topics(config.models, names).values() for topic in topics]
    retries = retry_topics(config, names)
    return [
        *(Need("Read", "topic", topic) for topic in (*requests, *retries, names.control)),
        *(Need("Write", "topic", topic) for topic in (*retries, names.dead)),
        *(Need("Read", "group", names.group(reader)) for reader in READERS),
    ]


def lacking(wanted: Sequence[Need], allowed: Mapping[tuple[str, str], int]) -> list[Need]:
    """Those of which Kafka says that they are not allowed; `allowed` has its numbers by kind and name. Pure."""
    known = [need for need in wanted if (need.resource, need.name) in allowed]
    return [need for need in known if not allowed[need.resource, need.name] >> BITS[need.operation] & 1]


class Access:
    """Asks Kafka what is allowed: at the start, and again and again."""

    def __init__(self, admin: AIOKafkaAdminClient, wanted: Sequence[Need], metrics: Metrics) -> None:
        self._admin = admin
        self._wanted = wanted
        self._metrics = metrics
        self._told: list[Need] = []

    async def missing(self) -> list[Need]:
        """The rights that are not there; of what does not exist nothing is known. Raises KafkaError."""
        names = {kind: [need.name for need in self._wanted if need.resource == kind] for kind in ("topic", "group")}
        answer: Any = await self._admin._send_request(_AskTopics(list(dict.fromkeys(names["topic"]))))
        allowed = {
            ("topic", topic[1]): 0 if topic[0] in DENIED else topic[4] for topic in answer.topics if _told(topic)
        }
        for group in names["group"]:
            try:
                node = await self._admin.find_coordinator(group)
                answer = await self._admin._send_request(_AskGroups([group]), node)
            except GroupAuthorizationFailedError:
                allowed["group", group] = 0
            except CoordinatorNotAvailableError:
                continue  # on a new cluster, for a moment
            else:
                allowed |= {("group", of[1]): 0 if of[0] in DENIED else of[6] for of in answer.groups if _told(of)}
        return lacking(self._wanted, allowed)

    async def watch(self) -> None:
        """Say when a right is taken away, and when all are back: nothing is lost meanwhile, and nothing goes on."""
        while True:
            await asyncio.sleep(LOOK_PERIOD_S)
            try:
                found = await self.missing()
            except (KafkaError, OSError):
                continue  # Kafka is away, which others say
            self._metrics.set("rights_missing", len(found))
            if found != self._told:
                self._told = found
                if found:
                    log.error("rights_missing", extra={"missing": [str(need) for need in found]})
                else:
                    log.warning("rights_back")


def _told(answer: Sequence[Any]) -> bool:
    """Whether Kafka says of a topic or group what is allowed, or that nothing is; a coordinator may not know yet."""
    return answer[0] == 0 or answer[0] in DENIED


class _Topics(Response):  # type: ignore[misc]  # aiokafka ships no types
    """https://kafka.apache.org/protocol.html#The_Messages_Metadata, version 8, the first that tells what is allowed."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster", String("utf-8")),
        ("controller", Int32),
        (
            "topics",
            Array(
                ("error", Int16),
                ("topic", String("utf-8")),
                ("internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("in_sync", Array(Int32)),
                        ("offline", Array(Int32)),
                    ),
                ),
                ("allowed", Int32),
            ),
        ),
        ("allowed", Int32),
    )


class _TopicsAsked(RequestStruct):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _Topics
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))), ("create", Boolean), ("of_cluster", Boolean), ("of_topics", Boolean)
    )


class _AskTopics(Request[_TopicsAsked]):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_TopicsAsked]) -> _TopicsAsked:
        return request_struct_class(self._topics, False, False, True)


class _GroupsAsked(RequestStruct):  # type: ignore[misc]  # aiokafka ships no types
    """aiokafka has this version, too, but forgets what is allowed."""

    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("of_groups", Boolean))


class _AskGroups(Request[_GroupsAsked]):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 15

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[_GroupsAsked]) -> _GroupsAsked:
        return request_struct_class(self._groups, True)
