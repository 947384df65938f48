"""What do Kafka's brokers say of themselves, of the topics that we see, and of what we may do there?

One connection to one of the given addresses suffices, so that it is known also where the brokers call themselves by
names that lead nowhere from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String
from msgspec import Struct

from embedmq.kafka import connection_options
from embedmq.settings import Setup

BITS: Final[Mapping[str, int]] = {"Read": 3, "Write": 4, "Describe": 8, "DescribeConfigs": 10}
"""Where each operation stands in the number by which Kafka says what is allowed:
https://kafka.apache.org/43/javadoc/org/apache/kafka/common/acl/AclOperation.html
"""


class Partition(Struct, frozen=True):
    """Which brokers have it: `leader` is -1 where nobody leads."""

    number: int
    leader: int
    replicas: int
    in_sync: int


class Seen(Struct, frozen=True):
    """A topic that we may see, and what we may do there."""

    name: str
    partitions: list[Partition]
    allowed: int

    def allows(self, operation: str) -> bool:
        """Whether this user may do it."""
        return bool(self.allowed >> BITS[operation] & 1)


class Survey(Struct, frozen=True):
    """All that one broker told."""

    brokers: dict[int, tuple[str, int]]
    """Where each says that it is found, by its id."""
    topics: dict[str, Seen]
    versions: dict[int, int]
    """The newest version that it speaks of each request, by their keys."""


async def survey(setup: Setup, address: str) -> Survey:
    """Ask one address, for as long as it takes. Raises OSError, KafkaError; IncompatibleBrokerVersion below 2.3."""
    options = connection_options(setup)
    del options["bootstrap_servers"]
    host, _, port = address.rpartition(":")
    connection = await create_conn(host.strip("[]"), int(port), **options)
    try:
        spoken: Any = await connection.send(ApiVersionRequest())
        versions = {key: most for key, _, most in spoken.api_versions}
        if versions.get(_Ask.API_KEY, 0) < _Asked.API_VERSION:
            raise IncompatibleBrokerVersion("it cannot tell what is allowed")
        told: Any = await connection.send(_Ask())
    finally:
        connection.close()
    return Survey(
        {node: (host, port) for node, host, port, _ in told.brokers},
        {name: _seen(name, partitions, allowed) for _, name, _, partitions, allowed in told.topics},
        versions,
    )


def _seen(name: str, partitions: list[Any], allowed: int) -> Seen:
    found = [
        Partition(number, leader, len(replicas), len(in_sync))
        for _, number, leader, _, replicas, in_sync, _ in partitions
    ]
    return Seen(name, found, allowed)


class _Told(Response):  # type: ignore[misc]  # aiokafka ships no types
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


class _Asked(RequestStruct):  # type: ignore[misc]  # as above
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _Told
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))), ("create", Boolean), ("of_cluster", Boolean), ("of_topics", Boolean)
    )


class _Ask(Request[_Asked]):  # type: ignore[misc]  # as above
    """Of all topics; none is created."""

    API_KEY = 3

    def build(self, request_struct_class: type[_Asked]) -> _Asked:
        return request_struct_class(None, False, False, True)
