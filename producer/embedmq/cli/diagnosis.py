"""How are Kafka and Redis doing, as far as EmbedMQ depends on them?"""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiokafka.errors import KafkaError
from embedmq_schemas.check import Check
from embedmq_schemas.names import Names
from redis.asyncio import Redis
from redis.exceptions import RedisError

from embedmq.cli.cluster import Cluster, connect
from embedmq.cli.exits import UNREACHABLE
from embedmq.cli.layout import MAX_REPLICATION, faults
from embedmq.errors import Unavailable
from embedmq.settings import Setup
from embedmq.store import unavailable

OLDEST_REDIS = (6, 2)
MAX_SKEW_S = 1.0


async def kafka_checks(setup: Setup) -> list[Check]:
    """Reachable, which version, and the topics as they should be."""
    try:
        async with connect(setup) as cluster:
            return [await _broker(cluster), *await _topics(cluster, Names(setup.prefix))]
    except Unavailable as error:
        return [Check(name="kafka", ok=False, found=str(error), exit_code=UNREACHABLE)]
    except KafkaError as error:
        return [Check(name="kafka", ok=False, found=f"refuses to say: {error!r}", remedy="allow Describe to this user")]


async def redis_checks(setup: Setup) -> list[Check]:
    """Reachable, new enough, never evicting, and with our clock."""
    if setup.redis is None:
        return []
    redis = Redis.from_url(
        setup.redis.url,
        **setup.redis.options(),
        socket_timeout=setup.connect_timeout_s,
        socket_connect_timeout=setup.connect_timeout_s,
    )
    try:
        before = time.time()
        seconds, microseconds = await redis.time()
        skew_s = seconds + microseconds / 1e6 - (before + time.time()) / 2
        facts: Mapping[str, object] = await redis.info()
    except (RedisError, OSError) as error:
        found = str(unavailable(setup.redis.url, error))
        return [Check(name="redis", ok=False, found=found, exit_code=UNREACHABLE)]
    finally:
        await redis.aclose()
    return [redis_version(str(facts.get("redis_version", ""))), redis_policy(facts), clock(skew_s)]


def redis_version(version: str) -> Check:
    """At least 6.2, for `XTRIM MINID`."""
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    ok = parts >= OLDEST_REDIS
    wanted = ".".join(map(str, OLDEST_REDIS))
    return Check(name="redis version", ok=ok, found=version or "unknown", remedy="" if ok else f"use {wanted} or newer")


def redis_policy(facts: Mapping[str, object]) -> Check:
    """Results must not be evicted, and several keys of one request are read at once."""
    if facts.get("redis_mode") == "cluster":
        remedy = "use one primary, with replicas or Sentinel: Redis Cluster is not supported"
        return Check(name="redis mode", ok=False, found="cluster", remedy=remedy)
    policy = str(facts.get("maxmemory_policy", "unknown"))
    ok = policy == "noeviction"
    remedy = "" if ok else "set maxmemory-policy noeviction: an evicted result is lost"
    return Check(name="redis eviction", ok=ok, found=policy, remedy=remedy)


def clock(skew_s: float) -> Check:
    """Deadlines are compared on different machines."""
    ok = abs(skew_s) <= MAX_SKEW_S
    found = f"{abs(skew_s):.3f} s from Redis's"
    return Check(
        name="clock", ok=ok, found=found, remedy="" if ok else "synchronise clocks (NTP): deadlines compare them"
    )


async def _broker(cluster: Cluster) -> Check:
    brokers = await cluster.brokers()
    return Check(name="kafka", ok=True, found=f"{brokers} broker(s), {await cluster.version()}")


async def _topics(cluster: Cluster, names: Names) -> list[Check]:
    everything = await cluster.topics()
    requests = [topic for topic in everything if names.parse(topic) is not None]
    if not requests:
        found = f"no request topics begin with {names.prefix}."
        return [Check(name="topics", ok=False, found=found, remedy="start a worker, or embedmq topics create MODEL")]
    checks: list[Check] = []
    if names.dead not in everything:
        remedy = "start a worker, or embedmq topics create MODEL"
        checks.append(Check(name="topics", ok=False, found=f"{names.dead} is missing", remedy=remedy))
    copies = min(MAX_REPLICATION, await cluster.brokers())
    for fact in await cluster.facts([*requests, *({names.dead} & set(everything))]):
        wrong = faults(fact.name, fact.settings, requests=fact.name in requests)
        if fact.replication < copies:
            found = f"{fact.name}: {fact.replication} cop(ies) on {copies} or more brokers"
            wrong.append((found, f"reassign its partitions to {copies} brokers"))
        checks += [Check(name="topics", ok=False, found=found, remedy=remedy) for found, remedy in wrong]
    return checks or [Check(name="topics", ok=True, found=f"{len(requests)} request topics, as they should be")]
