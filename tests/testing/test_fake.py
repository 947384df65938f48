"""What only the fakes have: vectors that are the same everywhere, scripts, and a record of what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import embedmq
import numpy as np
import pytest
from embedmq.publisher import Publisher
from embedmq.reply_stream import ReplyStream
from embedmq.store import Store
from embedmq.testing import Call, FakeClient, FakeModel, FakeSyncClient
from embedmq.testing.memory import MemoryStore
from embedmq.testing.session import _Publisher, _Stream
from embedmq_schemas.limits import Limits
from hypothesis import given
from hypothesis import strategies as st

RICH = FakeModel(
    dimensions=64,
    outputs=("dense", "sparse", "multivector"),
    max_tokens=4,
    prompts={"query": "find this: "},
    limits=Limits(max_items=10),
)


@pytest.fixture
async def fake() -> AsyncIterator[FakeClient]:
    """A fake that serves a plain model, a rich one and a ranker."""
    async with FakeClient(models={"minilm": 384, "rich": RICH, "ranker": FakeModel(scores=True)}) as client:
        yield client


async def test_texts_that_share_words_are_similar_and_others_nearly_orthogonal(fake: FakeClient) -> None:
    """So that a test of a search makes sense; equal texts are equal, others never quite, whatever their order."""
    r = await fake.embed(
        "minilm", ["green tea in a cup", "a cup of green tea", "stocks fell", "stocks fell", "fell stocks"]
    )
    likeness = r.dense @ r.dense.T

    assert np.linalg.norm(r.dense, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert likeness[0, 1] > 0.7
    assert abs(likeness[0, 2]) < 0.25
    assert likeness[2, 3] == pytest.approx(1, abs=1e-6)
    assert 0.8 < likeness[2, 4] < 0.99


async def test_vectors_are_the_same_on_every_machine(fake: FakeClient) -> None:
    """They are made of hashes: what a test wrote down stays true."""
    r = await fake.embed("minilm", "a cat", dimensions=4)
    assert r.dense[0].tolist() == pytest.approx([0.112263, -0.267538, 0.263362, 0.920033], abs=1e-5)


async def test_options_shape_the_vectors_as_a_worker_would(fake: FakeClient) -> None:
    """Dimensions, dtype, normalize, prompts, truncate and the outputs of a model that has them."""
    plain = await fake.embed("rich", "one two")
    half = await fake.embed("rich", "one two", dtype="float16", dimensions=32)
    assert (half.dense.shape, str(half.dense.dtype)) == ((1, 32), "float16")
    assert np.linalg.norm(half.dense.astype(np.float32)) == pytest.approx(1, abs=1e-2)
    int8 = await fake.embed("rich", "one two", dtype="int8")
    assert int8.scales is not None
    assert int8.dense * int8.scales[:, None] == pytest.approx(plain.dense, abs=float(int8.scales[0]))
    bits = await fake.embed("rich", "one two", dtype="ubinary")
    assert np.unpackbits(bits.dense.astype(np.uint8)).tolist() == (plain.dense[0] > 0).tolist()
    assert np.linalg.norm((await fake.embed("rich", "one two", normalize=False)).dense) > 1.1
    prompted = await fake.embed("rich", "one two", prompt_name="query")
    assert prompted.dense.tolist() == (await fake.embed("rich", "one two", prompt="find this: ")).dense.tolist()
    assert prompted.dense.tolist() != plain.dense.tolist()

    items: list[str | list[int]] = ["one two one", "a b c d e", [7, 8]]
    r = await fake.embed("rich", items, outputs=["sparse", "multivector"])
    assert sorted(r.sparse[0].values.tolist()) == [1, 2]
    assert [each.shape for each in r.multivector] == [(3, 64), (4, 64), (2, 64)]
    assert (list(r.tokens), list(r.truncated)) == ([3, 4, 2], [1])
    long = await fake.embed("rich", ["a", "a b c d e"], truncate=False, on_error="return")
    assert (long.failures[1].code, list(long.tokens)) == ("too_long", [1, 0])
    pairs = await fake.score("ranker", "q", ["a", "b " * 300])
    assert (list(pairs.tokens), list(pairs.truncated)) == ([2, 256], [1])
    strict = await fake.score("ranker", "q", ["a", "b " * 300], truncate=False, on_error="return")
    assert (strict.failures[1].code, list(strict.tokens), list(strict.ranking)) == ("too_long", [2, 0], [0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dimensions": 65}, "1 to 64"),
        ({"dimensions": 8, "outputs": ["sparse"]}, "no width"),
        ({"revision": "other"}, "'fake' is"),
        ({"prompt_name": "x"}, "which has query"),
        ({"prompt": "x" * 4_097}, "at most 4096"),
    ],
)
async def test_what_a_model_does_not_offer_is_unsupported(
    fake: FakeClient, options: dict[str, object], reason: str
) -> None:
    """As the worker answers, and not before it is asked."""
    with pytest.raises(embedmq.RequestFailed, match=reason) as error:
        await fake.embed("rich", "a", **options)  # type: ignore[arg-type]  # one of several
    assert error.value.code == "unsupported"
    with pytest.raises(embedmq.RequestFailed, match="it offers dense"):
        await fake.embed("minilm", "a", outputs=["sparse"])
    with pytest.raises(embedmq.RequestFailed, match="choose a cross-encoder"):
        await fake.score("minilm", "q", ["a"])
    with pytest.raises(embedmq.RequestFailed, match="no vectors"):
        await fake.embed("ranker", "a")


async def test_documents_that_share_words_with_the_query_score_best(fake: FakeClient) -> None:
    """And a failed one is ranked nowhere."""
    fake.fail("ranker", code="too_long", items=lambda text: text == "broken")
    s = await fake.score(
        "ranker", "green tea", ["a car", "a cup of green tea", "broken", "tea"], top_n=2, on_error="return"
    )
    assert list(s.ranking) == [3, 1]
    assert (np.isnan(s.scores).tolist(), list(s.failures)) == ([False, False, True, False], [2])


async def test_faults_happen_as_often_as_said_and_to_whom_it_was_said(fake: FakeClient) -> None:
    """`times` requests, in order, calls made at once too; an `error` is raised in place of sending."""
    fake.fail("minilm", code="model_unavailable", times=2)
    outcomes = await asyncio.gather(*(fake.embed("minilm", f"{n}") for n in range(3)), return_exceptions=True)
    assert [isinstance(outcome, embedmq.RequestFailed) for outcome in outcomes] == [True, True, False]
    assert isinstance(outcomes[0], embedmq.RequestFailed)
    assert (outcomes[0].code, outcomes[0].retryable) == ("model_unavailable", True)

    fake.fail(error=embedmq.Overloaded("busy", retry_after_s=3))
    with pytest.raises(embedmq.Overloaded) as refused:
        await fake.publish("minilm", "a", keep_s=60)
    assert refused.value.retry_after_s == 3
    assert fake.published == []
    fake.heal()
    assert len(await fake.embed("minilm", "a")) == 1
    fake.fail(items=lambda item: item[0] == "x")
    with pytest.raises(IndexError):  # the test's own mistake reaches the test
        await fake.embed("minilm", "")
    with pytest.raises(ValueError, match="minlim"):
        fake.fail("minlim")
    with pytest.raises(ValueError, match="too_slow"):
        fake.fail(code="too_slow")  # type: ignore[arg-type]  # that is the point


async def test_held_requests_are_released_in_order_and_one_that_was_cancelled_is_not_computed(fake: FakeClient) -> None:
    """Only of the model that is held; the others go on."""
    fake.hold("minilm")
    first, second, third = [(await fake.submit("minilm", text, keep_s=60)).id for text in ("1", "2", "3")]
    assert len(await fake.embed("rich", "a")) == 1
    await fake.cancel(second)

    fake.release(2)

    assert len(await fake.result(first)) == 1
    with pytest.raises(embedmq.RequestCancelled):
        await fake.result(second)
    with pytest.raises(embedmq.StillPending):
        await fake.result(third)
    assert [request.id for request in await fake.wait_held(1)] == [third]
    with pytest.raises(TimeoutError, match="1 requests are held, not 2"):
        await fake.wait_held(2, timeout_s=0.01)


async def test_calls_are_noted_as_they_were_written(fake: FakeClient) -> None:
    """Also those that fail; what was left on a topic is there in full, and what it would be answered."""
    await fake.embed("minilm", "a", dtype="int8")
    await fake.score("ranker", "q", ["a", "b"], top_n=1, tenant="acme")
    with pytest.raises(embedmq.UnknownRequest):
        await fake.result("x", wait_s=0)
    batch, meta = ["a", "b"], {"page": "7"}
    id = await fake.publish("minilm", batch, reply_topic="vectors", meta=meta)
    batch.clear()  # as code does that uses it again
    meta.clear()

    assert fake.calls == [
        Call("embed", "minilm", "a", {"dtype": "int8"}),
        Call("score", "ranker", ["a", "b"], {"query": "q", "top_n": 1, "tenant": "acme"}),
        Call("result", None, None, {"id": "x", "wait_s": 0}),
        Call("publish", "minilm", ["a", "b"], {"reply_topic": "vectors", "meta": {"page": "7"}}),
    ]
    fake.calls.clear()
    assert [row.item_id async for row in fake.map("minilm", iter([("x", "a")]), ordered=False)] == ["x"]
    assert [(call.method, call.options) for call in fake.calls] == [("map", {"ordered": False})]

    (left,) = fake.published
    assert (left.topic, left.request.id, left.request.meta) == ("embedmq.minilm.bulk", id, {"page": "7"})
    (reply,) = fake.replies["vectors"]
    assert isinstance(reply, embedmq.Embeddings)
    assert (reply.id, len(reply)) == (id, 2)


async def test_what_is_kept_outlives_its_client_and_expires_by_the_clock() -> None:
    """Another client of the same fleet finds it, of either kind."""
    now = 0.0
    fake = FakeClient(clock=lambda: now)
    async with fake:
        id = (await fake.submit("minilm", "a", keep_s=60)).id

    def elsewhere() -> int:
        with FakeSyncClient(fleet=fake.fleet) as other:
            return len(other.result(id))

    assert await asyncio.to_thread(elsewhere) == 1
    async with fake:
        assert len(await fake.result(id)) == 1
        now = 60.0
        with pytest.raises(embedmq.ResultExpired):
            await fake.result(id)
        now = 60.0 + 24 * 3600
        with pytest.raises(embedmq.UnknownRequest):
            await fake.result(id)


async def test_a_fake_is_made_and_started_like_a_client() -> None:
    """From the environment, without Redis, twice in a row, never twice at once; wrong settings are refused."""
    fake = FakeClient.from_env({"EMBEDMQ_PREFIX": "mine"})
    async with fake:
        await fake.publish("minilm", "a", reply_topic="vectors")
        assert fake.published[0].topic == "mine.minilm.bulk"
        with pytest.raises(embedmq.InvalidRequest, match="no Redis"):
            await fake.embed("minilm", "a")
        with pytest.raises(RuntimeError, match="started already"):
            await fake.__aenter__()
    with pytest.raises(RuntimeError, match="not started"):
        await fake.embed("minilm", "a")
    with pytest.raises(ValueError, match="max_in_flight_items"):
        FakeClient(max_in_flight_items=0)
    with pytest.raises(ValueError, match="No Name"):
        FakeClient(models={"No Name": 384})
    sync = FakeSyncClient.from_env({"EMBEDMQ_REDIS": "redis://x", "EMBEDMQ_PREFIX": "mine"})
    with sync:
        assert [model.name for model in sync.models()] == ["minilm"]
        assert len(sync.embed("minilm", "a")) == 1
    assert [call.method for call in sync.calls] == ["models", "embed"]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_text_has_a_vector_of_length_one(texts: list[str]) -> None:
    """The empty one too, and one without words."""
    with FakeSyncClient(models={"minilm": 16}) as fake:
        lengths = np.linalg.norm(fake.embed("minilm", texts).dense, axis=1)
    assert lengths == pytest.approx(np.ones(len(texts)), abs=1e-5)


@pytest.mark.parametrize(("real", "fake"), [(Store, MemoryStore), (Publisher, _Publisher), (ReplyStream, _Stream)])
def test_nothing_of_an_edge_reaches_the_real_network(real: type, fake: type) -> None:
    """What is added to an adapter has its counterpart in memory, or a test says so here."""
    public = {name for name, member in vars(real).items() if callable(member) and not name.startswith("_")}
    assert public - vars(fake).keys() == ({"evaluate"} if real is Store else set())  # scripts are of bulk jobs
