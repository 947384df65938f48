"""What `embedmq dead replay` sends again, and what it refuses to."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.cli.conftest import Run
from tests.cli.graveyard import SECRET, Graveyard
from tests.worker.world import World


def test_replay_asks_once_more_as_if_nothing_had_been(embedmq: Run, yard: Graveyard) -> None:
    """Key, value and own headers as they came, id and lane as they were frozen, nothing of the failure, the mark of a
    replay. The letter stays, and doing it twice sends the same.
    """
    topic = yard.create(f"{yard.prefix}.minilm.bulk")
    own: list[tuple[str, bytes | None]] = [("content-type", b"application/json"), ("x", b"\xff"), ("x", None)]
    tried: list[tuple[str, bytes | None]] = [
        ("embedmq-id", b"forged"),
        ("kafka_dlt-original-topic", b"elsewhere"),
        ("embedmq-model", b"minilm"),
        ("embedmq-parked", b"2"),
        ("embedmq-not-before", b"99999999999999"),
        ("embedmq-alone", b"1"),
        ("embedmq-replayed", b"5"),
    ]
    yard.bury("id-1", before=[*own, *tried])

    done = [embedmq("dead", "replay") for _ in range(2)]

    assert [each.code for each in done] == [0, 0]
    assert done[0].out.splitlines()[0] == "1 replayed"
    assert "embedmq dead purge" in done[0].out
    sent = yard.records(topic)
    assert len(sent) == 2
    assert len(yard.records(yard.dead)) == 1
    for record in sent:
        *kept, (name, moment) = record.headers
        assert (record.key, record.value) == (b"tenant", SECRET)
        assert kept == [*own, ("embedmq-id", b"id-1"), ("embedmq-lane", b"bulk")]
        assert name == "embedmq-replayed"
        assert yard.now_ms <= int(moment) <= time.time() * 1000


def test_replay_sends_the_last_of_one_id_and_only_what_was_chosen(embedmq: Run, three: Graveyard) -> None:
    """Earlier deaths of the same request are passed over, which is no failure."""
    topic = three.create(f"{three.prefix}.minilm.bulk")
    three.bury("first", value=b"last words")

    done = embedmq("dead", "replay", "--model", "minilm", "--json")

    assert done.code == 0
    assert {line["place"]: line["outcome"] for line in done.lines} == {
        "0/0": "superseded",
        "0/2": "replayed",
        "0/3": "replayed",
    }
    assert sorted(record.value for record in three.records(topic)) == sorted([SECRET, b"last words"])


def test_a_dry_run_sends_nothing(embedmq: Run, three: Graveyard) -> None:
    """It says what would be done, and what could not be."""
    topic = three.create(f"{three.prefix}.minilm.bulk")

    done = embedmq("dead", "replay", "--dry-run")

    assert done.code == 1
    assert done.out.splitlines() == [
        f"0/1  second  refused: its first topic, {three.prefix}.bge.bulk, is not there: embedmq topics create makes it",
        "2 would replay, 1 refused",
    ]
    assert three.records(topic) == []


@pytest.mark.parametrize(
    "kind", ["orders", "{}.dead", "{}.retry.10s", "{}.retry.bulk", "{}x.minilm.bulk", "{}.a.b.bulk"]
)
def test_a_forged_first_topic_is_never_written_to(embedmq: Run, yard: Graveyard, kind: str) -> None:
    """The header could be anybody's: only request topics of this prefix are, even where others exist."""
    topic = kind.format(yard.prefix) if "{}" in kind else f"{kind}-{yard.prefix}"
    if topic != yard.dead:
        yard.create(topic)
    yard.bury("id", change={"kafka_dlt-original-topic": topic.encode()})

    done = embedmq("dead", "replay")

    assert done.code == 1
    assert f"refused: its first topic, {topic}, is no request topic of the prefix {yard.prefix}" in done.out
    assert len(yard.records(topic)) == (1 if topic == yard.dead else 0)


def test_a_null_value_is_not_replayed(embedmq: Run, yard: Graveyard) -> None:
    """There is nothing to compute."""
    yard.create(f"{yard.prefix}.minilm.bulk")
    yard.bury("id", "malformed", value=None)

    assert "refused: its value is null" in embedmq("dead", "replay").out


def test_a_letter_too_large_for_its_topic_fails_alone(embedmq: Run, yard: Graveyard) -> None:
    """What Kafka refuses is said with its reason, and the others are sent."""
    topic = f"{yard.prefix}.minilm.bulk"
    yard.do(lambda world: world.create(topic, 1, {"max.message.bytes": "2000"}))
    yard.bury("large", value=b"x" * 100_000)
    yard.bury("small")

    done = embedmq("dead", "replay", "--json")

    outcomes = {line["id"]: line for line in done.lines}
    assert done.code == 1
    assert outcomes["large"]["outcome"] == "failed"
    assert "takes no record of this size" in outcomes["large"]["reason"]
    assert outcomes["small"]["outcome"] == "replayed"
    assert [record.value for record in yard.records(topic)] == [SECRET]


def test_many_letters_are_replayed_each_once(embedmq: Run, yard: Graveyard) -> None:
    """More than are on their way at once."""
    topic = yard.create(f"{yard.prefix}.minilm.bulk", 4)
    headers = [(yard.headers(f"id-{n}", "processing_failed", topic)) for n in range(700)]

    async def bury(world: World) -> None:
        await asyncio.gather(*(world.produce(yard.dead, SECRET, list(found.items())) for found in headers))

    yard.do(bury)

    assert embedmq("dead", "replay").out.splitlines()[0] == "700 replayed"
    ids = [dict(record.headers)["embedmq-id"].decode() for record in yard.records(topic)]
    assert sorted(ids) == sorted(f"id-{n}" for n in range(700))
