"""Do the client and the worker understand each other?"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid

import embedmq
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from embedmq.fleet import ServedModel
from embedmq_local.stack import Stack
from embedmq_schemas.names import Names
from redis.asyncio import Redis

from tests.held import Hold
from tests.worker.world import eventually, until


async def test_a_text_goes_through_kafka_the_worker_and_redis_and_comes_back(mq: embedmq.Client) -> None:
    """One item gives one row, several as many, and what was sent along comes back."""
    one = await mq.embed("null", "a cat")
    assert one.dense.shape == (1, 8)
    items: list[str | list[int]] = ["a cat", [101, 4937, 102]]
    several = await mq.embed("null", items, meta={"page": "7"}, item_ids=["a", "b"])
    assert (several.dense.shape, several.meta, list(several.item_ids or [])) == ((2, 8), {"page": "7"}, ["a", "b"])


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float16", 4), ("int8", 4), ("ubinary", 1)])
async def test_every_dtype_arrives_in_its_width(mq: embedmq.Client, dtype: str, width: int) -> None:
    """Dimensions are numbers, of which ubinary packs eight into a byte."""
    result = await mq.embed("null", ["a", "b"], dtype=dtype, dimensions=4)
    assert result.dense.shape == (2, width)


async def test_a_model_on_the_shared_topics_is_found_through_the_catalogue(mq: embedmq.Client) -> None:
    """The caller names the model; where its requests go is the worker's affair."""
    assert (await mq.embed("tail", "a cat")).model == "tail"


async def test_more_than_one_record_holds_is_one_call_all_the_same(mq: embedmq.Client) -> None:
    """5,000 items go in several records and come back as one result, in order."""
    result = await mq.embed("null", ["x" * (4 * (i % 7)) for i in range(5_000)])
    assert result.dense.shape == (5_000, 8)
    assert list(result.tokens) == [i % 7 + 1 for i in range(5_000)]


async def test_thousands_of_calls_at_once_all_end(mq: embedmq.Client) -> None:
    """More calls than may be in flight wait for room, and every one gets its own answer."""
    results = await asyncio.gather(*(mq.embed("null", "x" * (4 * (i % 5))) for i in range(3_000)))
    assert [result.tokens[0] for result in results] == [i % 5 + 1 for i in range(3_000)]


async def test_an_option_that_only_the_worker_can_judge_is_a_failed_request(mq: embedmq.Client) -> None:
    """A prompt this model has not: the code and the reason come from the worker."""
    with pytest.raises(embedmq.RequestFailed, match="prompt_name") as failed:
        await mq.embed("null", "a cat", prompt_name="query")
    assert (failed.value.code, failed.value.retryable) == ("unsupported", False)


async def test_a_model_nobody_serves_is_refused_naming_those_that_are(mq: embedmq.Client) -> None:
    """Before anything is sent."""
    with pytest.raises(embedmq.InvalidRequest, match="null"):
        await mq.embed("nobody", "a cat")


async def test_a_deadline_ends_the_wait_behind_a_slow_device(mq: embedmq.Client, hold: Hold) -> None:
    """The caller waits no longer than it said, and the worker does not compute what nobody awaits."""
    with hold.on("batch") as held:
        behind = asyncio.create_task(mq.embed("slow", "a cat"))
        await until(held, "a batch on the device")
        with pytest.raises(embedmq.DeadlineExceeded):
            await mq.embed("slow", "a cat", timeout_s=0.05)
    await behind


async def test_a_submitted_request_is_pending_then_there_then_expired(
    stack: Stack, served: str, mq: embedmq.Client, hold: Hold
) -> None:
    """The answers of `result`, with the worker writing result and stub: pending, found twice, expired, unknown."""
    key = Names(served).result
    with hold.on("batch"):
        ticket = await mq.submit("slow", "a cat", keep_s=60)
        with pytest.raises(embedmq.StillPending):
            await mq.result(ticket.id, wait_s=0)
    for _ in range(2):
        assert (await mq.result(ticket.id, wait_s=60)).dense.shape == (1, 8)
    async with Redis.from_url(stack.redis) as redis:
        assert 0 < await redis.ttl(key(ticket.id)) <= 60
        await redis.delete(key(ticket.id))  # as its time to live does
    with pytest.raises(embedmq.ResultExpired):
        await mq.result(ticket.id)
    with pytest.raises(embedmq.UnknownRequest):
        await mq.result(str(uuid.uuid4()), wait_s=0)


async def test_what_is_published_arrives_on_the_reply_topic(stack: Stack, mq: embedmq.Client) -> None:
    """A plain Kafka consumer reads the vectors; the key is the request's id."""
    topic = f"vectors-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    id = await mq.publish("null", ["a cat", "a dog"], reply_topic=topic)
    async with AIOKafkaConsumer(topic, bootstrap_servers=stack.kafka, auto_offset_reset="earliest") as consumer:
        record = await asyncio.wait_for(consumer.getone(), 60)
    assert record.key.decode() == id
    assert dict(record.headers)["content-type"] == b"application/msgpack"


async def test_models_says_what_the_fleet_serves(mq: embedmq.Client) -> None:
    """Names, widths and which worker has them."""
    for name in ("null", "slow", "tail"):
        await mq.embed(name, "a cat")

    async def told() -> dict[str, ServedModel] | None:
        found = {model.name: model for model in await mq.models()}
        states = {status.state for model in found.values() for status in model.workers.values()}
        return found if states == {"resident"} else None

    models = await eventually(told, "all of them resident")
    assert set(models) == {"null", "slow", "tail"}
    assert models["tail"].entry.shared
    assert models["null"].entry.dimensions == 8
    assert all(model.workers for model in models.values())


def test_without_an_event_loop_it_is_the_same(stack: Stack, served: str) -> None:
    """SyncClient, against the real worker."""
    with embedmq.SyncClient(stack.kafka, stack.redis, prefix=served) as mq:
        assert np.allclose(np.linalg.norm(mq.embed("null", ["a", "b"]).dense, axis=1), 1)


async def test_the_command_line_embeds_lines_in_order(stack: Stack, served: str) -> None:
    """One JSON object a line of standard input, in its order."""
    command = ["-m", "embedmq", "embed", "null", "--json", "--prefix", served, "--kafka", stack.kafka]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--redis",
        stack.redis,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(b"one\ntwo two two\n\nfour\n")
    lines = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert [line["index"] for line in lines] == list(range(len(lines)))
    assert len(lines[0]["dense"]) == 8
