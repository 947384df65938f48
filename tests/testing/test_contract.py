"""What the fakes and the real client have in common: every promise is tested on all of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, get_args

import embedmq
import numpy as np
import pytest
from embedmq.testing import FakeClient, FakeSyncClient
from embedmq_schemas.codes import Code

from tests.producer.standin import WIDTH
from tests.producer.test_invalid import BAD_ITEMS, BAD_OPTIONS
from tests.testing.worlds import BAD, World


def methods(kind: type) -> dict[str, inspect.Signature]:
    """The signatures of a class's public methods, less those that only make it."""
    members = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(member) for name, member in members if not name.startswith("_")}


@pytest.mark.parametrize(
    ("real", "fake"), [(embedmq.Client, FakeClient), (embedmq.SyncClient, FakeSyncClient)], ids=["async", "sync"]
)
def test_a_fake_has_every_method_of_the_real_client_and_its_signature(real: type, fake: type) -> None:
    """Whatever is added to the client is there in its double, is noted in `calls`, and is called in the same way."""
    theirs, ours = methods(real), methods(fake)
    assert {
        "embed",
        "score",
        "submit",
        "publish",
        "result",
        "any_result",
        "cancel",
        "models",
        "map",
        "publish_all",
    } <= theirs.keys()
    assert {name: ours.get(name) for name in theirs} == theirs
    assert theirs.keys() <= vars(fake).keys()


async def test_vectors_come_in_order_with_what_the_caller_attached(world: World) -> None:
    """`(n, d)` float32, read-only, equal for equal texts; id, meta, item_ids and tokens beside them."""
    r = await world.mq.embed(
        "minilm", ["one", "two", "one"], id="my/id", meta={"page": "7"}, item_ids=["x", "y", "z"], on_error="return"
    )
    one = await world.mq.embed("minilm", "one")

    assert (r.dense.shape, r.dense.dtype, one.dense.shape) == ((3, WIDTH), np.float32, (1, WIDTH))
    assert not r.dense.flags.writeable
    assert r.dense[0].tolist() == r.dense[2].tolist() == one.dense[0].tolist() != r.dense[1].tolist()
    assert (r.id, r.model, dict(r.meta), list(r.item_ids)) == ("my/id", "minilm", {"page": "7"}, ["x", "y", "z"])
    assert [item.item_id for item in r[1:]] == ["y", "z"]
    assert len(r.tokens) == 3


async def test_calls_at_once_and_calls_too_large_for_a_record_get_their_own_rows(world: World) -> None:
    """Many small ones together, and one that is cut and joined."""
    texts = [f"text number {n}" for n in range(2_100)]
    whole, *some = await asyncio.gather(
        world.mq.embed("minilm", texts), *(world.mq.embed("minilm", text) for text in texts[:20])
    )
    assert whole.dense.shape == (2_100, WIDTH)
    for row, alone in zip(whole.dense[:20], some, strict=True):
        assert row.tolist() == alone.dense[0].tolist()


async def test_what_cannot_be_right_is_refused_in_the_same_words(world: World, subtests: pytest.Subtests) -> None:
    """Items, options, places and times; and a model that nobody serves, with the names of those that are."""
    for name, (items, message) in BAD_ITEMS.items():
        with subtests.test(name), pytest.raises(embedmq.InvalidRequest, match=message):
            await world.mq.embed("minilm", items)
    options: Any
    for name, (options, message) in BAD_OPTIONS.items():
        with subtests.test(name), pytest.raises(embedmq.InvalidRequest, match=message):
            await world.mq.embed("minilm", ["a", "b"], **options)
    with pytest.raises(embedmq.InvalidRequest, match="nope is not served; these are: minilm"):
        await world.mq.embed("nope", "a")
    with pytest.raises(embedmq.InvalidRequest, match="say where the answer goes"):
        await world.mq.publish("minilm", "a")
    with pytest.raises(embedmq.InvalidRequest, match="one request holds 2048"):
        await world.mq.submit("minilm", ["a"] * 2_049)
    with pytest.raises(embedmq.InvalidRequest, match="wait_s"):
        await world.mq.result("id", wait_s=-1)


async def test_a_failure_is_the_same_error_or_the_same_gap(world: World) -> None:
    """Items fail alone, with `on_error="return"` as NaN; of a whole request every code has its error."""
    world.fail_bad_texts()
    with pytest.raises(embedmq.RequestFailed, match=r"items\[1\] failed: too_long: bad") as error:
        await world.mq.embed("minilm", ["a", BAD])
    assert (error.value.code, error.value.retryable) == ("too_long", False)
    r = await world.mq.embed("minilm", ["a", BAD], on_error="return")
    assert (sorted(r.failures), np.isnan(r.dense).all(axis=1).tolist()) == ([1], [False, True])

    for code in get_args(Code):
        world.heal()
        world.fail(code)
        expected: type[embedmq.EmbedMQError] = embedmq.RequestFailed
        expected = {"deadline_exceeded": embedmq.DeadlineExceeded, "cancelled": embedmq.RequestCancelled}.get(
            code, expected
        )
        with pytest.raises(expected) as caught:
            await world.mq.embed("minilm", "a")
        assert getattr(caught.value, "code", code) == code


async def test_what_is_submitted_is_fetched_more_than_once_and_cancelled(world: World) -> None:
    """Pending until it is answered, then there; unknown, completed and cancelled are told apart."""
    world.hold()
    kept, unwanted = [(await world.mq.submit("minilm", text, keep_s=60)).id for text in ("one", "two")]
    await world.arrived(2)
    with pytest.raises(embedmq.StillPending):
        await world.mq.result(kept)
    with pytest.raises(embedmq.UnknownRequest):
        await world.mq.result("nope")
    assert await world.mq.cancel(unwanted) == "cancelled"
    with pytest.raises(embedmq.RequestCancelled):
        await world.mq.result(unwanted)

    await world.release()
    assert (await world.mq.result(kept, wait_s=60)).dense.tolist() == (await world.mq.result(kept)).dense.tolist()
    assert await world.mq.cancel(kept) == "completed"
    assert await world.mq.cancel("nope") == "unknown"


async def test_a_call_that_waits_ends_by_cancel_and_by_its_time_limit(world: World) -> None:
    """And its id is taken until then."""
    world.hold()
    call = asyncio.create_task(world.mq.embed("minilm", "a", id="same"))
    await world.arrived(1)
    with pytest.raises(embedmq.InvalidRequest, match="same"):
        await world.mq.embed("minilm", "b", id="same")
    assert await world.mq.cancel("same") == "cancelled"
    with pytest.raises(embedmq.RequestCancelled):
        await call
    with pytest.raises(embedmq.DeadlineExceeded):
        await world.mq.embed("minilm", "a", timeout_s=0.05)


async def test_what_is_published_is_kept_or_goes_to_a_topic(world: World) -> None:
    """The id is the caller's or a new one; what is kept can be fetched by it."""
    id = await world.mq.publish("minilm", ["one", "two"], keep_s=60, item_ids=["x", "y"])
    assert (await world.mq.result(id, wait_s=60)).item_ids == ["x", "y"]
    assert await world.mq.publish("minilm", "one", reply_topic="vectors", id="mine") == "mine"


async def test_inputs_of_any_length_stream_through(world: World) -> None:
    """`map` gives one embedding an item, in order, with its id or its error; `publish_all` numbers its requests."""
    rows = await world.mapped((f"{n}", f"text {n}") for n in range(200))
    one = await world.mq.embed("minilm", "text 150")
    assert [row.item_id for row in rows] == [f"{n}" for n in range(200)]
    assert rows[150].dense.tolist() == one.dense[0].tolist()

    left = await world.mq.publish_all("minilm", (f"text {n}" for n in range(100)), keep_s=60)
    found = [await world.mq.result(id, wait_s=60) for id in left.ids]
    assert (left.items, sum(map(len, found))) == (100, 100)

    world.fail_bad_texts()
    good, bad = await world.mapped(iter(["text", BAD]), return_exceptions=True)
    assert (good.dense.shape, type(bad), bad.code) == ((WIDTH,), embedmq.RequestFailed, "too_long")
