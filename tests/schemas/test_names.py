"""How are topics, groups and keys called, and which names are none?"""

from __future__ import annotations

import pytest
from embedmq_schemas import Names
from embedmq_schemas.names import is_id, is_model_name, is_prefix, is_topic

NAMES = Names()


def test_every_name_begins_with_the_prefix() -> None:
    """Two installations share a Kafka and a Redis by their prefixes alone."""
    names = Names("acme")
    assert names.requests("minilm", "bulk") == "acme.minilm.bulk"
    assert names.shared("interactive") == "acme.shared.interactive"
    assert (names.dead, names.group("bulk")) == ("acme.dead", "acme.bulk")
    assert names.stream("c") == "acme:replies:c"
    assert names.result("i") == "acme:result:i"
    assert names.stub("i") == "{acme:result:i}:stub"
    assert names.cancel("i") == "{acme:result:i}:cancel"
    assert (names.model("m"), names.worker("w")) == ("acme:model:m", "acme:worker:w")


def test_a_request_topic_is_read_back_to_its_model_and_lane() -> None:
    """A worker knows what it reads by the topic."""
    assert NAMES.parse("embedmq.minilm.interactive") == ("minilm", "interactive")
    assert NAMES.parse("embedmq.shared.bulk") == (None, "bulk")


@pytest.mark.parametrize(
    "topic",
    [
        "embedmq.dead", "embedmq.retry.10s", "embedmq.retry.bulk", "embedmq.dead.interactive", "other.minilm.bulk",
        "embedmq.minilm", "embedmq..bulk", "embedmq.a.b.bulk", "embedmq.Minilm.bulk", "embedmq.bulk", "bulk", "",
    ],
)  # fmt: skip
def test_other_topics_are_no_request_topics(topic: str) -> None:
    """Reserved words and what can be no model are not taken for models."""
    assert NAMES.parse(topic) is None


def test_which_names_can_be_used() -> None:
    """Models, ids and prefixes, each by its own rule and to the last character."""
    assert all(map(is_model_name, ["minilm", "0", "a-b", "m" * 63]))
    assert not any(
        map(is_model_name, ["", "-a", "A", "a_b", "a.b", "m" * 64, "a\n", "shared", "retry", "dead", "control"])
    )
    assert all(map(is_id, ["a", "A.b_c:d/e-f", "x" * 128]))
    assert not any(map(is_id, ["", "x" * 129, "a b", "ä", "a\n", "{a}"]))
    assert all(map(is_topic, ["a", "A.b_c-d", "x" * 249]))
    assert not any(map(is_topic, ["", ".", "..", "x" * 250, "a b", "a:b", "a\n"]))
    assert all(map(is_prefix, ["embedmq", "A_b-c"]))
    assert not any(map(is_prefix, ["", "a.b", "a:b", "_a", "a\n", "p" * 64]))
