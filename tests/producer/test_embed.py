"""`embed`: what goes out, what comes back, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import embedmq
import msgspec
import numpy as np
import pytest
from embedmq_local.stack import Stack

from tests.producer.standin import Request, StandIn, embedded, failed, vector


async def test_one_text_gives_one_row_and_several_as_many_in_order(either: Any) -> None:
    """One item gives `(1, d)`; a sequence gives one row an item, in its order."""
    one = await either.embed("minilm", "a cat")
    many = await either.embed("minilm", ["a cat", "a dog!", ""])

    assert one.dense.shape == (1, 4)
    assert many.dense.tolist() == [vector("a cat"), vector("a dog!"), vector("")]
    assert many.dense.dtype == np.float32


async def test_a_flat_sequence_of_integers_is_one_item(either: Any, worker: StandIn) -> None:
    """Token ids go as they are, from lists, tuples and arrays; a flat sequence of them is one item."""
    assert len(await either.embed("minilm", [101, 7, 102])) == 1
    assert len(await either.embed("minilm", np.array([101, 7]))) == 1  # arrays work, unofficially
    mixed: list[str | Sequence[int]] = [[101], (7, 8), "text"]
    assert len(await either.embed("minilm", mixed)) == 3

    assert [request["items"] for request in await worker.wait_for(3)] == [
        [[101, 7, 102]],
        [[101, 7]],
        [[101], [7, 8], "text"],
    ]


async def test_vectors_are_a_read_only_view_of_the_bytes_that_arrived(mq: embedmq.Client, worker: StandIn) -> None:
    """`.dense` is not copied: two answers of one entry lie in memory as they lay in the entry."""
    worker.answer = lambda _: None
    calls = [asyncio.create_task(mq.embed("minilm", text, id=id)) for text, id in (("a", "i1"), ("b", "i2"))]
    requests = await worker.wait_for(2)
    answers = [embedded(request) for request in requests]
    await worker.reply(*zip(requests, answers, strict=True))
    blocks = {r.id: r.dense for r in await asyncio.gather(*calls)}

    first, second = (blocks[request["id"]] for request in requests)
    distance = second.__array_interface__["data"][0] - first.__array_interface__["data"][0]
    assert distance == len(msgspec.msgpack.encode(answers[0]))
    assert first.base is not None
    assert not first.flags.writeable
    assert not first.flags.owndata


async def test_embeddings_are_a_sequence_of_embedding(either: Any) -> None:
    """`Embeddings` has a length, is indexed and sliced, and gives one `Embedding` an item."""
    embeddings = await either.embed("minilm", ["a", "bb", "ccc"], item_ids=["x", "y", "z"])

    assert len(embeddings) == 3
    assert [item.item_id for item in embeddings] == ["x", "y", "z"]
    assert [item.tokens for item in embeddings[1:]] == [2, 3]
    last = embeddings[-1].dense
    assert last is not None
    assert last.tolist() == vector("ccc")
    with pytest.raises(IndexError):
        embeddings[3]


async def test_id_meta_and_item_ids_come_back(either: Any) -> None:
    """What the caller attaches comes back untouched, with revision and timing."""
    r = await either.embed("minilm", ["a"], id="my/id:1", meta={"page": "7"}, item_ids=["doc-1"])

    assert (r.id, r.meta, r.item_ids, r.revision) == ("my/id:1", {"page": "7"}, ["doc-1"], "r1")
    assert (r.timing.queue_ms, r.timing.tokenize_ms, r.timing.forward_ms) == (1.0, 2.0, 3.0)


async def test_a_request_is_what_the_wire_page_says(mq: embedmq.Client, worker: StandIn, prefix: str) -> None:
    """One record on the model's topic: MessagePack, CloudEvents headers, tenant as key, defaults left out."""
    await mq.embed("minilm", "a", id="i1", tenant="acme")

    await worker.wait_for(1)
    record, request = worker.records[0], worker.requests[0]
    headers = dict(record.headers)
    client = request["reply"]["client"]
    assert record.topic == f"{prefix}.minilm.interactive"
    assert record.key == b"acme"
    assert headers.pop("ce_source") == f"embedmq/client/{client}".encode()
    assert headers == {
        "content-type": b"application/msgpack",
        "ce_specversion": b"1.0",
        "ce_id": b"i1",
        "ce_type": b"embedmq.embed.v1",
        "embedmq-tenant": b"acme",
    }
    left_s = request["deadline_unix_ms"] / 1000 - time.time()
    assert 0 < left_s <= 60
    assert {key: value for key, value in request.items() if key != "deadline_unix_ms"} == {
        "type": "embed",
        "id": "i1",
        "model": "minilm",
        "items": ["a"],
        "reply": {"type": "stream", "client": client},
        "tenant": "acme",
    }


async def test_every_option_reaches_the_worker(either: Any, worker: StandIn) -> None:
    """Options travel under the names of the wire."""
    worker.answer = lambda request: embedded(request, sparse=[{"indices": [3, 9], "values": [0.5, 1.5]}])

    r = await either.embed(
        "minilm",
        "a",
        outputs=["dense", "sparse"],
        prompt_name="query",
        prompt="q: ",
        dimensions=2,
        normalize=False,
        truncate=False,
        lane="bulk",
        timeout_s=None,
        revision="r1",
    )

    request = worker.requests[0]
    assert worker.records[0].topic.endswith(".bulk")
    assert {
        key: request[key] for key in ("outputs", "prompt_name", "prompt", "dimensions", "normalize", "truncate")
    } == {
        "outputs": ["dense", "sparse"],
        "prompt_name": "query",
        "prompt": "q: ",
        "dimensions": 2,
        "normalize": False,
        "truncate": False,
    }
    assert request["revision"] == "r1"
    assert "deadline_unix_ms" not in request
    indices, values = r.sparse[0]
    assert (indices.tolist(), values.tolist()) == ([3, 9], [0.5, 1.5])


async def test_outputs_that_were_not_asked_for_say_so(either: Any) -> None:
    """What is not there is an AttributeError that says how to get it."""
    r = await either.embed("minilm", "a")

    with pytest.raises(AttributeError, match="outputs"):
        _ = r.sparse


def one_bad_item(request: Request) -> Any:
    failures = [{"index": 1, "code": "too_long", "message": "600 tokens"}]
    return embedded(request, failures=failures)


async def test_a_failed_item_raises_naming_it(either: Any, worker: StandIn) -> None:
    """With `on_error="raise"` the first failed item is named."""
    worker.answer = one_bad_item

    with pytest.raises(embedmq.RequestFailed, match=r"items\[1\].*too_long.*600 tokens") as error:
        await either.embed("minilm", ["a", "b", "c"])
    assert (error.value.code, error.value.retryable) == ("too_long", False)


async def test_the_rest_is_given_and_failed_rows_are_void(either: Any, worker: StandIn) -> None:
    """With `on_error="return"` neighbours are whole, and a failed row is NaN whatever the worker left there."""
    worker.answer = one_bad_item

    r = await either.embed("minilm", ["a", "b", "c"], on_error="return")

    assert np.isnan(r.dense[1]).all()
    assert r.dense[2].tolist() == vector("c")
    assert not r.dense.flags.writeable
    assert {index: failure.code for index, failure in r.failures.items()} == {1: "too_long"}
    assert (r[1].dense, r[0].failure) == (None, None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("unsupported", embedmq.RequestFailed),
        ("too_large", embedmq.RequestFailed),
        ("deadline_exceeded", embedmq.DeadlineExceeded),
        ("cancelled", embedmq.RequestCancelled),
    ],
)
async def test_a_failed_request_is_an_error_of_its_kind(
    either: Any, worker: StandIn, code: str, error: type[embedmq.EmbedMQError]
) -> None:
    """The worker's code decides which of the named errors the caller gets."""
    worker.answer = lambda request: failed(request, code, retryable=True, attempts=3)

    with pytest.raises(error) as caught:
        await either.embed("minilm", "a")
    if isinstance(caught.value, embedmq.RequestFailed):
        assert (caught.value.code, caught.value.retryable, caught.value.attempts) == (code, True, 3)


async def test_an_answer_that_does_not_come_is_a_deadline_exceeded(either: Any, worker: StandIn) -> None:
    """`timeout_s` ends the wait, with an error that is also a TimeoutError."""
    worker.answer = lambda _: None

    before = time.monotonic()
    with pytest.raises(embedmq.DeadlineExceeded) as error:
        await either.embed("minilm", "a", timeout_s=0.3)
    assert isinstance(error.value, TimeoutError)
    assert 0.25 < time.monotonic() - before < 30, "less than where nothing is said"


async def test_only_the_first_answer_counts(mq: embedmq.Client, worker: StandIn) -> None:
    """A second delivery of the same answer disturbs nobody."""
    first = await mq.embed("minilm", "a")

    await worker.reply((worker.requests[0], failed(worker.requests[0], "processing_failed")))
    second = await mq.embed("minilm", "b")

    assert (first.dense[0, 1], second.dense[0, 1]) == (ord("a"), ord("b"))


async def test_an_id_that_still_waits_is_refused(either: Any, worker: StandIn) -> None:
    """Two calls cannot wait under one id; once it is answered, the id is free."""
    worker.answer = lambda _: None
    waiting = asyncio.create_task(either.embed("minilm", "a", id="same"))
    (request,) = await worker.wait_for(1)

    with pytest.raises(embedmq.InvalidRequest, match="same"):
        await either.embed("minilm", "b", id="same")
    await worker.reply((request, embedded(request)))
    assert (await waiting).id == "same"


async def test_calls_beyond_the_bound_wait_for_room(stack: Stack, prefix: str, worker: StandIn) -> None:
    """`max_in_flight_items` bounds what is on its way; the next call goes when an answer has come."""
    worker.answer = lambda _: None
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=2) as mq:
        first = asyncio.create_task(mq.embed("minilm", ["a", "b"]))
        (request,) = await worker.wait_for(1)
        with pytest.raises(embedmq.DeadlineExceeded, match="max_in_flight_items"):
            await mq.embed("minilm", "c", timeout_s=0.2)
        next_ = asyncio.create_task(mq.embed("minilm", "d"))
        worker.answer = embedded
        await worker.reply((request, embedded(request)))

        await first
        await next_
    assert [request["items"] for request in worker.requests] == [["a", "b"], ["d"]]


async def test_a_cancelled_call_leaves_nothing_behind(mq: embedmq.Client, worker: StandIn) -> None:
    """Cancelling the awaiting task frees its room and its id."""
    worker.answer = lambda _: None
    task = asyncio.create_task(mq.embed("minilm", "a", id="gone"))
    await worker.wait_for(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    worker.answer = embedded
    assert (await mq.embed("minilm", "b", id="gone")).dense[0, 1] == ord("b")


async def test_closing_the_client_ends_its_waits(stack: Stack, prefix: str, worker: StandIn) -> None:
    """Nobody waits for ever on a client that was closed."""
    worker.answer = lambda _: None
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
        waiting = asyncio.create_task(mq.embed("minilm", "a", timeout_s=None))
        await worker.wait_for(1)
    with pytest.raises(embedmq.RequestCancelled, match="closed"):
        await waiting


async def test_scores_come_back_with_their_ranking(either: Any, worker: StandIn) -> None:
    """`score` sends query and documents, and gives scores in their order and indices best first."""
    worker.answer = lambda request: {
        "type": "scored",
        "id": request["id"],
        "model": "minilm",
        "count": 3,
        "scores": [0.1, None, 0.9],
        "ranking": [2, 0],
        "failures": [{"index": 1, "code": "too_long", "message": "long"}],
        "tokens": [3, 0, 4],
    }

    s = await either.score("minilm", "pets", ["a car", "x" * 9, "a cat"], top_n=2, on_error="return")

    assert worker.requests[0]["type"] == "score"
    assert (worker.requests[0]["query"], worker.requests[0]["top_n"]) == ("pets", 2)
    assert s.ranking == [2, 0]
    assert np.isnan(s.scores[1])
    assert s.scores.dtype == np.float32
    with pytest.raises(embedmq.RequestFailed, match=r"items\[1\]"):
        await either.score("minilm", "pets", ["a car", "x", "a cat"])
