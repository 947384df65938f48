"""A request is checked against its model and the limits before it costs anything."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from embedmq_schemas.codec import encode_result
from embedmq_schemas.limits import Limits
from embedmq_schemas.requests import Embed, StreamReply, TopicReply
from embedmq_worker.answer import answer
from embedmq_worker.check import check, check_reply_topic
from embedmq_worker.cost import cost, held_bytes, items_that_fit
from embedmq_worker.engine.null import NullEngine
from embedmq_worker.engine.seam import Ask, Fault, ModelFacts, Options, Slice
from embedmq_worker.jobs import Cost, Job
from embedmq_worker.progress import Progress
from msgspec.structs import replace

from tests.worker.jobs import make_envelope, make_record

FACTS = ModelFacts(
    dimensions=384, max_tokens=256, prompts=("query",), vocabulary=30_522, revision="abc", outputs=("dense", "sparse")
)
LIMITS = Limits()
ENVELOPE = replace(make_envelope(), meta=None, item_ids=None)
NOW_MS = 1_000_000.0


def checked(request: Embed, **envelope: Any) -> Options | Fault:
    return check(request, replace(ENVELOPE, **envelope), FACTS, LIMITS, NOW_MS)


def test_what_is_not_given_has_its_default() -> None:
    """`null` means "not given"."""
    assert checked(Embed(items=["x"])) == Options()


def test_what_is_given_is_what_the_engine_gets() -> None:
    """Every option of the wire reaches the seam."""
    request = Embed(
        items=["x"],
        outputs=["sparse", "dense"],
        prompt_name="query",
        dimensions=384,
        dtype="int8",
        normalize=False,
        truncate=False,
        encoding="array",
        revision="abc",
        deadline_unix_ms=1_000_001,
    )
    assert checked(request) == Options(("sparse", "dense"), "query", None, 384, "int8", False, False)
    assert checked(Embed(items=["x"], prompt="to: ", dimensions=1)) == Options(prompt="to: ", dimensions=1)


@pytest.mark.parametrize(
    ("request_", "code", "names"),
    [
        (Embed(items=[]), "malformed", "`items`"),
        (Embed(items=["x"] * 2_049), "too_large", "2049 items exceed the 2048"),
        (Embed(items=["x"], deadline_unix_ms=1_000_000), "deadline_exceeded", "deadline"),
        (Embed(items=["x"], deadline_unix_ms=-1), "deadline_exceeded", "deadline"),
        (Embed(items=["x"], revision="other"), "unsupported", "`revision` 'other'"),
        (Embed(items=["x"], outputs=[]), "unsupported", "`outputs`"),
        (Embed(items=["x"], outputs=["multivector"]), "unsupported", "an output this model has not"),
        (Embed(items=["x"], outputs=["dense", "thoughts"]), "unsupported", "'thoughts'"),
        (Embed(items=["x"], dtype="float64"), "unsupported", "'float64'"),
        (Embed(items=["x"], dtype=""), "unsupported", "`dtype`"),
        (Embed(items=["x"], encoding="hex"), "unsupported", "`encoding`"),
        (Embed(items=["x"], dimensions=0), "unsupported", "`dimensions` = 0"),
        (Embed(items=["x"], dimensions=385), "unsupported", "1 to 384"),
        (Embed(items=["x"], prompt_name="passage"), "unsupported", "which has query"),
        (Embed(items=["x"], prompt_name="query", prompt="x"), "unsupported", "exclude"),
        (Embed(items=["x"], prompt="x" * 4_097), "unsupported", "4097 characters"),
    ],
)
def test_each_rule_names_what_breaks_it(request_: Embed, code: str, names: str) -> None:
    """With the code that says whether it can be mended."""
    fault = checked(request_)
    assert isinstance(fault, Fault)
    assert (fault.code, names in fault.message) == (code, True)


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        ({"item_ids": ["a"]}, "malformed"),
        ({"item_ids": []}, "malformed"),
        ({"meta": {"k": "v" * 4_096}}, "too_large"),
        ({"meta": {"k": "é" * 2_048}}, "too_large"),
    ],
)
def test_what_comes_back_must_be_small_and_fit_the_items(envelope: dict[str, Any], code: str) -> None:
    """One `item_id` an item; `meta` up to 4 KiB of UTF-8."""
    fault = checked(Embed(items=["x", "y"]), **envelope)
    assert isinstance(fault, Fault)
    assert fault.code == code
    assert checked(Embed(items=["x"]), item_ids=["a"], meta={"k": "v" * 4_095}) == Options()


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        ("vectors", True),
        ("p.m.interactive", False),
        ("p.dead", False),
        ("p", True),
        ("px.y", True),
        ("private", False),
    ],
)
def test_replies_go_where_the_list_lets_them_and_never_to_our_own_topics(topic: str, allowed: bool) -> None:
    """Patterns are the shell's."""
    fault = check_reply_topic(topic, "p", ["v*", "p", "px.?", "p.*"])
    assert (fault is None) == allowed
    assert fault is None or (fault.code, topic in fault.message) == ("undeliverable", True)


@pytest.mark.parametrize("reply", [StreamReply("c"), TopicReply("t")])
@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("encoding", ["bytes", "array"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "ubinary"])
@pytest.mark.parametrize("id_length", [0, 500])
def test_as_many_items_as_are_said_to_fit_do_fit(
    reply: Any, codec: Any, encoding: str, dtype: Any, id_length: int
) -> None:
    """Whatever the form of the answer, and however long the `item_ids` that come back with it."""
    limits = Limits(max_items=65_536, max_stream_reply_bytes=400_000, max_topic_reply_bytes=300_000)
    limit = 300_000 if isinstance(reply, TopicReply) else 400_000
    engine = NullEngine(64)
    count = 30_000
    ids = ["i" * id_length] * count if id_length else None
    envelope = replace(ENVELOPE, reply=reply, codec=codec, item_ids=ids)
    request, options = Embed(items=["x"] * count, encoding=encoding), Options(dtype=dtype)
    fits = items_that_fit(request, options, engine.facts, envelope, limits)
    assert fits is not None
    assert 0 < fits < count
    request = Embed(items=["x"] * fits, encoding=encoding)
    envelope = replace(envelope, item_ids=ids[:fits] if ids else None)
    assert items_that_fit(request, options, engine.facts, envelope, limits) is None
    job = Job(make_record(), Progress("t", 0), envelope, 0.0, Cost(1), request, options)
    (job.prepared,) = engine.prepare([Ask(request.items, options)])
    job.encoded.append((0, engine.launch([Slice(job.prepared, options, 0, fits)]).collect()[0]))
    assert len(encode_result(answer(job, engine.facts), codec)) <= limit


def test_what_is_held_counts_keys_and_headers() -> None:
    """A megabyte is a megabyte, wherever in the record it is."""
    assert held_bytes(make_record(value=None)) > 0
    small = held_bytes(make_record(value=b"x"))
    assert held_bytes(make_record(value=b"x" * 1_001)) == small + 1_000
    assert held_bytes(make_record(value=b"x", key=b"k" * 1_000)) == small + 1_000
    assert held_bytes(make_record(value=b"x", headers=[("name", b"v" * 996)])) == small + 1_000


@pytest.mark.parametrize("item", ["a cat", "ü" * 1_000, list(range(300, 1_300))], ids=["ascii", "wide", "ids"])
def test_a_cost_is_no_less_than_what_is_held(item: str | list[int]) -> None:
    """As it came, decoded, as its tokens and as its vectors."""
    engine = NullEngine(384)
    for encoding in ("bytes", "array"):
        request = Embed(items=[item] * 10, encoding=encoding)
        found = cost(1_000, request, Options(), ENVELOPE, engine.facts)
        decoded = 10 * (sys.getsizeof(item) + (0 if isinstance(item, str) else 28 * len(item)))
        job = Job(make_record(), Progress("t", 0), ENVELOPE, 0.0, found, request)
        (job.prepared,) = engine.prepare([Ask(request.items, Options())])
        job.encoded.append((0, engine.launch([Slice(job.prepared, Options(), 0, 10)]).collect()[0]))
        result = answer(job, engine.facts)
        numbers = 10 * 384 * (32 if encoding == "array" else 4)
        assert found.bytes >= 1_000 + decoded + numbers + 2 * len(encode_result(result))
        assert (found.items, found.tokens >= sum(job.prepared.tokens)) == (10, True)
