"""Whose request is a record, for which model, and where does its answer go?"""

from __future__ import annotations

import json

import msgspec
import pytest
from embedmq_schemas import TopicReply
from embedmq_schemas.names import Names, is_id

from tests.schemas.records import OWN, SHARED, accept, make_record, refuse

Fields = dict[str, object]
ONE: Fields = {"items": ["a"]}
PLACE = f"{OWN}-3-17-1700000000000"


@pytest.mark.parametrize(
    ("stated", "headers", "expected"),
    [
        ({}, {}, PLACE),
        ({"id": None}, {}, PLACE),
        ({"id": ""}, {}, PLACE),
        ({}, {"ce_id": b"event"}, "event"),
        ({}, {"ce_id": b'"event"'}, "event"),
        ({}, {"ce_id": b"\xff"}, PLACE),
        ({"id": "mine"}, {"ce_id": b"event"}, "mine"),
        ({"id": "mine"}, {"embedmq-id": b"frozen", "ce_id": b"event"}, "frozen"),
    ],
)
def test_the_id_is_frozen_else_stated_else_cloudevents_else_the_place(
    stated: Fields, headers: dict[str, bytes], expected: str
) -> None:
    """Every request has an id; the first of four sources that has one gives it."""
    envelope, _ = accept(make_record({**ONE, **stated}, headers=headers))
    assert envelope.id == expected


@pytest.mark.parametrize("id", ["two words", "ä", "x" * 129, "a\n", "{a}"])
def test_an_id_that_cannot_be_a_key_is_refused_and_answered_under_the_place(id: str) -> None:
    """The answer must have an id that is one, so it gets the record's place."""
    refusal = refuse(make_record({**ONE, "id": id}))
    assert refusal.code == "malformed"
    assert "`id`" in refusal.message
    assert refusal.envelope.id == PLACE


def test_the_place_of_a_record_on_a_topic_with_a_long_name_is_still_an_id() -> None:
    """An id that is derived once and frozen into a header must be accepted when it is read back."""
    prefix = "p" * 63
    topic = Names(prefix).requests("m" * 63, "interactive")
    id = accept(make_record(ONE, topic=topic), prefix)[0].id
    assert is_id(id)
    assert id.endswith("-3-17-1700000000000")
    assert accept(make_record(ONE, topic=topic, headers={"embedmq-id": id.encode()}), prefix)[0].id == id


@pytest.mark.parametrize("stated", [{}, {"model": None}, {"model": ""}, {"model": "minilm"}])
def test_a_topic_of_its_own_names_the_model(stated: Fields) -> None:
    """On a model's own topic `model` may be left out."""
    assert accept(make_record({**ONE, **stated}, key=b"tenant"))[0].model == "minilm"


def test_a_model_that_contradicts_its_topic_is_refused() -> None:
    """Topic ACLs guard models: who may write to one topic must not reach another model through it."""
    refusal = refuse(make_record({**ONE, "model": "other"}))
    assert refusal.code == "malformed"
    assert "`model`" in refusal.message
    assert refusal.envelope.model == "minilm"


@pytest.mark.parametrize(
    ("stated", "key", "expected"),
    [({}, b"rare", "rare"), ({"model": "rare"}, b"x", "rare"), ({"model": ""}, b"x", "x")],
)
def test_on_a_shared_topic_the_model_is_stated_else_the_key(stated: Fields, key: bytes | None, expected: str) -> None:
    """The long tail shares topics, with the model as the record's key."""
    envelope, _ = accept(make_record({**ONE, **stated}, topic=SHARED, key=key))
    assert (envelope.model, envelope.lane) == (expected, "bulk")


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"Not A Slug", b"retry"])
def test_a_shared_record_without_a_usable_model_is_an_unknown_model(key: bytes | None) -> None:
    """A name that can be no model is refused without being repeated."""
    refusal = refuse(make_record(ONE, topic=SHARED, key=key))
    assert (refusal.code, refusal.envelope.model) == ("unknown_model", "")


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        (None, None),
        (b"\x00\x00\x00\x05", 5),
        (b"\x00\x00\x01\x00", 256),
        (b"7", 7),
        (b"12", 12),
        (b"1234", 1234),
        (b'"7"', 7),
        (b"\xff\xff\xff\xff", None),
        (b"-1", None),
        (b"seven", None),
        (b"", None),
    ],
)
def test_a_reply_partition_is_springs_four_bytes_or_ascii_digits(partition: bytes | None, expected: int | None) -> None:
    """Spring's template sends 4 bytes big-endian; everybody else may send digits; anything else names no partition."""
    headers = {"kafka_replyTopic": b"vectors"} | ({} if partition is None else {"kafka_replyPartition": partition})
    envelope, _ = accept(make_record(ONE, headers=headers))
    assert envelope.reply == TopicReply("vectors", expected)


def test_a_reply_in_the_body_wins_over_the_headers() -> None:
    """What the request says itself is closer to the caller than what its template adds."""
    body = {**ONE, "reply": {"type": "topic", "topic": "mine", "key": "k"}}
    envelope, _ = accept(make_record(body, headers={"kafka_replyTopic": b"vectors"}))
    assert envelope.reply == TopicReply("mine", None, "k")


def test_of_repeated_headers_the_last_one_counts_and_null_ones_do_not() -> None:
    """As Kafka's own `lastHeader`; a template that adds its own header after ours is heard."""
    record = make_record(ONE)
    headers = [("kafka_replyTopic", b"first"), ("kafka_replyTopic", b"second"), ("kafka_replyTopic", None)]
    again = msgspec.structs.replace(record, headers=headers)
    assert accept(again)[0].reply == TopicReply("second")


@pytest.mark.parametrize("client", ["", "two words", "x" * 129])
def test_a_client_that_can_be_no_key_is_refused(client: str) -> None:
    """The client becomes part of a Redis key."""
    refusal = refuse(make_record({**ONE, "reply": {"type": "stream", "client": client}}))
    assert (refusal.code, refusal.envelope.reply) == ("malformed", None)
    assert "`reply.client`" in refusal.message


@pytest.mark.parametrize("topic", ["", "..", "two words", "x" * 250])
def test_a_reply_topic_that_kafka_could_not_have_is_refused(topic: str) -> None:
    """From the body or from a header; asking Kafka for it would be an error of ours."""
    refusal = refuse(make_record({**ONE, "reply": {"type": "topic", "topic": topic}}))
    assert (refusal.code, refusal.envelope.reply) == ("malformed", None)
    if topic:
        refusal = refuse(make_record(ONE, headers={"kafka_replyTopic": topic.encode()}))
        assert (refusal.code, refusal.envelope.reply) == ("malformed", None)


CANARY = "the patient's name"


@pytest.mark.parametrize(
    "stated",
    [
        {"id": CANARY},
        {"model": CANARY},
        {"reply": {"type": "stream", "client": CANARY}},
        {"reply": {"type": "topic", "topic": CANARY}},
    ],
)
def test_a_refused_address_is_not_repeated(stated: Fields) -> None:
    """Neither on a topic of its own nor on a shared one."""
    for topic in (OWN, SHARED):
        message = refuse(make_record({**ONE, **stated}, topic=topic, key=CANARY.encode())).message
        assert CANARY not in message


def test_the_lane_is_the_topics_and_only_where_that_has_none_the_frozen_one() -> None:
    """A header must not lift a record out of the bulk lane; on a retry topic it is all there is."""
    hurry = {"embedmq-lane": b"interactive"}
    assert accept(make_record(ONE, topic="embedmq.minilm.bulk", headers=hurry))[0].lane == "bulk"
    again = {"items": ["a"], "model": "minilm"}
    assert accept(make_record(again, topic="embedmq.retry.10s", headers={"embedmq-lane": b"bulk"}))[0].lane == "bulk"
    assert accept(make_record(again, topic="embedmq.retry.10s"))[0].lane == "interactive"


def test_the_tenant_is_the_stated_one_else_the_headers_else_none() -> None:
    """Producers that cannot touch the body can name the tenant in a header."""
    header = {"embedmq-tenant": b"acme"}
    assert accept(make_record({**ONE, "tenant": "stated"}, headers=header))[0].tenant == "stated"
    assert accept(make_record({**ONE, "tenant": ""}, headers=header))[0].tenant == "acme"
    assert accept(make_record(ONE))[0].tenant == ""


def test_null_means_not_given() -> None:
    """Every field but `items` may be null, and then is as if it were not there."""
    fields = msgspec.to_builtins(accept(make_record({"type": "embed", **ONE}))[1])
    names = [
        "id", "model", "outputs", "prompt_name", "prompt", "dimensions", "dtype", "normalize", "truncate", "encoding",
        "reply", "keep_s", "deadline_unix_ms", "tenant", "job", "revision", "meta", "item_ids",
    ]  # fmt: skip
    nulls = dict.fromkeys(names)
    assert msgspec.to_builtins(accept(make_record({"type": "embed", **ONE, **nulls}))[1]) == fields


def test_keep_s_in_a_header_counts_for_plain_text_only() -> None:
    """A console producer has no other place for it; a JSON request has its own field."""
    header = {"embedmq-keep-s": b"60"}
    text, _ = accept(make_record(raw=b"a cat", headers={**header, "content-type": b"text/plain"}))
    assert (text.keep_s, text.codec) == (60, "text")
    assert accept(make_record(ONE, headers=header))[0].keep_s is None


@pytest.mark.parametrize("keep", [b"-5", b"1h", b"", b"9" * 19, "٣".encode()])
def test_a_keep_s_header_that_is_no_number_is_as_if_it_were_not_there(keep: bytes) -> None:
    """Only ASCII digits are a number."""
    headers = {"embedmq-keep-s": keep, "content-type": b"text/plain"}
    assert accept(make_record(raw=b"a cat", headers=headers))[0].keep_s is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keep_s", -1),
        ("keep_s", 2**63),
        ("keep_s", 10**30),
        ("deadline_unix_ms", 2**63),
        ("dimensions", -(10**30)),
        ("items", [[10**30]]),
        ("reply", {"type": "topic", "topic": "t", "partition": -1}),
    ],
)
def test_a_number_that_redis_kafka_or_numpy_could_not_hold_is_refused_here(field: str, value: object) -> None:
    """JSON knows integers of any size; whoever reads a request after this point need not."""
    raw = msgspec.json.encode({**ONE}).removesuffix(b"}") + b',"%s":' % field.encode()
    refusal = refuse(make_record(raw=raw + json.dumps(value).encode() + b"}"))
    assert refusal.code == "malformed"
    assert f"$.{field}" in refusal.message
