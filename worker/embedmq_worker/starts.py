"""Which record kills the process outright, so that nobody is left to say so? Deaths are counted in Redis, by partition.

For each partition a mark is kept: the offset of a record, how often a process died with it, and whether one runs it.

* `begin`, at the first records of a partition in an assignment: the mark of the owner before is judged by the first
  record's offset. The same record, still marked as running: one death more. The same, not running: that owner left in
  good order, or died of something else; the count stays as it is. Another record: there was progress, the count is 0.
  So neither rebalances nor idle partitions count, and a deploy never raises a count.
* Up to `SERIAL_FROM` deaths the partition is an ordinary one: its first record is marked as running at once, since
  whatever kills the process may be in a batch with it.
* From then on it is a suspect, as are all innocent partitions of that process. Its records run one at a time, and are
  marked as running only between `enter` and `leave`: what dies meanwhile dies of this record. Three rules make that
  true, and they are the caller's: *between `enter` and `leave` nothing else is cut into tokens or computed in this
  process*; *the model is in memory before `enter`* (a load that kills is no record's fault); *a record is entered only
  when all before it in its partition are committed*, the failure of one that was not run among them.
* At `UNRUN_FROM` deaths that record is to be failed without being run, and its partition goes on as a suspect.
* After `SERIAL_RECORDS` that passed alone it is an ordinary partition again.
* `end`, at a revoke or stop: nothing of these partitions runs any more.

A poison at the head of its partition is found after six deaths, one that others of its batch hide after a few more:
three for each offset at which the process began to read, three as a suspect.

Redis away, slow or wrong counts nothing and holds up nothing: nobody is judged, and the worker goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.names import Names
from msgspec import Struct
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

Partition = tuple[str, int]
"""Topic and number."""

SERIAL_FROM: Final = 3
"""Deaths from which on a partition is a suspect."""
UNRUN_FROM: Final = 6
"""Deaths from which on its record is not run again."""
SERIAL_RECORDS: Final = 256
"""Records that pass alone before a suspect is an ordinary partition again."""
TTL_S: Final = 24 * 3600
"""How long a mark is remembered."""
PATIENCE_S: Final = 1.0
"""How long Redis is waited for."""
MAX_UNANSWERED: Final = 8
"""Calls that Redis may still owe an answer; no further one is made meanwhile."""
FIELDS: Final = ("offset", "deaths", "running")

log = logging.getLogger(__name__)


class Mark(Struct, frozen=True):
    """What is known of one partition: how often a process died while the record at `offset` was running."""

    offset: int
    deaths: int = 0
    running: bool = True

    @property
    def suspect(self) -> bool:
        """Whether the partition's records run one at a time."""
        return self.deaths >= SERIAL_FROM


def judge(known: Mark | None, head: int) -> Mark:
    """The mark of a partition of which the first record was read, from the one that the owner before left. Pure."""
    deaths = known.deaths + known.running if known is not None and known.offset == head else 0
    return Mark(head, min(deaths, UNRUN_FROM), running=deaths < SERIAL_FROM)


def entered(judged: Mark, offset: int) -> Mark:
    """The mark of a suspect whose record at `offset` is about to run; `judged` as it began. Pure."""
    return Mark(offset, judged.deaths if offset == judged.offset else SERIAL_FROM)


def left(offset: int) -> Mark:
    """The mark of a suspect whose record at `offset` did no harm. Pure."""
    return Mark(offset, SERIAL_FROM, running=False)


@dataclass(slots=True)
class _Begun:
    """A partition of which records were read."""

    judged: Mark
    serial: int
    """How many records are still to pass alone."""
    passed: int | None = None
    """The last one that did."""


class Starts:
    """The marks of the partitions that this worker reads. No call raises, or takes much longer than `PATIENCE_S`; calls
    take effect in their order.
    """

    def __init__(self, client: RedisClient, names: Names) -> None:
        """`client` is shared; it neither retries nor waits by itself."""
        self._client = client
        self._names = names
        self._begun: dict[Partition, _Begun] = {}
        self._order = asyncio.Lock()
        self._unanswered: set[asyncio.Task[None]] = set()

    def alone(self, partition: Partition) -> bool:
        """Whether records of this partition run one at a time, each between `enter` and `leave`."""
        begun = self._begun.get(partition)
        return begun is not None and begun.serial > 0

    def unrun(self, partition: Partition, offset: int) -> bool:
        """Whether this record is to be failed without being run."""
        begun = self._begun.get(partition)
        return begun is not None and begun.judged.offset == offset and begun.judged.deaths >= UNRUN_FROM

    async def begin(self, heads: Mapping[Partition, int]) -> None:
        """Judge partitions by the first record that was read of each: once in an assignment, before any is run."""
        await self._bounded(self._begin(heads))

    async def enter(self, partition: Partition, offset: int) -> None:
        """A record of a suspect is about to be cut into tokens, or computed: each may be entered and left by itself."""
        await self._bounded(self._enter(partition, offset))

    async def leave(self, partition: Partition, offset: int) -> None:
        """It was computed, or failed, and the process lives."""
        await self._bounded(self._leave(partition, offset))

    async def end(self, partitions: Collection[Partition]) -> None:
        """Partitions are given back in good order."""
        await self._bounded(self._end(partitions))

    async def _begin(self, heads: Mapping[Partition, int]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for partition in heads:
            pipe.execute_command("HMGET", self._key(partition), *FIELDS)
        answers: list[list[bytes | None]] = await pipe.execute()
        known = dict(zip(heads, map(_read, answers), strict=True))
        marks = {partition: judge(known[partition], head) for partition, head in heads.items()}
        await self._write(marks)
        for partition, mark in marks.items():
            self._begun[partition] = _Begun(mark, SERIAL_RECORDS if mark.suspect else 0)
            if mark.suspect:
                place = {"topic": partition[0], "partition": partition[1], "offset": mark.offset}
                log.warning("suspect_partition", extra={**place, "deaths": mark.deaths})

    async def _enter(self, partition: Partition, offset: int) -> None:
        if (begun := self._begun.get(partition)) is not None:
            await self._write({partition: entered(begun.judged, offset)})

    async def _leave(self, partition: Partition, offset: int) -> None:
        if (begun := self._begun.get(partition)) is not None:  # else it was given back, and may be another worker's
            begun.serial -= offset != begun.passed
            begun.passed = offset
            await self._write({partition: left(offset)})

    async def _end(self, partitions: Collection[Partition]) -> None:
        # of a partition of which nothing was read, the mark is still that of the owner before
        begun = [partition for partition in partitions if self._begun.pop(partition, None) is not None]
        pipe = self._client.pipeline(transaction=False)
        for partition in begun:
            pipe.execute_command("HSET", self._key(partition), "running", 0)
            pipe.execute_command("EXPIRE", self._key(partition), TTL_S)
        await pipe.execute()

    async def _write(self, marks: Mapping[Partition, Mark]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for partition, mark in marks.items():
            values = zip(FIELDS, (mark.offset, mark.deaths, int(mark.running)), strict=True)
            pipe.execute_command("HSET", self._key(partition), *(part for pair in values for part in pair))
            pipe.execute_command("EXPIRE", self._key(partition), TTL_S)
        await pipe.execute()

    def _key(self, partition: Partition) -> str:
        return self._names.starts(*partition)

    async def _bounded(self, call: Coroutine[None, None, None]) -> None:
        """Wait for a call for a while. It is never cancelled, which would leave its answer to the next one; when it
        is late it takes effect late.
        """
        if len(self._unanswered) >= MAX_UNANSWERED:
            call.close()
            return
        task = asyncio.create_task(self._in_order(call))
        self._unanswered.add(task)
        task.add_done_callback(self._unanswered.discard)
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        for answered in done:
            answered.result()
        if not done:
            log.warning("starts_not_counted", extra={"error": f"Redis did not answer in {PATIENCE_S:g} s"})

    async def _in_order(self, call: Coroutine[None, None, None]) -> None:
        async with self._order:
            try:
                await call
            except (RedisError, *TRANSPORT_ERRORS) as error:
                log.warning("starts_not_counted", extra={"error": f"{type(error).__name__}: {error}"})


def _read(values: Sequence[bytes | None]) -> Mark | None:
    """A mark as Redis has it; None where there is none, or another hand wrote it."""
    try:
        offset, deaths, running = (int(value or b"") for value in values)
    except ValueError:
        return None
    return Mark(offset, max(deaths, 0), bool(running))
