"""Is Redis there, does it let us in, and does it keep what it is given?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from embedmq_schemas.check import NOT_LET_IN, Check, Harmless, Look, forbidden
from embedmq_schemas.connection import RedisConnection, redact_url
from embedmq_schemas.names import Names
from embedmq_schemas.refusal import explain
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from embedmq.settings import Setup

ANSWER_S: Final = 5.0
"""How long Redis may take to accept a connection, and to answer a command."""
OLDEST: Final = (6, 2)
MAX_SKEW_S: Final = 1.0
FULL: Final = 0.9
"""Part of `maxmemory` above which there is soon no room."""
SAMPLES: Final = 3
NOBODY: Final = "doctor"
"""In the names of keys that nobody has."""

REDIS: Final = Look(
    name="redis",
    at="`redis.url`: a connection, TLS, the login",
    bad_is="nobody answers, no TLS comes about, a certificate or a login is refused",
    remedy="check EMBEDMQ_REDIS or redis.url, and that it runs",
    exit_code=NOT_LET_IN,
)
VERSION: Final = Look(
    name="redis version",
    at="what the server says of itself",
    bad_is="older than 6.2, which has neither `XTRIM MINID` nor `SET … GET`",
    remedy="use Redis 6.2 or newer, or Valkey",
)
ROLE: Final = Look(
    name="redis role",
    at="what the server says of itself",
    bad_is="a member of a cluster, a replica, a Sentinel",
    remedy="name the one primary, with replicas or Sentinel behind it: Redis Cluster is not supported",
)
RIGHTS: Final = Look(
    name="redis rights",
    at="without `--config`: each command that a producer sends, on its keys, in a form that changes nothing",
    bad_is="a command or a key that the user's ACL does not allow",
    remedy="have an ACL allow it: docs/security.md lists what each needs",
    exit_code=NOT_LET_IN,
)
EVICTION: Final = Look(
    name="redis eviction",
    at="`maxmemory-policy`",
    bad_is="anything but noeviction",
    remedy="CONFIG SET maxmemory-policy noeviction, and in its configuration file: an evicted result is lost",
)
ROOM: Final = Look(
    name="redis room",
    at="memory in use of `maxmemory`, and whether the last snapshot could be written",
    bad_is="more than 90 %, or a failed snapshot, after which Redis takes no writes",
    remedy="raise maxmemory, or have results kept for a shorter time (keep_s); see its log and its disk",
)
CLOCK: Final = Look(
    name="clock",
    at="this machine's clock against Redis's (Kafka's brokers do not tell theirs)",
    bad_is="more than 1 s apart: deadlines are compared on different machines",
    remedy="synchronise the clocks of both machines (NTP)",
)
LOOKS: Final = (REDIS, VERSION, ROLE, RIGHTS, EVICTION, ROOM, CLOCK)


async def redis_checks(setup: Setup, *, produces: bool) -> list[Check]:
    """From the ground up; what cannot be looked at since something before it failed says so. `produces`: whether the
    rights of a producer are needed.
    """
    if setup.redis is None:
        return []
    try:
        redis = _client(setup.redis, min(ANSWER_S, setup.connect_timeout_s))
    except ValueError:  # it may quote a part of the password
        remedy = "percent-encode what is special in user and password, or give them as EMBEDMQ_REDIS__PASSWORD"
        return _only(REDIS.bad("redis.url cannot be read", remedy), produces)
    try:
        reached, hello = await _reach(redis, setup.redis.url)
        if not reached.ok or hello is None:
            return _only(reached, produces)
        rights = [await _rights(redis, producer_needs(Names(setup.prefix)))] if produces else []
        info, skews = await _info(redis), await _skews(redis)
    except (RedisError, OSError) as error:
        return _only(_refused(setup.redis.url, error), produces)
    finally:
        await redis.aclose()
    return [reached, version(str(hello.get("version", ""))), role(hello), *rights, *stores(info), clock(skews)]


def version(found: str) -> Check:
    """At least 6.2. Pure."""
    parts = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    return VERSION.good(found) if parts >= OLDEST else VERSION.bad(found or "older than 6.0")


def role(hello: Mapping[str, object]) -> Check:
    """One primary takes writes, and several keys of one request are read at once. Pure."""
    mode, found = hello.get("mode", "standalone"), hello.get("role", "master")
    if mode != "standalone":
        return ROLE.bad(str(mode))
    return ROLE.good("a primary") if found == "master" else ROLE.bad(f"a {found}")


def stores(info: Mapping[str, object] | None) -> list[Check]:
    """Whether results stay, and whether there is room for more; `info` is Redis's own, None where it is denied."""
    if info is None:
        why, remedy = "this user lacks +info", "allow it, or ask as another user"
        return [EVICTION.skipped(why, remedy), ROOM.skipped(why, remedy)]
    policy = str(info.get("maxmemory_policy", "unknown"))
    used, most = int(str(info.get("used_memory", 0))), int(str(info.get("maxmemory", 0)))
    room = f"{used >> 20} MiB in use, of {f'{most >> 20} MiB' if most else 'what the machine has'}"
    if str(info.get("rdb_last_bgsave_status", "ok")) != "ok":
        room_found = ROOM.bad("the last snapshot could not be written")
    else:
        room_found = ROOM.bad(room) if most and used > FULL * most else ROOM.good(room)
    return [EVICTION.good(policy) if policy == "noeviction" else EVICTION.bad(policy), room_found]


def clock(samples: Sequence[tuple[float, float, float]] | None) -> Check:
    """How far clocks are apart, by samples of our time, Redis's, and ours again, in seconds; None where it may not be
    asked. Of the quickest answer, what the way may have taken is left out. Pure.
    """
    if not samples:
        return CLOCK.skipped("this user lacks +time", "allow it, or ask as another user")
    before, theirs, after = min(samples, key=lambda sample: sample[2] - sample[0])
    way_s = (after - before) / 2
    skew_s = theirs - (before + after) / 2
    found = f"{abs(skew_s):.3f} s {'ahead' if skew_s < 0 else 'behind'} of Redis's, give or take {way_s:.3f} s"
    return CLOCK.bad(found) if abs(skew_s) - way_s > MAX_SKEW_S else CLOCK.good(found)


def producer_needs(names: Names) -> list[Harmless]:
    """What a producer asks, of keys that are not there. To list keys (+scan) is left to whoever grants rights."""
    result, stream = names.result(NOBODY), names.stream(NOBODY)
    results = names.result("*")
    stubs, streams = f"{{{results}", names.stream("*")
    return [
        Harmless(("PING",)),
        Harmless(("GET", result), results),
        Harmless(("SET", names.cancel(NOBODY), "", "XX"), stubs),
        Harmless(("TTL", names.stub(NOBODY)), stubs),
        Harmless(("UNLINK", stream), streams),
        Harmless(("XLEN", stream), streams),
        Harmless(("XREAD", "COUNT", 1, "STREAMS", stream, "0"), streams),
        Harmless(("XTRIM", stream, "MINID", "0"), streams),
        Harmless(("MGET", names.model(NOBODY)), names.model("*")),
        Harmless(("MGET", names.worker(NOBODY)), names.worker("*")),
    ]


async def _rights(redis: Redis, needs: Sequence[Harmless]) -> Check:
    pipe: Any = redis.pipeline(transaction=False)
    for need in needs:
        pipe.execute_command(*need.words)
    rules = forbidden(needs, await pipe.execute(raise_on_error=False))
    if rules:
        return RIGHTS.bad(f"the ACL of this user lacks {' '.join(rules)}", f"{RIGHTS.remedy}; add {' '.join(rules)}")
    return RIGHTS.good("all that a producer sends")


async def _reach(redis: Redis, url: str) -> tuple[Check, dict[str, object] | None]:
    """Whether it answers, and what it says of itself, which any user may ask."""
    ask: Any = redis.execute_command
    try:
        told = await ask("HELLO")
    except ResponseError as error:
        if explain(error, tls=False) is not None or "unknown command" not in str(error).lower():
            raise
        return REDIS.good(f"{redact_url(url)} lets us in"), {}
    pairs = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
    hello: dict[str, object] = {_text(key): _text(value) for key, value in pairs}
    return REDIS.good(f"{redact_url(url)} lets us in"), hello


async def _info(redis: Redis) -> dict[str, object] | None:
    try:
        found: dict[str, object] = await redis.info()
    except NoPermissionError:
        return None
    return found


async def _skews(redis: Redis) -> list[tuple[float, float, float]] | None:
    samples: list[tuple[float, float, float]] = []
    for _ in range(SAMPLES):
        before = time.time()
        try:
            seconds, microseconds = await redis.time()
        except NoPermissionError:
            return None
        samples.append((before, seconds + microseconds / 1e6, time.time()))
    return samples


def _client(connection: RedisConnection, limit_s: float) -> Redis:
    return Redis.from_url(
        connection.url,
        **connection.options(),
        socket_timeout=limit_s,
        socket_connect_timeout=limit_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def _refused(url: str, error: Exception) -> Check:
    refusal = explain(error, tls=url.startswith("rediss:"))
    if refusal is None:
        return REDIS.bad(f"{redact_url(url)}: {str(error) or 'no answer'}")
    return REDIS.bad(f"{redact_url(url)}: {refusal.what}", refusal.remedy)


def _only(reached: Check, produces: bool) -> list[Check]:
    looks = [look for look in LOOKS[1:] if produces or look is not RIGHTS]
    return [reached, *(look.skipped("Redis is not reached") for look in looks)]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
