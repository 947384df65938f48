"""What a fleet serves is changed while it runs: no request is lost, and none is answered twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import embedmq
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from embedmq.control import Followed, followed, give_order
from embedmq.fleet import Fleet
from embedmq.settings import Setup
from embedmq.store import Store
from embedmq_local.stack import Stack
from embedmq_schemas.control import decode_order
from embedmq_schemas.names import Names

from tests.worker.world import JSON, Running, World, as_json, eventually, kill, start, until

SETTINGS = "[kafka]\nmetadata_max_age_ms = 1000\npartitions = 2\n"
MODELS = """
[models.null]
checkpoint = "null:8"

[models.slow]
checkpoint = "null:8?batch_ms=1"

[models.idle]
checkpoint = "null:8"
served = false

[models.wide]
checkpoint = "null:16?load_ms=1"
served = false

[models.tail]
checkpoint = "null:8"
shared = true
"""
WAIT_S = 30.0


class Fleetwide:
    """Gives orders and says what the workers made of them."""

    def __init__(self, setup: Setup, fleet: Fleet) -> None:
        self._setup = setup
        self._fleet = fleet

    async def give(
        self,
        model: str,
        *,
        served: bool | None = None,
        pinned: bool | None = None,
        entry: str | None = None,
        reset: bool = False,
    ) -> Followed:
        """Order something and wait until the one worker has heeded it."""
        offset = await give_order(
            self._setup, model, served=served, pinned=pinned, entry=entry, reset=reset, by="a test"
        )
        (found,) = await self.heeded(model, offset)
        return found

    async def heeded(self, model: str, offset: int) -> list[Followed]:
        return await followed(self._fleet, model, offset, WAIT_S)

    async def becomes(self, model: str, state: str) -> None:
        """Wait until the worker says so of the model."""

        async def probe() -> bool | None:
            (worker,) = await self._fleet.workers()
            return worker.models[model].state == state or None

        await eventually(probe, f"{model} is {state}")


@asynccontextmanager
async def ordering(stack: Stack, prefix: str) -> AsyncIterator[Fleetwide]:
    setup = Setup.of(stack.kafka, stack.redis, {"prefix": prefix})
    assert setup.redis is not None
    store = Store(setup.redis, setup.connect_timeout_s)
    try:
        yield Fleetwide(setup, Fleet(store, Names(prefix)))
    finally:
        await store.stop()


@pytest.fixture(scope="module")
def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One worker for all that follows."""
    running = start(stack, tmp_path_factory.mktemp("control"), "control", MODELS, SETTINGS)
    running.process.wait_ready(60)
    yield running
    kill(running.process)


@pytest_asyncio.fixture
async def orders(stack: Stack, running: Running) -> AsyncIterator[Fleetwide]:
    async with ordering(stack, running.prefix) as found:
        yield found


@pytest_asyncio.fixture
async def mq(stack: Stack, running: Running) -> AsyncIterator[embedmq.Client]:
    async with embedmq.Client(stack.kafka, stack.redis, prefix=running.prefix) as client:
        yield client


@pytest_asyncio.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    async with World(stack.kafka, stack.redis) as world:
        yield world


async def test_a_model_that_is_loaded_by_an_order_answers_what_waited_for_it(
    world: World, running: Running, orders: Fleetwide
) -> None:
    """Its topic was there, with a request in it, and nobody read it."""
    topic = running.topic("idle", "bulk")
    await world.create(topic, 2)
    await world.produce(topic, as_json({"id": "waited", "items": ["x"]}), JSON)
    assert (await orders.give("idle", served=True)).served
    assert (await world.kept(running, "waited"))["count"] == 1
    assert not (await orders.give("idle", reset=True)).served


async def test_what_was_read_of_a_model_is_answered_before_it_goes_and_the_rest_waits(
    world: World, running: Running, orders: Fleetwide, mq: embedmq.Client
) -> None:
    """Each once, and committed; its memory is given back; who asks later is answered once it is served again."""
    with running.hold.on("batch"):
        asked = [asyncio.create_task(mq.embed("slow", f"{n}", timeout_s=WAIT_S)) for n in range(20)]
        await until(lambda: running.metric("in_flight_items") >= 20, "all are read")
        leaving = asyncio.create_task(orders.give("slow", served=False))
        await until(lambda: bool(running.events("serving_changed", unserved=["slow"])), "the order is heeded")
        assert not leaving.done()
    assert len(await asyncio.gather(*asked)) == 20
    assert not (await leaving).served
    topic = running.topic("slow")
    ends = await world.end_offsets(topic)
    assert await world.committed(f"{running.prefix}.interactive", topic) == ends
    await orders.becomes("slow", "absent")
    late = asyncio.create_task(mq.embed("slow", "late", timeout_s=WAIT_S))

    async def lies() -> bool | None:
        return await world.end_offsets(topic) != ends or None

    await eventually(lies, "it is in Kafka")
    assert await world.committed(f"{running.prefix}.interactive", topic) == ends
    assert (await orders.give("slow", served=True)).served
    assert (await late).dense.shape == (1, 8)


async def test_a_name_is_given_another_checkpoint_under_load_and_no_request_is_lost(
    world: World, running: Running, orders: Fleetwide, mq: embedmq.Client
) -> None:
    """Every answer is of one checkpoint or of the other, none is of both, and once the order is followed all are of the
    new one; the catalogue says what it can do. Taken back, it is as before."""
    answers: list[tuple[int, ...]] = []
    enough = asyncio.Event()

    async def ask() -> None:
        while not enough.is_set():
            answers.append((await mq.embed("null", ["a", "b", "c"], timeout_s=WAIT_S)).dense.shape)

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    try:
        await until(lambda: len(answers) > 20, "answers before")
        await orders.give("null", entry="wide")
        assert (await mq.embed("null", "later")).dense.shape == (1, 16)
        before = len(answers)
        await until(lambda: len(answers) > before + 20, "answers after")
    finally:
        enough.set()
        await asyncio.gather(*asking)
    assert set(answers) == {(3, 8), (3, 16)}
    assert set(answers[-8:]) == {(3, 16)}

    async def told() -> bool | None:
        (model,) = [model for model in await mq.models() if model.name == "null"]
        (status,) = model.workers.values()
        return (model.entry.dimensions, status.entry) == (16, "wide") or None

    await eventually(told, "the catalogue follows")
    await orders.give("null", reset=True)
    assert (await mq.embed("null", "again")).dense.shape == (1, 8)


async def test_orders_that_are_given_at_once_do_not_undo_each_other(stack: Stack, world: World, prefix: str) -> None:
    """Each says something else of the same model, and none knew of the others: all of it holds."""
    topic = Names(prefix).control
    await world.create(topic)
    setup = Setup.of(stack.kafka, stack.redis, {"prefix": prefix})
    await asyncio.gather(
        give_order(setup, "m", served=False, by="one"),
        give_order(setup, "m", pinned=True, by="another"),
        give_order(setup, "m", entry="wide", by="a third"),
    )
    (*_, last) = await world.records(topic)
    assert last.value is not None
    order = decode_order(last.value)
    assert (order.served, order.pinned, order.entry) == (False, True, "wide")


async def test_a_pin_loads_a_model_at_once_and_the_end_of_it_lets_it_go(orders: Fleetwide) -> None:
    """Nobody asked it anything, and it need not be served for that."""
    await orders.give("wide", pinned=True)
    await orders.becomes("wide", "resident")
    followed = await orders.give("wide", served=True)
    assert (followed.pinned, followed.state) == (True, "resident"), "an order keeps what the one before it said"
    await orders.give("wide", served=False)
    assert not (await orders.give("wide", pinned=False)).pinned
    await orders.becomes("wide", "absent")
    await orders.give("wide", reset=True)


async def test_an_order_that_cannot_be_followed_is_refused_aloud_and_changes_nothing(
    world: World, running: Running, orders: Fleetwide, mq: embedmq.Client
) -> None:
    """A model that is not on the list, an entry that is not, broken bytes: the worker says which and why, once, and
    goes on; the next order is heeded."""
    assert (await orders.give("other", served=True)).refused == "it is not configured here"
    assert (await orders.give("null", entry="other")).refused == "there is no entry 'other' here"
    control = f"{running.prefix}.control"
    _, offset = await world.produce(control, b"\xff{", key=b"tail")
    (found,) = await orders.heeded("tail", offset)
    assert found.served
    assert found.refused.startswith("it cannot be read")
    await world.produce(control, b"{}", key=b"no name")
    assert len(running.events("order_refused", model="other")) == 1
    assert (await mq.embed("null", "x")).dense.shape == (1, 8)
    assert (await mq.embed("tail", "x")).dense.shape == (1, 8)
    for model in ("other", "null", "tail"):
        _, offset = await world.produce(control, None, key=model.encode())
    assert [found.refused for found in await orders.heeded("null", offset)] == [""]


async def test_all_models_of_a_lane_may_go_and_come_back(
    running: Running, orders: Fleetwide, mq: embedmq.Client
) -> None:
    """The worker stays ready without anything to read, and reads on."""
    names = ("null", "slow", "tail")
    for name in names:
        assert not (await orders.give(name, served=False)).served
    assert running.get("/ready")[0] == 200
    for name in names:
        assert (await orders.give(name, reset=True)).served
    for name in names:
        assert (await mq.embed(name, "x", timeout_s=WAIT_S)).dense.shape == (1, 8)


async def test_a_worker_that_starts_later_serves_what_the_fleet_was_ordered_to(
    stack: Stack, running: Running, orders: Fleetwide, tmp_path: Path
) -> None:
    """From its first moment, and partitions that were added meanwhile are read."""
    await orders.give("idle", served=True)
    await orders.give("tail", served=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        await admin.create_partitions({running.topic("null"): NewPartitions(3)})
    finally:
        await admin.close()
    second = start(stack, tmp_path, running.prefix, MODELS, SETTINGS)
    try:
        await asyncio.to_thread(second.process.wait_ready, 60)
        assert second.events("started")[0]["models"] == ["idle", "null", "slow"]

        async def shared_out() -> bool | None:
            counts = [worker.metric("assigned_partitions", lane="interactive") for worker in (running, second)]
            return sum(counts) == 7 or None

        await eventually(shared_out, "seven partitions of three models")
    finally:
        await asyncio.to_thread(second.process.stop)
    for model in ("idle", "tail"):
        await orders.give(model, reset=True)


async def test_a_file_is_read_anew_at_sighup_and_a_broken_one_is_not(stack: Stack, tmp_path: Path, prefix: str) -> None:
    """Through the supervisor, which passes it on: models come, go and change; what needs a restart is named; a file
    with a mistake keeps the old state and says which. No worker dies of it."""
    file = tmp_path / "worker.toml"
    file.write_text(f'prefix = "{prefix}"\n{MODELS}')
    command = [sys.executable, "-m", "embedmq", "worker", "--config", str(file), "--workers", "2"]
    running = Running(stack.start_worker(file, {"EMBEDMQ_WORKER__HTTP": "127.0.0.1:0"}, command), prefix)

    async def hang_up(event: str, text: str) -> list[dict[str, object]]:
        before = len(running.events(event))
        file.write_text(f'prefix = "{prefix}"\n{text}')
        os.kill(running.process.pid, signal.SIGHUP)
        await until(lambda: len(running.events(event)) == before + 2, f"{event}, twice", WAIT_S)
        return running.events(event)[before:]

    try:
        await until(lambda: len(running.events("ready")) == 2, "two workers", 60)
        changed = MODELS.replace("[models.tail]", "[models.added]").replace(
            'null:8?batch_ms=1"', 'null:4"\nshared = true'
        )
        for found in await hang_up("serving_changed", f"[worker]\nmax_batch_ms = 7\n{changed}"):
            assert (found["added"], found["removed"], found["repointed"]) == (["added"], ["tail"], ["slow"])
        for found in running.events("config_needs_restart"):
            assert found["keys"] == ["worker.max_batch_ms", "models.slow.shared"]
        for found in await hang_up("config_not_reloaded", changed.replace("null:4", "null:0")):
            assert "null:0" in str(found["error"])
        for found in await hang_up("config_not_reloaded", changed + "[models"):
            assert "TOML" in str(found["error"])
        async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
            assert (await mq.embed("added", "x", timeout_s=WAIT_S)).dense.shape == (1, 8)
            assert (await mq.embed("slow", "x", timeout_s=WAIT_S)).dense.shape == (1, 4)
        assert running.events("worker_died") == [], "the workers that were told are those that answer"
    finally:
        kill(running.process)
