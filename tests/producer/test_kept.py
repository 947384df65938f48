"""Submitted requests: fetched by their id, from anywhere, with six different answers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import embedmq
import msgspec
import pytest
from embedmq.kept import judge
from embedmq_local.stack import Stack

from tests.producer.standin import StandIn, embedded, failed, vector


async def test_a_result_is_fetched_from_another_client_more_than_once(
    either: Any, stack: Stack, prefix: str, worker: StandIn
) -> None:
    """`submit` returns a ticket; any client gets the result by its id, as often as it wants."""
    ticket = await either.submit("minilm", ["a", "b"], keep_s=60, item_ids=["x", "y"])

    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as other:
        first = await other.result(ticket.id, wait_s=60)
        second = await either.result(ticket.id)

    assert first.dense.tolist() == second.dense.tolist() == [vector("a"), vector("b")]
    assert second.item_ids == ["x", "y"]
    (request,) = worker.requests
    assert request["keep_s"] == 60
    assert "reply" not in request
    assert worker.records[0].topic.endswith(".interactive")


async def test_a_result_is_fetched_from_another_process_more_than_once(
    either: Any, stack: Stack, prefix: str, worker: StandIn
) -> None:
    """All that it needs is the id; what it gets is what the process that submitted gets."""
    ticket = await either.submit("minilm", ["a", "b"], keep_s=60)
    program = f"""
import embedmq
with embedmq.SyncClient({stack.kafka!r}, {stack.redis!r}, prefix={prefix!r}) as mq:
    for _ in range(2):
        print(mq.result({ticket.id!r}, wait_s=60).dense.tolist())
"""
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    printed, _ = await other.communicate()

    assert printed.decode().splitlines() == 2 * [str((await either.result(ticket.id)).dense.tolist())]


async def test_a_stub_is_there_before_the_request(either: Any, worker: StandIn) -> None:
    """It outlives the result by a day, so that `expired` and `unknown` stay different."""
    worker.answer = lambda _: None

    ticket = await either.submit("minilm", "a", keep_s=60, timeout_s=30)

    key = f"{{{worker.prefix}:result:{ticket.id}}}:stub"
    stub = json.loads(await worker.redis.get(key) or b"")
    assert 0 < await worker.redis.ttl(key) - 60 <= 24 * 3600
    assert stub["keep_s"] == 60
    assert stub["deadline_unix_ms"] == (await worker.wait_for(1))[0]["deadline_unix_ms"]


async def test_one_that_is_not_finished_is_still_pending(either: Any, worker: StandIn) -> None:
    """After `wait_s`, and a TimeoutError; nothing is lost by asking again."""
    worker.answer = lambda _: None
    ticket = await either.submit("minilm", "a")

    before = time.monotonic()
    with pytest.raises(embedmq.StillPending) as error:
        await either.result(ticket.id, wait_s=0.3)
    assert isinstance(error.value, TimeoutError)
    assert time.monotonic() - before >= 0.3

    (request,) = await worker.wait_for(1)
    await worker.reply((request, embedded(request)))
    assert len(await either.result(ticket.id)) == 1


async def test_one_past_its_time_limit_took_too_long(either: Any, worker: StandIn) -> None:
    """Whether or not a worker ever saw it."""
    worker.answer = lambda _: None
    ticket = await either.submit("minilm", "a", timeout_s=0.05)

    with pytest.raises(embedmq.DeadlineExceeded):
        await either.result(ticket.id, wait_s=0.2)


async def test_one_that_was_kept_no_longer_is_expired(either: Any, worker: StandIn) -> None:
    """Finished and gone is another answer than never known."""
    ticket = await either.submit("minilm", "a", keep_s=60)
    await either.result(ticket.id, wait_s=60)

    await worker.redis.delete(f"{worker.prefix}:result:{ticket.id}")

    with pytest.raises(embedmq.ResultExpired):
        await either.result(ticket.id, wait_s=60)


async def test_an_id_that_nobody_knows_is_unknown(either: Any) -> None:
    """Nothing was submitted under it."""
    with pytest.raises(embedmq.UnknownRequest, match="nope"):
        await either.result("nope")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("cancelled", embedmq.RequestCancelled),
        ("deadline_exceeded", embedmq.DeadlineExceeded),
        ("processing_failed", embedmq.RequestFailed),
    ],
)
async def test_a_kept_failure_is_its_error(
    mq: embedmq.Client, worker: StandIn, code: str, error: type[Exception]
) -> None:
    """A failure that was kept says the same as one that was awaited."""
    worker.answer = lambda request: failed(request, code)
    ticket = await mq.submit("minilm", "a")

    with pytest.raises(error):
        await mq.result(ticket.id, wait_s=60)


async def test_a_result_of_another_language_may_be_json(mq: embedmq.Client, worker: StandIn) -> None:
    """Results are kept in the request's codec; arrays of numbers are vectors too."""
    result = {"type": "embedded", "id": "j", "model": "minilm", "count": 2, "tokens": [1, 2], "later": "field"}
    dense = {"dtype": "float32", "shape": [2, 2], "data": [[1.5, 2.5], [None, None]]}
    failures = [{"index": 1, "code": "too_long", "message": ""}]
    await worker.redis.set(f"{worker.prefix}:result:j", json.dumps(result | {"dense": dense, "failures": failures}))

    r = await mq.result("j", on_error="return")

    assert r.dense[0].tolist() == [1.5, 2.5]
    assert sorted(r.failures) == [1]


async def test_many_waits_are_one_question(mq: embedmq.Client, worker: StandIn) -> None:
    """All ids that a client waits for are read by one MGET, and each wait ends for itself."""
    worker.answer = lambda _: None
    tickets = await asyncio.gather(*(mq.submit("minilm", f"{n}") for n in range(40)))
    before = (await worker.redis.info("commandstats")).get("cmdstat_mget", {"calls": 0})["calls"]

    async def pending(id: str) -> bool:
        with pytest.raises(embedmq.StillPending):
            await mq.result(id, wait_s=0.5)
        return True

    assert all(await asyncio.gather(*(pending(ticket.id) for ticket in tickets)))
    after = (await worker.redis.info("commandstats"))["cmdstat_mget"]["calls"]
    assert after - before < 40


def test_what_a_result_and_a_stub_say_together() -> None:
    """The table of `embedmq_schemas.stub`, row by row, and what waiting can still change."""
    now = 1_000_000
    done = msgspec.msgpack.encode({"type": "embedded", "id": "i", "count": 0})

    def answers(value: bytes | None, stub: dict[str, object] | None) -> tuple[type[object], bool]:
        verdict = judge("i", value, None if stub is None else msgspec.json.encode(stub), now)
        return type(verdict.answer), verdict.final

    assert answers(done, None)[1]
    assert answers(None, None) == (embedmq.UnknownRequest, False)
    assert answers(None, {"state": "pending"}) == (embedmq.StillPending, False)
    assert answers(None, {"deadline_unix_ms": now + 1}) == (embedmq.StillPending, False)
    assert answers(None, {"deadline_unix_ms": now - 1}) == (embedmq.DeadlineExceeded, False)
    assert answers(None, {"deadline_unix_ms": now - 6_000}) == (embedmq.DeadlineExceeded, True)
    assert answers(None, {"state": "completed"}) == (embedmq.ResultExpired, True)
    assert answers(b"\xff", None) == (embedmq.RequestFailed, True)
