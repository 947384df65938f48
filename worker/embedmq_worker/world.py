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
from embedmq_schemas.refusal import explain
from redis.asyncio import Redis as RedisClient

from embedmq_worker.access import Access, needs
from embedmq_worker.config import Config, Redis
from embedmq_worker.errors import ConfigInvalid, Unreachable
from embedmq_worker.login import why_not
from embedmq_worker.metrics import Metrics
from embedmq_worker.redis_sink import connect, wait_reachable
from embedmq_worker.topic_sink import TopicSink
from embedmq_worker.topics import Topics, ensure, wanted, wanted_requests

LOOK_TIMEOUT_S: Final = 0.5
"""How long the device waits for what Redis may know of a batch."""

GRANT: Final = "have an ACL allow it (docs/security.md)"
CREATE: Final = "have it made before: embedmq topics create MODEL"


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
    except ValueError as error:
        raise ConfigInvalid(f"kafka: {error}") from error
    access = Access(topics.admin, needs(config, Names(config.prefix)), metrics)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(marks.aclose)
        stack.push_async_callback(topics.close)
        stack.push_async_callback(replies.close)
        await _reach_redis(config.redis, redis)
        await _reach_kafka(config, topics, replies, access)
        stack.callback(asyncio.create_task(access.watch()).cancel)
        yield World(redis, marks, topics, replies)


async def _reach_redis(settings: Redis, redis: RedisClient) -> None:
    error = await wait_reachable(redis, settings.start_timeout_s)
    if error is None:
        return
    where = f"Redis at {redact_url(settings.url)}"
    if (refusal := explain(error, tls=settings.url.startswith("rediss:"))) is not None:
        raise Unreachable(f"{where} does not let us in: {refusal}") from error
    raise Unreachable(f"{where} did not answer in {settings.start_timeout_s:g} s: {type(error).__name__}: {error}")


async def _reach_kafka(config: Config, topics: Topics, replies: TopicSink, access: Access) -> None:
    """Raises Unreachable at once for what will not pass by itself, else after `start_timeout_s`."""
    where = f"Kafka at {','.join(config.kafka.bootstrap)}"
    names, loop = Names(config.prefix), asyncio.get_running_loop()
    topics_of_ours = [*wanted(config, names), *wanted_requests(config, config.models, names)]
    end_s = loop.time() + config.kafka.start_timeout_s
    while True:
        try:
            async with asyncio.timeout_at(end_s):
                await topics.start()
                refused = await ensure(topics, topics_of_ours)
                if missing := await access.missing():
                    raise Unreachable(f"{where}: this user lacks {', '.join(map(str, missing))}: {GRANT}")
                if refused:
                    raise Unreachable(f"{where} did not create topic {refused[0]}: allow Create, or {CREATE}")
                await replies.start()
        except (KafkaError, TimeoutError, AttributeError) as error:
            # AttributeError is aiokafka's admin client on a cluster that knows no controller yet
            refusal = await why_not(config.kafka)
            lasting = not getattr(error, "retriable", True) or (refusal is not None and refusal.lasting)
            if lasting or loop.time() >= end_s:
                within = "" if lasting else f" within {config.kafka.start_timeout_s:g} s"
                told = refusal or f"{type(error).__name__}: {error}"
                raise Unreachable(f"{where} did not let us in{within}: {told}") from error
            await asyncio.sleep(0.5)
        else:
            return
