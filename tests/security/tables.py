"""What does docs/security.md say that each may do? The tests run with exactly that."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from docs.pages.source import ROOT
from tests.security.guarded import USERS, Guarded, password
from tests.security.rights import Right

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `(User:\w+)` \| (\w+) \| `(\S+)` \| (\w+) \| (\w+) \| .* \|$", re.MULTILINE)
_USER = re.compile(r"^user (\w+) on >change-me (.*)$", re.MULTILINE)


def kafka_rights(prefix: str, topic: str) -> list[Right]:
    """The page's rows, for another prefix and reply topic."""
    renamed: dict[str, str] = {"vectors": topic, "readers": f"{topic}-readers"}
    return [
        Right(principal, resource, renamed.get(name) or str(name).replace("embedmq", prefix, 1), pattern, operation)
        for principal, resource, name, pattern, operation in _ROW.findall(PAGE)
    ]


def redis_rules(prefix: str) -> dict[str, list[str]]:
    """The words after each user's password, for another prefix."""
    return {user: rules.replace("embedmq:", f"{prefix}:").split() for user, rules in _USER.findall(PAGE)}


async def tell_redis(redis: Redis, *words: str) -> None:
    """One command, whatever it answers."""
    execute: Callable[..., Awaitable[object]] = redis.execute_command
    await execute(*words)


async def give_redis_rules(doors: Guarded, prefix: str) -> None:
    """From now on users may do in Redis what the page says."""
    async with Redis.from_url(doors.redis_plain) as redis:
        for user, rules in redis_rules(prefix).items():
            assert user in USERS
            await tell_redis(redis, "ACL", "SETUSER", user, "reset", "on", f">{password(user)}", *rules)


async def give_all_of_redis(doors: Guarded) -> None:
    """From now on users may do everything in Redis, as before."""
    async with Redis.from_url(doors.redis_plain) as redis:
        for user in USERS:
            words = ("reset", "on", f">{password(user)}", "~*", "&*", "+@all")
            await tell_redis(redis, "ACL", "SETUSER", user, *words)
