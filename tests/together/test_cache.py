"""A text that comes again is answered without the device, by the real worker and the real Redis; or as if for the first
time, whatever is wrong with the cache."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_local.stack import Stack
from embedmq_schemas.limits import MIB
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed
from embedmq_worker.bisect import Relief
from embedmq_worker.config import Cache
from embedmq_worker.contents import Contents
from embedmq_worker.device import Device
from embedmq_worker.engine.null import NullEngine
from embedmq_worker.engine.seam import Options
from embedmq_worker.jobs import Batch, Part, size
from embedmq_worker.metrics import Metrics
from embedmq_worker.recall import Recall
from embedmq_worker.supply import Supplied, Supply
from embedmq_worker.twins import Twins
from msgspec import structs
from redis.asyncio import Redis

from tests.worker.jobs import make_job
from tests.worker.world import MSGPACK, Running, World, decode, eventually, kill, new_id, packed, start, until

MODELS = """
[models.null]
checkpoint = "null:8"
pinned = true

[models.slow]
checkpoint = "null:8?batch_ms=200"
pinned = true
"""
CACHE = f"[cache]\nenabled = true\nmax_bytes = {MIB}\nmax_value_bytes = 256\n"


@pytest.fixture(scope="module")
def own_redis(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own, to be emptied, filled and stopped."""
    server = RedisServer(find_redis(), tmp_path_factory.mktemp("redis"), None, persistent=False)
    server.log.parent.mkdir()
    server.start()
    yield server
    kill(server)


@pytest.fixture(scope="module")
def worker(stack: Stack, own_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A worker with a cache."""
    folder, prefix = tmp_path_factory.mktemp("cached"), f"t{uuid.uuid4().hex[:10]}"
    running = start(stack, folder, prefix, MODELS, CACHE, {"EMBEDMQ_REDIS": own_redis.url})
    running.process.wait_ready()
    yield running
    kill(running.process)


@pytest.fixture
async def world(stack: Stack, own_redis: RedisServer) -> AsyncIterator[World]:
    """The stack's Kafka and that Redis."""
    async with World(stack.kafka, own_redis.url) as world:
        yield world


def looked_up(worker: Running, model: str = "null") -> tuple[float, float, float]:
    """Items of a model that were found, that were not, and that were computed."""
    found, missed = (worker.metric("cache_items_total", model=model, outcome=outcome) for outcome in ("hit", "miss"))
    return found, missed, worker.metric("batch_items_sum", model=model)


async def written(worker: Running, items: int) -> None:
    """Wait until so many vectors were written since the worker started."""

    async def probe() -> bool | None:
        return worker.metric("cache_written_total") >= items or None

    await eventually(probe, f"{items} vectors in the cache")


async def test_a_text_that_comes_again_is_answered_without_the_device(world: World, worker: Running) -> None:
    """Beside texts that are new; by other options it is new, too. The cache has no text, and everything in it ends."""
    first = await world.ask(worker, "null", {"items": ["a cat", "a dog", "a cat"]})
    await written(worker, 2)
    assert looked_up(worker) == (0, 2, 2)
    again = await world.ask(worker, "null", {"items": ["a dog", "a bird", "a cat"]})
    assert (again["dense"], again["tokens"]) == (first["dense"], [2, 2, 2])
    assert looked_up(worker) == (2, 3, 3)
    await written(worker, 3)
    whole = await world.ask(worker, "null", {"items": ["a bird", "a cat"]})
    assert (looked_up(worker), whole["timing"]["forward_ms"]) == ((4, 3, 3), 0)
    narrow = await world.ask(worker, "null", {"items": ["a cat"], "dimensions": 4})
    assert (narrow["dense"]["shape"], looked_up(worker)) == ([1, 4], (4, 4, 4))
    await written(worker, 4)
    keys = [key async for key in world.redis.scan_iter(f"{worker.prefix}:cache:*")]
    for key in keys:
        assert 0 < await world.redis.ttl(key) <= 24 * 3600
        value = await world.redis.get(key)
        assert isinstance(value, bytes)
        assert b"cat" not in value
    assert len(keys) == 4


async def test_what_is_damaged_or_foreign_is_computed_anew(world: World, worker: Running) -> None:
    """A broken value, one of another item, a key of another type: each is a miss, and never a vector."""
    request = {"items": ["broken", "foreign", "another type"]}
    first = await world.ask(worker, "null", request)
    before = worker.metric("cache_written_total")
    values = {key: await world.redis.get(key) or b"" async for key in world.redis.scan_iter(f"{worker.prefix}:cache:*")}
    others = [*list(values.values())[1:], b""]
    for number, (key, other) in enumerate(zip(values, others, strict=True)):
        if number % 3 == 2:
            await world.redis.delete(key)
            await world.redis.lpush(key, "x")
        else:
            await world.redis.set(key, other if number % 3 else values[key][:-1])
    hits, _, computed = looked_up(worker)
    again = await world.ask(worker, "null", request)
    assert again["dense"] == first["dense"]
    assert looked_up(worker)[::2] == (hits, computed + 3)
    await written(worker, int(before) + 3)  # whatever was there


async def test_what_is_asked_for_many_times_at_once_is_computed_once(world: World, worker: Running) -> None:
    """Requests of both lanes that come while the device is busy with the first of them, and none is looked up twice."""
    requests = [{"id": new_id(), "items": ["the same"], "keep_s": 60} for _ in range(20)]
    with worker.hold.on("batch") as held:
        await world.produce(worker.topic("slow"), packed(requests[0]), MSGPACK)
        await until(held, "the first on the device")
        for lane, some in (("interactive", requests[1:10]), ("bulk", requests[10:])):
            await world.produce_all(worker.topic("slow", lane), [packed(request) for request in some], MSGPACK)
        await until(lambda: worker.metric("in_flight_items") == 20, "all of them in flight")
    results = [await world.kept(worker, str(request["id"])) for request in requests]
    assert len({msgspec.msgpack.encode(result["dense"]) for result in results}) == 1
    assert looked_up(worker, "slow") == (0, 1, 1)
    assert worker.metric("items_coalesced_total", model="slow") >= 19


async def test_a_cache_that_cannot_be_had_is_as_good_as_empty(
    stack: Stack, world: World, worker: Running, own_redis: RedisServer
) -> None:
    """Redis is full, then it is gone: the reply comes all the same, computed."""
    topic = await world.create(new_id())

    async def ask(text: str) -> Sequence[int]:
        id = new_id()
        request = {"id": id, "items": [text], "reply": {"type": "topic", "topic": topic}}
        await world.produce(worker.topic("null"), packed(request), MSGPACK)
        reply = decode((await world.record(topic, lambda record: record.key == id.encode())).value)
        return reply["dense"]["shape"]  # type: ignore[no-any-return]  # of whatever came

    await world.redis.config_set("maxmemory", 1)
    assert await ask("nowhere to keep it") == [1, 8]

    async def told() -> bool | None:
        return worker.metric("cache_failures_total", step="write") > 0 or None

    await eventually(told, "the failure")
    kill(own_redis)
    computed = looked_up(worker)[2]
    assert await ask("a cat") == [1, 8]
    assert looked_up(worker)[2] == computed + 1
    assert worker.get("/health")[0] == 200


async def test_revisions_are_never_mixed_although_they_share_a_cache(stack: Stack, prefix: str) -> None:
    """Nor are models, nor what they compute in: for each, what the others have kept is a miss."""
    async with Redis.from_url(stack.redis) as client:
        recall = Recall(Contents(client, Names(prefix), Cache(enabled=True), Metrics()))
        with ThreadPoolExecutor(1) as thread:
            supply = Supply(Device(thread, thread), Twins(), recall)

            async def compute(model: str, **facts: str) -> Supplied:
                engine, job = NullEngine(8), make_job(tokens=[1], model=model)
                engine.facts = structs.replace(engine.facts, **facts)
                job.request, job.options = Embed(items=["a cat"]), Options()
                parts = [Part(job, 0, 1)]
                relief = Relief(_nobody, lambda step: None)
                supplied = await supply.supply(engine, Batch(model, parts, *size(parts)), relief, lambda: None)
                await supply.remember()
                assert job.remaining == 0
                return supplied

            kinds = [("m", {}), ("m", {"revision": "r2"}), ("m", {"computed_in": "bfloat16"}), ("n", {})]
            assert [(await compute(model, **facts)).hits for model, facts in kinds] == [0] * 4
            assert [(await compute(model, **facts)).hits for model, facts in kinds] == [1] * 4


async def test_the_bound_holds_however_much_is_written(own_redis_empty: Redis, prefix: str) -> None:
    """By what Redis itself says that it takes, and the worst a value can be."""
    settings = Cache(enabled=True, max_bytes=4 * MIB, max_value_bytes=1_025)
    contents = Contents(own_redis_empty, Names(prefix), settings, Metrics())

    async def used() -> int:
        return int((await own_redis_empty.info("memory"))["used_memory"])

    before = await used()
    for _ in range(12):
        await contents.write([(uuid.uuid4().bytes, b"x" * 1_025) for _ in range(1_000)])
    await contents.write([(uuid.uuid4().bytes, b"x" * 1_026)])
    assert contents.places * 0.9 < await own_redis_empty.dbsize() <= contents.places
    assert 2 * MIB < await used() - before <= 4 * MIB


@pytest.fixture
async def own_redis_empty(tmp_path: Path) -> AsyncIterator[Redis]:
    """A Redis that has nothing and that nobody else uses."""
    server = RedisServer(find_redis(), tmp_path, None, persistent=False)
    server.log.parent.mkdir()
    server.start()
    async with Redis.from_url(server.url) as client:
        await client.ping()
        yield client
    kill(server)


async def _nobody() -> bool:
    return False
