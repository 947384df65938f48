"""What is written for a set of outcomes: one entry per client, keys with their time to live, replies, dead letters."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from embedmq_schemas.codes import CODES, Code
from embedmq_schemas.limits import Limits
from embedmq_schemas.names import Names
from embedmq_schemas.requests import StreamReply, TopicReply
from embedmq_schemas.results import Failure
from embedmq_schemas.stub import decode_stub
from embedmq_worker.config import Redis
from embedmq_worker.engine.seam import Fault
from embedmq_worker.plan import Planner
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.jobs import TIMESTAMP_MS, make_embedded, make_failed, make_outcome, make_record

REDIS = Redis(max_entry_bytes=1024, default_keep_s=60)
LIMITS = Limits(max_keep_s=1000)
PLANNER = Planner(Names("p"), REDIS, LIMITS, "w1")


def test_one_client_gets_one_entry_for_a_batch() -> None:
    """A micro-batch is one write per client, in order, and nothing else where neither key nor topic is wished."""
    outcomes = [make_outcome(id=f"{client}{n}", reply=StreamReply(client)) for n in range(3) for client in "ab"]
    plan = PLANNER.plan(outcomes)
    assert [write.key for write in plan.streams] == ["p:replies:a", "p:replies:b"]
    assert [[r["id"] for r in msgspec.msgpack.decode(write.entry)] for write in plan.streams] == [
        ["a0", "a1", "a2"],
        ["b0", "b1", "b2"],
    ]
    assert (plan.keeps, plan.replies, plan.dead) == ([], [], [])


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_entries_stay_within_their_bound_unless_one_result_alone_exceeds_it(widths: list[int]) -> None:
    """Whatever the sizes: nothing lost, nothing out of order, no entry larger than it must be."""
    outcomes = [
        make_outcome(make_embedded(str(n), width=width), id=str(n), reply=StreamReply("c"))
        for n, width in enumerate(widths)
    ]
    writes = PLANNER.plan(outcomes).streams
    entries = [msgspec.msgpack.decode(write.entry) for write in writes]
    assert [result["id"] for entry in entries for result in entry] == [str(n) for n in range(len(widths))]
    assert [o.job.envelope.id for write in writes for o in write.outcomes] == [str(n) for n in range(len(widths))]
    for write, entry in zip(writes, entries, strict=True):
        assert len(write.entry) <= REDIS.max_entry_bytes + 5 or len(entry) == 1
    for before, after in pairwise(writes):
        first = msgspec.msgpack.decode(after.entry, type=list[msgspec.Raw])[0]
        assert len(before.entry) + len(first) > REDIS.max_entry_bytes


@pytest.mark.parametrize(
    ("keep_s", "reply", "ttl_s"),
    [
        (None, None, 60),
        (None, StreamReply("c"), None),
        (None, TopicReply("t"), None),
        (0, None, None),
        (0, StreamReply("c"), None),
        (30, None, 30),
        (30, StreamReply("c"), 30),
        (5_000, TopicReply("t"), 1_000),
        (2**63 - 1, None, 1_000),
    ],
)
def test_how_long_a_result_is_kept(
    keep_s: int | None, reply: StreamReply | TopicReply | None, ttl_s: int | None
) -> None:
    """As asked, cut to `max_keep_s`; with neither reply nor wish for `default_keep_s`; with 0, for nobody."""
    plan = PLANNER.plan([make_outcome(keep_s=keep_s, reply=reply)])
    assert [write.ttl_s for write in plan.keeps] == ([ttl_s] if ttl_s else [])


def test_a_success_replaces_what_is_kept_and_a_failure_does_not() -> None:
    """What is kept changes at most once: from a failure to a success."""
    outcomes = [make_outcome(id="a"), make_outcome(make_failed("cancelled", "b"), id="b")]
    keeps = PLANNER.plan(outcomes).keeps
    assert [(write.key, write.replace) for write in keeps] == [("p:result:a", True), ("p:result:b", False)]


def test_what_is_kept_has_the_codec_of_the_request_and_streams_are_messagepack() -> None:
    """A stream's entry is one MessagePack array whatever the request was written in; plain text is answered in JSON."""
    plan = PLANNER.plan([make_outcome(codec="json", keep_s=5, reply=StreamReply("c"))])
    assert json.loads(plan.keeps[0].value)["id"] == "id"
    assert msgspec.msgpack.decode(plan.streams[0].entry)[0]["id"] == "id"
    (reply,) = PLANNER.plan([make_outcome(codec="text", reply=TopicReply("t"))]).replies
    assert (json.loads(reply.value or b"")["id"], dict(reply.headers)["content-type"]) == ("id", b"application/json")


@pytest.mark.parametrize("code", CODES)
def test_dead_letters_are_for_the_codes_that_somebody_must_mend(code: Code) -> None:
    """malformed, unknown_model, model_unavailable, processing_failed, undeliverable; never deadlines or options."""
    plan = PLANNER.plan([make_outcome(make_failed(code))])
    listed = {"malformed", "unknown_model", "model_unavailable", "processing_failed", "undeliverable"}
    assert len(plan.dead) == (code in listed)


def test_a_request_whose_items_all_failed_on_the_device_is_a_dead_letter_and_one_with_some_is_not() -> None:
    """The record is the unit of replay: with one good vector there is nothing to replay for."""
    failure = Failure(0, "processing_failed", "why")
    all_failed = make_embedded(failures=[failure])
    some = msgspec.structs.replace(all_failed, count=2)
    others = make_embedded(failures=[Failure(0, "too_long", "why")])
    plan = PLANNER.plan([make_outcome(result) for result in (all_failed, some, others)])
    assert [dict(write.headers)["embedmq-error-code"] for write in plan.dead] == [b"processing_failed"]


def test_a_dead_letter_is_the_record_as_it_came_with_the_reason_beside_it() -> None:
    """Key, value and headers untouched and first; the first topic, partition (4 bytes) and offset (8 bytes) as Spring
    writes them."""
    record = make_record(key=b"tenant", value=b"\xff", headers=[("a", b"1"), ("a", b"2"), ("ce_id", b"x")])
    (dead,) = PLANNER.plan([make_outcome(make_failed("unknown_model"), record=record)]).dead
    assert (dead.topic, dead.partition, dead.key, dead.value) == ("p.dead", None, b"tenant", b"\xff")
    assert dead.headers[:3] == [("a", b"1"), ("a", b"2"), ("ce_id", b"x")]
    assert dict(dead.headers[3:]) == {
        "embedmq-error-code": b"unknown_model",
        "embedmq-first-seen": str(TIMESTAMP_MS).encode(),
        "embedmq-id": b"id",
        "embedmq-lane": b"interactive",
        "embedmq-attempt": b"1",
        "kafka_dlt-original-topic": b"embedmq.m.interactive",
        "kafka_dlt-original-partition": b"\x00\x00\x00\x03",
        "kafka_dlt-original-offset": b"\x00\x00\x00\x00\x00\x00\x00\x29",
        "kafka_dlt-exception-fqcn": b"embedmq.UnknownModel",
        "kafka_dlt-exception-message": b"why it is unknown_model",
    }


@pytest.mark.parametrize(
    ("topic", "first"), [("p.retry.10s", b"first"), ("p.m.bulk", b"p.m.bulk")], ids=["tried again", "from anybody"]
)
def test_a_dead_letter_names_the_first_place_where_only_workers_could_write_it(topic: str, first: bytes) -> None:
    """Of a record that was tried again that is where it was read first; on a request topic anybody could have claimed
    a place, so it is the record's own."""
    record = make_record(topic=topic, headers=[("kafka_dlt-original-topic", b"first"), ("embedmq-first-seen", b"1")])
    (dead,) = PLANNER.plan([make_outcome(make_failed("malformed"), record=record)]).dead
    assert dict(dead.headers)["kafka_dlt-original-topic"] == first


def test_a_replayed_dead_letter_that_fails_for_another_reason_says_the_new_one() -> None:
    """The place is the first one's, the reason the last one's."""
    record = make_record(headers=[("embedmq-error-code", b"malformed"), ("kafka_dlt-exception-message", b"old")])
    (dead,) = PLANNER.plan([make_outcome(make_failed("unknown_model"), record=record)]).dead
    assert [v for k, v in dead.headers if k == "embedmq-error-code"][-1] == b"unknown_model"
    assert [v for k, v in dead.headers if k == "kafka_dlt-exception-message"][-1] == b"why it is unknown_model"


def test_a_record_with_neither_key_nor_value_can_be_buried() -> None:
    """Kafka clients refuse to produce nothing at all, so it gets an empty key."""
    (dead,) = PLANNER.plan([make_outcome(make_failed("malformed"), record=make_record(value=None))]).dead
    assert (dead.key, dead.value) == (b"", None)


def test_a_reply_carries_what_correlates_it_and_nothing_else_of_the_request() -> None:
    """The last correlation id byte for byte, the trace, CloudEvents of its own; `__TypeId__` would mislead Spring."""
    record = make_record(
        headers=[
            ("kafka_correlationId", b"first"),
            ("__TypeId__", b"com.example.Request"),
            ("kafka_correlationId", b"\x00\xff last"),
            ("traceparent", b"00-1-2-01"),
            ("tracestate", b"a=b"),
            ("ce_type", b"embedmq.embed.v1"),
        ]
    )
    (reply,) = PLANNER.plan([make_outcome(reply=TopicReply("replies", partition=2), record=record)]).replies
    assert (reply.topic, reply.partition, reply.key, reply.timestamp_ms) == ("replies", 2, b"id", TIMESTAMP_MS)
    assert reply.headers == [
        ("content-type", b"application/msgpack"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"id"),
        ("ce_source", b"p/worker/w1"),
        ("ce_type", b"embedmq.embedded.v1"),
        ("kafka_correlationId", b"\x00\xff last"),
        ("traceparent", b"00-1-2-01"),
        ("tracestate", b"a=b"),
    ]


@pytest.mark.parametrize("key", ["mine", ""])
def test_a_reply_has_the_key_that_was_asked_for(key: str) -> None:
    """Also an empty one."""
    (reply,) = PLANNER.plan([make_outcome(reply=TopicReply("t", key=key))]).replies
    assert reply.key == key.encode()


def test_an_undeliverable_reply_leaves_a_dead_letter_and_the_failure_under_its_id() -> None:
    """Kept for `default_keep_s`, with `meta` and `item_ids`; nothing more where the result itself is kept."""
    fault = Fault("undeliverable", "no such topic")
    plan = PLANNER.undelivered([(make_outcome(reply=TopicReply("t")), fault)])
    (keep,) = plan.keeps
    failed = msgspec.msgpack.decode(keep.value)
    assert (keep.key, keep.ttl_s, keep.replace) == ("p:result:id", 60, False)
    assert (failed["code"], failed["meta"], failed["item_ids"]) == ("undeliverable", {"page": "7"}, ["doc"])
    assert dict(plan.dead[0].headers)["embedmq-error-code"] == b"undeliverable"
    kept = PLANNER.undelivered([(make_outcome(reply=TopicReply("t"), keep_s=5), fault)])
    assert (kept.keeps, len(kept.dead)) == ([], 1)


def test_a_request_that_failed_before_is_not_buried_twice() -> None:
    """Its first reason stays, on the dead-letter topic and under its id."""
    outcome = make_outcome(make_failed("malformed"), reply=TopicReply("t"))
    plan = PLANNER.undelivered([(outcome, Fault("undeliverable", "no such topic"))])
    assert plan.dead == []
    assert msgspec.msgpack.decode(plan.keeps[0].value)["code"] == "malformed"


def test_a_kept_cancellation_is_remembered_as_one() -> None:
    """When its result has expired, the stub still says that it was cancelled, not that it was completed."""
    outcomes = [make_outcome(make_failed(code), id=code) for code in ("cancelled", "processing_failed")]
    states = [decode_stub(keep.stub).state for keep in PLANNER.plan(outcomes).keeps]
    assert states == ["cancelled", "completed"]
