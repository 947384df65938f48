"""The board of jobs in a real Redis: one process holds a job, everybody sees it, anybody may want something of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from embedmq.bulk.board import HOLDER_TTL_S, STATUS_TTL_S, WISH_TTL_S, Board
from embedmq.bulk.errors import JobTaken
from embedmq.bulk.status import JobStatus, State
from embedmq.store import Store
from embedmq_local.stack import Stack
from embedmq_schemas.connection import RedisConnection
from embedmq_schemas.names import Names
from redis.asyncio import Redis

JOB = "docs/2026"


@pytest.fixture
async def store(stack: Stack) -> AsyncIterator[Store]:
    """Connected."""
    store = Store(RedisConnection(url=stack.redis), 10.0)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def names(prefix: str) -> Names:
    """Keys that no other test uses."""
    return Names(prefix)


@pytest.fixture
def board(store: Store, names: Names) -> Board:
    """A board whose clock shows the 2nd of January 2026."""
    return Board(store, names, lambda: 1_767_312_000.0)


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    """Another way into Redis, to see and to do what no board does."""
    redis = Redis.from_url(stack.redis, protocol=2)
    yield redis
    await redis.aclose()


def status(name: str = JOB, state: State = "running", started: float = 1.0) -> JobStatus:
    return JobStatus(name=name, state=state, started_unix_s=started)


async def test_of_many_that_take_a_job_at_once_one_has_it(board: Board) -> None:
    """The others are told who has it and since when, and what to do."""
    outcomes = await asyncio.gather(
        *(board.take(JOB, f"t{n}", f"process {n}") for n in range(8)), return_exceptions=True
    )

    (winner,) = [n for n, outcome in enumerate(outcomes) if outcome is None]
    for n, outcome in enumerate(outcomes):
        if n != winner:
            assert isinstance(outcome, JobTaken)
            assert f"{JOB} is run by process {winner} since 2026-01-02T00:00:00Z" in str(outcome)
            assert f"embedmq job {JOB} cancel" in str(outcome)
    await board.take(JOB, f"t{winner}", "the same, asked again after an answer was lost")


async def test_only_the_holder_keeps_and_leaves_a_job(board: Board, redis: Redis, names: Names) -> None:
    """A token that merely begins alike is another one; what is lost is told."""
    await board.take(JOB, "ours", "us")
    await redis.expire(names.job_holder(JOB), 20)

    assert not await board.keep(JOB, "our")
    assert not await board.keep(JOB, "ours too")
    await board.leave(JOB, "theirs")
    assert await redis.ttl(names.job_holder(JOB)) <= 20
    assert await board.keep(JOB, "ours")
    assert 20 < await redis.ttl(names.job_holder(JOB)) <= HOLDER_TTL_S
    await board.leave(JOB, "ours")
    assert not await board.keep(JOB, "ours")
    await board.take(JOB, "theirs", "them")


async def test_a_holder_that_was_killed_is_outlived(board: Board, redis: Redis, names: Names) -> None:
    """The same command, given again at once, goes on as soon as the dead one's hold has ended."""
    await board.take(JOB, "dead", "a killed process")
    await redis.pexpire(names.job_holder(JOB), 700)

    await board.take(JOB, "new", "its successor", wait_s=60.0)

    assert await board.keep(JOB, "new")


async def test_a_holder_that_lives_is_not_waited_for(board: Board, redis: Redis, names: Names) -> None:
    """It shows that it lives by keeping the job: then the wait is over, long before its limit."""
    await board.take(JOB, "old", "a living process")
    await redis.expire(names.job_holder(JOB), 10)
    before = await looks(redis)
    waiting = asyncio.ensure_future(board.take(JOB, "new", "another", wait_s=60.0))
    while await looks(redis) == before:  # noqa: ASYNC110  # it is another process that is looked at
        await asyncio.sleep(0.01)

    assert await board.keep(JOB, "old")

    with pytest.raises(JobTaken, match="a living process"):
        await waiting


async def looks(redis: Redis) -> int:
    """How often anybody has asked how long a key still lives."""
    return int((await redis.info("commandstats")).get("cmdstat_ttl", {"calls": 0})["calls"])


async def test_a_job_is_known_everywhere_and_one_whose_process_died_is_interrupted(
    board: Board, redis: Redis, names: Names
) -> None:
    """The newest first; a damaged status hides no other."""
    await redis.set(names.job("broken"), b"\xff{")
    for said in (status("old", "done", 1.0), status("alive", "waiting", 2.0), status("died", "paused", 3.0)):
        await board.take(said.name, "t", "us")
        await board.post(said)
    for name in ("old", "died"):
        await board.leave(name, "t")

    known = [(job.name, job.state) for job in await board.all()]
    assert known == [("died", "interrupted"), ("alive", "waiting"), ("old", "done")]
    assert await board.get("died") == (await board.all())[0]
    assert await board.get("broken") is None
    assert await board.get("nobody") is None


async def test_a_wish_is_heard_until_it_is_cleared_and_a_later_one_is_not_lost(board: Board) -> None:
    """Clearing the one that was obeyed leaves the one that came meanwhile."""
    assert await board.wish(JOB) is None
    await board.ask(JOB, "pause")
    assert await board.wish(JOB) == "pause"
    await board.ask(JOB, "cancel")
    await board.clear_wish(JOB, "pause")
    assert await board.wish(JOB) == "cancel"
    await board.clear_wish(JOB)
    assert await board.wish(JOB) is None


async def test_what_was_wished_of_the_last_run_is_not_for_the_next(board: Board) -> None:
    """A cancel that came too late does not end the job that begins now; one that came in time is not forgotten."""
    await board.ask(JOB, "cancel")
    await board.take(JOB, "t", "us")
    assert await board.wish(JOB) is None
    await board.ask(JOB, "pause")
    await board.take(JOB, "t", "us")
    assert await board.wish(JOB) == "pause"


async def test_every_key_ends_by_itself(board: Board, redis: Redis, names: Names) -> None:
    """Nothing stays in Redis for ever."""
    await board.take(JOB, "t", "us")
    await board.post(status())
    await board.ask(JOB, "pause")

    lives = [await redis.ttl(key) for key in (names.job(JOB), names.job_holder(JOB), names.job_wish(JOB))]
    for left_s, ttl_s in zip(lives, (STATUS_TTL_S, HOLDER_TTL_S, WISH_TTL_S), strict=True):
        assert ttl_s - 10 < left_s <= ttl_s
