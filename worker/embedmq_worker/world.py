"""How does a worker reach Kafka and Redis, and what is said when it cannot?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import KafkaError
from embedmq_schemas.connection import redact_url
from embedmq_schemas.names import Names
from redis.asyncio import Redis as RedisClient

from embedmq_worker.config import Config
from embedmq_worker.errors import ConfigInvalid, Unreachable
from embedmq_worker.metrics import Metrics
from embedmq_worker.redis_sink import connect, wait_reachable
from embedmq_worker.topic_sink import TopicSink
from embedmq_worker.topics import Topics, ensure, wanted

LOOK_TIMEOUT_S: Final = 0.5
"""How long the device waits for what Redis may know of a batch."""


@dataclass(frozen=True, slots=True)
class World:
    """The open connections of one worker; `marks` gives up soon, since the device waits for it."""

    redis: RedisClient
    marks: RedisClient
    topics: Topics
    replies: TopicSink


@contextlib.asynccontextmanager
async def connected(config: Config, metrics: Metrics) -> AsyncIterator[World]:
    """Reach Redis and Kafka, create the topics, and close everything at the end."""
    redis, marks = connect(config.redis), connect(config.redis, LOOK_TIMEOUT_S)
    try:
        topics = Topics(config.kafka)
        replies = TopicSink(config, topics, metrics)
    except OSError as error:  # ssl's errors are some
        raise ConfigInvalid(f"kafka: a certificate or key cannot be used: {error}") from error
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(marks.aclose)
        reason = await wait_reachable(redis, config.redis.start_timeout_s)
        if reason is not None:
            shown = redact_url(config.redis.url)
            raise Unreachable(f"Redis at {shown} did not answer in {config.redis.start_timeout_s:g} s: {reason}")
        stack.push_async_callback(topics.close)
        stack.push_async_callback(replies.close)
        await _reach_kafka(config, topics, replies)
        yield World(redis, marks, topics, replies)


async def _reach_kafka(config: Config, topics: Topics, replies: TopicSink) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + config.kafka.start_timeout_s
    while True:
        try:
            await topics.start()
            await ensure(topics, wanted(config, Names(config.prefix)))
            await replies.start()
        except (KafkaError, AttributeError) as error:
            # AttributeError is aiokafka's admin client on a cluster that knows no controller yet
            if loop.time() >= end_s or not getattr(error, "retriable", True):
                shown = ",".join(config.kafka.bootstrap)
                raise Unreachable(
                    f"Kafka at {shown} did not let us in within {config.kafka.start_timeout_s:g} s: "
                    f"{type(error).__name__}: {error}"
                ) from error
            await asyncio.sleep(0.5)
        else:
            return
