"""Is Kafka there, does it let us in, and is it as EmbedMQ needs it?"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from embedmq_schemas.check import NOT_LET_IN, Check, Look
from embedmq_schemas.names import Names
from embedmq_schemas.refusal import Refusal
from msgspec import structs

from embedmq.cli.behind import LAG, lag
from embedmq.cli.cluster import connect, release
from embedmq.cli.layout import MAX_REPLICATION, Fault, copies_faults, role, settings_faults, split
from embedmq.cli.survey import Seen, Survey, survey
from embedmq.errors import Unavailable
from embedmq.kafka import why_not
from embedmq.settings import Setup

STEP_S: Final = 10.0
"""How long one check may take, whatever hangs."""
KNOCK_S: Final = 2.0
"""How long a broker may take to accept a connection."""
MAX_ADDRESSES: Final = 32
SHOWN: Final = 3
OLDEST_PRODUCE: Final = 9
"""The newest version of Produce that Kafka 2.8 speaks."""

KAFKA: Final = Look(
    name="kafka",
    at="each address of `kafka.bootstrap`: a connection, TLS, the login",
    bad_is="nobody answers, no TLS comes about, a certificate or a login is refused, the mechanism is not offered",
    remedy="check EMBEDMQ_KAFKA or kafka.bootstrap, and that it runs",
    exit_code=NOT_LET_IN,
)
BROKERS: Final = Look(
    name="kafka brokers",
    at="the addresses by which the brokers call themselves, and those given that did not answer",
    bad_is="one that cannot be reached from here, as a name that is only known inside a container's network",
    remedy="start that broker, or set its advertised.listeners to an address that clients can reach",
    exit_code=NOT_LET_IN,
)
VERSION: Final = Look(
    name="kafka version",
    at="which requests the broker understands, since it does not say its version",
    bad_is="older than 2.8",
    remedy="use Kafka 2.8 or newer",
)
RIGHTS: Final = Look(
    name="kafka rights",
    at="without `--config`: whether this user may write requests, on each request topic that it sees",
    bad_is="Write is lacking: on which topic, for whom",
    remedy="have an ACL allow it: docs/security.md lists what each needs",
    exit_code=NOT_LET_IN,
)
TOPICS: Final = Look(
    name="topics",
    at="request, retry, dead-letter and control topics: partitions, copies in sync, settings",
    bad_is="one partition; retention too short for the lane; compaction, or none of the control topic; compressed "
    "batches; too small a max.message.bytes; too few copies, or a min.insync.replicas that does not fit them",
    remedy="start a worker, or embedmq topics create MODEL",
)
LOOKS: Final = (KAFKA, BROKERS, VERSION, RIGHTS, TOPICS, LAG)


async def kafka_checks(setup: Setup, *, produces: bool) -> list[Check]:
    """From the ground up; what cannot be looked at since something before it failed says so. `produces`: whether the
    rights of a producer are needed.
    """
    given = setup.kafka.bootstrap[:MAX_ADDRESSES]
    refusals = dict(zip(given, await asyncio.gather(*(why_not(_only(setup, one)) for one in given)), strict=True))
    reached = reach(refusals)
    if not reached.ok:
        return [reached, *_skip("Kafka is not reached", produces, LOOKS[1:])]
    try:
        async with asyncio.timeout(STEP_S):
            found = await survey(setup, next(one for one, refusal in refusals.items() if refusal is None))
    except IncompatibleBrokerVersion:
        return [reached, VERSION.bad("older than Kafka 2.3"), *_skip("Kafka is too old", produces, LOOKS[3:])]
    except (KafkaError, OSError, RuntimeError) as error:
        return [reached, *_skip(f"it ends with {type(error).__name__}", produces, LOOKS[1:])]
    names = Names(setup.prefix)
    there, some = await _brokers(found, [one for one, refusal in refusals.items() if refusal is not None])
    rights = [writable(found.topics, names, setup.kafka.sasl_username)] if produces else []
    checks = [reached, there, version(found.versions), *rights]
    if not some:
        return [*checks, TOPICS.skipped("no broker is reached"), LAG.skipped("no broker is reached")]
    return [*checks, *await _topics(setup, found, names)]


def reach(refusals: Mapping[str, Refusal | None]) -> Check:
    """Whether some address lets us in. Pure."""
    good = [address for address, refusal in refusals.items() if refusal is None]
    if good:
        return KAFKA.good(f"{', '.join(good)} lets us in")
    told = {address: refusal for address, refusal in refusals.items() if refusal is not None}
    found = "; ".join(f"{address}: {refusal.what}" for address, refusal in told.items())
    return KAFKA.bad(found, "; ".join(dict.fromkeys(refusal.remedy for refusal in told.values())))


def version(versions: Mapping[int, int]) -> Check:
    """Whether the broker is new enough, by the newest version of each request. Pure."""
    found = release(versions)
    return VERSION.good(found) if versions.get(0, 0) >= OLDEST_PRODUCE else VERSION.bad(found)


def writable(topics: Mapping[str, Seen], names: Names, user: str | None) -> Check:
    """Whether a producer may write its requests, on the topics that it sees. Pure."""
    requests = [seen for topic, seen in topics.items() if names.parse(topic) is not None]
    if not requests:
        return RIGHTS.skipped("no request topic is seen")
    denied = [seen.name for seen in requests if not seen.allows("Write")]
    if denied:
        return RIGHTS.bad(f"{user or 'this user'} lacks Write on topic {_some(denied)}")
    return RIGHTS.good(f"Write on {len(requests)} request topics")


def topic_faults(
    seen: Iterable[Seen], settings: Mapping[str, Mapping[str, str]], names: Names, copies: int
) -> list[Check]:
    """What is wrong with topics, each fault once with the topics that have it. Pure."""
    found: defaultdict[Fault, list[str]] = defaultdict(list)
    for topic in seen:
        of = role(names, topic.name)
        if of is None or not topic.partitions:
            continue
        for fault in split(of, len(topic.partitions)):
            found[fault].append(topic.name)
        if (own := settings.get(topic.name)) is None:
            continue
        replicas = min(partition.replicas for partition in topic.partitions)
        in_sync = min(partition.in_sync for partition in topic.partitions)
        led = all(partition.leader >= 0 for partition in topic.partitions)
        least = int(own.get("min.insync.replicas", "1"))
        for fault in (*settings_faults(of, own), *copies_faults(replicas, in_sync, led, copies, least)):
            found[fault].append(topic.name)
    return [TOPICS.bad(f"{_some(topics)}: {fault.what}", fault.remedy) for fault, topics in found.items()]


async def _brokers(found: Survey, silent: Collection[str]) -> tuple[Check, bool]:
    """Whether every broker can be reached by the address that it tells, and whether any can."""
    places = [f"{host}:{port}" for host, port in found.brokers.values()]
    knocks = await asyncio.gather(*(_knock(host, port) for host, port in found.brokers.values()))
    away = [f"{place} ({why})" for place, why in zip(places, knocks, strict=True) if why]
    if away or silent:
        told = [f"the brokers call themselves {', '.join(away)}"] if away else []
        told += [f"no answer from {', '.join(silent)}"] if silent else []
        return BROKERS.bad("; ".join(told)), len(away) < len(places)
    return BROKERS.good(f"{len(places)} broker(s): {_some(places)}"), True


async def _knock(host: str, port: int) -> str:
    """Why a connection does not come about; empty if it does."""
    try:
        async with asyncio.timeout(KNOCK_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return error.strerror or "no answer"
    writer.close()
    return ""


async def _topics(setup: Setup, found: Survey, names: Names) -> list[Check]:
    ours = [seen for name, seen in found.topics.items() if role(names, name) is not None]
    if not any(names.parse(seen.name) for seen in ours):
        remedy = f"{TOPICS.remedy}, or have an ACL let this user see them"
        return [TOPICS.bad(f"no request topics begin with {names.prefix}.", remedy), LAG.skipped("no topics")]
    # a producer sees none but the topics that it writes to, and cannot tell what is missing
    sees_all = len(ours) > sum(names.parse(seen.name) is not None for seen in ours)
    checks = [TOPICS.bad(f"{names.dead} is missing")] if sees_all and names.dead not in found.topics else []
    open_ones = [seen for seen in ours if seen.allows("DescribeConfigs")]
    closed = [seen.name for seen in ours if not seen.allows("DescribeConfigs")]
    try:
        async with asyncio.timeout(STEP_S), connect(setup) as cluster:
            settings = {fact.name: fact.settings for fact in await cluster.facts([seen.name for seen in open_ones])}
    except (Unavailable, OSError, RuntimeError) as error:
        return [*checks, TOPICS.skipped(str(error) or "no answer"), LAG.skipped("the topics are not known")]
    checks += topic_faults(ours, settings, names, min(MAX_REPLICATION, len(found.brokers)))
    if closed:
        why = f"this user lacks DescribeConfigs on topic {_some(closed)}, for their settings"
        checks.append(TOPICS.skipped(why, "have an ACL allow it, or ask as another user"))
    checks = checks or [TOPICS.good(f"{len(ours)} topics, as they should be")]
    return [*checks, await lag(setup, names, ours, settings, STEP_S)]


def _skip(why: str, produces: bool, looks: Iterable[Look]) -> list[Check]:
    return [look.skipped(why) for look in looks if produces or look is not RIGHTS]


def _only(setup: Setup, address: str) -> Setup:
    return structs.replace(setup, kafka=structs.replace(setup.kafka, bootstrap=[address]))


def _some(names: Collection[str]) -> str:
    """The first few, and how many there are besides."""
    shown = ", ".join(sorted(names)[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
