"""Concurrent calls share records: few records for many callers, and what happens to one caller is its own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import embedmq
import numpy as np
import pytest
from embedmq.coalesce import SHARED_BYTES, SHARED_ITEMS, kind, merge, pack, split, weigh
from embedmq_local.stack import Stack
from embedmq_schemas.codec import encode_request
from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Embedded, Failure, Sparse, Tensor
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.producer.standin import Request, StandIn, embedded, failed, vector

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Asked = asyncio.Task[embedmq.Embeddings]


def ask(mq: embedmq.Client, *texts: str, **options: Any) -> list[Asked]:
    """Call with each text, all in one turn of the loop."""
    return [asyncio.create_task(mq.embed("minilm", text, **options)) for text in texts]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, SHARED_BYTES // 3)), max_size=60), st.integers(9, 20))
def test_calls_are_packed_in_order_and_within_bounds(sizes: list[tuple[int, int]], max_items: int) -> None:
    """No call is cut, none is left out, none goes twice."""
    parts = pack(sizes, max_items)

    assert [i for part in parts for i in part] == list(range(len(sizes)))
    for part in parts:
        assert sum(sizes[i][0] for i in part) <= max_items
        assert sum(sizes[i][1] for i in part) <= SHARED_BYTES


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.lists(st.integers(0, 2**31 - 1)), min_size=1))
def test_a_request_is_no_larger_than_its_items_weigh(items: list[Any]) -> None:
    """What is promised to fit a record does."""
    empty = encode_request(Embed(id="i", model="m", items=[]))
    assert len(encode_request(Embed(id="i", model="m", items=items))) <= len(empty) + 5 + weigh(items)


def test_only_calls_that_differ_in_items_and_time_are_of_one_kind() -> None:
    """Every other field of a request keeps them apart, whoever adds one."""
    plain = Embed(id="a", model="m", items=["x"])
    others: dict[str, Any] = {
        "outputs": ["sparse"],
        "prompt_name": "q",
        "prompt": "q: ",
        "dimensions": 8,
        "dtype": "int8",
        "normalize": True,
        "truncate": False,
        "tenant": "t",
        "revision": "r",
        "model": "n",
    }
    same: dict[str, Any] = {"id": "b", "items": ["y", "z"], "deadline_unix_ms": 7}
    alone = {"encoding", "reply", "keep_s", "job", "meta", "item_ids"}  # the same, or none, where calls may share

    assert kind("t", Embed(**{"model": "m", **same})) == kind("t", plain) != kind("u", plain)
    for name, value in others.items():
        assert kind("t", Embed(**{"id": "a", "model": "m", "items": ["x"], name: value})) != kind("t", plain)
    assert {*others, *same, *alone} == set(Embed.__struct_fields__)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_an_answer_is_split_as_its_request_was_merged(counts: list[int], data: st.DataObject) -> None:
    """Rows, scales, tokens, failures and truncation of each, by its own indices, whatever the others' are."""
    n = sum(counts)
    failing = data.draw(st.lists(st.integers(0, n - 1), unique=True))
    block = np.arange(2 * n, dtype="i1").reshape(n, 2)
    whole = Embedded(
        id="shared",
        count=n,
        dense=Tensor("int8", (n, 2), memoryview(block.tobytes()), [float(i) for i in range(n)]),
        sparse=[Sparse([i], [1.0]) for i in range(n)],
        multivector=[Tensor("int8", (1, 1), memoryview(bytes([i]))) for i in range(n)],
        failures=[Failure(i, "too_long", f"{i}") for i in failing],
        tokens=list(range(n)),
        truncated=failing,
    )
    start = 0
    for k, part in enumerate(split(whole, [(f"i{k}", count) for k, count in enumerate(counts)])):
        own = range(start, start + counts[k])
        r = embedmq.Embeddings.read(part)
        assert (r.id, len(r), list(r.tokens)) == (f"i{k}", len(own), list(own))
        assert r.scales is not None
        assert r.scales.tolist() == list(own)
        assert [s.indices.tolist() for s in r.sparse] == [[i] for i in own]
        assert [m.tolist() for m in r.multivector] == [[[i]] for i in own]
        assert {start + i: f.message for i, f in r.failures.items()} == {i: f"{i}" for i in failing if i in own}
        assert [start + i for i in r.truncated] == [i for i in failing if i in own]
        for i in own:
            assert r.dense[i - start].tolist() == ([0, 0] if i in failing else block[i].tolist())
        start = own.stop


def test_the_deadline_of_a_shared_record_is_the_last_of_its_callers() -> None:
    """None, if one of them has none."""
    early, late = (Embed(items=["a"], deadline_unix_ms=ms) for ms in (5, 9))

    assert merge("i", [early, late]).deadline_unix_ms == 9
    assert merge("i", [early, Embed(items=["b"])]).deadline_unix_ms is None


async def test_a_thousand_calls_at_once_are_few_records(mq: embedmq.Client, worker: StandIn) -> None:
    """Each gets its own row, under an id of its own; what lies in memory is not copied."""
    texts = [f"{n}" for n in range(1000)]

    found = await asyncio.gather(*ask(mq, *texts))

    assert [r.dense.tolist() for r in found] == [[vector(text)] for text in texts]
    assert [list(r.tokens) for r in found] == [[len(text)] for text in texts]
    assert len({r.id for r in found}) == 1000
    assert len(worker.requests) == -(-1000 // SHARED_ITEMS)
    assert not any(r.dense.flags.owndata or r.dense.flags.writeable for r in found)


async def test_calls_that_ask_for_other_things_travel_apart(mq: embedmq.Client, worker: StandIn) -> None:
    """Also those that have an id, `meta` or item ids of their own, which an answer gives back."""
    await asyncio.gather(
        *ask(mq, "a", "b"),
        *ask(mq, "c", "d", tenant="acme"),
        *ask(mq, "e", "f", outputs=["dense"], dimensions=2),
        *ask(mq, "g", lane="bulk"),
        *ask(mq, "h", id="mine"),
        *ask(mq, "i", meta={"k": "v"}),
        *ask(mq, "j", item_ids=["doc"]),
        mq.embed("minilm", ["k", "l"]),
    )
    records = sorted("".join(request["items"]) for request in worker.requests)
    assert records == ["abkl", "cd", "ef", "g", "h", "i", "j"]


async def test_no_shared_record_is_larger_than_workers_accept(mq: embedmq.Client, worker: StandIn) -> None:
    """Their limits bind, and long texts gain nothing by company."""
    await worker.announce(limits={"max_items": 3})
    texts = ["x" * 6_000, "y" * 6_000, "z" * 6_000, *"abcdefg"]

    found = await asyncio.gather(*ask(mq, *texts))

    assert [r.dense[0].tolist() for r in found] == [vector(text) for text in texts]
    assert [[item[0] for item in request["items"]] for request in worker.requests] == [
        ["x", "y"],
        ["z", "a", "b"],
        ["c", "d", "e"],
        ["f", "g"],
    ]


@pytest.mark.parametrize("code", ["processing_failed", "too_large", "unsupported", "deadline_exceeded"])
async def test_what_fails_together_is_tried_alone(mq: embedmq.Client, worker: StandIn, code: str) -> None:
    """Once, in a record of its own under its own id: only the call that fails then has failed."""

    def answer(request: Request) -> Any:
        return failed(request, code, fits=1) if "bad" in request["items"] else embedded(request)

    worker.answer = answer
    good, bad, fine = await asyncio.gather(*ask(mq, "good", "bad", "fine"), return_exceptions=True)

    assert isinstance(bad, embedmq.DeadlineExceeded if code == "deadline_exceeded" else embedmq.RequestFailed)
    assert isinstance(good, embedmq.Embeddings)
    assert isinstance(fine, embedmq.Embeddings)
    assert [request["items"] for request in worker.requests[:1]] == [["good", "bad", "fine"]]
    assert sorted(request["items"] for request in worker.requests[1:]) == [["bad"], ["fine"], ["good"]]
    assert {good.id, fine.id} < {request["id"] for request in worker.requests[1:]}


async def test_an_answer_that_fits_no_request_is_asked_for_again_alone(mq: embedmq.Client, worker: StandIn) -> None:
    """As from a worker of another version, or one that is broken."""
    worker.answer = lambda request: embedded(request, count=7) if len(request["items"]) > 1 else embedded(request)

    found = await asyncio.gather(*ask(mq, "a", "b"))

    assert [r.dense[0].tolist() for r in found] == [vector("a"), vector("b")]


async def test_a_text_that_cannot_be_sent_is_its_own_callers_fault(mq: embedmq.Client, worker: StandIn) -> None:
    """Its neighbours are answered."""
    good, bad = await asyncio.gather(*ask(mq, "good", "\ud800"), return_exceptions=True)

    assert isinstance(bad, embedmq.InvalidRequest)
    assert "items[0]: a lone surrogate" in str(bad)
    assert isinstance(good, embedmq.Embeddings)


async def test_what_cannot_be_written_is_told_to_its_caller_alone(mq: embedmq.Client, worker: StandIn) -> None:
    """Whatever it fails by, also beyond what is checked: no call waits for what was never sent."""
    session = mq._started()
    route = await session.route("minilm", "interactive")
    broken = Embed(id="bad", model="minilm", items=[[2**70]], reply=session.reply)

    bad, *good = await asyncio.gather(
        session.ask_in_company(route, broken, 0, due=math.inf),
        *ask(mq, "a", "b", timeout_s=None),
        return_exceptions=True,
    )
    assert isinstance(bad, OverflowError)
    assert [r.dense[0].tolist() for r in good if isinstance(r, embedmq.Embeddings)] == [vector("a"), vector("b")]
    with pytest.raises(TypeError, match="unhashable"):
        await session.ask_in_company(route, replace(broken, prompt=[]), 0, due=math.inf)
    assert session.pending.sent() == {}
    assert await mq.cancel("bad") == "unknown"


async def test_a_failed_item_fails_its_own_call(mq: embedmq.Client, worker: StandIn) -> None:
    """By the index that its caller knows."""
    worker.answer = lambda request: embedded(request, failures=[{"index": 2, "code": "too_long", "message": ""}])

    calls = [mq.embed("minilm", [f"{n}a", f"{n}b"]) for n in range(3)]
    first, second, third = await asyncio.gather(*calls, return_exceptions=True)

    assert len(worker.requests) == 1
    assert isinstance(second, embedmq.RequestFailed)
    assert "items[0] failed: too_long" in str(second)
    assert [len(r) for r in (first, third) if isinstance(r, embedmq.Embeddings)] == [2, 2]


async def test_a_list_that_is_changed_while_it_is_on_its_way_changes_no_answer(
    mq: embedmq.Client, worker: StandIn
) -> None:
    """What was sent is counted, for its caller and for those who share the record."""
    worker.answer = lambda _: None
    shorter, longer = ["a", "b"], ["c"]
    calls = [asyncio.create_task(mq.embed("minilm", texts)) for texts in (shorter, ["d"], longer)]
    (request,) = await worker.wait_for(1)
    shorter.pop()
    longer.append("e")
    await worker.reply((request, embedded(request)))

    assert [r.dense.tolist() for r in await asyncio.gather(*calls)] == [
        [vector("a"), vector("b")],
        [vector("d")],
        [vector("c")],
    ]


async def test_each_caller_has_a_time_limit_of_its_own(mq: embedmq.Client, worker: StandIn) -> None:
    """The record lives until the last of them."""
    await mq.embed("minilm", "warm")  # where the model is served need not be asked any more
    worker.answer = lambda _: None
    (short,), (long,) = ask(mq, "a", timeout_s=0.3), ask(mq, "b", timeout_s=300)
    _, request = await worker.wait_for(2)

    with pytest.raises(embedmq.DeadlineExceeded):
        await short
    assert request["items"] == ["a", "b"]
    assert request["deadline_unix_ms"] / 1000 - time.time() > 100
    await worker.reply((request, embedded(request)))
    assert (await long).dense[0].tolist() == vector("b")


async def test_who_is_cancelled_leaves_the_others_alone(mq: embedmq.Client, worker: StandIn, until: Until) -> None:
    """The workers are told when the last has gone."""
    worker.answer = lambda _: None
    first, second, *rest = ask(mq, "a", "b", "c", "d")
    unsent, *others = ask(mq, "e", "f", "g", tenant="t")
    unsent.cancel()  # before its record was made
    requests = {"".join(request["items"]): request for request in await worker.wait_for(2)}
    assert set(requests) == {"abcd", "fg"} or set(requests) == {"abcd", "efg"}
    first.cancel()
    second.cancel()
    await worker.reply((requests["abcd"], embedded(requests["abcd"])))

    assert [(await call).dense[0].tolist() for call in rest] == [vector("c"), vector("d")]
    assert first.cancelled()
    assert second.cancelled()
    del requests["abcd"]
    (shared,) = requests.values()

    async def marked() -> bool:
        return bool(await worker.redis.exists(f"{{{worker.prefix}:result:{shared['id']}}}:cancel"))

    others[0].cancel()
    await asyncio.wait({others[0]})
    assert not await marked()
    others[1].cancel()
    await until(marked)


async def test_what_is_shared_is_bounded_by_what_may_be_in_flight(stack: Stack, prefix: str, worker: StandIn) -> None:
    """Each call waits for room of its own, and gives it back as it ends."""
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=8) as mq:
        found = await asyncio.gather(*ask(mq, *(f"{n}" for n in range(50))))

    assert [r.dense[0].tolist() for r in found] == [vector(f"{n}") for n in range(50)]
    assert max(len(request["items"]) for request in worker.requests) <= 8
    assert len(worker.requests) < 25


async def test_a_client_that_closes_ends_what_is_shared(stack: Stack, prefix: str, worker: StandIn) -> None:
    """Each caller by its own id; nothing is left running, nor what tells the workers for longer than anybody asked."""
    worker.answer = lambda _: None
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
        calls = ask(mq, "a", "b", timeout_s=5) + ask(mq, "c", timeout_s=20)
        (request,) = await worker.wait_for(1)
    assert 0 < await worker.redis.ttl(f"{{{prefix}:result:{request['id']}}}:cancel") <= 26
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {embedmq.RequestCancelled}
    assert len({str(outcome) for outcome in outcomes}) == 3
