"""Whatever Redis goes through, every result gets into it; only what it will never take is given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_worker.config import Redis
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import KeepWrite, StreamWrite
from embedmq_worker.redis_sink import RedisSink, connect
from redis.asyncio import Redis as RedisClient
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError

from tests.worker.jobs import make_outcome
from tests.worker.world import JSON, Running, World, as_json, eventually, kill, new_id

MIB = 2**20
SHORT_TIMEOUT_S = 0.05
STORM_PERIOD_S = 0.01

Write = StreamWrite | KeepWrite


def stream(key: str, entry: bytes = b"entry") -> StreamWrite:
    return StreamWrite(key, entry, [make_outcome(id=key)])


def keep(key: str, value: bytes = b"result", *, replace: bool = True) -> KeepWrite:
    return KeepWrite(key, f"{{{key}}}:stub", value, 60, replace, make_outcome(id=key))


def some(count: int, name: str = "k") -> list[Write]:
    """Writes of both kinds, each to a key of its own."""
    return [stream(f"{name}{n}") if n % 2 else keep(f"{name}{n}") for n in range(count)]


async def command(client: RedisClient, *words: str | int) -> None:
    """One command that redis-py has no typed method for."""
    pipe = client.pipeline(transaction=False)
    pipe.execute_command(*words)
    await pipe.execute()


async def have(client: RedisClient, writes: list[Write]) -> list[str]:
    """The keys of those writes that are in Redis."""
    return [write.key for write in writes if await client.exists(write.key)]


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "embedmq_worker.redis_sink"]


@pytest.fixture
async def redis(own_redis: RedisServer) -> AsyncIterator[RedisClient]:
    """A client of the test's own, which sees what the sink wrote."""
    client: RedisClient = RedisClient.from_url(own_redis.url)
    async with client:
        yield client


@pytest.fixture
async def client(own_redis: RedisServer) -> AsyncIterator[RedisClient]:
    """The sink's client, as the worker makes it."""
    async with connect(Redis(url=own_redis.url)) as client:
        yield client


@pytest.fixture
def sink(client: RedisClient) -> RedisSink:
    return RedisSink(client, Redis(), Metrics())


@pytest.fixture
async def impatient(own_redis: RedisServer) -> AsyncIterator[RedisSink]:
    """A sink that waits for no answer longer than a moment."""
    client: RedisClient = RedisClient.from_url(
        own_redis.url, socket_timeout=SHORT_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )
    async with client:
        yield RedisSink(client, Redis(), Metrics())


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[RedisServer]:
    """A second Redis, not yet a replica of the first."""
    folder = tmp_path / "replica"
    (folder / "logs").mkdir(parents=True)
    server = RedisServer(find_redis(), folder, None, persistent=False)
    server.start()
    yield server
    kill(server)


async def follow(replica: RedisServer, primary: RedisServer) -> None:
    """Make one Redis the replica of another, and wait until it is in step."""
    async with RedisClient.from_url(primary.url) as leading, RedisClient.from_url(replica.url) as following:
        await leading.config_set("repl-diskless-sync-delay", 0)
        await following.replicaof("127.0.0.1", primary.port.number)

        async def in_step() -> bool | None:
            return (await following.info("replication"))["master_link_status"] == "up" or None

        await eventually(in_step, "the replica in step")


async def test_all_writes_take_one_round_trip(sink: RedisSink, redis: RedisClient) -> None:
    """However many there are: the server reads once from the connection."""
    await sink.write(some(1, "warm"))

    async def reads() -> int:
        return int((await redis.info("stats"))["total_reads_processed"])

    before = await reads()
    asking = await reads() - before
    assert await sink.write(writes := some(40)) == []
    assert await reads() - before - 2 * asking == 1
    assert len(await have(redis, writes)) == 40


async def test_an_entry_that_breaks_every_connection_is_given_up_alone(
    sink: RedisSink, redis: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis closes the connection that brings it more than it takes. Its neighbours are there long before it is given
    up; it alone is undeliverable; the outage is told of once.
    """
    await redis.config_set("proto-max-bulk-len", MIB)
    writes = [*some(5, "a"), bad := stream("bad", bytes(MIB + 1)), *some(6, "b")]
    good = [write for write in writes if write is not bad]
    writing = asyncio.create_task(sink.write(writes))

    async def neighbours() -> bool | None:
        return len(await have(redis, good)) == len(good) or None

    await eventually(neighbours, "the neighbours")
    assert not writing.done()
    ((outcome, fault),) = await writing
    assert (outcome.job.envelope.id, fault.code) == ("bad", "undeliverable")
    assert events(caplog) == ["redis_away", "redis_back"]


@contextlib.asynccontextmanager
async def out_of_memory(redis: RedisClient) -> AsyncIterator[None]:
    await redis.config_set("maxmemory", 1)
    yield
    await redis.config_set("maxmemory", 0)


@contextlib.asynccontextmanager
async def too_few_to_write(redis: RedisClient) -> AsyncIterator[None]:
    await redis.config_set("min-replicas-to-write", 1)
    yield
    await redis.config_set("min-replicas-to-write", 0)


@contextlib.asynccontextmanager
async def demoted(redis: RedisClient) -> AsyncIterator[None]:
    await redis.replicaof("127.0.0.1", 1)
    yield
    await redis.replicaof("NO", "ONE")


@contextlib.asynccontextmanager
async def demoted_and_alone(redis: RedisClient) -> AsyncIterator[None]:
    await redis.config_set("replica-serve-stale-data", "no")
    async with demoted(redis):
        yield


@contextlib.asynccontextmanager
async def forbidden(redis: RedisClient) -> AsyncIterator[None]:
    await command(redis, "ACL", "SETUSER", "default", "-xadd", "-set")
    yield
    await command(redis, "ACL", "SETUSER", "default", "+xadd", "+set")


Trouble = Callable[[RedisClient], contextlib.AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("trouble", [out_of_memory, too_few_to_write, demoted, demoted_and_alone, forbidden])
async def test_what_concerns_the_server_is_waited_for(
    sink: RedisSink, redis: RedisClient, caplog: pytest.LogCaptureFixture, trouble: Trouble
) -> None:
    """Out of memory, too few replicas, read-only, no primary, a missing permission: nothing is given up, and all is
    written when it is over. The log says once that it began and once that it ended.
    """
    async with trouble(redis):
        writing = asyncio.create_task(sink.write(writes := some(20)))

        async def refused() -> bool | None:
            return int((await redis.info("stats"))["total_error_replies"]) >= 3 * len(writes) or None

        await eventually(refused, "three attempts")
        assert await have(redis, writes) == [] if trouble is not demoted_and_alone else True
        assert not writing.done()
    assert await writing == []
    assert len(await have(redis, writes)) == 20
    assert events(caplog) == ["redis_away", "redis_back"]


async def test_a_redis_that_reads_its_data_is_waited_for(
    own_redis: RedisServer, sink: RedisSink, redis: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    """LOADING is no refusal."""
    await redis.config_set("rdbcompression", "no")
    for n in range(40):
        await redis.set(f"ballast{n}", bytes(MIB))
    await redis.config_set("key-load-delay", 50_000)
    loading = asyncio.create_task(command(redis, "DEBUG", "RELOAD"))
    async with RedisClient.from_url(own_redis.url, retry=Retry(NoBackoff(), 0)) as another:

        async def begun() -> bool | None:
            try:
                await another.ping()
            except BusyLoadingError:
                return True
            return None

        await eventually(begun, "a Redis that loads")
    assert await sink.write(writes := some(20)) == []
    assert loading.done()
    await loading
    assert len(await have(redis, writes)) == 20
    assert events(caplog) == ["redis_away", "redis_back"]


async def test_after_a_failover_the_address_is_looked_up_anew(
    own_redis: RedisServer, replica: RedisServer, redis: RedisClient
) -> None:
    """A primary that was demoted stays connected and says READONLY; its name leads to the new one by then."""
    await follow(replica, own_redis)
    leads_to = own_redis

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", leads_to.port.number)
        with contextlib.suppress(OSError):
            await asyncio.gather(pour(reader, back), pour(there, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as name:
        port = name.sockets[0].getsockname()[1]
        async with connect(Redis(url=f"redis://127.0.0.1:{port}")) as client:
            sink = RedisSink(client, Redis(), Metrics())
            assert await sink.write(some(4, "before")) == []
            async with RedisClient.from_url(replica.url) as promoted:
                await promoted.replicaof("NO", "ONE")
                await redis.replicaof("127.0.0.1", replica.port.number)
                leads_to = replica
                assert await sink.write(after := some(20, "after")) == []
                assert len(await have(promoted, after)) == 20


async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(MIB):
        sink.write(data)
        await sink.drain()
    sink.close()


async def test_a_batch_counts_when_a_replica_has_it(
    own_redis: RedisServer, replica: RedisServer, redis: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    """With `wait_replicas` a batch that only the primary has is not acknowledged; when the replica is there it is
    written again, once, not at every attempt. While the replica keeps up nothing is written twice.
    """
    settings = Redis(url=own_redis.url, wait_replicas=1, wait_replicas_ms=100)
    async with connect(settings) as client, RedisClient.from_url(replica.url) as copy:
        sink = RedisSink(client, settings, Metrics())
        writing = asyncio.create_task(sink.write(writes := some(10)))
        waits = "cmdstat_wait"

        async def attempts() -> bool | None:
            stats = await redis.info("commandstats")
            return stats.get(waits, {}).get("calls", 0) >= 4 or None

        await eventually(attempts, "four attempts")
        assert not writing.done()
        assert len(await have(redis, writes)) == 10
        assert await redis.xlen(writes[1].key) == 1
        await follow(replica, own_redis)
        assert await writing == []
        assert len(await have(copy, writes)) == 10
        assert await redis.xlen(writes[1].key) == 2
        assert events(caplog) == ["redis_away", "redis_back"]
        assert await sink.write(later := some(10, "later")) == []
        assert len(await have(copy, later)) == 10
        assert await redis.xlen(later[1].key) == 1


async def test_a_demoted_primary_without_replicas_is_left_for_the_new_one(
    own_redis: RedisServer, redis: RedisClient
) -> None:
    """WAIT is refused by a replica; what counts then is that it is read-only."""
    settings = Redis(url=own_redis.url, wait_replicas=1, wait_replicas_ms=50)
    async with connect(settings) as client:
        sink = RedisSink(client, settings, Metrics())
        writing = asyncio.create_task(sink.write(some(4)))

        async def calls(of: str) -> bool | None:
            return (await redis.info("commandstats")).get(f"cmdstat_{of}", {}).get("calls", 0) >= 2 or None

        await eventually(lambda: calls("wait"), "too few replicas")
        await redis.replicaof("127.0.0.1", 1)

        async def read_only() -> bool | None:
            return (await redis.info("commandstats"))["cmdstat_xadd"]["rejected_calls"] > 0 or None

        await eventually(read_only, "a write that met READONLY")
        assert not writing.done()
        writing.cancel()
        await asyncio.wait({writing})


async def test_connections_killed_all_the_time_lose_nothing(sink: RedisSink, redis: RedisClient) -> None:
    """A storm of CLIENT KILL: every result gets in, none is given up."""
    calm, killed = asyncio.Event(), 0

    async def storm() -> None:
        nonlocal killed
        while not calm.is_set():
            killed += await redis.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(STORM_PERIOD_S)

    storming = asyncio.create_task(storm())
    batches: list[list[Write]] = []
    while len(batches) < 60 or killed < 5:
        batches.append(some(30, f"batch{len(batches)}-"))
        assert await sink.write(batches[-1]) == []
    calm.set()
    await storming
    for writes in batches:
        assert len(await have(redis, writes)) == 30


async def test_slowness_is_no_refusal(impatient: RedisSink, redis: RedisClient) -> None:
    """Not even of one write that times out again and again, while Redis answers what is no write."""
    await command(redis, "CLIENT", "PAUSE", 8_000, "WRITE")
    assert await impatient.write(writes := some(1)) == []
    assert len(await have(redis, writes)) == 1


async def test_a_cancelled_write_leaves_no_answer_behind_for_the_next_command(
    sink: RedisSink, client: RedisClient
) -> None:
    """Wherever it is cancelled, the connection's next command gets its own answer."""
    for passes in range(60):
        writing = asyncio.create_task(sink.write(some(5)))
        for _ in range(passes):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait({writing})
        assert await client.echo(str(passes)) == str(passes).encode()


async def test_a_connection_closed_while_idle_is_no_outage(
    sink: RedisSink, redis: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers and balancers close idle connections: that is seen before a batch is entrusted to one."""
    await sink.write(some(1))
    await redis.client_kill_filter(_type="normal", skipme=True)
    await redis.ping()
    assert await sink.write(some(20)) == []
    assert events(caplog) == []


SUCCESS, FAILURE = "success", "failure"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ([SUCCESS, FAILURE], SUCCESS),
        ([FAILURE, SUCCESS], SUCCESS),
        ([FAILURE, SUCCESS, FAILURE], SUCCESS),
        ([FAILURE, FAILURE], FAILURE),
        ([SUCCESS, SUCCESS], SUCCESS),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_what_is_kept_changes_at_most_from_a_failure_to_a_success(
    sink: RedisSink, redis: RedisClient, written: list[str], kept: str, together: bool
) -> None:
    """In whatever order workers, zombies among them, write the endings of one id, in one batch or in several."""
    writes = [keep("id", ending.encode(), replace=ending == SUCCESS) for ending in written]
    for batch in [writes] if together else [[write] for write in writes]:
        assert await sink.write(batch) == []
    assert await redis.get("id") == kept.encode()


async def test_a_failure_never_takes_the_place_of_a_result_also_when_its_id_is_published_again(
    world: World, worker: Running
) -> None:
    """A zombie's late failure, or a second request with a used id, leaves the result; a result replaces a failure."""
    id, topic = new_id(), worker.topic("null")

    async def publish(request: dict[str, object]) -> None:
        """One request, and another behind it in the same partition, so that its end is seen."""
        follower = new_id()
        partition, _ = await world.produce(topic, as_json({"id": id, **request}), JSON)
        await world.produce(topic, as_json({"id": follower, "items": ["x"]}), JSON, partition=partition)
        await world.kept(worker, follower)

    await publish({"items": [7]})
    assert (await world.kept(worker, id))["code"] == "malformed"
    await publish({"items": ["x"]})

    async def replaced() -> bool | None:
        return (await world.kept(worker, id))["type"] == "embedded" or None

    await eventually(replaced, "the result in the failure's place")
    await publish({"items": [7]})
    await world.dead_letter(worker, id)
    assert (await world.kept(worker, id))["type"] == "embedded"
