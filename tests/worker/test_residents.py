"""Models are loaded and evicted off the loop: once each, never under a batch, and failures are answered."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from embedmq_worker.config import Model, Worker
from embedmq_worker.engine.seam import Ask, Done, Engine, ModelFacts, Prepared, Slice
from embedmq_worker.errors import (
    CheckpointBroken,
    CheckpointGated,
    CheckpointTooLarge,
    CheckpointUnreachable,
    OutOfMemory,
)
from embedmq_worker.residency import Demand
from embedmq_worker.residents import Change, Evicted, Failed, Loaded, Residents

SETTINGS = Worker(model_wait_s=0.2, load_attempts=2, load_failure_s=0.3)


class FakeEngine:
    """Takes `size` bytes; `closed` counts, and fails of one that is `stuck`."""

    def __init__(self, size: int, *, stuck: bool = False) -> None:
        self.stuck = stuck
        self.facts = ModelFacts(dimensions=8, max_tokens=8, bytes=size)
        self.closed = 0
        self.thread = ""

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        raise NotImplementedError

    def launch(self, batch: Sequence[Slice]) -> Done:
        raise NotImplementedError

    def free_cache(self) -> None: ...

    def close(self) -> None:
        self.closed += 1
        self.thread = threading.current_thread().name
        if self.stuck:
            raise RuntimeError("the device does not answer")


class FakeOpener:
    """Models of given sizes; `gates` hold loads back, `errors` are raised by them in turn, `real` are true sizes."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.real = dict(sizes)
        self.gates: dict[str, threading.Event] = {}
        self.errors: dict[str, list[Exception]] = {}
        self.engines: dict[str, list[FakeEngine]] = {}
        self.calls: Counter[str] = Counter()
        self.threads: set[str] = set()
        self.stuck: set[str] = set()

    def size_bytes(self, model: str) -> int:
        self.threads.add(threading.current_thread().name)
        return self.sizes[model]

    def load(self, model: str) -> Engine:
        self.calls[model] += 1
        self.threads.add(threading.current_thread().name)
        if model in self.gates:
            assert self.gates[model].wait(60)
        if self.errors.get(model):
            raise self.errors[model].pop(0)
        engine = FakeEngine(self.real[model], stuck=model in self.stuck)
        self.engines.setdefault(model, []).append(engine)
        return engine


StartResidents = Callable[..., Residents]


@pytest.fixture
async def start() -> AsyncIterator[StartResidents]:
    """Residents that are closed at the end of the test."""
    started: list[Residents] = []

    def run(
        opener: FakeOpener,
        budget_bytes: int = 2,
        pinned: Sequence[str] = (),
        settings: Worker = SETTINGS,
        clock: Callable[[], float] = time.monotonic,
    ) -> Residents:
        models = {name: Model(checkpoint="null:8", pinned=name in pinned) for name in opener.sizes}
        started.append(Residents(models, opener, budget_bytes, settings, clock))
        return started[-1]

    yield run
    for residents in started:
        await residents.close()


async def change(residents: Residents) -> Change:
    return await asyncio.wait_for(residents.next_change(), 60)


def ask(residents: Residents, *models: str, old: bool = True) -> None:
    residents.demand([Demand(name, time.monotonic() - (60 if old else 0), 1) for name in models])


async def bring(residents: Residents, *models: str) -> None:
    for name in models:
        ask(residents, name)
        while not isinstance(await change(residents), Loaded):
            pass
        with residents.lease(name):
            pass
    residents.demand([])


async def test_a_demand_loads_a_model_in_a_thread_and_says_so(start: StartResidents) -> None:
    """With what it can do and how long it took; the loop is never held up."""
    opener = FakeOpener({"a": 1})
    residents = start(opener)
    assert residents.engine("a") is None
    assert residents.facts("a") is None
    ask(residents, "a", old=False)
    loaded = await change(residents)
    assert isinstance(loaded, Loaded)
    assert loaded.facts == residents.facts("a")
    assert residents.engine("a") is opener.engines["a"][0]
    assert threading.current_thread().name not in opener.threads


async def test_a_model_is_loaded_once_however_often_it_is_asked_for(start: StartResidents) -> None:
    """Single-flight; and it shows as loading."""
    opener = FakeOpener({"a": 1})
    opener.gates["a"] = threading.Event()
    residents = start(opener)
    ask(residents, "a")
    await until(lambda: opener.calls["a"] == 1)
    for _ in range(5):
        ask(residents, "a")
    assert residents.states()["a"].state == "loading"
    opener.gates["a"].set()
    await change(residents)
    assert opener.calls["a"] == 1
    assert residents.states()["a"].state == "resident"


async def test_a_slow_load_holds_up_no_other_model(start: StartResidents) -> None:
    """Neither one in memory nor one that is to come."""
    opener = FakeOpener({"slow": 1, "quick": 1})
    opener.gates["slow"] = threading.Event()
    residents = start(opener)
    ask(residents, "slow", "quick")
    loaded = await change(residents)
    assert loaded.model == "quick"
    with residents.lease("quick") as engine:
        assert engine is opener.engines["quick"][0]
    opener.gates["slow"].set()


async def test_the_victim_is_the_one_used_longest_ago_not_the_one_loaded_longest_ago(start: StartResidents) -> None:
    """Every batch counts as use: the hot old model stays, the cold new one goes, closed in a thread."""
    opener = FakeOpener({"hot": 1, "cold": 1, "new": 1})
    residents = start(opener)
    await bring(residents, "hot", "cold")
    with residents.lease("hot"):
        pass
    ask(residents, "new")
    assert await change(residents) == Evicted("cold")
    assert (await change(residents)).model == "new"
    assert opener.engines["cold"][0].closed == 1
    assert opener.engines["cold"][0].thread == "close-cold"
    assert residents.facts("cold") is not None, "requests can still be checked against it"
    assert (residents.states()["cold"].evictions, residents.states()["hot"].evictions) == (1, 0)


async def test_a_leased_model_is_closed_only_after_its_batch(start: StartResidents) -> None:
    """Told to go, it takes no further batch, and makes room when the last one is done."""
    opener = FakeOpener({"a": 2, "b": 2})
    now_s = 1000.0
    residents = start(opener, clock=lambda: now_s)
    residents.demand([Demand("a", now_s, 1)])
    assert (await change(residents)).model == "a"
    with residents.lease("a"):
        now_s += SETTINGS.model_wait_s
        residents.demand([Demand("b", now_s - SETTINGS.model_wait_s, 1)])
        await until(lambda: residents.engine("a") is None)
        with pytest.raises(LookupError, match="a is not in memory"):
            residents.lease("a")
        assert opener.engines["a"][0].closed == 0
        assert opener.calls["b"] == 0
    assert await change(residents) == Evicted("a")
    assert (await change(residents)).model == "b"


async def test_a_permanent_failure_is_told_at_once_remembered_and_then_tried_anew(start: StartResidents) -> None:
    """While it is remembered, new requests are answered without another attempt."""
    opener, now_s = FakeOpener({"a": 1}), time.monotonic()
    opener.errors["a"] = [CheckpointGated("a: the hub wants a token")]
    residents = start(opener, clock=lambda: now_s)
    ask(residents, "a")
    failed = await change(residents)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, CheckpointGated)
    ask(residents, "a")
    ask(residents, "a")
    assert await change(residents) == failed
    assert opener.calls["a"] == 1
    assert residents.failure("a") is failed.error
    state = residents.states()["a"]
    assert (state.state, state.failures, state.error) == ("failing", 1, "a: the hub wants a token")
    now_s += SETTINGS.load_failure_s
    assert residents.failure("a") is None
    ask(residents, "a")
    assert isinstance(await change(residents), Loaded)
    assert residents.states()["a"].error == ""


@pytest.mark.parametrize("error", [CheckpointUnreachable("the disk did not answer"), OutOfMemory("no room")])
async def test_what_may_pass_is_tried_again_and_nobody_is_told(start: StartResidents, error: Exception) -> None:
    """After a pause, as often as `load_attempts`; then it has failed."""
    opener = FakeOpener({"a": 1})
    opener.errors["a"] = [error]
    residents = start(opener)
    ask(residents, "a")
    assert isinstance(await change(residents), Loaded)
    assert opener.calls["a"] == 2
    opener = FakeOpener({"a": 1})
    opener.errors["a"] = [error, error]
    residents = start(opener)
    ask(residents, "a")
    assert await change(residents) == Failed("a", error)  # type: ignore[arg-type]  # one of ours
    assert opener.calls["a"] == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by zero"), "a: ZeroDivisionError: by zero"),
        (StopIteration("no parameters"), "a: RuntimeError: StopIteration: no parameters"),
    ],
)
async def test_an_error_that_nobody_foresaw_concerns_one_model_only(
    start: StartResidents, error: Exception, said: str
) -> None:
    """Libraries raise what they like; the worker goes on."""
    opener = FakeOpener({"a": 1, "b": 1})
    opener.errors["a"] = [error]
    residents = start(opener)
    ask(residents, "a")
    failed = await change(residents)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, CheckpointBroken)
    assert str(failed.error) == said
    await bring(residents, "b")


async def test_a_model_too_large_for_the_budget_fails_by_name(start: StartResidents) -> None:
    """By its headers before it is loaded, or by what it proved to take; then nothing is kept of it."""
    opener = FakeOpener({"a": 3, "b": 1})
    opener.real["b"] = 3
    residents = start(opener)
    ask(residents, "a")
    failed = await change(residents)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, CheckpointTooLarge)
    assert opener.calls["a"] == 0
    ask(residents, "b")
    failed = await change(residents)
    assert isinstance(failed, Failed)
    assert str(failed.error).startswith("b takes 3 bytes, and memory_budget_bytes leaves 2")
    assert opener.engines["b"][0].closed == 1


async def test_a_model_larger_than_its_headers_say_evicts_an_idle_one(start: StartResidents) -> None:
    """Measured bytes replace the estimate, and the budget is kept."""
    opener = FakeOpener({"a": 1, "b": 1})
    opener.real["b"] = 2
    residents = start(opener)
    await bring(residents, "a")
    ask(residents, "b")
    assert (await change(residents)).model == "b"
    assert await change(residents) == Evicted("a")
    assert residents.states()["b"].bytes == 2


async def test_pinned_models_are_loaded_before_anything_and_stay(start: StartResidents) -> None:
    """However long another one waits."""
    opener = FakeOpener({"pin": 1, "a": 1, "b": 1})
    residents = start(opener, pinned=["pin"])
    await residents.load_pinned()
    assert residents.engine("pin") is not None
    assert (await change(residents)).model == "pin"
    await bring(residents, "a", "b")
    assert residents.states()["pin"].evictions == 0
    assert residents.engine("pin") is not None
    assert not await residents.make_room("b")


async def test_a_pinned_model_that_does_not_load_stops_the_start(start: StartResidents) -> None:
    """By its own error; so do pinned models that exceed the budget, before any is loaded."""
    opener = FakeOpener({"a": 1})
    opener.errors["a"] = [CheckpointUnreachable("later"), CheckpointGated("a: the hub wants a token")]
    with pytest.raises(CheckpointGated, match="wants a token"):
        await start(opener, pinned=["a"]).load_pinned()
    opener = FakeOpener({"a": 2, "b": 1})
    with pytest.raises(CheckpointTooLarge, match="a, b take 3 bytes, memory_budget_bytes is 2"):
        await start(opener, pinned=["a", "b"]).load_pinned()
    assert not opener.calls


async def test_make_room_evicts_one_idle_model_and_returns_when_it_is_gone(start: StartResidents) -> None:
    """A step of what is done when memory runs out in a batch."""
    opener = FakeOpener({"a": 1, "b": 1})
    residents = start(opener)
    await bring(residents, "a", "b")
    with residents.lease("b"):
        assert await residents.make_room("b")
        assert opener.engines["a"][0].closed == 1
        assert not await residents.make_room("b")
    assert residents.engine("b") is not None


async def test_an_unused_model_is_evicted_after_idle_evict_s(start: StartResidents) -> None:
    """Nobody has to ask: the time alone does it. One that is pinned stays."""
    opener = FakeOpener({"a": 1, "pin": 1})
    residents = start(opener, pinned=["pin"], settings=Worker(idle_evict_s=0.1))
    await residents.load_pinned()
    assert (await change(residents)).model == "pin"
    await bring(residents, "a")
    assert await change(residents) == Evicted("a")
    assert residents.engine("pin") is not None


async def test_holding_a_model_is_not_a_batch(start: StartResidents) -> None:
    """Cutting texts keeps it in memory, but what it was loaded for is still to be computed."""
    opener = FakeOpener({"a": 1})
    residents = start(opener)
    ask(residents, "a")
    await change(residents)
    with residents.hold("a"):
        pass
    assert residents.states()["a"].last_use_s is None
    with residents.lease("a"):
        pass
    assert residents.states()["a"].last_use_s is not None


async def test_thrashing_is_said_once_with_the_remedy(start: StartResidents, caplog: pytest.LogCaptureFixture) -> None:
    """Two models that take turns in room for one; the status says it for as long as it is true."""
    opener = FakeOpener({"a": 2, "b": 2})
    now_s = 0.0
    residents = start(opener, clock=lambda: now_s)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            for name in ("a", "b"):
                now_s += 20
                residents.demand([Demand(name, now_s - 19, 1)])
                while not isinstance(await change(residents), Loaded):
                    pass
                with residents.lease(name):
                    pass
    said = [record for record in caplog.records if record.message == "model_thrashing"]
    assert [record.__dict__["model"] for record in said] == ["a", "b"]
    assert "memory_budget_bytes" in said[0].__dict__["remedy"]
    assert residents.states()["a"].thrashing
    now_s += 300
    assert not residents.states()["a"].thrashing


async def test_a_stop_waits_for_no_load_and_gives_all_memory_back(start: StartResidents) -> None:
    """A download may take minutes; the process ends without it."""
    opener = FakeOpener({"a": 1, "slow": 1})
    opener.gates["slow"] = threading.Event()
    residents = start(opener)
    await bring(residents, "a")
    ask(residents, "slow")
    await until(lambda: opener.calls["slow"] == 1)
    await asyncio.wait_for(residents.close(), 60)
    assert opener.engines["a"][0].closed == 1
    opener.gates["slow"].set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # threads set no event of this loop's
            await asyncio.sleep(0.01)
