"""What is refused before anything is sent: each says what, where, and what to do."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import embedmq
import numpy as np
import pytest
from embedmq.cli.root import run

from tests.producer.standin import StandIn, embedded

BAD_ITEMS: Mapping[str, tuple[object, str]] = {
    "no items": ([], r"items: empty"),
    "bytes": (b"a cat", r"items: a value of type bytes"),
    "none": (None, r"items: a value of type NoneType"),
    "a generator": ((text for text in "ab"), r"items: a value of type generator"),
    "a mapping": ({"a": 1}, r"items: a value of type dict"),
    "a number among texts": (["a", "b", 3.5], r"items\[2\]: a value of type float"),
    "bytes among texts": (["a", b"b"], r"items\[1\]: a value of type bytes"),
    "an item without ids": ([[1], []], r"items\[1\]: no token ids"),
    "a text among ids": ([1, "b"], r"items\[1\]: 'b' is no token id"),
    "a negative id": ([[1, 2], [3, -4]], r"items\[1\]\[1\]: -4 is no token id"),
    "an id beyond 31 bits": ([2**31], r"items\[0\]: 2147483648 is no token id"),
    "a boolean": ([True], r"items\[0\]: True is no token id"),
    "a lone surrogate": (["a", "b\ud800"], r"items\[1\]: a lone surrogate at character 1"),
}
BAD_OPTIONS: Mapping[str, tuple[Mapping[str, object], str]] = {
    "dimensions 0": ({"dimensions": 0}, r"dimensions: 0"),
    "dimensions as text": ({"dimensions": "256"}, r"dimensions: '256'"),
    "an unknown output": ({"outputs": ["dense", "colour"]}, r"outputs: 'colour'.*dense, sparse, multivector"),
    "outputs as one text": ({"outputs": "dense"}, r"outputs: 'dense'.*sequence"),
    "an unknown dtype": ({"dtype": "float64"}, r"dtype: 'float64'.*float32"),
    "an unknown lane": ({"lane": "fast"}, r"lane: 'fast'.*interactive, bulk"),
    "a bad id": ({"id": "a b"}, r"id: 'a b'.*128"),
    "an endless id": ({"id": "x" * 129}, r"id: "),
    "a long meta": ({"meta": {"k": "x" * 4096}}, r"meta: 4097 bytes; at most 4096"),
    "a meta of numbers": ({"meta": {"k": 1}}, r"meta: a value of type int"),
    "too few item ids": ({"item_ids": ["x"]}, r"item_ids: 1 for 2 items"),
    "item ids of numbers": ({"item_ids": [1, 2]}, r"item_ids: must be"),
    "a time limit of nothing": ({"timeout_s": 0}, r"timeout_s: 0"),
    "a surrogate in meta": ({"meta": {"k": "\udfff"}}, r"meta\['k'\]: a lone surrogate"),
    "a tenant of control characters": ({"tenant": "a\n"}, r"tenant: "),
    "a prompt of numbers": ({"prompt": 5}, r"prompt: a value of type int: must be a str"),
    "prompts for each item": ({"prompt": ["q: "]}, r"prompt: a value of type list"),
    "a name that is none": ({"prompt_name": ["query"]}, r"prompt_name: a value of type list"),
    "a revision that is none": ({"revision": ["main"]}, r"revision: a value of type list"),
    "normalize as text": ({"normalize": "yes"}, r"normalize: 'yes'.*True, False, or None"),
    "normalize as a list": ({"normalize": []}, r"normalize: \[\]"),
    "truncate as nothing": ({"truncate": None}, r"truncate: None: must be True or False"),
    "dimensions beyond any number": ({"dimensions": 2**70}, r"dimensions: 1180591620717411303424"),
    "a time limit beyond any calendar": ({"timeout_s": 1e18}, r"timeout_s: 1e\+18"),
}


async def test_items_that_are_none_are_named(either: Any, worker: StandIn, subtests: pytest.Subtests) -> None:
    """The message says which item, by its place in what the caller passed."""
    for name, (items, message) in BAD_ITEMS.items():
        with subtests.test(name), pytest.raises(embedmq.InvalidRequest, match=message):
            await either.embed("minilm", items)
    assert worker.requests == []


async def test_options_that_cannot_be_are_named(either: Any, worker: StandIn, subtests: pytest.Subtests) -> None:
    """The message says which option, its value, and what may stand there."""
    options: Any
    for name, (options, message) in BAD_OPTIONS.items():
        with subtests.test(name), pytest.raises(embedmq.InvalidRequest, match=message):
            await either.embed("minilm", ["a", "b"], **options)
    assert worker.requests == []


async def test_texts_of_other_classes_are_texts(either: Any, worker: StandIn) -> None:
    """As numpy's are, and an enumeration's, which are what they say and not what they are called."""

    class Prompt(str, enum.Enum):  # noqa: UP042  # a StrEnum's str() is its text, this one's its name
        QUERY = "query: "

    worker.answer = lambda request: embedded(request, dense=None)
    texts, outputs = np.array(["a", "b"]), np.array(["dense", "sparse"])
    fields: Any = {"prompt": Prompt.QUERY, "revision": np.str_("r"), "tenant": np.str_("t"), "dtype": np.str_("int8")}
    await either.embed("minilm", texts[0], timeout_s=9, **fields)
    await either.embed("minilm", [Prompt.QUERY, "b"], outputs=outputs)
    await either.embed("minilm", texts, id=np.str_("i"), item_ids=texts, meta={texts[0]: texts[1]})
    await either.publish(np.str_("minilm"), texts, keep_s=0)

    first, second, third, _ = await worker.wait_for(4)
    assert first["items"] == ["a"]
    assert {name: first[name] for name in fields} == {
        "prompt": "query: ",
        "revision": "r",
        "tenant": "t",
        "dtype": "int8",
    }
    assert (second["items"], second["outputs"]) == (["query: ", "b"], ["dense", "sparse"])
    assert (third["id"], third["item_ids"], third["meta"]) == ("i", ["a", "b"], {"a": "b"})


async def test_a_misspelt_option_is_a_type_error(either: Any) -> None:
    """As for any Python function."""
    misspelt: Any = {"dimension": 3}
    with pytest.raises(TypeError, match="dimension"):
        await either.embed("minilm", "a", **misspelt)
    with pytest.raises(TypeError, match="dimension"):
        await either.submit("minilm", "a", **misspelt)


async def test_score_wants_texts(either: Any) -> None:
    """A query and a sequence of documents, all text."""
    for query, documents, message in (
        (7, ["a"], "query"),
        ("q", "a", "documents: a value of type str"),
        ("q", [], "documents: empty"),
        ("q", ["a", 3], r"documents\[1\]"),
        ("\ud800", ["a"], "query: a lone surrogate"),
    ):
        with pytest.raises(embedmq.InvalidRequest, match=message):
            await either.score("minilm", query, documents)
    with pytest.raises(embedmq.InvalidRequest, match="top_n: 0"):
        await either.score("minilm", "q", ["a"], top_n=0)


async def test_publish_wants_to_know_where_the_answer_goes(either: Any) -> None:
    """An answer for nobody is asked for explicitly."""
    with pytest.raises(embedmq.InvalidRequest, match="reply_topic"):
        await either.publish("minilm", "a")
    with pytest.raises(embedmq.InvalidRequest, match="keep_s: -1"):
        await either.publish("minilm", "a", keep_s=-1)
    with pytest.raises(embedmq.InvalidRequest, match="keep_s: 0"):
        await either.submit("minilm", "a", keep_s=0)
    five: Any = "5"
    calls: Sequence[tuple[Callable[[], Any], str]] = (
        (lambda: either.submit("minilm", "a", keep_s=five), "keep_s: '5'"),
        (lambda: either.publish("minilm", "a", keep_s=five), "keep_s: '5'"),
        (lambda: either.embed("minilm", "a", timeout_s=five), "timeout_s: '5'"),
        (lambda: either.embed("minilm", "a", timeout_s=float("inf")), "timeout_s: inf"),
        (lambda: either.result("an-id", wait_s=five), "wait_s: '5'"),
        (lambda: either.result("an-id", wait_s=float("nan")), "wait_s: nan"),
    )
    for call, message in calls:
        with pytest.raises(embedmq.InvalidRequest, match=message):
            await call()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prefix": "a.b"}, "prefix = 'a.b'"),
        ({"max_in_flight_items": 0}, "max_in_flight_items"),
        ({"publish_timeout_s": "soon"}, "publish_timeout_s"),
        ({"kafka_sasl_mechanism": "MAGIC"}, "sasl_mechanism"),
        ({"kafka_tsl": True}, "tsl"),
        ({"max_inflight": 3}, "max_inflight"),
        ({"kafka": "nonsense"}, "kafka = 'nonsense': wants host:port"),
        ({"kafka": "a:1,b"}, "kafka = 'b'"),
        ({"kafka": "a:70000"}, "kafka = 'a:70000'"),
        ({"redis": "localhost:6379"}, "redis = 'localhost:6379': wants redis://"),
    ],
)
def test_a_wrong_setting_is_named(settings: Any, message: str) -> None:
    """Settings are checked when the client is made."""
    with pytest.raises(ValueError, match=message):
        embedmq.Client(settings.pop("kafka", "127.0.0.1:9092"), **settings)


@pytest.mark.parametrize(
    ("variable", "value"), [("EMBEDMQ_KAFKA", "nonsense"), ("EMBEDMQ_REDIS", "nonsense"), ("EMBEDMQ_PREFIX", "a.b")]
)
def test_the_command_line_calls_a_wrong_address_a_wrong_use(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, naming the value: nobody was asked, so nobody is unreachable."""
    monkeypatch.setenv(variable, value)

    assert run(["models"]) == 2
    assert f"= '{value}': wants" in capsys.readouterr().err


def test_settings_come_from_the_environment() -> None:
    """Short names, sections, and what belongs to workers is passed over."""
    client = embedmq.Client.from_env(
        {
            "EMBEDMQ_KAFKA": "a:1,b:2",
            "EMBEDMQ_REDIS": "rediss://r:6380/1",
            "EMBEDMQ_PREFIX": "mine",
            "EMBEDMQ_KAFKA__TLS": "true",
            "EMBEDMQ_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
            "EMBEDMQ_KAFKA__SASL_PASSWORD": "secret",
            "EMBEDMQ_REDIS__USERNAME": "me",
            "EMBEDMQ_CLIENT__PUBLISH_TIMEOUT_S": "7",
            "EMBEDMQ_KAFKA__PARTITIONS": "12",
            "EMBEDMQ_WORKER__DEVICE": "cpu",
        }
    )

    setup = client.setup
    assert setup.kafka.bootstrap == ["a:1", "b:2"]
    assert (setup.kafka.tls, setup.kafka.sasl_mechanism, setup.kafka.sasl_password) == (True, "SCRAM-SHA-512", "secret")
    assert setup.redis is not None
    assert (setup.redis.url, setup.redis.username) == ("rediss://r:6380/1", "me")
    assert (setup.prefix, setup.publish_timeout_s) == ("mine", 7.0)
    assert embedmq.Client.from_env({"EMBEDMQ_KAFKA": "a:1"}).setup.redis is None
