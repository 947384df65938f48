"""A record that the Kafka client itself cannot read stops nobody."""

from __future__ import annotations

import struct

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from tests.worker.world import Running, World, as_json, new_id

CRC_AT, CRC_COVERS_FROM = 17, 21  # of a record batch, version 2


async def send_with_a_header_name_that_is_no_utf8(kafka: str, topic: str) -> None:
    """What no library of this language would write, and some of others do."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        batch = producer.create_batch()
        batch.append(key=None, value=b"{}", timestamp=None, headers=[("zzz", b"x")])
        batch.close()
        written = bytearray(batch._build())
        at = bytes(written).index(b"zzz")
        written[at : at + 3] = b"\xff\xfe\xfd"
        struct.pack_into(">I", written, CRC_AT, calc_crc32c(bytes(written[CRC_COVERS_FROM:])))
        batch._buffer = written
        await (await producer.send_batch(batch, topic, partition=0))


async def test_a_header_whose_name_is_no_utf8_is_passed_over_and_its_neighbours_are_answered(
    world: World, worker: Running
) -> None:
    """The client library cannot read such a record at all: it is named in the log, and what is before and behind it on
    every partition is computed, once the worker has found it.
    """
    topic, before, behind = worker.topic("null", "bulk"), new_id(), new_id()
    await world.produce(topic, as_json({"id": before, "items": ["x"]}), partition=0)
    await send_with_a_header_name_that_is_no_utf8(world.kafka, topic)
    await world.produce(topic, as_json({"id": behind, "items": ["x"]}), partition=0)
    others = [new_id() for _ in range(4)]
    for partition, id in enumerate(others, 1):
        await world.produce(topic, as_json({"id": id, "items": ["x"]}), partition=partition)
    for id in (before, behind, *others):
        assert (await world.kept(worker, id, 30))["type"] == "embedded"
    assert [event["topic"] for event in worker.events("record_unreadable")] == [topic]
