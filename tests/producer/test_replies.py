"""`replies`: each answer on a topic once, none lost, whoever reads and however reading ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import embedmq
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from embedmq import reply_topic
from embedmq_local.stack import Stack

from tests.producer.standin import embedded, failed
from tests.worker.test_unreadable import send_with_a_header_name_that_is_no_utf8

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
PARTITIONS = 4


def answer(id: str) -> dict[str, Any]:
    """A success."""
    return dict(embedded({"id": id, "model": "minilm", "items": ["a"], "item_ids": [id], "meta": {"page": id}}))


class Topic:
    """A reply topic, and who writes to it."""

    def __init__(self, stack: Stack, name: str, producer: AIOKafkaProducer) -> None:
        self.name = name
        self.kafka = stack.kafka
        self._producer = producer

    async def write(self, *values: Mapping[str, Any] | bytes | None, content_type: bytes | None = None) -> None:
        """Answers as MessagePack, bytes as they are, spread over the partitions."""
        headers = [] if content_type is None else [("content-type", content_type)]
        for n, value in enumerate(values):
            raw = msgspec.msgpack.encode(value) if isinstance(value, Mapping) else value
            await self._producer.send_and_wait(self.name, raw, key=b"key", partition=n % PARTITIONS, headers=headers)

    def read(self, group: str = "indexer", **settings: Any) -> Any:
        """A reader."""
        return embedmq.replies(self.name, kafka=self.kafka, group=group, **settings)


@pytest.fixture
async def topic(stack: Stack, prefix: str) -> AsyncIterator[Topic]:
    """A reply topic of four partitions."""
    name = f"vectors-{prefix}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
        yield Topic(stack, name, producer)


async def take(readers: Any, count: int) -> list[Any]:
    """So many answers; the reader is left with the last one in hand."""
    found: list[Any] = []
    async with asyncio.timeout(60), aclosing(readers):
        async for reply in readers:
            found.append(reply)
            if len(found) == count:
                break
    return found


def ids(replies: Sequence[Any]) -> list[str]:
    """In order."""
    return sorted(reply.id for reply in replies)


async def test_answers_of_every_kind_come_as_values(topic: Topic) -> None:
    """Vectors, scores and failures, in either codec, told apart by their type, with what was sent along."""
    scored = {"type": "scored", "id": "s", "model": "ranker", "count": 2, "scores": [0.5, None], "ranking": [0]}
    await topic.write(answer("e"), scored, failed({"id": "f", "model": "minilm"}, "too_long", meta={"page": "9"}))
    rows = {"dtype": "float32", "shape": [1, 2], "data": [[1.5, 2.5]]}
    text = json.dumps({"type": "embedded", "id": "j", "count": 1, "dense": rows})
    await topic.write(f"  {text}".encode(), content_type=b"Application/JSON; charset=utf-8")

    found = {reply.id: reply for reply in await take(topic.read(), 4)}

    assert isinstance(found["e"], embedmq.Embeddings)
    assert (found["e"].dense.shape, found["e"].meta, found["e"].item_ids) == ((1, 4), {"page": "e"}, ["e"])
    assert isinstance(found["s"], embedmq.Scores)
    assert found["s"].ranking == [0]
    assert isinstance(found["f"], embedmq.Failed)
    assert (found["f"].code, found["f"].meta) == ("too_long", {"page": "9"})
    assert found["j"].dense.tolist() == [[1.5, 2.5]]


async def test_what_comes_twice_comes_once_and_what_is_no_reply_is_passed_over(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    """Each that is passed over is named by its place."""
    broken = answer("broken") | {"dense": {"dtype": "float32", "shape": [9, 9], "data": b""}}
    await topic.write(answer("a"), b"\xff\x00", None, broken)
    await topic.write(failed({"id": "a", "model": "minilm"}, "cancelled"), answer("a"), b"{", answer("b"))
    await topic.write(*(answer(f"end{n}") for n in range(PARTITIONS)))

    assert ids(await take(topic.read(), 6)) == ["a", "b", "end0", "end1", "end2", "end3"]
    passed_over = [message for message in caplog.messages if "is no reply" in message]
    assert len(passed_over) == 4
    assert any(f"{topic.name}-1 at offset 0" in message for message in passed_over)


async def test_a_success_after_a_failure_comes_once(topic: Topic) -> None:
    """A dead letter that was replayed has an answer after all; the failure, which comes again, has not."""
    failure = failed({"id": "a", "model": "minilm"}, "processing_failed")
    for value in (failure, failure, answer("a"), failure, answer("a"), answer("end")):
        await topic.write(value)

    found = await take(topic.read(), 3)

    assert [(reply.id, type(reply)) for reply in found] == [
        ("a", embedmq.Failed),
        ("a", embedmq.Embeddings),
        ("end", embedmq.Embeddings),
    ]


async def test_a_header_whose_name_is_no_utf8_is_passed_over_once(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka's client cannot read such a record at all; what is before and behind it comes, and the group's next reader
    does not meet it again.
    """
    await topic.write(answer("before"))
    await send_with_a_header_name_that_is_no_utf8(topic.kafka, topic.name)
    await topic.write(answer("behind"), answer("beside"))
    assert ids(await take(topic.read(), 3)) == ["before", "behind", "beside"]

    await topic.write(*(answer(f"{n}") for n in range(PARTITIONS)))
    await take(topic.read(), PARTITIONS)
    assert [message for message in caplog.messages if "UTF-8" in message] == [
        f"passed over a record of {topic.name}-0 at offset 1, which is no reply: a header's name is not UTF-8"
    ]


async def test_nothing_is_passed_over_with_it_when_partitions_change_hands(topic: Topic) -> None:
    """Readers come and go among records that cannot be read: every answer comes to one of them."""
    found: set[str] = set()
    sent: list[str] = []

    async def follow() -> None:
        async for reply in topic.read(connect_timeout_s=60):
            found.add(reply.id)

    async def write_some() -> None:
        for _ in range(5):
            await send_with_a_header_name_that_is_no_utf8(topic.kafka, topic.name)
            sent.extend(f"{len(sent) + n}" for n in range(PARTITIONS))
            await topic.write(*map(answer, sent[-PARTITIONS:]))

    async def complete() -> None:
        async with asyncio.timeout(60):
            while not {*sent} <= found:  # noqa: ASYNC110  # it is another process that is waited for
                await asyncio.sleep(0.1)

    readers = [asyncio.create_task(follow())]
    for _ in range(2):
        readers.append(asyncio.create_task(follow()))
        await write_some()
        await complete()
        await write_some()
        readers[0].cancel()
        await asyncio.wait({readers.pop(0)})
    await complete()
    readers[0].cancel()
    await asyncio.wait(readers)


async def test_what_the_caller_was_not_done_with_comes_again(topic: Topic) -> None:
    """A reader that starts again in the same group begins with the answer in whose midst the last one stopped."""
    await topic.write(*(answer(f"{n}") for n in range(8)))

    first = await take(topic.read(), 5)
    second = await take(topic.read(), 4)

    assert first[-1].id in ids(second)
    assert sorted({*ids(first), *ids(second)}) == [f"{n}" for n in range(8)]
    assert len(await take(topic.read("another"), 8)) == 8


async def test_two_readers_share_a_topic_and_lose_nothing_when_they_come_and_go(topic: Topic, until: Until) -> None:
    """Nor does either get anything twice, across the partitions' coming and going."""
    found: dict[str, list[str]] = {"one": [], "two": []}

    async def follow(name: str) -> None:
        async for reply in topic.read(connect_timeout_s=60):
            found[name].append(reply.id)

    async def send(kind: str) -> None:
        batch = [f"{kind}{len(sent)}-{n}" for n in range(PARTITIONS)]
        sent.extend(batch)
        await topic.write(*map(answer, batch))

    async def both() -> bool:
        await send("m")
        return min(map(len, found.values())) > 4

    sent: list[str] = []
    one = asyncio.create_task(follow("one"))
    two = asyncio.create_task(follow("two"))
    async with asyncio.timeout(60):
        while not await both():  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(0.1)
    two.cancel()
    await asyncio.wait({two})
    await send("last")

    async def complete() -> bool:
        return {*sent} <= {*found["one"], *found["two"]}

    await until(complete)
    one.cancel()
    await asyncio.wait({one})
    assert one.cancelled()
    assert all(len(each) == len({*each}) for each in found.values())


async def test_leaving_the_loop_early_leaves_the_group(topic: Topic) -> None:
    """Also by a plain `break`: the next reader need not wait until the group gives up the first."""
    await topic.write(*(answer(f"{n}") for n in range(4)))
    async with asyncio.timeout(40):  # the group waits 45 s for a member that is silent
        async for _ in topic.read():
            break
        assert len(await take(topic.read(), 4)) == 4


async def test_a_reader_ends_though_kafka_does_not_answer(stack: Stack, topic: Topic) -> None:
    """In bounded time, and nothing of it runs on: neither its tasks nor those of Kafka's client."""
    await topic.write(answer("a"))
    process = stack.brokers[0].process
    assert process is not None
    before = asyncio.all_tasks()
    arrived = asyncio.Event()

    async def follow() -> None:
        async for _ in topic.read():
            arrived.set()

    reader = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(arrived.wait(), 60)
        process.signal(signal.SIGSTOP)
        reader.cancel()
        await asyncio.wait({reader}, timeout=60)
        assert reader.cancelled()
    finally:
        process.signal(signal.SIGCONT)
    assert asyncio.all_tasks() <= {*before}


async def test_a_topic_that_is_not_there_is_refused_and_not_created(stack: Stack, prefix: str) -> None:
    """As is a Kafka that is not."""
    with pytest.raises(embedmq.InvalidRequest, match=f"{prefix}-nowhere"):
        await take(embedmq.replies(f"{prefix}-nowhere", kafka=stack.kafka, group="g"), 1)
    with pytest.raises(embedmq.InvalidRequest, match="group"):
        await take(embedmq.replies("vectors", kafka=stack.kafka, group=""), 1)
    with pytest.raises(embedmq.Unavailable, match="Kafka at"):
        await take(embedmq.replies("vectors", kafka="127.0.0.1:1", group="g"), 1)
    with pytest.raises(ValueError, match="kafka"):
        await take(embedmq.replies("vectors", kafka=stack.kafka, group="g", kafka_tls=7), 1)  # type: ignore[arg-type]


def test_interrupting_a_reader_ends_it(stack: Stack, prefix: str, topic_name: str) -> None:
    """At once, without a word from Kafka's client."""
    program = f"""
import asyncio, embedmq
async def main():
    async for reply in embedmq.replies({topic_name!r}, kafka={stack.kafka!r}, group="g"):
        print(reply.id, flush=True)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "only\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert error.strip().endswith("KeyboardInterrupt")
    assert "aiokafka" not in error.replace("/aiokafka/", "")


@pytest.fixture
def topic_name(stack: Stack, prefix: str) -> str:
    """A reply topic with one answer."""
    name = f"one-{prefix}"

    async def fill() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
        await admin.start()
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
            await Topic(stack, name, producer).write(answer("only"))

    asyncio.run(fill())
    return name


def test_the_memory_of_ids_is_bounded() -> None:
    """The oldest goes first."""
    seen = reply_topic._Seen(2)
    assert [seen.is_news(id, True) for id in ("a", "b", "a", "c", "b", "a")] == [True, True, False, True, False, True]
