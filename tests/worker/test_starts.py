"""A record that kills the process is found, whoever was with it; no other is suspected for long, or failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import pytest
from embedmq_local.redis_server import RedisServer
from embedmq_local.stack import Stack
from embedmq_schemas.names import Names
from embedmq_worker.config import Redis
from embedmq_worker.redis_sink import connect
from embedmq_worker.starts import (
    MAX_UNANSWERED,
    SERIAL_FROM,
    SERIAL_RECORDS,
    TTL_S,
    UNRUN_FROM,
    Mark,
    Starts,
    entered,
    judge,
    left,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis as RedisClient

from tests.worker.world import eventually

P, Q = ("t", 0), ("t", 1)
seeds = st.integers(0, 2**32)
Record = tuple[int, int]
"""Partition and offset."""


class Killed(Exception):
    """The process is gone."""


@dataclass
class Fleet:
    """One process after the other reads partitions of `size` records each, until all have an outcome.

    What a process computes at a time, what it commits, and when it is stopped in good order is drawn.
    """

    size: int
    partitions: int
    poison: frozenset[Record]
    random: Random
    orderly: bool
    """Whether processes are stopped in good order now and then."""
    in_order: bool = False
    """Whether batches are the next records of one partition, and committed at once."""
    marks: dict[int, Mark] = field(default_factory=dict[int, Mark])
    committed: dict[int, int] = field(default_factory=dict[int, int])
    unrun: set[Record] = field(default_factory=set[Record])
    heads: set[Record] = field(default_factory=set[Record])
    """Where some process began to read."""
    deaths: int = 0

    def run(self) -> None:
        self.committed = dict.fromkeys(range(self.partitions), 0)
        while any(offset < self.size for offset in self.committed.values()):
            try:
                Process(self).live()
            except Killed:
                self.deaths += 1
            assert self.deaths <= SERIAL_FROM * len(self.heads) + (UNRUN_FROM - SERIAL_FROM) * len(self.poison)


class Process:
    """One life; it ends with `Killed`, in good order, or with nothing left to do."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.open = {
            partition: set(range(committed, fleet.size))
            for partition, committed in fleet.committed.items()
            if committed < fleet.size
        }
        self.judged: dict[int, Mark] = {}

    def live(self) -> None:
        random = self.fleet.random
        while any(self.open.values()):
            if self.fleet.orderly and random.random() < 0.05:
                break
            partition = random.choice([partition for partition, open_ in self.open.items() if open_])
            if partition not in self.judged:
                self.begin(partition)
            elif self.judged[partition].suspect:
                self.run_alone(partition)
            else:
                self.run_batch()
        for partition in self.judged:
            self.commit(partition)
            mark = self.fleet.marks[partition]
            self.fleet.marks[partition] = Mark(mark.offset, mark.deaths, running=False)

    def begin(self, partition: int) -> None:
        head = min(self.open[partition])
        self.fleet.heads.add((partition, head))
        mark = judge(self.fleet.marks.get(partition), head)
        self.judged[partition] = self.fleet.marks[partition] = mark

    def run_alone(self, partition: int) -> None:
        self.commit(partition)
        offset = min(self.open[partition])
        judged = self.judged[partition]
        if judged.offset == offset and judged.deaths >= UNRUN_FROM:
            self.fleet.unrun.add((partition, offset))
        else:
            self.fleet.marks[partition] = entered(judged, offset)
            self.compute([(partition, offset)])
            self.fleet.marks[partition] = left(offset)
        self.open[partition].discard(offset)

    def run_batch(self) -> None:
        """Records of any of the ordinary partitions, in any order."""
        random = self.fleet.random
        if self.fleet.in_order:
            partition = random.choice([partition for partition, mark in self.judged.items() if not mark.suspect])
            batch = [(partition, offset) for offset in sorted(self.open[partition])[:4]]
            self.compute(batch)
            self.open[partition].difference_update(offset for _, offset in batch)
            self.commit(partition)
            return
        ready = [
            (partition, offset)
            for partition, mark in self.judged.items()
            if not mark.suspect
            for offset in self.open[partition]
        ]
        batch = random.sample(ready, random.randint(1, min(4, len(ready))))
        self.compute(batch)
        for partition, offset in batch:
            self.open[partition].discard(offset)
            if random.random() < 0.5:
                self.commit(partition)

    def compute(self, batch: list[Record]) -> None:
        if self.fleet.poison.intersection(batch):
            raise Killed

    def commit(self, partition: int) -> None:
        self.fleet.committed[partition] = min(self.open[partition], default=self.fleet.size)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_poison_is_failed_unrun_and_nothing_else_ever_is(data: st.DataObject) -> None:
    """Anywhere among innocent records, several of them, batches in any order, commits that come or do not, stops in
    good order in between. Deaths stay within three for each place where reading began and three for each poison."""
    size, partitions = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    records = [(partition, offset) for partition in range(partitions) for offset in range(size)]
    poison = data.draw(st.frozensets(st.sampled_from(records), min_size=1, max_size=3))
    fleet = Fleet(size, partitions, poison, Random(data.draw(seeds)), data.draw(st.booleans()))
    fleet.run()
    assert fleet.unrun == poison


@given(st.data())
def test_a_poison_that_is_read_in_order_is_found_after_nine_deaths_at_most(data: st.DataObject) -> None:
    """Three where reading began before it, three where its batch began, three alone."""
    size = data.draw(st.integers(1, 40))
    poison = frozenset({(0, data.draw(st.integers(0, size - 1)))})
    fleet = Fleet(size, 3, poison, Random(data.draw(seeds)), orderly=False, in_order=True)
    fleet.run()
    assert fleet.unrun == poison
    assert UNRUN_FROM <= fleet.deaths <= SERIAL_FROM + 6


def test_progress_clears_and_good_order_neither_raises_nor_forgets() -> None:
    """A rolling deploy may come between two deaths, or a hundred times without one."""
    assert judge(None, 7) == Mark(7, 0)
    assert judge(Mark(7, 1), 7) == Mark(7, 2)
    assert judge(Mark(7, 1), 8) == Mark(8, 0)
    assert judge(Mark(7, 1), 3) == Mark(3, 0), "a topic made anew, or read again from further back"
    assert judge(Mark(7, 2, running=False), 7) == Mark(7, 2)
    assert judge(Mark(7, 2), 7) == Mark(7, 3, running=False)
    assert judge(Mark(7, 9), 7) == Mark(7, UNRUN_FROM, running=False)


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[RedisClient]:
    client = RedisClient.from_url(stack.redis)
    yield client
    await client.aclose()


async def test_deaths_are_counted_across_processes_up_to_the_record_that_is_not_run(
    redis: RedisClient, prefix: str
) -> None:
    """Each life is an object of its own that never says goodbye; another partition of it never comes so far."""
    for life in range(UNRUN_FROM):
        starts = Starts(redis, Names(prefix))
        await starts.begin({P: 41, Q: 7})
        assert starts.alone(P) == starts.alone(Q) == (life >= SERIAL_FROM)
        assert not starts.unrun(P, 41)
        if starts.alone(P):
            await starts.enter(Q, 7)
            await starts.leave(Q, 7)
            await starts.enter(P, 41)
    starts = Starts(redis, Names(prefix))
    await starts.begin({P: 41, Q: 7})
    assert [starts.unrun(P, 41), starts.unrun(P, 42), starts.unrun(Q, 7)] == [True, False, False]
    assert starts.alone(P)
    await starts.enter(P, 42)
    again = Starts(redis, Names(prefix))
    await again.begin({P: 42})
    assert again.alone(P), "what comes next goes on alone"
    assert 0 < await redis.ttl(Names(prefix).starts(*P)) <= TTL_S


async def test_a_partition_given_back_in_good_order_counts_no_death(redis: RedisClient, prefix: str) -> None:
    """However often; but one of which nothing was read keeps the mark of the owner before."""
    names = Names(prefix)
    for _ in range(10):
        starts = Starts(redis, names)
        await starts.begin({P: 1})
        await starts.end([P, Q])
        assert not starts.alone(P)
    assert not await redis.exists(names.starts(*Q))
    for _ in range(SERIAL_FROM):
        await Starts(redis, names).begin({P: 1})
        await Starts(redis, names).end([P])
    starts = Starts(redis, names)
    await starts.begin({P: 1})
    assert starts.alone(P)


async def test_a_suspect_is_ordinary_again_when_enough_records_passed_alone(redis: RedisClient, prefix: str) -> None:
    """Each counts once, also when it is left between its tokens and its vectors; and whoever reads on after them knows
    nothing of it any more."""
    for _ in range(SERIAL_FROM):
        await Starts(redis, Names(prefix)).begin({P: 0})
    starts = Starts(redis, Names(prefix))
    await starts.begin({P: 0})
    for offset in range(SERIAL_RECORDS):
        assert starts.alone(P)
        for _ in range(2):
            await starts.enter(P, offset)
            await starts.leave(P, offset)
    assert not starts.alone(P)
    later = Starts(redis, Names(prefix))
    await later.begin({P: SERIAL_RECORDS})
    assert not later.alone(P)


async def test_a_record_of_a_partition_that_was_given_back_leaves_no_mark(redis: RedisClient, prefix: str) -> None:
    """Another worker may have begun with it since."""
    names = Names(prefix)
    mine, other = Starts(redis, names), Starts(redis, names)
    await mine.begin({P: 5})
    await mine.end([P])
    await other.begin({P: 5})
    await mine.enter(P, 5)
    await mine.leave(P, 5)
    assert await redis.hget(names.starts(*P), "running") == b"1"


@pytest.mark.parametrize("value", [{"offset": "x", "deaths": "6", "running": "1"}, {"running": "0"}, {"deaths": "9"}])
async def test_a_mark_that_another_hand_wrote_is_no_mark(
    redis: RedisClient, prefix: str, value: dict[str, str]
) -> None:
    """Nothing is failed because of it."""
    names = Names(prefix)
    for name, text in value.items():
        await redis.hset(names.starts(*P), name, text)
    starts = Starts(redis, names)
    await starts.begin({P: 1})
    assert not starts.alone(P)


async def test_a_key_of_another_type_judges_nobody(
    redis: RedisClient, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and nothing is raised."""
    names = Names(prefix)
    await redis.set(names.starts(*P), "?")
    starts = Starts(redis, names)
    await starts.begin({P: 1})
    assert not starts.alone(P)
    await starts.end([P])
    assert [record.message for record in caplog.records] == ["starts_not_counted"]


async def test_without_redis_nobody_is_judged_and_nothing_waits(own_redis: RedisServer, prefix: str) -> None:
    """Where a fourth start would have made a suspect; when Redis is back, it does."""
    client, names = connect(Redis(url=own_redis.url)), Names(prefix)
    for _ in range(SERIAL_FROM):
        await Starts(client, names).begin({P: 1})
    kept = await client.dump(names.starts(*P))
    assert kept is not None
    own_redis.stop()
    starts = Starts(client, names)
    await starts.begin({P: 1})
    await starts.enter(P, 1)
    await starts.leave(P, 1)
    await starts.end([P])
    assert not starts.alone(P)
    own_redis.start()
    await client.restore(names.starts(*P), 0, kept)
    await starts.begin({P: 1})
    assert starts.alone(P)
    await client.aclose()


async def test_a_redis_that_stands_still_is_waited_for_in_bounds_and_hears_all_in_order(
    own_redis: RedisServer, prefix: str
) -> None:
    """What was asked meanwhile takes effect late: a partition that was begun and given back is not running."""
    client, other, names = connect(Redis(url=own_redis.url)), connect(Redis(url=own_redis.url)), Names(prefix)
    key, starts = names.starts(*P), Starts(client, names)
    await client.ping()
    await other.client_pause(3_000)
    async with asyncio.timeout(60):
        await starts.begin({P: 1})
        await starts.end([P])
        await asyncio.gather(*(starts.end([Q]) for _ in range(2 * MAX_UNANSWERED)))
    assert not starts.alone(P)

    async def given_back() -> bool | None:
        return await other.hget(key, "running") == b"0" or None

    await eventually(given_back, "both, in their order")
    await client.aclose()
    await other.aclose()
