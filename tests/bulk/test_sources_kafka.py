"""A topic is read to where it ended, from any offset on, and what is no row in it is named or passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition
from embedmq.bulk.errors import Away, SourceRefused
from embedmq.bulk.rows import Block, Columns, Flaw, Position, Row
from embedmq.bulk.sources.kafka import KafkaSource
from embedmq_local.stack import Stack

from tests.bulk.memory import found
from tests.worker.test_unreadable import send_with_a_header_name_that_is_no_utf8

Sent = tuple[int, bytes | None, bytes | None, Sequence[tuple[str, bytes]]]


def send(kafka: str, topic: str, records: Sequence[Sent], transaction: bool | None = None) -> None:
    """Write records of (partition, key, value, headers); in a transaction that is committed, or not."""

    async def write() -> None:
        id = None if transaction is None else f"{topic}-{transaction}"
        async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=id) as producer:
            if transaction is not None:
                await producer.begin_transaction()
            for partition, key, value, headers in records:
                await producer.send_and_wait(topic, value, key, partition, headers=list(headers))
            if transaction is not None:
                await (producer.commit_transaction() if transaction else producer.abort_transaction())

    asyncio.run(write())


def create(kafka: str, topic: str, partitions: int) -> None:
    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.create_topics([NewTopic(topic, partitions, 1)])
        await admin.close()

    asyncio.run(make())


def delete(kafka: str, topic: str, partition: int, before: int) -> None:
    async def remove() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=before)})
        await admin.close()

    asyncio.run(remove())


def read(uri: str, after: Position | None = None, **columns: object) -> list[Block]:
    source = KafkaSource(uri, msgspec.convert(columns, Columns))
    try:
        source.open()
        return list(source.read(after))
    finally:
        source.close()


@pytest.fixture
def topic(stack: Stack, prefix: str) -> str:
    """A topic of two partitions."""
    create(stack.kafka, prefix, 2)
    return prefix


def test_values_are_texts_or_objects_and_keys_are_ids(
    stack: Stack, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted rows, and records of transactions that were called off, are passed over; what is broken is named."""
    monkeypatch.setenv("EMBEDMQ_KAFKA", stack.kafka)
    json = [("content-type", b"application/json; charset=utf-8")]
    records: list[Sent] = [
        (0, b"a", b"plain", []),
        (0, None, b'{"text": "object", "lang": "de"}', []),
        (0, b"a", None, []),
        (0, b"b", b'{"no": json', [("content-type", b"text/plain")]),
        (0, b"c", b'"a string"', json),
        (0, b"d", b'{"text": null}', []),
        (0, b"\xff", b"plain", []),
        (0, b"e", b"\xff", []),
        (1, b"f", b"other", []),
    ]
    send(stack.kafka, topic, records)
    send(stack.kafka, topic, [(0, b"g", b"called off", [])], transaction=False)
    send(stack.kafka, topic, [(0, b"h", b"kept", [])], transaction=True)

    blocks = read(f"kafka:///{topic}", keep=["lang"])
    assert [(row.id, row.text) for block in blocks for row in block.rows] == [
        ("a", "plain"),
        (f"{topic}-0-1", "object"),
        ("b", '{"no": json'),
        ("h", "kept"),
        ("f", "other"),
    ]
    assert blocks[0].rows[1].kept == {"lang": "de"}
    assert [flaw.where for flaw in blocks[0].flaws] == [f"{topic} partition 0 offset {n}" for n in (4, 5, 6, 7)]
    assert blocks[0].places[-1] == f"{topic} partition 1 offset 0"
    named = read(f"kafka://{stack.kafka}/{topic}", text="lang", id="text")
    assert [row.id for block in named for row in block.rows] == ["object"]


def test_a_topic_is_read_from_any_offset_to_where_it_ended(
    stack: Stack, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position is of each partition; what comes after `open` is for the next run, in whichever partition."""
    monkeypatch.setattr("embedmq.bulk.sources.blocks.MAX_BLOCK_ROWS", 3)
    monkeypatch.setattr("embedmq.bulk.sources.kafka_topic.MAX_BLOCK_ROWS", 4)
    uri = f"kafka://{stack.kafka}/{topic}"
    texts: list[Sent] = [(i % 2, f"k{i}".encode(), f"t{i}".encode(), []) for i in range(20)]
    send(stack.kafka, topic, texts)
    source = KafkaSource(uri, Columns())
    source.open()
    assert source.count() == 20
    send(stack.kafka, topic, [(1, b"new", b"late", []), (0, b"new", b"late", [])])
    blocks = list(source.read(None))
    source.close()
    assert {item.text for item in found(blocks)} == {f"t{i}" for i in range(20)}
    for i, block in enumerate(blocks):
        after = msgspec.json.decode(msgspec.json.encode(block.after))
        rest = found(read(uri, after))
        assert [item for item in rest if item.text != "late"] == found(blocks[i + 1 :])
        assert [item.text for item in rest].count("late") == 2

    asyncio.run(send_with_a_header_name_that_is_no_utf8(stack.kafka, topic))
    delete(stack.kafka, topic, 0, 8)
    rest = found(read(uri, {"next": {"0": 2, "1": 11}}))
    flaws = [item for item in rest if isinstance(item, Flaw)]
    assert [flaw.where for flaw in flaws] == [f"{topic} partition 0 offsets {span}" for span in ("2 to 7", "11 to 11")]
    assert [item.text for item in rest if isinstance(item, Row)] == ["t16", "t18", "late"]
    with pytest.raises(SourceRefused, match=r"partition 1 ends at 11, and was read up to 12: .* --restart"):
        read(uri, {"next": {"1": 12}})


def test_what_cannot_be_read_is_refused_or_away(stack: Stack, topic: str) -> None:
    """A topic that is not there is not created by looking for it."""
    for _ in range(2):
        with pytest.raises(SourceRefused, match=f"topic {topic}x .* is not there.* did you mean '{topic}'"):
            read(f"kafka://{stack.kafka}/{topic}x")
    for uri in ("kafka://host", "kafka://user:s3cret@host/topic", "kafka://host/a/b"):
        with pytest.raises(SourceRefused, match="wants kafka://host:port/topic") as caught:
            KafkaSource(uri, Columns())
        assert "s3cret" not in str(caught.value)
    with pytest.raises(Away, match=r"topic docs of Kafka at 127\.0\.0\.1:1: .*check address"):
        read("kafka://127.0.0.1:1/docs")
    assert read(f"kafka://{stack.kafka}/{topic}") == []
