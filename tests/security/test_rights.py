"""The rights on docs/security.md suffice for all that each does, and each of them is needed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import embedmq
import pytest
from embedmq.reply_topic import Reply
from embedmq_local.worker import Worker
from embedmq_schemas.names import Names
from embedmq_worker.config import Tenant
from embedmq_worker.configuration import load
from embedmq_worker.errors import Unreachable
from embedmq_worker.jobs import Job
from embedmq_worker.metrics import Metrics
from embedmq_worker.quotas import Quotas
from embedmq_worker.world import connected
from msgspec import structs
from redis.asyncio import Redis

from tests.security.company import Company, company_of
from tests.security.guarded import Guarded, password
from tests.security.rights import Right
from tests.security.tables import kafka_rights, tell_redis
from tests.worker.jobs import make_job

DONE_S = 60.0


@pytest.fixture(scope="module")
def company(doors: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """With topics that the operator made."""
    with company_of(doors, tmp_path_factory.mktemp("company")) as company:
        company.command("operator", "topics", "create", "minilm", "--partitions", "2")
        company.command("operator", "models", "load", "minilm")  # an order, before which nobody reads the control topic
        yield company


@pytest.fixture(scope="module", autouse=True)
def worker(company: Company) -> Iterator[Worker]:
    """A real one, which may create no topic."""
    with company.worker() as worker:
        yield worker


def replies(company: Company) -> AsyncGenerator[Reply, None]:
    """What a reader reads."""
    return embedmq.replies(
        company.reply_topic,
        kafka=company.doors.kafka,
        group=f"{company.reply_topic}-readers",
        kafka_tls=True,
        kafka_ca_file=str(company.doors.authorities.ca),
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="reader",
        kafka_sasl_password=password("reader"),
    )


async def test_a_producer_may_ask_await_keep_and_cancel(company: Company) -> None:
    """By all methods of a client."""
    async with company.client("producer") as mq, asyncio.timeout(DONE_S):
        assert len(await mq.embed("minilm", ["a", "b"])) == 2
        assert len([row.dense async for row in mq.map("minilm", ["a", "b"])]) == 2
        ticket = await mq.submit("minilm", "a")
        assert (await mq.result(ticket.id, wait_s=DONE_S)).id == ticket.id
        assert await mq.cancel(ticket.id) == "completed"
        assert [model.name for model in await mq.models()] == ["minilm"]


async def test_a_reader_reads_what_a_producer_asked_for(company: Company) -> None:
    """On the reply topic, which the worker may write to."""
    async with company.client("producer") as mq:
        id = await mq.publish("minilm", "a", reply_topic=company.reply_topic)
    async with contextlib.aclosing(replies(company)) as found, asyncio.timeout(DONE_S):
        assert (await anext(found)).id == id


async def test_what_may_succeed_later_is_tried_again(company: Company) -> None:
    """A worker may write to the retry topics."""
    async with asyncio.timeout(DONE_S):
        async with company.client("producer") as mq:
            await mq.submit("minilm", "a", revision="another")
        await company.first(f"{company.prefix}.retry.10s")


def test_an_operator_replays_what_was_buried(company: Company) -> None:
    """And sees how all is, and throws away what is of no use."""
    _bury(company)
    assert "malformed" in company.command("operator", "dead", "list")
    company.command("operator", "dead", "replay", "--limit", "1")
    company.command("operator", "dead", "purge", "--before", "2020-01-01", "--yes")
    assert "minilm" in company.command("operator", "topics", "show")
    assert "minilm" in company.command("operator", "models")
    company.command("operator", "jobs")


def test_an_operator_runs_a_job(company: Company, tmp_path: Path) -> None:
    """Which asks as a producer does, and says in Redis how far it is."""
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"id": str(n), "text": str(n)}) + "\n" for n in range(5)))
    source, sink = tmp_path / "docs.jsonl", tmp_path / "vectors.jsonl"
    words = ("reindex", "--model", "minilm", "--source", str(source), "--sink", str(sink))
    company.command("operator", *words)
    assert sink.exists()


def test_orders_are_the_operators(company: Company) -> None:
    """Workers follow them; of a producer Kafka takes none."""
    for order, served in (("unload", False), ("load", True)):
        told = json.loads(company.command("operator", "--json", "models", order, "minilm"))
        assert [worker["served"] for worker in told["workers"]] == [served]
    refused = company.command("producer", "models", "unload", "minilm", code=2)
    assert f"Write topic {company.prefix}.control" in refused


ROWS = kafka_rights("{prefix}", "{topic}")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.principal[5:]}-{row.operation}-{row.resource}-{row.name}")
def test_each_right_in_kafka_is_needed(company: Company, worker: Worker, row: Right) -> None:
    """Without it something fails, which names the operation and what it is on."""
    right = structs.replace(row, name=row.name.format(prefix=company.prefix, topic=company.reply_topic))
    asyncio.run(company.doors.rights.revoke([right]))
    try:
        told = ATTEMPTS[row.principal[5:], row.operation, row.resource, row.name](company)
        if right.principal == "User:worker" and right.resource == "Group":
            assert worker.process is not None
            assert worker.process.reap(DONE_S) == 3, "the one that runs ends by itself"
    finally:
        asyncio.run(company.doors.rights.grant([right]))
        if not worker.running:
            worker.start()
    assert re.search(f"{row.operation}.* (on |to )?(any )?{row.resource.lower()}", told, re.IGNORECASE), told
    assert "Traceback" not in told


def _start(company: Company) -> str:
    """What a worker says that may not do all that it must."""

    async def start() -> str:
        with pytest.raises(Unreachable) as error:
            async with connected(load(company.config(), company.environment("worker")), Metrics()):
                pass
        return str(error.value)

    return asyncio.run(start())


def _read(company: Company) -> str:
    """What a reader of the reply topic is told."""

    async def read() -> str:
        async with contextlib.aclosing(replies(company)) as found, asyncio.timeout(DONE_S):
            with pytest.raises(embedmq.EmbedMQError) as error:
                await anext(found)
        return str(error.value)

    return asyncio.run(read())


def _undeliverable(company: Company) -> str:
    """What becomes of an answer that may not be written to its topic."""

    async def publish() -> None:
        async with company.client("producer") as mq:
            id = await mq.publish("minilm", "a", reply_topic=company.reply_topic)
        await company.first(f"{company.prefix}.dead", id)

    asyncio.run(publish())
    return company.command("operator", "dead", "list", "--code", "undeliverable", "--json")


def _bury(company: Company) -> None:
    """Have a dead letter."""
    id = uuid.uuid4().hex

    async def bury() -> None:
        await company.put(f"{company.prefix}.minilm.bulk", f'{{"id": "{id}", "items": 7}}'.encode())
        async with asyncio.timeout(DONE_S):
            await company.first(f"{company.prefix}.dead", id)

    asyncio.run(bury())


def _purge(company: Company) -> str:
    _bury(company)
    now = datetime.now(UTC).isoformat()
    return company.command("operator", "dead", "purge", "--before", now, "--yes", code=3)


def _command(user: str, *words: str) -> Callable[[Company], str]:
    return lambda company: company.command(user, *words, code=3)


ATTEMPTS: Mapping[tuple[str, str, str, str], Callable[[Company], str]] = {
    ("producer", "Write", "Topic", "{prefix}.minilm."): _command("producer", "embed", "minilm", "a"),
    ("reader", "Read", "Topic", "{topic}"): _read,
    ("reader", "Read", "Group", "{topic}-readers"): _read,
    ("worker", "Read", "Topic", "{prefix}."): _start,
    ("worker", "Read", "Group", "{prefix}."): _start,
    ("worker", "Write", "Topic", "{prefix}.retry."): _start,
    ("worker", "Write", "Topic", "{prefix}.dead"): _start,
    ("worker", "Write", "Topic", "{topic}"): _undeliverable,
    ("operator", "Create", "Topic", "{prefix}."): _command("operator", "topics", "create", "another"),
    ("operator", "DescribeConfigs", "Topic", "{prefix}."): _command("operator", "doctor"),
    ("operator", "Write", "Topic", "{prefix}."): _command("operator", "embed", "minilm", "a"),
    ("operator", "Read", "Topic", "{prefix}.control"): _command("operator", "models", "load", "minilm"),
    ("operator", "Describe", "Group", "{prefix}."): _command("operator", "topics", "show"),
    ("operator", "Read", "Topic", "{prefix}.dead"): _command("operator", "dead", "list"),
    ("operator", "Delete", "Topic", "{prefix}.dead"): _purge,
}


async def test_a_caller_is_told_which_command_redis_does_not_allow(company: Company) -> None:
    """With where it is written what is needed."""
    async with Redis.from_url(company.doors.redis_plain) as redis, company.client("producer") as mq:
        await tell_redis(redis, "ACL", "SETUSER", "producer", "-set")
        try:
            with pytest.raises(embedmq.Unavailable, match=r"'set' command.*docs/security\.md"):
                await mq.submit("minilm", "a")
        finally:
            await tell_redis(redis, "ACL", "SETUSER", "producer", "+set")


async def test_what_may_no_longer_be_read_waits(company: Company) -> None:
    """The worker says so, and goes on by itself when it may again."""
    right = next(right for right in company.rights if right.name == f"{company.prefix}." and right.operation == "Read")
    try:
        async with company.telling("read_denied", "rights_missing"):
            await company.doors.rights.revoke([right])
        async with company.client("producer") as mq:
            ticket = await mq.submit("minilm", "a")
    finally:
        await company.doors.rights.grant([right])
    async with company.client("producer") as mq:
        assert (await mq.result(ticket.id, wait_s=DONE_S)).id == ticket.id


async def test_what_may_no_longer_be_buried_waits(company: Company) -> None:
    """Neither the dead letter nor its request is lost."""
    right = next(right for right in company.rights if right.principal == "User:worker" and right.name.endswith(".dead"))
    id = uuid.uuid4().hex
    try:
        async with company.telling("dead_letter_blocked"):
            await company.doors.rights.revoke([right])
            await company.put(f"{company.prefix}.minilm.bulk", f'{{"id": "{id}", "items": 7}}'.encode())
    finally:
        await company.doors.rights.grant([right])
    async with asyncio.timeout(DONE_S):
        await company.first(f"{company.prefix}.dead", id)


async def test_a_command_that_redis_no_longer_allows_is_waited_for(company: Company) -> None:
    """As if Redis were away, and what is said names the command."""
    async with Redis.from_url(company.doors.redis_plain) as redis, company.client("producer") as mq:
        try:
            async with company.telling("redis_away") as told:
                await tell_redis(redis, "ACL", "SETUSER", "worker", "-xadd")
                asking = asyncio.create_task(mq.embed("minilm", "a", timeout_s=DONE_S))
        finally:
            await tell_redis(redis, "ACL", "SETUSER", "worker", "+xadd")
        assert "'xadd' command" in told[0]["error"]
        assert len(await asking) == 1


async def test_quotas_take_two_commands_more(company: Company) -> None:
    """Without them nothing is counted, which the log tells with the command; with them a tenant gets no more."""
    tenants = {"acme": Tenant(items_per_s=0.001, burst_s=1_000)}
    ca, names = str(company.doors.authorities.ca), Names(company.prefix)
    async with (
        Redis.from_url(company.doors.redis_plain) as admin,
        Redis.from_url(company.doors.redis, username="worker", password=password("worker"), ssl_ca_certs=ca) as redis,
    ):
        assert await Quotas(redis, names, tenants, Metrics()).charge([_job("a"), _job("b")]) == []
        await tell_redis(admin, "ACL", "SETUSER", "worker", "+eval", "+time")
        try:
            refused = await Quotas(redis, names, tenants, Metrics()).charge([_job("a"), _job("b")])
        finally:
            await tell_redis(admin, "ACL", "SETUSER", "worker", "-eval", "-time")
    assert len(refused) == 1


def _job(id: str) -> Job:
    """A request of a tenant, of two items."""
    job = make_job(id, [1, 1])
    job.envelope = structs.replace(job.envelope, tenant="acme")
    return job
