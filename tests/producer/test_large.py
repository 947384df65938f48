"""Calls that do not fit one record, or whose vectors do not fit one reply."""

from __future__ import annotations

from typing import Any

import embedmq
import msgspec
import numpy as np
import pytest
from embedmq.cutting import cut, cut_again
from hypothesis import given
from hypothesis import strategies as st

from tests.producer.standin import Request, StandIn, embedded, failed, vector

TEXTS = [f"{n}" * (n % 7 + 1) for n in range(50)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 60))
def test_a_cut_keeps_order_and_bounds(sizes: list[int], max_items: int, max_bytes: int) -> None:
    """Parts follow each other without gaps, within both bounds unless one item alone is larger."""
    parts = cut(sizes, max_items, max_bytes)

    assert [i for part in parts for i in part] == list(range(len(sizes)))
    for part in parts:
        assert 1 <= len(part) <= max_items
        assert len(part) == 1 or sum(sizes[i] for i in part) <= max_bytes


@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 45))
def test_a_second_cut_covers_the_part(start: int, length: int, fits: int) -> None:
    """Every item of the part is in exactly one smaller part."""
    parts = cut_again(range(start, start + length), fits)

    assert [i for part in parts for i in part] == list(range(start, start + length))
    assert all(len(part) <= fits for part in parts)


async def test_more_items_than_a_record_holds_are_split_and_joined_in_order(either: Any, worker: StandIn) -> None:
    """Parts are numbered `<id>.<k>`; rows, tokens, item ids and `meta` are those of one call."""
    await worker.announce(limits={"max_items": 8})
    ids = [f"doc-{n}" for n in range(len(TEXTS))]

    r = await either.embed("minilm", TEXTS, id="big", meta={"k": "v"}, item_ids=ids)

    assert r.dense.tolist() == [vector(text) for text in TEXTS]
    assert (r.id, r.item_ids, r.meta) == ("big", ids, {"k": "v"})
    assert list(r.tokens) == [len(text) for text in TEXTS]
    assert sorted(request["id"] for request in worker.requests) == sorted(f"big.{k}" for k in range(7))
    assert all(len(request["items"]) <= 8 for request in worker.requests)
    assert not r.dense.flags.writeable


async def test_no_record_exceeds_the_bytes_that_workers_accept(mq: embedmq.Client, worker: StandIn) -> None:
    """The whole value counts: options, labels and all."""
    await worker.announce(limits={"max_request_bytes": 2048})
    texts = ["é" * (n % 300) for n in range(60)]

    r = await mq.embed("minilm", texts, item_ids=[f"a long id of a document, number {n}" for n in range(60)])

    assert r.dense[:, 0].tolist() == [len(text) for text in texts]
    assert len(worker.records) > 2
    assert max(len(record.value or b"") for record in worker.records) <= 2048


async def test_an_item_too_large_for_any_record_is_named(mq: embedmq.Client, worker: StandIn) -> None:
    """Nothing is sent then."""
    await worker.announce(limits={"max_request_bytes": 1024})

    with pytest.raises(embedmq.InvalidRequest, match=r"items\[1\].*bytes"):
        await mq.embed("minilm", ["short", "x" * 2000])
    assert worker.requests == []


async def test_the_default_limits_hold_where_the_catalogue_says_nothing(mq: embedmq.Client, worker: StandIn) -> None:
    """900 KiB and 2,048 items."""
    r = await mq.embed("minilm", ["x"] * 3000 + ["y" * 500_000, "z" * 500_000])

    assert len(r) == 3002
    assert max(len(request["items"]) for request in worker.requests) == 2048
    assert max(len(record.value or b"") for record in worker.records) <= 900 * 1024


async def test_a_reply_that_would_be_too_large_is_split_by_the_count_that_fits(either: Any, worker: StandIn) -> None:
    """`too_large` with a count is no failure: the call is cut by it and asked again, as often as needed."""

    def answer(request: Request) -> Any:
        fits = 10 if len(request["items"]) > 10 else 3
        return failed(request, "too_large", fits=fits) if len(request["items"]) > 3 else embedded(request)

    worker.answer = answer
    r = await either.embed("minilm", TEXTS[:23], id="wide")

    assert r.dense.tolist() == [vector(text) for text in TEXTS[:23]]
    assert {request["id"] for request in worker.requests} >= {"wide", "wide.0", "wide.0.0", "wide.2"}


async def test_parts_of_different_revisions_are_refused(mq: embedmq.Client, worker: StandIn) -> None:
    """Vectors of two revisions cannot be compared, so they are never joined."""
    await worker.announce(limits={"max_items": 1})
    worker.answer = lambda request: embedded(request, revision=f"r{request['items'][0]}")

    with pytest.raises(embedmq.RequestFailed, match=r"revisions r1, r2"):
        await mq.embed("minilm", ["1", "2"])


async def test_a_part_that_failed_fails_its_items_only(mq: embedmq.Client, worker: StandIn) -> None:
    """With `on_error="return"` the other parts are whole; with "raise" the first item of the part is named."""
    await worker.announce(limits={"max_items": 2})
    worker.answer = lambda request: (
        failed(request, "processing_failed") if request["items"][0] == "c" else embedded(request)
    )

    r = await mq.embed("minilm", ["a", "b", "c", "d", "e"], on_error="return")

    assert sorted(r.failures) == [2, 3]
    assert np.isnan(r.dense[2:4]).all()
    assert r.dense[4].tolist() == vector("e")
    with pytest.raises(embedmq.RequestFailed, match=r"items\[2\] failed \(and 1 more\): processing_failed"):
        await mq.embed("minilm", ["a", "b", "c", "d", "e"])


async def test_the_deadline_of_one_part_ends_the_call(mq: embedmq.Client, worker: StandIn) -> None:
    """Half an answer in time is no answer in time."""
    await worker.announce(limits={"max_items": 1})
    worker.answer = lambda request: failed(request, "deadline_exceeded") if request["items"] == ["b"] else None

    with pytest.raises(embedmq.DeadlineExceeded):
        await mq.embed("minilm", ["a", "b"])


async def test_one_record_is_the_most_that_submit_and_publish_take(either: Any, worker: StandIn) -> None:
    """They have no one to join answers, so they refuse what would need it."""
    await worker.announce(limits={"max_items": 2, "max_request_bytes": 1024})

    with pytest.raises(embedmq.InvalidRequest, match="3; one request holds 2"):
        await either.submit("minilm", ["a", "b", "c"])
    with pytest.raises(embedmq.InvalidRequest, match="bytes; one request holds 1024"):
        await either.publish("minilm", ["a" * 2000], keep_s=0)
    assert worker.requests == []


async def test_int8_rows_are_joined_with_their_scales(mq: embedmq.Client, worker: StandIn) -> None:
    """`scales` beside `data` gives the float back; a failed row is zero."""
    await worker.announce(limits={"max_items": 2})

    def answer(request: Request) -> Any:
        count = len(request["items"])
        dense = {"dtype": "int8", "shape": [count, 2], "data": b"\x01\x7f" * count, "scales": [0.5] * count}
        failures = [{"index": 0, "code": "too_long", "message": ""}] if request["items"][0] == "c" else []
        return embedded(request, dense=dense, failures=failures)

    worker.answer = answer
    r = await mq.embed("minilm", ["a", "b", "c"], dtype="int8", on_error="return")

    assert r.dense.tolist() == [[1, 127], [1, 127], [0, 0]]
    assert r.dense.dtype == np.int8
    assert r.scales is not None
    assert r.scales.tolist() == [0.5, 0.5, 0.5]
    assert all(msgspec.msgpack.decode(record.value or b"")["dtype"] == "int8" for record in worker.records)
