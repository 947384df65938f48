"""Where do bulk jobs say how they are, and hear what is wanted of them? In Redis, so that it is known everywhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, cast

import msgspec
from embedmq_schemas.codec import read_with
from embedmq_schemas.names import Names
from msgspec import Struct

from embedmq.bulk.errors import JobTaken
from embedmq.bulk.status import WISHES, JobStatus, Wish, decode, encode, judge
from embedmq.store import Store

STATUS_TTL_S: Final = 7 * 24 * 3_600
"""How long a job is known after its last word."""
HOLDER_TTL_S: Final = 30
"""How long a job is held after a process died with it; …"""
KEEP_PERIOD_S: Final = 5.0
"""… a living one calls `keep` this often."""
WISH_TTL_S: Final = 24 * 3_600
LOOK_PERIOD_S: Final = 0.5
"""How often a job that somebody holds is tried again, while `take` waits."""

# A holder is its token, a line break, and who it is. Each script decides and acts in one step. A wish that was meant
# for the last holder is not for the next.
_TAKE: Final = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], held or (ARGV[1] .. ARGV[2]), 'EX', ARGV[3])
if not held then redis.call('DEL', KEYS[2]) end
return false
"""
_IF_OURS: Final = (
    "local value = redis.call('GET', KEYS[1])\nif value and string.sub(value, 1, #ARGV[1]) == ARGV[1] then "
)
_KEEP: Final = _IF_OURS + "return redis.call('EXPIRE', KEYS[1], ARGV[2]) end\nreturn 0"
_DROP: Final = _IF_OURS + "return redis.call('DEL', KEYS[1]) end\nreturn 0"


class Holder(Struct, frozen=True):
    """Which process runs a job, for a person, and since when."""

    who: str = "another process"
    since: str = "a while"


_HOLDER: Final = msgspec.json.Decoder(Holder)


class Board:
    """Reads and writes what is known of jobs; every method raises Unavailable when Redis cannot be asked."""

    def __init__(self, store: Store, names: Names, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._names = names
        self._clock = clock

    async def take(
        self,
        job: str,
        token: str,
        who: str,
        *,
        wait_s: float = 0.0,
        is_gone: Callable[[str], bool] = lambda token: False,  # noqa: ARG005  # nobody is known to be
    ) -> None:
        """Become the one process that runs a job, until `leave`, or for `HOLDER_TTL_S` after the last `keep`; forgets
        what was wished of its last run. Taking what is ours (the same `token`) is no error.

        A holder whose token `is_gone` is taken from at once. With `wait_s` (more than `HOLDER_TTL_S`) a holder that
        was killed is outlived; one that keeps the job ends the wait.

        Raises JobTaken naming who holds it and since when.
        """
        holder, wish = self._names.job_holder(job), self._names.job_wish(job)
        since = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        own = msgspec.json.encode(Holder(who, since))
        until, left_s = time.monotonic() + wait_s, HOLDER_TTL_S
        while True:
            held = await self._store.evaluate(_TAKE, (holder, wish), (f"{token}\n", own, HOLDER_TTL_S))
            if held is None:
                return
            if is_gone(cast("bytes", held).partition(b"\n")[0].decode(errors="replace")):
                await self._store.evaluate(_DROP, (holder,), (cast("bytes", held),))
                continue
            before_s, left_s = left_s, await self._store.left_s(holder)
            if left_s > before_s or time.monotonic() >= until:
                raise _taken(job, cast("bytes", held))
            await asyncio.sleep(LOOK_PERIOD_S)

    async def keep(self, job: str, token: str) -> bool:
        """Say that we still run it. False when it is not ours any more: another process took it, or Redis lost it, and
        `take` tells which.
        """
        keys = (self._names.job_holder(job),)
        return await self._store.evaluate(_KEEP, keys, (f"{token}\n", HOLDER_TTL_S)) == 1

    async def leave(self, job: str, token: str) -> None:
        """Let another process have it; nothing happens where it is not ours."""
        await self._store.evaluate(_DROP, (self._names.job_holder(job),), (f"{token}\n",))

    async def post(self, status: JobStatus) -> None:
        """Say how a job is."""
        await self._store.put(self._names.job(status.name), encode(status), STATUS_TTL_S)

    async def get(self, job: str) -> JobStatus | None:
        """How a job is; None where nothing is known of it."""
        value, holder = await self._store.get_all([self._names.job(job), self._names.job_holder(job)])
        status = None if value is None else decode(value)
        return None if status is None else judge(status, held=holder is not None)

    async def all(self) -> list[JobStatus]:
        """Every job that is known, the one that was started last first."""
        found = await self._store.find(self._names.job(""))
        holders = await self._store.get_all([self._names.job_holder(job) for job in found]) if found else []
        known = ((decode(value), held) for value, held in zip(found.values(), holders, strict=True))
        jobs = [judge(status, held=held is not None) for status, held in known if status is not None]
        return sorted(jobs, key=lambda job: job.started_unix_s, reverse=True)

    async def ask(self, job: str, wish: Wish) -> None:
        """Want something of the process that runs a job; the last wish counts."""
        await self._store.put(self._names.job_wish(job), wish.encode(), WISH_TTL_S)

    async def wish(self, job: str) -> Wish | None:
        """What is wanted of a job."""
        value = await self._store.get(self._names.job_wish(job))
        return next((wish for wish in WISHES if wish.encode() == value), None)

    async def clear_wish(self, job: str, wish: Wish | None = None) -> None:
        """Forget what was wanted; where `wish` is given, only that, since somebody may want something else by now."""
        key = self._names.job_wish(job)
        if wish is None:
            await self._store.drop(key)
        else:
            await self._store.evaluate(_DROP, (key,), (wish,))


def _taken(job: str, held: bytes) -> JobTaken:
    try:
        holder = read_with(_HOLDER, held.partition(b"\n")[2])
    except msgspec.MsgspecError:
        holder = Holder()
    return JobTaken(
        f"job {job} is run by {holder.who} since {holder.since}: wait for its end, call it off "
        f"(embedmq job {job} cancel), or give this one another --name"
    )
