"""Requests whose model is not in memory wait aside, hold up nobody longer than they must, and are all answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Failed as Failure
from embedmq_worker.absent import Absent
from embedmq_worker.cancel import Cancellations
from embedmq_worker.choose import Budget, Chooser
from embedmq_worker.config import Config, Model, Worker
from embedmq_worker.decode import Decoder
from embedmq_worker.delivery import Delivery
from embedmq_worker.device import Device
from embedmq_worker.engine.null import NullEngine
from embedmq_worker.engine.seam import Ask, Engine, ModelFacts, Prepared
from embedmq_worker.errors import CheckpointBroken
from embedmq_worker.forward import Forward
from embedmq_worker.gather import Gather
from embedmq_worker.guard import Guard
from embedmq_worker.jobs import Ending, Job, Outcome, Part, Retry
from embedmq_worker.meter import Meter
from embedmq_worker.metrics import Metrics
from embedmq_worker.pauses import Pauses
from embedmq_worker.progress import Progress
from embedmq_worker.quotas import Quotas
from embedmq_worker.residents import Change, Loaded, Residents
from embedmq_worker.retry import Retries
from embedmq_worker.road import Road
from embedmq_worker.room import Room
from embedmq_worker.roster import Roster
from embedmq_worker.served import Changes, Served
from embedmq_worker.starts import Starts
from embedmq_worker.strays import Strays
from embedmq_worker.supply import Supply
from embedmq_worker.suspects import Suspects
from embedmq_worker.twins import Twins
from embedmq_worker.waiting import Waiting
from msgspec import structs
from redis.asyncio import Redis

from tests.worker.jobs import make_job, make_outcome

NAMES = Names("embedmq")
SETTINGS = Worker(max_in_flight_items=100, guard_failures=3, guard_pause_s=0.2)


class Pausing(NullEngine):
    """Cuts texts only when `gate` lets it; `asked` says that it was to, and `cut` how many it has."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__(8)
        self.facts = ModelFacts(dimensions=8, max_tokens=8)
        self.gate = gate
        self.asked = threading.Event()
        self.cut = 0

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        self.asked.set()
        self.cut += len(asks)
        assert self.gate.wait(60)
        return super().prepare(asks)


@dataclass
class Clock:
    """The machine's, or one that stands still, for a pause that is not over before it was looked at."""

    stopped_s: float | None = None

    def __call__(self) -> float:
        return time.monotonic() if self.stopped_s is None else self.stopped_s

    def stop(self) -> None:
        self.stopped_s = time.monotonic()


@dataclass
class Opener:
    """Loads when `loads` lets it; what it loads cuts texts when `cuts` lets it."""

    loads: threading.Event = field(default_factory=threading.Event)
    cuts: threading.Event = field(default_factory=threading.Event)
    engines: dict[str, Pausing] = field(default_factory=dict[str, Pausing])
    error: Exception | None = None

    def size_bytes(self, model: str) -> int:
        return 1

    def load(self, model: str) -> Engine:
        assert self.loads.wait(60)
        if self.error is not None:
            raise self.error
        engine = self.engines[model] = Pausing(self.cuts)
        return engine


@pytest.fixture
def opener() -> Opener:
    made = Opener()
    made.cuts.set()
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gather(opener: Opener, clock: Clock) -> AsyncIterator[Gather]:
    """With room for a hundred items, and two models of which neither is in memory."""
    config = Config(models={name: Model(checkpoint="null:8") for name in "mn"}, worker=SETTINGS)
    residents = Residents(config.models, opener, 2, SETTINGS)
    budgets: dict[str, Budget] = {}
    waiting = Waiting(budgets, Chooser(0.1, 50), lambda model: residents.engine(model) is not None)
    retries, meter = Retries([10, 300], NAMES), Meter(Metrics(), config.models, budgets)
    threads: Executor
    with ThreadPoolExecutor(2) as threads:
        yield Gather(
            decoder=Decoder(config, Roster(Served(config.models)), NAMES, residents.facts, retries.park),
            residents=residents,
            absent=Absent(SETTINGS),
            waiting=waiting,
            room=Room(SETTINGS),
            meter=meter,
            tokenizers=threads,
            budget=lambda _: Budget(1_000, 1_000),
            pauses=Pauses(Guard(SETTINGS), meter, clock),
            retries=retries,
            suspects=Suspects(Starts(Redis(), NAMES), meter),  # nobody asks that Redis anything
            twins=Twins(),
            quotas=Quotas(Redis(), NAMES, {}, Metrics()),
            shared_topics=frozenset({"embedmq.shared.bulk"}),
            max_waiting=2,
        )
        opener.loads.set()
        opener.cuts.set()
    await residents.close()


def make(
    gather: Gather, id: str, items: int = 1, *, model: str = "m", progress: Progress | None = None, left_ms: int = 0
) -> Job:
    """A job as decoded, in its room; `left_ms` until its deadline."""
    job = make_job(id, [1] * items, model=model, arrived_s=time.monotonic(), progress=progress)
    job.request = Embed(items=["x"] * items, deadline_unix_ms=int(time.time() * 1000) + left_ms if left_ms else None)
    assert gather.room.enter(job.cost, job.envelope.lane)
    return job


def ids(endings: Sequence[Ending]) -> list[tuple[str, str]]:
    failed = [found.result for found in endings if isinstance(found, Outcome)]
    return [(found.id, found.code) for found in failed if isinstance(found, Failure)]


async def change(gather: Gather) -> Change:
    return await asyncio.wait_for(gather.residents.next_change(), 60)


async def test_a_partition_is_read_again_when_what_held_it_is_past_its_deadline(gather: Gather) -> None:
    """Nothing else would ever let it go: its requests are answered, and its model, once loaded, finds none of them."""
    held, late = Progress("t", 0), Progress("t", 1)
    await gather.gather([make(gather, "a", 10, progress=held)])
    await gather.gather([make(gather, "b", progress=late, left_ms=20)])
    assert late.held
    await asyncio.wait_for(gather.lateness(), 60)
    assert ids(gather.expire()) == [("b", "deadline_exceeded")]
    assert not late.held


async def test_no_partition_is_held_for_ever_by_what_others_brought(gather: Gather) -> None:
    """One that brought nothing yet is read again when those that filled the room of the absent are gone."""
    theirs, mine = Progress("t", 0), Progress("t", 1)
    await gather.gather([make(gather, "a", 60, progress=theirs)])
    assert gather.crowd.refuses(job := make(gather, "b", model="n", progress=mine))
    assert gather.crowd.turn_away(job) is None
    assert mine.held
    theirs.revoked = True
    gather.discard_revoked()
    assert not mine.held


async def test_a_drain_waits_for_everybody_although_one_is_past_its_deadline(gather: Gather) -> None:
    """One request less is not none: the other's model is still waited for."""
    await gather.gather([make(gather, "a"), make(gather, "b", left_ms=20)])
    closing = asyncio.create_task(gather.close())
    await asyncio.wait_for(gather.lateness(), 60)
    assert ids(gather.expire()) == [("b", "deadline_exceeded")]
    ended, _ = await asyncio.wait({closing}, timeout=0.1)
    assert not ended
    gather.absent.take("m")
    await asyncio.wait_for(closing, 60)


async def test_a_drain_waits_for_what_was_taken_up_and_laid_aside_again(gather: Gather, opener: Opener) -> None:
    """A model that is evicted before its requests are taken up is waited for once more."""
    opener.loads.set()
    await gather.gather([make(gather, "a")])
    closing = asyncio.create_task(gather.close())
    loaded = await change(gather)
    gather.residents.demand([])
    assert await gather.residents.make_room("n")
    async with gather.settled:
        await gather.take_up(loaded)
    ended, _ = await asyncio.wait({closing}, timeout=0.1)
    assert not ended
    assert gather.absent.count("m") == 1
    gather.absent.take("m")
    await asyncio.wait_for(closing, 60)


async def test_what_is_revoked_while_another_models_texts_are_cut_is_not_laid_aside(
    gather: Gather, opener: Opener
) -> None:
    """Its partition's new owner answers it: here it would only have its model loaded for nothing."""
    opener.loads.set()
    await gather.gather([make(gather, "a")])
    await gather.take_up(await change(gather))
    opener.cuts.clear()
    opener.engines["m"].asked.clear()
    held, mine = gather.room.held.items, Progress("t", 0)
    jobs = [make(gather, "b", progress=mine), make(gather, "c", model="n", progress=mine)]
    gathering = asyncio.create_task(gather.gather(jobs))
    await asyncio.to_thread(opener.engines["m"].asked.wait, 60)
    mine.revoked = True
    gather.discard_revoked()
    opener.cuts.set()
    assert await asyncio.wait_for(gathering, 60) == []
    assert gather.absent.empty
    assert gather.room.held.items == held


class Asked(Quotas):
    """A Redis that answers when `answers` lets it."""

    def __init__(self) -> None:
        super().__init__(Redis(), NAMES, {}, Metrics())
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def charge(self, jobs: Sequence[Job]) -> list[Ending]:
        self.asked.set()
        await self.answers.wait()
        return await super().charge(jobs)


async def test_a_model_that_is_repointed_while_a_quota_is_asked_computes_no_tokens_of_the_one_before(
    gather: Gather, opener: Opener
) -> None:
    """Vectors of another vocabulary's tokens would look like any others: all that waits is cut anew."""
    opener.loads.set()
    await gather.gather([make(gather, "a")])
    await gather.take_up(await change(gather))
    gather.quotas = quotas = Asked()
    gathering = asyncio.create_task(gather.gather([make(gather, "b")]))
    await asyncio.wait_for(quotas.asked.wait(), 60)
    before = opener.engines.pop("m")
    gather.residents.follow(Changes(repointed=frozenset("m")), {name: Model(checkpoint="null:16") for name in "mn"})
    loaded = asyncio.create_task(everything(gather))
    ended, _ = await asyncio.wait({loaded}, timeout=0.2)
    quotas.answers.set()
    await asyncio.wait_for(gathering, 60)
    await asyncio.wait_for(loaded, 60)
    assert not ended
    assert {part.job.envelope.id for part in await taken(gather)} == {"a", "b"}
    assert (before.cut, opener.engines["m"].cut) == (2, 2)


async def everything(gather: Gather) -> None:
    """Take up what happens to models until one is there."""
    while True:
        found = await change(gather)
        await gather.take_up(found)
        if isinstance(found, Loaded):
            return


async def test_in_a_shared_partition_few_wait_for_a_model_and_the_rest_is_parked(gather: Gather) -> None:
    """Those behind them are for other models: so no more than `max_waiting` hold up the partition's commit, and the
    partition itself is never held."""
    shared = Progress("embedmq.shared.bulk", 0)
    jobs = [make(gather, f"{n}", progress=shared) for n in range(3)]
    for job in jobs:
        job.record = structs.replace(job.record, topic=shared.topic)
    for job in jobs[:2]:
        assert not gather.crowd.refuses(job)
        assert gather.lay_aside(job)
    assert gather.crowd.refuses(jobs[2])
    parked = gather.crowd.turn_away(jobs[2])
    assert isinstance(parked, Retry)
    assert (parked.delay_s, parked.journey.attempts, parked.journey.parked) == (10, 0, 1)
    assert not shared.held
    gather.absent.take("m")
    assert not gather.crowd.refuses(jobs[2])


async def test_a_model_that_cannot_be_loaded_does_not_empty_its_topic_into_the_dead_letters(
    gather: Gather, opener: Opener
) -> None:
    """After as many failures as the guard bears, the others wait, and go on when the model can be loaded after all."""
    opener.error = CheckpointBroken("m: torn")
    opener.loads.set()
    await gather.gather([make(gather, f"{n}") for n in range(5)])
    lost = await gather.take_up(await change(gather))
    assert ids(lost) == [(f"{n}", "model_unavailable") for n in range(3)]
    assert gather.absent.count("m") == 2
    assert gather.lay_aside(make(gather, "later"))
    opener.error = None
    gather.residents._seats["m"].fails_until_s = 0.0  # instead of a minute's wait
    async with asyncio.timeout(60):
        while gather.residents.engine("m") is None:
            await gather.resumption()
            assert await gather.resume() == []
            if gather.residents.engine("m") is None and not gather.pauses.blocks("m"):
                await gather.take_up(await gather.residents.next_change())
    assert [part.job.envelope.id for part in await taken(gather)] == ["3"], "one, to see how it goes"
    gather.observe("m", failed=False)
    await gather.resumption()
    assert await gather.resume() == []
    assert [part.job.envelope.id for part in await taken(gather)] == ["4", "later"]


async def pause(gather: Gather, opener: Opener) -> None:
    """Have the model loaded, with two requests, and failing until it is paused."""
    opener.loads.set()
    await gather.gather([make(gather, "a")])
    await gather.take_up(await change(gather))
    await gather.gather([make(gather, "b")])
    for _ in range(3):
        gather.observe("m", failed=True)


async def trial(gather: Gather) -> None:
    """Wait until the pause is over and one request is tried."""
    async with asyncio.timeout(60):
        while not gather.waiting.demands():
            await gather.resumption()
            await gather.resume()


async def taken(gather: Gather) -> Sequence[Part]:
    batch = await asyncio.wait_for(gather.waiting.take(), 60)
    assert batch is not None
    return batch.parts


async def test_what_waits_for_a_model_that_keeps_failing_is_not_run(
    gather: Gather, opener: Opener, clock: Clock
) -> None:
    """It lies aside, undelivered, until one request finds the model well again."""
    clock.stop()
    await pause(gather, opener)
    assert gather.absent.count("m") == 2
    assert gather.waiting.demands() == []
    assert gather.pauses.blocks("m")


async def test_a_paused_model_leaves_the_others_their_room(gather: Gather, opener: Opener) -> None:
    """Of a backlog that filled the whole room, only as much waits here as may wait for any absent model; the rest is
    parked."""
    opener.loads.set()
    await gather.gather([make(gather, "a")])
    await gather.take_up(await change(gather))
    await gather.gather([make(gather, f"m{n}", 10) for n in range(6)])
    parked = [ending for _ in range(3) for ending in gather.observe("m", failed=True)]
    assert all(isinstance(ending, Retry) for ending in parked)
    waits = gather.absent.count("m")
    assert 1 < waits < 5, "more is full"
    assert [ending.job.envelope.id for ending in parked] == [f"m{n}" for n in range(waits - 1, 6)]


async def test_a_model_that_is_repointed_is_paused_no_more_and_measured_anew(
    gather: Gather, opener: Opener, clock: Clock
) -> None:
    """Who repairs a model need not wait for the pause that the broken one had earned: its requests run at once."""
    clock.stop()
    await pause(gather, opener)
    gather.meter.tokens_per_s["m"] = 5.0
    gather.residents.follow(Changes(repointed=frozenset("m")), {name: Model(checkpoint="null:16") for name in "mn"})
    await asyncio.wait_for(everything(gather), 60)
    assert {part.job.envelope.id for part in await taken(gather)} == {"a", "b"}
    assert gather.meter.tokens_per_s["m"] == opener.engines["m"].facts.tokens_per_s
    assert not gather.pauses.holds("m")


async def test_a_trial_that_says_nothing_is_followed_by_another_at_once(gather: Gather, opener: Opener) -> None:
    """The tried request was cancelled, too late or another worker's: the model's pause is not made longer by that."""
    await pause(gather, opener)
    for id in "ab":
        await trial(gather)
        assert [part.job.envelope.id for part in await taken(gather)] == [id]
        gather.pauses.undecided("m")


async def test_what_a_pause_lays_aside_learns_of_its_deadline(gather: Gather, opener: Opener) -> None:
    """Also where nothing else had one."""
    opener.loads.set()
    await gather.gather([make(gather, "a")])
    await gather.take_up(await change(gather))
    await gather.gather([make(gather, "b", left_ms=200)])
    looking = asyncio.create_task(gather.lateness())
    await asyncio.sleep(0)
    for _ in range(3):
        gather.observe("m", failed=True)
    await asyncio.wait_for(looking, 60)
    assert ids(gather.expire()) == [("b", "deadline_exceeded")]


async def test_a_request_that_was_tried_and_never_heard_of_leaves_its_model_paused(
    gather: Gather, opener: Opener, clock: Clock
) -> None:
    """Its model is evicted before it is computed, and cannot be loaded then: one more pause, and no one is asked in
    circles meanwhile."""
    await pause(gather, opener)
    await trial(gather)
    gather.residents.demand([])
    opener.error = CheckpointBroken("m: torn")
    assert await gather.residents.make_room("n")
    clock.stop()
    await gather.take_up(await change(gather))
    assert await gather.take_up(await change(gather)) == []
    assert gather.pauses.blocks("m")
    assert gather.absent.count("m") == 2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gather.residents.next_change(), 0.1)


@pytest.mark.parametrize("cut", [False, True], ids=["laid aside", "cut into tokens before its model was evicted"])
async def test_a_stop_loses_no_answer_that_waits_for_a_slow_delivery(
    gather: Gather, opener: Opener, *, cut: bool
) -> None:
    """Redis is slow, a model fails while the worker stops: its requests are answered, not left for another worker."""
    delivered: list[Ending] = []
    goes_on = asyncio.Event()

    class Slow(Delivery):
        def __init__(self) -> None: ...

        async def deliver(self, endings: Sequence[Ending]) -> None:
            await goes_on.wait()
            delivered.extend(endings)

    opener.error = CheckpointBroken("m: torn")
    redis = Redis()  # nobody asks it anything
    with ThreadPoolExecutor(1) as thread:
        forward = Forward(
            supply=Supply(Device(thread, thread), gather.twins),
            residents=gather.residents,
            waiting=gather.waiting,
            gathering=gather,
            suspects=gather.suspects,
            cancellations=Cancellations(redis, NAMES),
            retries=gather.retries,
            meter=gather.meter,
        )
        roster = Roster(Served({}))
        road = Road(
            roster=roster,
            sources=[],
            decoder=gather.decoder,
            suspects=gather.suspects,
            strays=Strays(redis, NAMES, roster, gather.retries),
            retries=gather.retries,
            gathering=gather,
            residents=gather.residents,
            room=gather.room,
            waiting=gather.waiting,
            forward=forward,
            delivery=Slow(),
            meter=gather.meter,
            commit_interval_s=0.0,
        )
        (gather.waiting if cut else gather.absent).put([make(gather, "a")])
        gather.demand()
        for _ in range(road.finished.maxsize):
            road.finished.put_nowait([])
        running = asyncio.create_task(road.run())
        for n in range(2):
            await asyncio.wait_for(road.finished.put([make_outcome(id=f"{n}")]), 60)
        opener.loads.set()
        ended, _ = await asyncio.wait({running}, timeout=0.2)
        assert not ended
        goes_on.set()
        await asyncio.wait_for(running, 60)
    assert ids(delivered) == [("a", "model_unavailable")]
