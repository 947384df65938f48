"""What a client asks for where a call does not say."""

from __future__ import annotations

from typing import Any

import embedmq
import pytest
from embedmq.defaults import EVERY, Defaults
from embedmq_local.stack import Stack

from tests.producer.conftest import NewClient, awaited
from tests.producer.standin import StandIn, embedded, failed

CHOSEN: Defaults = {
    "outputs": ("dense", "sparse"),
    "prompt_name": "query",
    "dimensions": 2,
    "dtype": "float16",
    "normalize": False,
    "truncate": False,
    "tenant": "acme",
    "revision": "r7",
    "timeout_s": 77,
    "lane": "bulk",
    "keep_s": 9,
}


async def test_a_default_holds_where_a_call_does_not_say(new_either: NewClient, worker: StandIn) -> None:
    """In every method that has an argument of its name."""
    async with new_either(defaults=CHOSEN) as mq:
        worker.answer = lambda request: failed(request, "processing_failed")
        await mq.submit("minilm", "a", id="s")
        await mq.publish("minilm", "a", id="p")
        for call in (mq.embed("minilm", "a"), mq.score("minilm", "q", ["a"])):
            with pytest.raises(embedmq.RequestFailed):
                await call
        requests = await worker.wait_for(4)

    told = {
        "outputs": ["dense", "sparse"],
        "prompt_name": "query",
        "dimensions": 2,
        "dtype": "float16",
        "normalize": False,
    }
    everywhere = {"truncate": False, "tenant": "acme", "revision": "r7"}
    for record, request in zip(worker.records, requests, strict=True):
        wanted = everywhere if request["type"] == "score" else told | everywhere
        assert {name: request.get(name) for name in wanted} == wanted
        assert record.topic.endswith(".bulk")
        assert "deadline_unix_ms" in request
    assert {request["id"]: request["keep_s"] for request in requests if "keep_s" in request} == {"s": 9, "p": 9}


async def test_what_a_call_says_wins(new_either: NewClient, worker: StandIn) -> None:
    """Also where it says what the method would have done without any default."""
    async with new_either(defaults={"tenant": "acme", "lane": "bulk", "timeout_s": 77, "dimensions": 2}) as mq:
        await mq.embed("minilm", "a", tenant="", lane="interactive", timeout_s=None, dimensions=None)

    assert worker.records[0].topic.endswith(".interactive")
    assert not {"tenant", "deadline_unix_ms", "dimensions"} & set(worker.requests[0])


async def test_of_two_that_exclude_each_other_the_call_has_the_one_it_passes(
    new_either: NewClient, worker: StandIn
) -> None:
    """A prompt and the name of one, either way."""
    async with new_either(defaults={"prompt_name": "query"}) as named, new_either(defaults={"prompt": "q: "}) as given:
        for mq in (named, given):
            await mq.embed("minilm", "a")
            await mq.embed("minilm", "a", prompt="p: ")
            await mq.embed("minilm", "a", prompt_name="passage")

    asked = [{name: request.get(name) for name in ("prompt", "prompt_name")} for request in worker.requests]
    passed = [{"prompt": "p: ", "prompt_name": None}, {"prompt": None, "prompt_name": "passage"}]
    assert asked == [
        {"prompt": None, "prompt_name": "query"},
        *passed,
        {"prompt": "q: ", "prompt_name": None},
        *passed,
    ]


@pytest.mark.parametrize("kind", [embedmq.Client, embedmq.SyncClient])
async def test_a_client_from_the_environment_asks_as_it_says(
    kind: type[embedmq.Client | embedmq.SyncClient], stack: Stack, prefix: str, worker: StandIn
) -> None:
    """Addresses and defaults, those with several values separated by commas."""
    worker.answer = lambda request: embedded(request, sparse=[{"indices": [], "values": []}])
    environment = {
        "EMBEDMQ_KAFKA": stack.kafka,
        "EMBEDMQ_REDIS": stack.redis,
        "EMBEDMQ_PREFIX": prefix,
        "EMBEDMQ_CLIENT__TENANT": "acme",
        "EMBEDMQ_CLIENT__TIMEOUT_S": "30",
        "EMBEDMQ_CLIENT__TRUNCATE": "false",
        "EMBEDMQ_CLIENT__DIMENSIONS": "2",
        "EMBEDMQ_CLIENT__OUTPUTS": "dense,sparse",
    }
    client = kind.from_env(environment)
    started: Any = client if isinstance(client, embedmq.Client) else awaited(client)
    async with started as mq:
        await mq.embed("minilm", "a")

    (request,) = worker.requests
    names = ("tenant", "truncate", "dimensions", "outputs")
    assert [request[name] for name in names] == ["acme", False, 2, ["dense", "sparse"]]


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"tennant": "acme"}, "'tennant' is none: choose of dimensions, "),
        ({"timeout_s": 0}, "timeout_s"),
        ({"lane": "fast"}, "lane"),
        ({"outputs": ["colour"]}, "outputs"),
        ({"keep_s": "5"}, "keep_s"),
        ({"prompt": "q: ", "prompt_name": "query"}, "exclude each other"),
    ],
)
def test_a_wrong_default_is_named_when_the_client_is_made(defaults: Any, message: str) -> None:
    """Not by the first call."""
    with pytest.raises(ValueError, match=message):
        embedmq.Client("127.0.0.1:9092", defaults=defaults)


def test_every_default_has_a_type_for_callers() -> None:
    """What is checked and what type checkers know are the same names."""
    assert set(Defaults.__annotations__) == EVERY == {*CHOSEN, "prompt"}
