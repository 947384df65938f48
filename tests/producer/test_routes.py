"""Where a model's requests go, and who says so."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import embedmq
import pytest
from embedmq_local.stack import Stack

from tests.producer.standin import StandIn, create_topics


async def test_an_unknown_model_is_refused_with_the_known_names(either: Any, worker: StandIn) -> None:
    """Nothing is sent, and the caller sees what there is."""
    await worker.announce()
    await worker.redis.set(f"{worker.prefix}:model:bge-small", json.dumps({"name": "bge-small"}))

    with pytest.raises(embedmq.InvalidRequest, match="nope is not served; these are: bge-small, minilm"):
        await either.embed("nope", "a")


async def test_a_name_that_is_none_is_refused(mq: embedmq.Client) -> None:
    """Names are slugs, and the words that topics need are taken."""
    for name in ("MiniLM", "a/b", "", "shared", 7):
        with pytest.raises(embedmq.InvalidRequest, match="is no model's name"):
            await mq.embed(name, "a")  # type: ignore[arg-type]  # one of them is no str


async def test_a_shared_model_goes_to_the_shared_topic_under_its_name(stack: Stack, prefix: str) -> None:
    """The record key is the model; the tenant stays in header and body."""
    async with StandIn(stack.kafka, stack.redis, prefix, "rare", shared=True) as worker:
        await worker.announce(shared=True)
        async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
            await mq.embed("rare", "a", tenant="acme")

        record = worker.records[0]
        assert record.topic == f"{prefix}.shared.interactive"
        assert record.key == b"rare"
        assert dict(record.headers)["embedmq-tenant"] == b"acme"
        assert worker.requests[0]["model"] == "rare"


async def test_a_model_that_only_kafka_knows_has_its_own_topic(mq: embedmq.Client) -> None:
    """A catalogue lost with its Redis stops nobody whose topic is there."""
    assert len(await mq.embed("minilm", "a")) == 1


async def test_without_redis_a_client_publishes(stack: Stack, prefix: str, worker: StandIn) -> None:
    """To the model's own topic where it exists, else where the caller says; it can do nothing else."""
    other = f"{prefix}-other"
    await create_topics(stack.kafka, [other])
    async with embedmq.Client(stack.kafka, prefix=prefix) as mq:
        id = await mq.publish("minilm", ["a"], reply_topic="vectors", meta={"k": "v"}, encoding="array")
        await mq.publish("elsewhere", ["a"], reply_topic="vectors", topic=other)
        with pytest.raises(embedmq.InvalidRequest, match="pass topic="):
            await mq.publish("elsewhere", ["a"], reply_topic="vectors")
        with pytest.raises(embedmq.InvalidRequest, match="is not there"):
            await mq.publish("elsewhere", ["a"], reply_topic="vectors", topic="missing")
        for topic in (f"{prefix}.dead", f"{prefix}.retry.10s", f"{prefix}.minilm", "no topic"):
            with pytest.raises(embedmq.InvalidRequest, match=f"topic: .*{topic}"):
                await mq.publish("minilm", ["a"], keep_s=0, topic=topic)
        for call in (mq.embed("minilm", "a"), mq.submit("minilm", "a"), mq.result(id), mq.models()):
            with pytest.raises(embedmq.InvalidRequest, match="no Redis"):
                await call

    (request,) = await worker.wait_for(1)
    assert worker.records[0].topic.endswith(".bulk")
    assert request == {
        "type": "embed",
        "id": id,
        "model": "minilm",
        "items": ["a"],
        "encoding": "array",
        "reply": {"type": "topic", "topic": "vectors"},
        "meta": {"k": "v"},
    }


async def test_an_answer_goes_to_no_topic_of_our_own(either: Any, prefix: str, worker: StandIn) -> None:
    """Nor to one that Kafka cannot have: refused before a worker would have to."""
    for topic in (f"{prefix}.minilm.bulk", f"{prefix}.dead", f"{prefix}.vectors", "a b", "", "x" * 250, 7):
        with pytest.raises(embedmq.InvalidRequest, match="reply_topic: "):
            await either.publish("minilm", ["a"], reply_topic=topic)
    assert worker.requests == []


async def test_ids_of_kept_results_are_uuids(mq: embedmq.Client, worker: StandIn) -> None:
    """Who knows an id can read the result, so it cannot be guessed from another one."""
    ticket = await mq.submit("minilm", "a")
    published = await mq.publish("minilm", "a", keep_s=5)

    assert uuid.UUID(ticket.id).version == 4
    assert uuid.UUID(published).version == 4


async def test_models_lists_what_workers_announce(either: Any, worker: StandIn) -> None:
    """The catalogue's entries by name, with the state of each model on each worker."""
    await worker.announce(dimensions=384, outputs=["dense"], revision="abc")
    status = {"id": "w1", "models": {"minilm": {"state": "resident", "pinned": True, "wait_s": {"bulk": 2.5}}}}
    await worker.redis.set(f"{worker.prefix}:worker:w1", json.dumps(status))

    (model,) = await either.models()

    assert (model.name, model.entry.dimensions, model.entry.revision) == ("minilm", 384, "abc")
    assert (model.workers["w1"].state, model.workers["w1"].pinned) == ("resident", True)


async def test_a_wait_longer_than_the_time_limit_is_refused_at_once(
    either: Any, worker: StandIn, until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
) -> None:
    """The shortest wait that any worker estimates decides, and the error says when to come back."""
    for name, wait_s in (("w1", 90.0), ("w2", 40.0)):
        status = {"id": name, "models": {"minilm": {"state": "resident", "wait_s": {"interactive": wait_s}}}}
        await worker.redis.set(f"{worker.prefix}:worker:{name}", json.dumps(status))

    async def refused() -> bool:  # what workers say is read beside the first call, which does not wait for it
        try:
            await either.embed("minilm", "a", timeout_s=30)
        except embedmq.Overloaded as error:
            return 9 <= error.retry_after_s <= 11 and error.retryable
        return False

    await until(refused)
    assert len(await either.embed("minilm", "a", timeout_s=60)) == 1
