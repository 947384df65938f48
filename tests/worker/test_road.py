"""A request travels: over either lane, in any codec, in batches with others, to where its answer is awaited."""

from __future__ import annotations

import base64
import json
import struct
import time
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.worker.world import (
    JSON,
    MSGPACK,
    TEXT,
    Headers,
    Running,
    World,
    as_json,
    eventually,
    new_id,
    packed,
    until,
)

UNIT = 8**-0.5
FORMS = {"json": str, "msgpack": bytes, "text": list}
"""How a vector travels in each codec."""


def vectors(result: dict[str, Any]) -> np.ndarray[Any, Any]:
    dense = result["dense"]
    data = base64.b64decode(dense["data"]) if isinstance(dense["data"], str) else dense["data"]
    if isinstance(data, list):
        return np.array(data, np.float32)
    return np.frombuffer(data, "<f4").reshape(dense["shape"])


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize("model", ["null", "tail"])
@pytest.mark.parametrize("codec", ["json", "msgpack", "text", "json without header", "msgpack without header"])
async def test_a_request_in_any_codec_is_answered_on_either_lane_and_on_shared_topics(
    world: World, worker: Running, lane: str, model: str, codec: str
) -> None:
    """The answer comes in the request's codec; for plain text, in JSON with arrays."""
    id = new_id()
    topic = worker.topic("shared" if model == "tail" else model, lane)
    value, headers, key = b"a cat", [*TEXT, ("ce_id", id.encode())], model.encode()
    if codec != "text":
        request = {"type": "embed", "id": id, "model": model, "items": ["a cat", [101, 102]], "meta": {"page": "7"}}
        json_ = codec.startswith("json")
        value, headers = (as_json(request), JSON) if json_ else (packed(request), MSGPACK)
        headers = [] if "without" in codec else headers
    await world.produce(topic, value, headers, key=key)
    answer = await world.kept_bytes(worker, id)
    result = json.loads(answer) if not codec.startswith("msgpack") else msgspec.msgpack.decode(answer)
    count = 1 if codec == "text" else 2
    assert (result["type"], result["id"], result["model"], result["count"]) == ("embedded", id, model, count)
    assert (result["dense"]["dtype"], result["dense"]["shape"]) == ("float32", [count, 8])
    assert isinstance(result["dense"]["data"], FORMS[codec.partition(" ")[0]])
    np.testing.assert_allclose(vectors(result), np.full((count, 8), UNIT), rtol=1e-6)
    assert len(result["tokens"]) == count
    assert result["meta"] == (None if codec == "text" else {"page": "7"})
    assert set(result["timing"]) == {"queue_ms", "tokenize_ms", "forward_ms"}


async def test_a_batch_forms_across_requests_and_lanes_while_the_device_is_busy(world: World, worker: Running) -> None:
    """While one batch runs, twenty requests of two lanes and two clients arrive: the next batch holds them all, and
    each client gets its ten results in one stream entry."""
    clients = [new_id(), new_id()]
    requests = [
        packed({"id": f"{client}-{n}", "items": ["x"], "reply": {"type": "stream", "client": client}})
        for n in range(10)
        for client in clients
    ]
    before = len(worker.events("batch", model="slow"))
    with worker.hold.on("batch") as held:
        await world.produce(worker.topic("slow"), packed({"items": ["first"]}), MSGPACK)
        await until(held, "the first request on the device")
        await until(lambda: worker.metric("in_flight_items") == 1, "nothing else in flight")
        await world.produce_all(worker.topic("slow"), requests[:10], MSGPACK)
        await world.produce_all(worker.topic("slow", "bulk"), requests[10:], MSGPACK)
        await until(lambda: worker.metric("in_flight_items") == 21, "all of them in flight")
    for client in clients:
        await world.replies(worker, client, 10)
        (entry,) = await world.entries(worker, client)
        assert [result["type"] for result in entry] == ["embedded"] * 10
    batches = worker.events("batch", model="slow")[before:]
    assert [batch["requests"] for batch in batches] == [1, 20]


async def test_a_reply_topic_is_answered_as_springs_template_asks(world: World, worker: Running) -> None:
    """Topic, partition (4 bytes big-endian) and correlation id by headers; the reply has the request's id as key, its
    timestamp, CloudEvents and the trace, and no other header of the request."""
    topic = await world.create(new_id(), partitions=4)
    id, timestamp_ms = new_id(), int(time.time() * 1000) - 5_000
    headers: Headers = [
        *JSON,
        ("kafka_replyTopic", topic.encode()),
        ("kafka_replyPartition", struct.pack(">i", 2)),
        ("kafka_correlationId", b"an older one"),
        ("kafka_correlationId", bytes(range(256))),
        ("__TypeId__", b"com.example.EmbedRequest"),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    await world.produce(
        worker.topic("null"), as_json({"id": id, "items": ["x"]}), headers, key=b"tenant", timestamp_ms=timestamp_ms
    )
    reply = await world.record(topic, lambda record: True)
    assert (reply.partition, reply.key, reply.timestamp) == (2, id.encode(), timestamp_ms)
    assert json.loads(reply.value)["id"] == id
    source = dict(reply.headers)["ce_source"]
    assert source.startswith(f"{worker.prefix}/worker/".encode())
    assert sorted(reply.headers) == sorted(
        [
            ("content-type", b"application/json"),
            ("kafka_correlationId", bytes(range(256))),
            ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("ce_specversion", b"1.0"),
            ("ce_id", id.encode()),
            ("ce_source", source),
            ("ce_type", b"embedmq.embedded.v1"),
        ]
    )
    assert await world.redis.exists(f"{worker.prefix}:result:{id}") == 0


async def test_a_reply_in_the_body_comes_before_the_headers_and_has_its_own_key(world: World, worker: Running) -> None:
    """And may be kept besides."""
    topic, id = await world.create(new_id(), partitions=3), new_id()
    reply = {"type": "topic", "topic": topic, "partition": 1, "key": "my key"}
    request = {"id": id, "items": ["x"], "reply": reply, "keep_s": 60}
    await world.produce(worker.topic("null"), packed(request), [*MSGPACK, ("kafka_replyTopic", b"elsewhere")])
    record = await world.record(topic, lambda record: True)
    assert (record.partition, record.key) == (1, b"my key")
    assert record.value == await world.kept_bytes(worker, id)


async def test_a_partition_that_the_reply_topic_has_not_is_undeliverable(world: World, worker: Running) -> None:
    """It would never be acknowledged."""
    reply = {"type": "topic", "topic": await world.create(new_id()), "partition": 7}
    failed = await world.ask(worker, "null", {"items": ["x"], "reply": reply})
    assert (failed["code"], "1 partition" in failed["message"]) == ("undeliverable", True)


@pytest.mark.parametrize(
    ("settings", "request_"),
    [
        ({"max.message.bytes": "2000"}, {"items": ["x"] * 100}),
        ({"message.timestamp.before.max.ms": "1000"}, {"items": ["x"]}),
    ],
    ids=["too large for the topic", "too old for the topic"],
)
async def test_a_reply_that_its_topic_will_never_take_is_undeliverable_and_the_next_one_arrives(
    world: World, worker: Running, settings: dict[str, str], request_: dict[str, object]
) -> None:
    """It would be tried for ever otherwise, with everybody behind it; also on a topic that took one before."""
    topic, id, before, after = await world.create(new_id(), 1, settings), new_id(), new_id(), new_id()
    reply = {"type": "topic", "topic": topic}
    await world.produce(worker.topic("null"), packed({"id": before, "items": ["x"], "reply": reply}), MSGPACK)
    assert (await world.record(topic, lambda record: True)).key == before.encode()
    old_ms = int(time.time() * 1000) - 60_000
    await world.produce(
        worker.topic("null"), packed({"id": id, "reply": reply, **request_}), MSGPACK, timestamp_ms=old_ms
    )
    assert (await world.kept(worker, id))["code"] == "undeliverable"
    assert dict((await world.dead_letter(worker, id)).headers)["embedmq-error-code"] == b"undeliverable"
    await world.produce(worker.topic("null"), packed({"id": after, "items": ["x"], "reply": reply}), MSGPACK)
    assert (await world.record(topic, lambda record: record.offset > 0)).key == after.encode()


@pytest.mark.parametrize(
    ("fields", "ttl_s"),
    [
        ({}, 3_600),
        ({"keep_s": 90}, 90),
        ({"keep_s": 10**9}, 604_800),
        ({"keep_s": 90, "reply": {"type": "stream", "client": "somebody"}}, 90),
    ],
    ids=["default", "as asked", "cut to the longest", "beside a reply"],
)
async def test_a_kept_result_has_its_time_to_live(
    world: World, worker: Running, fields: dict[str, object], ttl_s: int
) -> None:
    """Value and time to live are set at once; with neither reply nor wish it is `default_keep_s`."""
    id = new_id()
    await world.ask(worker, "null", {"id": id, "items": ["x"], **fields})
    assert ttl_s - 30 <= await world.redis.ttl(f"{worker.prefix}:result:{id}") <= ttl_s


@pytest.mark.parametrize("reply", [None, {"type": "stream", "client": "nobody"}])
async def test_nothing_is_kept_for_who_does_not_want_it(
    world: World, worker: Running, reply: dict[str, str] | None
) -> None:
    """`keep_s: 0` without a reply is computed for nobody; a reply alone leaves no key."""
    id, partition = new_id(), 0
    request = {"id": id, "items": ["x"], "reply": reply} | ({} if reply else {"keep_s": 0})
    _, offset = await world.produce(worker.topic("null"), as_json(request), JSON, partition=partition)

    async def committed() -> bool | None:
        at = await world.committed(f"{worker.prefix}.interactive", worker.topic("null"))
        return at.get(partition, 0) > offset or None

    await eventually(committed, "the commit")
    assert await world.redis.exists(f"{worker.prefix}:result:{id}") == 0


async def test_a_stream_expires_when_its_client_is_gone(world: World, worker: Running) -> None:
    """Everything in Redis has a time to live."""
    client = new_id()
    reply = {"type": "stream", "client": client}
    await world.produce(worker.topic("null"), packed({"items": ["x"], "reply": reply}), MSGPACK)
    await world.replies(worker, client, 1)
    assert 0 < await world.redis.ttl(f"{worker.prefix}:replies:{client}") <= 600


async def test_plain_text_says_in_a_header_how_long_to_keep_it(world: World, worker: Running) -> None:
    """A console producer has no other way."""
    id = new_id()
    headers = [*TEXT, ("ce_id", id.encode()), ("embedmq-keep-s", b"77")]
    await world.produce(worker.topic("null"), b"a cat", headers)
    await world.kept(worker, id)
    assert 60 <= await world.redis.ttl(f"{worker.prefix}:result:{id}") <= 77


async def test_an_id_comes_from_the_request_the_cloudevent_or_the_records_place(world: World, worker: Running) -> None:
    """So that every record has one, and the same one at every reading."""
    stated, event, topic = new_id(), new_id(), worker.topic("null")
    await world.produce(topic, as_json({"id": stated, "items": ["x"]}), [*JSON, ("ce_id", new_id().encode())])
    await world.produce(topic, as_json({"items": ["x"]}), [*JSON, ("ce_id", event.encode())])
    timestamp_ms = int(time.time() * 1000)
    partition, offset = await world.produce(topic, as_json({"items": ["x"]}), JSON, timestamp_ms=timestamp_ms)
    for id in (stated, event, f"{topic}-{partition}-{offset}-{timestamp_ms}"):
        assert (await world.kept(worker, id))["id"] == id


async def test_a_large_reply_is_an_entry_of_its_own_and_arrives(world: World, worker: Running) -> None:
    """Up to 8 MiB on Redis: here 2,048 items as arrays of numbers."""
    client, id = new_id(), new_id()
    request = {"id": id, "items": ["x"] * 2_048, "encoding": "array", "reply": {"type": "stream", "client": client}}
    await world.produce(worker.topic("null"), as_json(request), JSON)
    result = (await world.replies(worker, client, 1))[id]
    assert vectors(result).shape == (2_048, 8)


async def test_dtypes_and_dimensions_arrive_as_asked(world: World, worker: Running) -> None:
    """Options never split a batch: each request gets its own."""
    client = new_id()
    reply = {"type": "stream", "client": client}
    wished = {"float32": [1, 8], "float16": [1, 8], "int8": [1, 8], "ubinary": [1, 1]}
    for dtype in wished:
        request = {"id": f"{client}-{dtype}", "items": ["x"], "dtype": dtype, "reply": reply}
        await world.produce(worker.topic("slow"), packed(request), MSGPACK)
    await world.produce(
        worker.topic("slow"), packed({"id": f"{client}-4", "items": ["x"], "dimensions": 4, "reply": reply}), MSGPACK
    )
    results = await world.replies(worker, client, 5)
    for dtype, shape in wished.items():
        dense = results[f"{client}-{dtype}"]["dense"]
        assert (dense["dtype"], dense["shape"]) == (dtype, shape)
    assert results[f"{client}-4"]["dense"]["shape"] == [1, 4]


async def test_the_log_is_json_one_event_a_batch_and_has_no_text_of_a_request(world: World, worker: Running) -> None:
    """Neither of a good one nor of any that fails, whether in its items, its fields' names or its headers."""
    canary = f"canary{new_id()}"
    batches = len(worker.events("batch", model="null"))
    computed = await world.ask(worker, "null", {"items": [canary], "prompt": canary, "meta": {canary: canary}})
    assert computed["type"] == "embedded"
    for fields in (
        {"items": [7, canary]},
        {"items": [canary], "outputs": [canary]},
        {"items": [canary], "prompt_name": canary},
        {"items": [canary], "reply": {"type": "topic", "topic": "missing-topic", "key": canary}},
    ):
        failed = await world.ask(worker, "null", fields)
        assert failed["type"] == "failed"
    await world.produce(worker.topic("null"), canary.encode(), [("x", canary.encode())])
    await world.ask(worker, "null", {"items": ["after"]})
    assert not [line for line in worker.lines() if canary in line]
    assert all(json.loads(line)["event"] for line in worker.lines())
    found = worker.events("batch", model="null")[batches:]
    assert found
    assert set(found[0]) >= {"time", "level", "worker", "model", "requests", "items", "tokens", "fill", "queue_ms"}


async def test_every_counter_moves_and_gauges_are_right(world: World, worker: Running) -> None:
    """What is declared is measured."""
    await world.ask(worker, "null", {"items": ["x", "y"]})
    await world.ask(worker, "null", {"items": [], "id": new_id()})
    for name in (
        "records_total",
        "requests_total",
        "items_total",
        "tokens_total",
        "dead_letters_total",
        "rebalances_total",
        "batch_items_count",
        "batch_tokens_count",
        "batch_fill_ratio_count",
        "queue_seconds_count",
        "tokenize_seconds_count",
        "forward_seconds_count",
        "deliver_seconds_count",
        "in_flight_bytes_peak",
    ):
        assert worker.metric(name) > 0, name
    await until(lambda: worker.metric("in_flight_bytes") == 0, "nothing in flight")
    assert worker.metric("in_flight_items") == 0
    assert worker.metric("redis_up") == 1
    assert worker.metric("assigned_partitions", lane="interactive") == 32
    assert worker.metric("model_loaded", model="slow") == 1
    assert worker.metric("requests_total", model="null", code="malformed") >= 1


async def test_probes_answer(worker: Running) -> None:
    """/health, /ready and /metrics; anything else names them."""
    assert worker.get("/health") == (200, "ok\n")
    assert worker.get("/ready") == (200, "ok\n")
    status, text = worker.get("/metrics")
    assert (status, "embedmq_items_total" in text) == (200, True)
    assert worker.get("/") == (404, "try /health, /ready or /metrics\n")
