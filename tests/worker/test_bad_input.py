"""Bad input: nothing is lost, everybody who can be answered gets a typed answer, and neighbours never notice."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from aiokafka import ConsumerRecord
from aiokafka.errors import MessageSizeTooLargeError
from embedmq_schemas.headers import DEAD_HEADERS

from tests.worker.world import JSON, MSGPACK, TEXT, Running, World, as_json, new_id, packed, until

LONE_SURROGATE = b'{"id": "%s", "items": ["half a pair: \\ud83d"]}'


async def send_between_neighbours(
    world: World, worker: Running, topic: str, value: bytes | None, headers: Any = JSON, key: bytes | None = None
) -> tuple[str, int, int]:
    """Send a bad record between two good ones of the same partition; their client, and the bad one's place."""
    client = new_id()
    model = "tail" if ".shared." in topic else topic.split(".")[1]
    good = {"model": model, "items": ["good"], "reply": {"type": "stream", "client": client}}
    await world.produce(topic, packed({**good, "id": new_id()}), MSGPACK, partition=0)
    partition, offset = await world.produce(topic, value, headers, key=key, partition=0)
    await world.produce(topic, packed({**good, "id": new_id()}), MSGPACK, partition=0)
    results = await world.replies(worker, client, 2)
    assert [result["type"] for result in results.values()] == ["embedded", "embedded"]
    return client, partition, offset


def assert_dead_letter(
    letter: ConsumerRecord, *, code: str, fqcn: str, topic: str, partition: int, offset: int, value: bytes | None
) -> None:
    headers = dict(letter.headers)
    assert letter.value == value
    assert headers["embedmq-error-code"] == code.encode()
    assert headers["kafka_dlt-exception-fqcn"] == fqcn.encode()
    assert headers["kafka_dlt-original-topic"] == topic.encode()
    assert headers["kafka_dlt-original-partition"] == partition.to_bytes(4, "big")
    assert headers["kafka_dlt-original-offset"] == offset.to_bytes(8, "big")
    assert headers["kafka_dlt-exception-message"]
    assert int(headers["embedmq-first-seen"]) == pytest.approx(time.time() * 1000, abs=120_000)
    assert set(headers) >= set(DEAD_HEADERS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xc1\xff not msgpack", "MessagePack"),
        (b"{not json", "JSON"),
        (b"", "truncated"),
        (b"[" * 100_000, "deep"),
        (b"{" + b'"a":{' * 50_000, "deep"),
        (packed({"items": ["x"]})[:-1], "truncated"),
        (packed({"items": ["x"]}) + b"\x00", "trailing"),
        (b'{"items": ["\xff\xfe"]}', "UTF-8"),
        (b"\x81\xa5items\xdd\xff\xff\xff\xff", "`items`"),
        (None, "null"),
    ],
    ids=["no msgpack", "no json", "empty", "nested array", "nested object", "cut", "trailing", "not UTF-8",
         "an array that claims four billion items", "null value"],
)  # fmt: skip
async def test_undecodable_bytes_are_malformed_and_dead_lettered_as_they_came(
    world: World, worker: Running, value: bytes | None, message: str
) -> None:
    """Bytes that are no request fail as `malformed` under the id of their place; the dead letter has the same bytes,
    key and headers, and the reason beside them."""
    topic, mine = worker.topic("null"), new_id().encode()
    headers: list[tuple[str, bytes | None]] = [("x-mine", mine), ("x-null", None)]
    _, partition, offset = await send_between_neighbours(world, worker, topic, value, headers, key=b"my key")
    letter = await world.record(worker.dead, lambda record: ("x-mine", mine) in record.headers)
    assert_dead_letter(
        letter, code="malformed", fqcn="embedmq.Malformed", topic=topic, partition=partition, offset=offset, value=value
    )
    assert letter.key == b"my key"
    assert list(letter.headers[:2]) == headers
    id = dict(letter.headers)["embedmq-id"].decode()
    assert id.startswith(f"{topic}-{partition}-{offset}-")
    failed = await world.kept(worker, id)
    assert (failed["type"], failed["code"], failed["retryable"]) == ("failed", "malformed", False)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"type": "translate", "items": ["x"]}, "type"),
        ({"type": 7, "items": ["x"]}, "type"),
        ({"items": "a cat"}, "items"),
        ({"items": [7]}, "items"),
        ({"items": [["a"]]}, "items"),
        ({"items": [None]}, "items"),
        ({"items": [{"text": "x"}]}, "items"),
        ({"items": ["x"], "dimensions": "8"}, "dimensions"),
        ({"items": ["x"], "truncate": "yes"}, "truncate"),
        ({"items": ["x"], "meta": {"page": 7}}, "meta"),
        ({"items": ["x"], "item_ids": [1]}, "item_ids"),
        ({"items": ["x"], "deadline_unix_ms": 1.5}, "deadline_unix_ms"),
        ({"items": [], "meta": {"k": "v"}}, "items"),
        ({}, "items"),
        ({"items": ["x", "y"], "item_ids": ["only one"]}, "item_ids"),
        ({"type": "score", "query": 1, "documents": ["x"]}, "query"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40],
)
@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_wrong_type_is_malformed_and_names_its_field(
    world: World, worker: Running, fields: dict[str, object], names: str, codec: str
) -> None:
    """An unknown `type`, a wrong field type and empty `items` fail as `malformed`, naming the field, to the stream that
    the broken request names; the dead letter has the original bytes."""
    id, client, topic = new_id(), new_id(), worker.topic("null", "bulk")
    request = {"id": id, "reply": {"type": "stream", "client": client}, "meta": {"k": "v"}, **fields}
    value, headers = (as_json(request), JSON) if codec == "json" else (packed(request), MSGPACK)
    _, partition, offset = await send_between_neighbours(world, worker, topic, value, headers)
    failed = (await world.replies(worker, client, 1))[id]
    assert (failed["type"], failed["code"]) == ("failed", "malformed")
    assert names in failed["message"]
    assert failed["meta"] == ({"k": "v"} if fields.get("meta") != {"page": 7} else None)
    letter = await world.dead_letter(worker, id)
    assert_dead_letter(
        letter, code="malformed", fqcn="embedmq.Malformed", topic=topic, partition=partition, offset=offset, value=value
    )


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"dimension": 4}, "dimension"),
        ({"Items": ["x"]}, "Items"),
        ({"outputs": ["sparse"]}, "outputs"),
        ({"outputs": ["thoughts"]}, "thoughts"),
        ({"outputs": []}, "outputs"),
        ({"dtype": "float64"}, "float64"),
        ({"encoding": "hex"}, "encoding"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": -1}, "dimensions"),
        ({"dimensions": 9}, "dimensions"),
        ({"prompt_name": "query"}, "prompt_name"),
        ({"prompt": "p" * 5_000}, "prompt"),
    ],
    ids=lambda fields: str(fields)[:40],
)
async def test_an_option_the_model_has_not_is_unsupported_and_no_dead_letter(
    world: World, worker: Running, fields: dict[str, object], names: str
) -> None:
    """A misspelt field, unknown outputs, dtype, encoding, prompt and dimensions of 0 or above the model's fail as
    `unsupported`, naming it: wrong vectors would be worse. Nothing for an operator to mend, so no dead letter."""
    id = new_id()
    failed = await world.ask(worker, "null", {"id": id, "items": ["x"], **fields})
    assert (failed["type"], failed["code"], failed["id"]) == ("failed", "unsupported", id)
    assert names in failed["message"]
    assert await world.dead_letters(worker, id) == []


async def test_scoring_with_a_model_that_embeds_is_unsupported(world: World, worker: Running) -> None:
    """`score` needs a cross-encoder."""
    failed = await world.ask(worker, "null", {"type": "score", "query": "pets", "documents": ["a cat"]})
    assert (failed["code"], failed["type"]) == ("unsupported", "failed")


@pytest.mark.parametrize("count", [2_049, 100_001])
async def test_too_many_items_are_too_large_and_the_answer_says_how_many_fit(
    world: World, worker: Running, count: int
) -> None:
    """More items than `max_items` fail as `too_large` with the count that fits, from which a client splits."""
    id = new_id()
    failed = await world.ask(worker, "null", {"id": id, "items": ["x"] * count})
    assert (failed["code"], failed["fits"]) == ("too_large", 2_048)
    assert await world.dead_letters(worker, id) == []


async def test_vectors_that_exceed_a_reply_are_too_large_before_they_are_computed(
    world: World, worker: Running
) -> None:
    """A reply on a topic holds 900 KiB: of wide vectors fewer fit than of items, and the answer says how many."""
    topic, id = await world.create(new_id()), new_id()
    request = {"id": id, "items": ["x"] * 2_048, "reply": {"type": "topic", "topic": topic}}
    await world.produce(worker.topic("wide"), as_json(request), JSON)
    failed = json.loads((await world.record(topic, lambda record: record.key == id.encode())).value)
    assert (failed["type"], failed["code"]) == ("failed", "too_large")
    fits, again = failed["fits"], new_id()
    assert fits * 4 / 3 + 2 >= 900 * 1024 // (4 * 4_096)
    await world.produce(worker.topic("wide"), as_json({**request, "id": again, "items": ["x"] * fits}), JSON)
    reply = await world.record(topic, lambda record: record.key == again.encode())
    assert json.loads(reply.value)["count"] == fits


async def test_meta_above_its_bound_is_too_large_without_a_count_to_split_by(world: World, worker: Running) -> None:
    """Fewer items would not make `meta` smaller, so no count is named."""
    failed = await world.ask(worker, "null", {"items": ["x"], "meta": {"k": "v" * 5_000}})
    assert (failed["code"], failed["fits"]) == ("too_large", None)


async def test_a_text_of_10_megabytes_is_refused_by_the_broker_by_default(world: World, worker: Running) -> None:
    """Request topics admit one batch of 1 MiB, compressed or not, so nothing larger reaches a worker."""
    with pytest.raises(MessageSizeTooLargeError):
        await world.produce(worker.topic("null"), as_json({"items": ["x" * 10_000_000]}), JSON)


async def test_lone_surrogates_are_malformed(world: World, worker: Running) -> None:
    """JSON can write half a character; it is answered under its own id."""
    id = new_id()
    value = LONE_SURROGATE % id.encode()
    await send_between_neighbours(world, worker, worker.topic("null"), value)
    assert (await world.kept(worker, id))["code"] == "malformed"
    assert (await world.dead_letter(worker, id)).value == value


async def test_plain_text_that_is_no_utf8_is_malformed(world: World, worker: Running) -> None:
    """`text/plain` is UTF-8."""
    id = new_id()
    headers = [*TEXT, ("ce_id", id.encode())]
    await send_between_neighbours(world, worker, worker.topic("null"), b"caf\xe9", headers)
    assert (await world.kept(worker, id))["code"] == "malformed"


@pytest.mark.parametrize("named_by", ["field", "key", "nothing"])
async def test_an_unknown_model_on_the_shared_topic_is_a_dead_letter(
    world: World, worker: Running, named_by: str
) -> None:
    """On a shared topic the model comes from the request or the record's key; one that nobody serves fails."""
    id, topic = new_id(), worker.topic("shared")
    request = {"id": id, "items": ["x"]} | ({"model": "never-heard-of"} if named_by == "field" else {})
    key = b"never-heard-of" if named_by == "key" else None
    _, partition, offset = await send_between_neighbours(world, worker, topic, as_json(request), JSON, key=key)
    failed = await world.kept(worker, id)
    assert (failed["type"], failed["code"]) == ("failed", "unknown_model")
    assert_dead_letter(
        await world.dead_letter(worker, id),
        code="unknown_model",
        fqcn="embedmq.UnknownModel",
        topic=topic,
        partition=partition,
        offset=offset,
        value=as_json(request),
    )


async def test_a_model_that_contradicts_its_topic_is_refused(world: World, worker: Running) -> None:
    """Access to a model is access to its topic."""
    failed = await world.ask(worker, "null", {"items": ["x"], "model": "slow"})
    assert failed["code"] == "malformed"


@pytest.mark.parametrize(
    ("topic", "code", "fqcn"),
    [
        ("missing-topic", "undeliverable", "embedmq.Undeliverable"),
        ("no topic at all", "malformed", "embedmq.Malformed"),
        ("..", "malformed", "embedmq.Malformed"),
        ("x" * 800_000, "malformed", "embedmq.Malformed"),
    ],
    ids=["missing", "spaces", "dots", "800 KB"],
)
async def test_a_reply_to_a_topic_that_is_not_there_or_cannot_be_is_a_dead_letter(
    world: World, worker: Running, topic: str, code: str, fqcn: str
) -> None:
    """The topic is never created; one dead letter has the request, and the failure is kept where `result` finds it,
    with `meta` and `item_ids`."""
    id, source = new_id(), worker.topic("null")
    request = {
        "id": id,
        "items": ["x"],
        "reply": {"type": "topic", "topic": topic},
        "meta": {"page": "7"},
        "item_ids": ["doc"],
    }
    _, partition, offset = await send_between_neighbours(world, worker, source, as_json(request))
    failed = await world.kept(worker, id)
    assert (failed["type"], failed["code"]) == ("failed", code)
    assert (failed["meta"], failed["item_ids"]) == ({"page": "7"}, ["doc"])
    assert len(failed["message"]) < 1_000
    letter = await world.dead_letter(worker, id)
    assert_dead_letter(
        letter, code=code, fqcn=fqcn, topic=source, partition=partition, offset=offset, value=as_json(request)
    )
    assert len(await world.dead_letters(worker, id)) == 1


@pytest.mark.parametrize("topic", [b"missing-topic", b"no topic at all", b"x" * 100_000, b"\xff", b""])
async def test_a_reply_header_that_names_no_topic_stops_nobody(world: World, worker: Running, topic: bytes) -> None:
    """Whatever `kafka_replyTopic` holds, the request gets an outcome under its id and the worker goes on."""
    id = new_id()
    headers = [*JSON, ("kafka_replyTopic", topic)]
    await send_between_neighbours(world, worker, worker.topic("null"), as_json({"id": id, "items": ["x"]}), headers)
    assert (await world.kept(worker, id))["id"] == id


async def test_what_was_to_be_kept_is_kept_although_its_reply_is_undeliverable(world: World, worker: Running) -> None:
    """With `keep_s` the result is there all the same, and the dead letter says what was not delivered."""
    id = new_id()
    request = {"id": id, "items": ["x"], "keep_s": 60, "reply": {"type": "topic", "topic": "missing-topic"}}
    result = await world.ask(worker, "null", request)
    assert result["type"] == "embedded"
    letter = await world.dead_letter(worker, id)
    assert dict(letter.headers)["embedmq-error-code"] == b"undeliverable"


async def test_a_broken_request_whose_reply_cannot_be_delivered_leaves_one_dead_letter(
    world: World, worker: Running
) -> None:
    """It says why the request failed; replayed, it would fail for that reason first."""
    id = new_id()
    request = {"id": id, "items": [7], "reply": {"type": "topic", "topic": "missing-topic"}}
    failed = await world.ask(worker, "null", request)
    assert failed["code"] == "malformed"
    (letter,) = await world.dead_letters(worker, id)
    assert dict(letter.headers)["embedmq-error-code"] == b"malformed"


async def test_replies_may_not_pose_as_requests(world: World, worker: Running) -> None:
    """A reply to a topic of our own prefix is refused, and nothing is written there."""
    id = new_id()
    failed = await world.ask(
        worker, "null", {"id": id, "items": ["x"], "reply": {"type": "topic", "topic": worker.topic("null", "bulk")}}
    )
    assert (failed["code"], worker.prefix in failed["message"]) == ("undeliverable", True)
    assert len(await world.dead_letters(worker, id)) == 1
    own = await world.records(worker.topic("null", "bulk"))
    assert not [record for record in own if record.key == id.encode()]


async def test_a_deadline_in_the_past_fails_and_is_no_dead_letter(world: World, worker: Running) -> None:
    """Nobody waits for it any more."""
    id = new_id()
    failed = await world.ask(worker, "null", {"id": id, "items": ["x"], "deadline_unix_ms": 1})
    assert failed["code"] == "deadline_exceeded"
    assert await world.dead_letters(worker, id) == []


async def test_a_deadline_that_passes_while_waiting_fails_before_the_device(world: World, worker: Running) -> None:
    """Behind a batch that takes longer than a request has left, it is not computed."""
    first, late = new_id(), new_id()
    topic = worker.topic("slow")
    before = worker.metric("items_total", model="slow")
    with worker.hold.on("batch") as held:
        await world.produce(topic, as_json({"id": first, "items": ["x"]}), JSON)
        await until(held, "the first request on the device")
        deadline_unix_ms = int(time.time() * 1000) + 500
        request = {"id": late, "items": ["x"], "deadline_unix_ms": deadline_unix_ms}
        await world.produce(topic, as_json(request), JSON)
        await until(lambda: time.time() * 1000 > deadline_unix_ms, "the deadline")
    failed = await world.kept(worker, late)
    assert (failed["type"], failed["code"]) == ("failed", "deadline_exceeded")
    assert (await world.kept(worker, first))["type"] == "embedded"
    assert worker.metric("items_total", model="slow") == before + 1


async def test_hostile_requests_leave_the_worker_healthy(world: World, worker: Running) -> None:
    """After all of it the loop turns, the groups are joined, and every event of the log is one line of JSON."""
    result = await world.ask(worker, "null", {"items": ["x"]})
    assert result["type"] == "embedded"
    assert (worker.get("/health")[0], worker.get("/ready")[0]) == (200, 200)
    assert [line for line in worker.lines() if not msgspec.json.decode(line)] == []


async def test_the_shared_topic_is_no_way_around_a_models_own(world: World, worker: Running) -> None:
    """ACLs on a model's own topic guard it: named on the shared topic, it is refused, as a dead letter."""
    id = new_id()
    await world.produce(worker.topic("shared"), as_json({"id": id, "model": "null", "items": ["x"]}))
    failed = await world.kept(worker, id)
    assert (failed["code"], "topics of its own" in failed["message"]) == ("malformed", True)
