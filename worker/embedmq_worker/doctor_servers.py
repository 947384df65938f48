"""May a worker do in Kafka and Redis what it must, and does its configuration agree with the topics that are there?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from embedmq_schemas.check import NOT_LET_IN, WRONG, Check, Harmless, Look, forbidden
from embedmq_schemas.names import Names
from redis.exceptions import RedisError

from embedmq_worker.access import Access, needs
from embedmq_worker.config import Config
from embedmq_worker.metrics import Metrics
from embedmq_worker.redis_sink import connect
from embedmq_worker.topics import Topics, request_topics, retry_topics

STEP_S: Final = 10.0
"""How long Kafka, or Redis, may take for all that it is asked."""
NOBODY: Final = "doctor"
"""In the names of keys that nobody has."""

KAFKA_RIGHTS: Final = Look(
    name="worker's kafka rights",
    at="what Kafka says that the worker's user may do on its topics and in its groups",
    bad_is="a right that is lacking: the operation, on what, for whom",
    remedy="have an ACL allow it: docs/security.md lists what each needs",
    exit_code=NOT_LET_IN,
)
RETRIES: Final = Look(
    name="retry topics",
    at="retry topics that are there, against `worker.retry_delays_s`",
    bad_is="one that a worker of this configuration does not read: what waits there is read only by others",
    remedy="give all workers of the prefix the same worker.retry_delays_s; once it is empty, delete the topic",
    exit_code=WRONG,
)
RETENTION: Final = Look(
    name="retention",
    at="what the worker's request topics keep, against `kafka.retention_ms`",
    bad_is="less, so that the alarm before requests are lost comes too late",
    remedy="set the topics' retention.ms, or kafka.retention_ms, to the same",
)
REDIS_RIGHTS: Final = Look(
    name="worker's redis rights",
    at="each command that a worker of this configuration sends, on its keys, in a form that changes nothing",
    bad_is="a command or a key that the user's ACL does not allow",
    remedy="have an ACL allow it: docs/security.md lists what each needs",
    exit_code=NOT_LET_IN,
)
LOOKS: Final = (KAFKA_RIGHTS, RETRIES, RETENTION, REDIS_RIGHTS)


async def kafka_checks(config: Config) -> list[Check]:
    """What the worker's user may do, and topics that do not agree with the configuration."""
    names = Names(config.prefix)
    try:
        topics = Topics(config.kafka)
    except (OSError, ValueError) as error:
        return [
            KAFKA_RIGHTS.bad(f"kafka: {error}"),
            RETRIES.skipped("no connection"),
            RETENTION.skipped("no connection"),
        ]
    try:
        async with asyncio.timeout(STEP_S):
            await topics.start()
            missing = await Access(topics.admin, needs(config, names), Metrics()).missing()
            there = set(await topics.admin.list_topics())
            requests = [one for lane in request_topics(config.models, names).values() for one in lane if one in there]
            kept_ms = await _retention_ms(topics, requests)
    except (KafkaError, OSError, RuntimeError) as error:
        why = f"Kafka does not answer ({type(error).__name__})"
        return [look.skipped(why) for look in LOOKS[:3]]
    finally:
        await topics.close()
    user = config.kafka.sasl_username or "this user"
    rights = KAFKA_RIGHTS.good("all that a worker of this configuration does")
    if missing:
        rights = KAFKA_RIGHTS.bad(f"{user} lacks {', '.join(map(str, missing))}")
    unread = sorted({topic for topic in there if names.is_retry(topic)} - set(retry_topics(config, names)))
    return [rights, retries(unread), retention(kept_ms, config.kafka.retention_ms)]


async def redis_checks(config: Config) -> list[Check]:
    """What the worker's user may do."""
    wanted = worker_needs(config, Names(config.prefix))
    redis = connect(config.redis, STEP_S)
    try:
        pipe: Any = redis.pipeline(transaction=False)
        for need in wanted:
            pipe.execute_command(*need.words)
        rules = forbidden(wanted, await pipe.execute(raise_on_error=False))
    except (RedisError, OSError) as error:
        return [REDIS_RIGHTS.skipped(f"Redis does not answer ({type(error).__name__})")]
    finally:
        await redis.aclose()
    if rules:
        lacking = " ".join(rules)
        return [REDIS_RIGHTS.bad(f"the ACL of this user lacks {lacking}", f"{REDIS_RIGHTS.remedy}; add {lacking}")]
    return [REDIS_RIGHTS.good("all that a worker of this configuration sends")]


def retries(unread: Sequence[str]) -> Check:
    """Whether retry topics are there that this configuration does not read. Pure."""
    return RETRIES.bad(f"not read: {', '.join(unread)}") if unread else RETRIES.good("all are read")


def retention(kept_ms: Mapping[str, int] | None, configured_ms: int) -> Check:
    """Whether topics keep what the configuration says, by topic; below 0 is for ever. None where it may not be asked.
    Pure.
    """
    if kept_ms is None:
        return RETENTION.skipped("this user lacks DescribeConfigs", "have an ACL allow it, or ask as another user")
    short = {topic: kept for topic, kept in kept_ms.items() if 0 <= kept < configured_ms}
    if short:
        told = ", ".join(f"{topic} keeps {kept / 3_600_000:g} h" for topic, kept in sorted(short.items()))
        return RETENTION.bad(f"{told}, where kafka.retention_ms says {configured_ms / 3_600_000:g} h")
    return RETENTION.good(f"{len(kept_ms)} request topics keep {configured_ms / 3_600_000:g} h or more")


def worker_needs(config: Config, names: Names) -> list[Harmless]:
    """What a worker of this configuration sends, on keys that are not there; HSET with a value short, which is refused
    after the ACL is asked.
    """
    own, results, starts = f"{config.prefix}:*", f"{{{names.result('*')}", names.starts(NOBODY, 0)
    stream, kept = names.stream(NOBODY), names.result(NOBODY)
    needed = [
        Harmless(("PING",)),
        Harmless(("GET", kept), own),
        Harmless(("MGET", names.cancel(NOBODY)), results),
        Harmless(("SET", kept, "", "XX"), own),
        Harmless(("SET", names.stub(NOBODY), "", "XX"), results),
        Harmless(("DEL", starts), own),
        Harmless(("EXPIRE", stream, 1), own),
        Harmless(("HMGET", starts, "f"), own),
        Harmless(("HSET", starts, "f", "v", "f"), own),
        Harmless(("XADD", stream, "NOMKSTREAM", "*", "r", ""), own),
    ]
    if config.redis.wait_replicas:
        needed.append(Harmless(("WAIT", 0, 1)))
    if any(tenant.items_per_s or tenant.tokens_per_s for tenant in config.tenants.values()):
        needed += [Harmless(("EVAL", "return 0", 1, names.quota(NOBODY)), own), Harmless(("TIME",))]
    return needed


async def _retention_ms(topics: Topics, names: Sequence[str]) -> dict[str, int] | None:
    found: dict[str, int] = {}
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    for answer in await topics.admin.describe_configs(wanted) if wanted else []:
        for code, _, _, name, entries in answer.resources:
            if code:
                return None
            found[name] = int({entry[0]: entry[1] for entry in entries}.get("retention.ms", "-1"))
    return found
