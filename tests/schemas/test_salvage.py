"""What of a broken request still reaches its answer?"""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from embedmq_schemas import Reply, StreamReply, TopicReply

from tests.schemas.records import OWN, make_record, refuse

Encode = Callable[[object], bytes]

ADDRESS: dict[str, object] = {
    "id": "id-1",
    "model": "minilm",
    "reply": {"type": "topic", "topic": "vectors", "partition": 2, "key": "k"},
    "keep_s": 60,
    "tenant": "acme",
    "meta": {"page": "7"},
    "item_ids": ["d1"],
}
READ = {**ADDRESS, "reply": TopicReply("vectors", 2, "k")}
VOID: dict[str, object] = {"id": f"{OWN}-3-17-1700000000000", "model": "minilm", "tenant": ""}


def salvaged(raw: bytes, max_request_bytes: int = 900 * 1024) -> dict[str, object]:
    envelope = refuse(make_record(raw=raw), max_request_bytes=max_request_bytes).envelope
    return {name: getattr(envelope, name) for name in ADDRESS}


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode], ids=["json", "msgpack"])
@pytest.mark.parametrize("name", ADDRESS)
def test_a_broken_field_costs_only_itself(name: str, encode: Encode) -> None:
    """Each field of the address may be of a wrong type; the others are still used to answer."""
    raw = encode({"items": ["a"], **ADDRESS, name: [[{}]]})
    assert salvaged(raw) == {**READ, name: VOID.get(name)}


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode], ids=["json", "msgpack"])
@pytest.mark.parametrize(
    "broken",
    [{"items": 5}, {"items": ["a"], "dimension": 3}, {"type": "embd"}, {"type": []}, {"items": ["a"] * 100_001}, {}],
    ids=["items", "unknown field", "unknown type", "type", "too many", "nothing"],
)
def test_a_request_that_is_wrong_elsewhere_keeps_its_whole_address(broken: dict[str, object], encode: Encode) -> None:
    """What can be read of id, reply, tenant, meta and item ids comes back with the failure."""
    assert salvaged(encode({**ADDRESS, **broken})) == READ


@pytest.mark.parametrize("text", [r"\ud800", r"\udc00", r"\ud800x", r"\ud800A", r"\ud800\ud800"])
def test_half_a_surrogate_pair_in_a_text_costs_the_request_but_not_its_answer(text: str) -> None:
    """Python writes such JSON without a word, and its caller still waits for an answer."""
    raw = msgspec.json.encode({**ADDRESS, "items": ["@"]}).replace(b'"@"', b'"' + text.encode() + b'"')
    assert salvaged(raw) == READ


def test_half_a_surrogate_pair_in_the_address_costs_only_the_field_it_is_in() -> None:
    """An answer could not repeat it."""
    raw = json.dumps({**ADDRESS, "items": ["a"], "meta": {"page": "\ud800"}}).encode()
    assert salvaged(raw) == {**READ, "meta": None}


def test_bytes_that_are_no_utf8_cost_only_the_field_they_are_in() -> None:
    """Also where a text is cut in the middle of a character."""
    raw = msgspec.json.encode({**ADDRESS, "items": ["@"]})
    assert salvaged(raw.replace(b"@", b"\xff")) == READ
    assert salvaged(raw.replace(b"acme", b"acm\xff")) == {**READ, "tenant": ""}


def test_bytes_that_are_no_utf8_are_not_repaired_on_the_way_back() -> None:
    """`meta` comes back untouched or not at all, also where the text beside it is broken as well."""
    raw = json.dumps({**ADDRESS, "items": ["\ud800"]}).encode()
    assert salvaged(raw.replace(b'"7"', b'"7\xff"')) == {**READ, "meta": None}


@pytest.mark.parametrize("keep_s", [-1, 2**63, 10**30, 1.5, "60", True])
def test_a_keep_s_that_could_not_be_used_is_not_salvaged(keep_s: object) -> None:
    """The answer is then kept as long as one that states none."""
    assert salvaged(json.dumps({**ADDRESS, "keep_s": keep_s, "items": 5}).encode())["keep_s"] is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"type": "topic", "topic": "t", "prtition": 1}, TopicReply("t")),
        ({"type": "topic", "topic": "t", "partition": "1", "key": "k"}, TopicReply("t", None, "k")),
        ({"topic": "t"}, TopicReply("t")),
        ({"client": "c"}, StreamReply("c")),
        ({"type": "stream", "client": "c", "x": 1}, StreamReply("c")),
        ({"type": "stream", "client": "not a client"}, None),
        ({"type": "topic", "topic": 5}, None),
        ({}, None),
        ([], None),
    ],
)
def test_a_broken_reply_still_names_its_place(reply: object, expected: Reply | None) -> None:
    """The failure goes where the answer would have gone, if that can be read at all."""
    assert salvaged(msgspec.json.encode({"items": ["a"], "reply": reply}))["reply"] == expected


def test_a_record_that_is_too_large_is_answered_where_it_says() -> None:
    """It is not decoded, but its address is read."""
    raw = msgspec.json.encode({"items": ["a" * 2000], **ADDRESS})
    assert salvaged(raw, max_request_bytes=1000) == READ


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xc1", b"\x81", b"{" * 5000, b'{"id":"x"', b"\xdf\xff\xff\xff\xff"]
)
def test_bytes_of_which_nothing_can_be_read_are_answered_by_their_place(raw: bytes) -> None:
    """The record's place is an id; its topic is a model; headers may still say where the answer goes."""
    assert salvaged(raw) == {name: VOID.get(name) for name in ADDRESS}
    headers = {"kafka_replyTopic": b"vectors", "ce_id": b"event"}
    envelope = refuse(make_record(raw=raw, headers=headers)).envelope
    assert (envelope.id, envelope.reply) == ("event", TopicReply("vectors"))


def test_a_null_value_is_malformed_and_answered_in_the_codec_its_header_names() -> None:
    """A tombstone is no request; whoever sent it is told so in its own language."""
    record = msgspec.structs.replace(make_record(headers={"content-type": b"application/json"}), value=None)
    refusal = refuse(record)
    assert (refusal.code, refusal.envelope.codec) == ("malformed", "json")


def test_salvage_from_a_hostile_record_stays_small() -> None:
    """A field of the address that is itself enormous is not decoded."""
    raw = msgspec.json.encode({"id": "x", "meta": {str(i): "" for i in range(200_000)}})
    assert len(raw) > 2 * 1024 * 1024
    assert salvaged(raw) == {**{name: VOID.get(name) for name in ADDRESS}, "id": "x"}
