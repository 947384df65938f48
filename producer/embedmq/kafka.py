"""How is Kafka reached, and what do its errors mean to a caller?"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.metadata import MetadataRequest
from embedmq_schemas.connection import TokenFile
from embedmq_schemas.refusal import Refusal, probe

from embedmq.errors import EmbedMQError, InvalidRequest, RequestFailed, Unavailable
from embedmq.settings import Setup

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

CLOSE_TIMEOUT_S = 5.0
"""How long closing waits for Kafka to take what is on its way."""
ABANDON_STEP_S = 0.2
GRANT = "have an ACL allow it (docs/security.md)"


class Kafka:
    """One producer that is renewed when it cannot go on.

    It is idempotent, so that a retry after a lost acknowledgement writes nothing twice. The price: after a batch that
    Kafka refused, the sequence of its partition has a hole and every later batch is refused too, so the producer is
    replaced after any refusal.

    Topics are never created from here. aiokafka asks Kafka to create a topic that it is told to look for; so it is
    never told of one: its list stays empty, and it then looks at all that exist.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._producer: AIOKafkaProducer | None = None  # until the start
        self._refused = False
        self._renewing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect; raises Unavailable when Kafka is not there in `connect_timeout_s`, or does not let us in."""
        self._producer = await self._open()

    async def producer(self) -> AIOKafkaProducer:
        """The producer, renewed if it has to be; raises Unavailable."""
        if self._producer is None or self._refused:
            async with self._renewing:
                if self._producer is None or self._refused:
                    await self._renew()
        return self._current()

    def refused(self) -> None:
        """Note that a batch was refused: the producer cannot go on."""
        self._refused = True

    def partitions(self, topic: str) -> list[int]:
        """The partitions of a topic as far as is known here; empty for one that is not known."""
        return sorted(self._current().client.cluster.partitions_for_topic(topic) or ())

    async def find(self, topic: str) -> list[int]:
        """The partitions of a topic, asking Kafka if it is not known here; raises Unavailable."""
        if known := self.partitions(topic):
            return known
        producer = await self.producer()
        try:
            async with asyncio.timeout(self._setup.connect_timeout_s):
                await producer.client.force_metadata_update()
        except (TimeoutError, KafkaError, OSError) as error:
            raise await away(self._setup, error) from error
        return self.partitions(topic)

    async def stop(self) -> None:
        """Let what is on its way go out, for a bounded time, and disconnect."""
        if self._producer is not None:
            await _close(self._producer)
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _current(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("not started")
        return self._producer

    async def _renew(self) -> None:
        old, new = self._producer, await self._open()
        self._producer, self._refused = new, False
        if old is not None:
            task = asyncio.create_task(_close(old))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _open(self) -> AIOKafkaProducer:
        setup = self._setup
        options = connection_options(setup)
        timeout_ms = int(1000 * setup.publish_timeout_s)
        producer = AIOKafkaProducer(
            **options,
            acks="all",
            enable_idempotence=True,
            max_batch_size=setup.kafka_batch_bytes,
            request_timeout_ms=timeout_ms,
        )
        try:
            async with asyncio.timeout(setup.connect_timeout_s):
                await producer.start()
        except (TimeoutError, KafkaError, OSError) as error:
            await _close(producer)
            raise await away(setup, error, "Write") from error
        except BaseException:
            await _close(producer)
            raise
        return producer


class TokenFileProvider(TokenFile, AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
    """Tokens from a file, as aiokafka asks for them."""


def connection_options(setup: Setup) -> dict[str, Any]:
    """The keyword arguments that any aiokafka client takes; raises ValueError when a certificate cannot be read, or a
    login lacks something.
    """
    try:
        options: dict[str, Any] = setup.kafka.options()  # the types are aiokafka's
    except OSError as error:
        raise ValueError(f"kafka: a certificate or key cannot be used: {error}") from None
    if setup.token_provider is not None:
        options["sasl_oauth_token_provider"] = setup.token_provider
    elif setup.kafka.sasl_token_file is not None:
        options["sasl_oauth_token_provider"] = TokenFileProvider(setup.kafka.sasl_token_file)
    return options


async def away(setup: Setup, error: BaseException, operation: str = "") -> Unavailable:
    """What it means to a caller that Kafka does not do as it is asked; `operation` is the right that this takes."""
    where = f"Kafka at {','.join(setup.kafka.bootstrap)} does not let us in"
    if what := denied(error, operation):
        return Unavailable(f"{where}: {what}")
    return Unavailable(f"{where}: {await why_not(setup) or str(error) or 'no answer'}")


def denied(error: BaseException, operation: str) -> str:
    """Which right an error says we lack, and the remedy; empty for any other error."""
    match error:
        case TopicAuthorizationFailedError():
            resource = "topic"
        case GroupAuthorizationFailedError():
            resource = "group"
        case ClusterAuthorizationFailedError() if operation == "Write":  # that it asks for before anything is written
            return f"we may not Write to any topic: {GRANT}"
        case ClusterAuthorizationFailedError():
            resource = "cluster"
        case _:
            return ""
    names: object = error.args[0] if error.args else ""
    named = ", ".join(sorted(map(str, names))) if isinstance(names, (set, frozenset, list, tuple)) else str(names)
    return f"we may not {operation or 'use'} {resource} {named}".rstrip() + f": {GRANT}"


async def why_not(setup: Setup) -> Refusal | None:
    """The reason why the first broker cannot be talked to, which aiokafka only logs; None if it can."""
    options, kafka = connection_options(setup), setup.kafka
    host, _, port = str(options.pop("bootstrap_servers")[0]).rpartition(":")
    connect = partial(create_conn, host.strip("[]"), int(port), **options)
    return await probe(connect, _ask, tls=kafka.tls, mechanism=kafka.sasl_mechanism)


async def _ask(connection: AIOKafkaConnection) -> None:
    answer = await connection.send(MetadataRequest([]))
    if not answer.brokers:  # as it looks to aiokafka when a broker goes on complaining about a token
        raise KafkaError("it names no brokers")


def explain(error: BaseException, topic: str) -> EmbedMQError:
    """What Kafka's refusal of a record means to the caller who sent it."""
    if isinstance(error, EmbedMQError):
        return error
    if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
        message = f"topic {topic} takes no record of this size: send fewer items, or raise its max.message.bytes"
        return RequestFailed(message, code="too_large")
    if isinstance(error, UnknownTopicOrPartitionError):
        return InvalidRequest(f"topic {topic} is not there, or we may not see it: embedmq topics create makes it")
    if isinstance(error, TopicAuthorizationFailedError):
        return Unavailable(f"Kafka does not take the request: {denied(error, 'Write')}")
    return Unavailable(f"Kafka did not take the request to {topic}: {str(error) or type(error).__name__}")


async def _close(producer: AIOKafkaProducer) -> None:
    """Let what is on its way go out, for a bounded time; without Kafka `stop` would wait for it for ever."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await producer.flush()
            await producer.stop()
    except (TimeoutError, KafkaError):
        await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End a producer whose Kafka is away, which aiokafka has no way to ask for."""
    task: asyncio.Task[None] | None = producer._sender.sender_task
    while task is not None and not task.done():
        task.cancel()  # the second one reaches the request that it waits for
        await asyncio.wait({task}, timeout=ABANDON_STEP_S)
    client: AIOKafkaClient = producer.client
    await client.close()
    producer._closed = True
