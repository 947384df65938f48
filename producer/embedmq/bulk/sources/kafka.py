"""How are rows read from a Kafka topic?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from aiokafka import ConsumerRecord
from embedmq_schemas import headers as h
from embedmq_schemas.environment import overrides
from msgspec import Struct

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.ports import Repeats
from embedmq.bulk.rows import Block, Columns, Flaw, Position, Row
from embedmq.bulk.sources.blocks import Pile
from embedmq.bulk.sources.fields import read_row
from embedmq.bulk.sources.files import RESTART
from embedmq.bulk.sources.kafka_topic import Topic, Unread
from embedmq.bulk.sources.positions import from_position, to_position
from embedmq.settings import Setup

_ADDRESS: Final = re.compile(r"kafka://([^/?#@]*)/([A-Za-z0-9._-]{1,249})")
_DECODE: Final = msgspec.json.Decoder(dict[str, object]).decode


class KafkaSource:
    """`kafka://host:port[,host:port]/topic`, or `kafka:///topic` with the brokers of `EMBEDMQ_KAFKA`; how they let us
    in is said by `EMBEDMQ_KAFKA__*`, as for a client.

    Read from its beginning, or from where the job stood, to where it ends when it is opened, one partition after the
    other. A value is a JSON object with a column of text, or (by its `content-type`, or since no `{` begins it) a text
    itself. The id is the named column, else the record's key, else `topic-partition-offset`; a key that comes again is
    a newer version of its row. A record without a value says that its row is deleted: it is passed over, and what a
    sink has of the row stays. What retention deletes before it was read is one flaw.
    """

    repeats: Repeats = "update"

    def __init__(self, uri: str, columns: Columns) -> None:
        address = _ADDRESS.fullmatch(uri)
        if address is None:
            raise SourceRefused("--source kafka: wants kafka://host:port/topic; user and password by EMBEDMQ_KAFKA__*")
        self._brokers, self._name = address[1], address[2]
        self._columns = columns
        self._topic: Topic | None = None

    def open(self) -> None:
        """Connect, and note where each partition ends."""
        found: dict[tuple[str, ...], object] = dict(overrides(os.environ))
        if self._brokers:
            found["kafka", "bootstrap"] = self._brokers
        try:
            self._topic = Topic(Setup.from_paths(found), self._name)
            self._topic.open()
        except ValueError as error:
            raise SourceRefused(f"--source kafka://{self._brokers}/{self._name}: {error}") from None

    def count(self) -> int:
        """The offsets from each partition's first to its last; a compacted topic has fewer records."""
        topic = self._opened()
        return sum(topic.ends[number] - topic.firsts[number] for number in topic.ends)

    def read(self, after: Position | None) -> Iterator[Block]:
        """The records behind a position, or all."""
        topic, pile = self._opened(), Pile()
        place = {} if after is None else dict(from_position(after, _Place).next)
        for number, end in topic.ends.items():
            offset = place.setdefault(str(number), topic.firsts[number])
            if offset > end:
                message = f"topic {self._name} partition {number} ends at {end}, and was read up to {offset}"
                raise SourceRefused(f"{message}: it is another topic of the same name. {RESTART}")
            for records in topic.read(number, offset):
                if isinstance(records, Unread):
                    where = f"{self._name} partition {number} offsets {records.first} to {records.next - 1}"
                    pile.add(Flaw(where, "malformed", records.reason), where)
                else:
                    for record in records.found:
                        if record.value is not None:
                            pile.add(*self._read_record(record))
                        place[str(number)] = record.offset + 1
                        if pile.full:
                            yield pile.take(to_position(_Place(place)))
                place[str(number)] = records.next
        if pile:
            yield pile.take(to_position(_Place(place)))

    def close(self) -> None:
        """Disconnect."""
        topic, self._topic = self._topic, None
        if topic is not None:
            topic.close()

    def _opened(self) -> Topic:
        if self._topic is None:
            raise RuntimeError("not open")
        return self._topic

    def _read_record(self, record: ConsumerRecord[Any, Any]) -> tuple[Row | Flaw, str]:
        where = f"{self._name} partition {record.partition} offset {record.offset}"
        try:
            id = self._id(record)
        except UnicodeDecodeError:
            return Flaw(where, "malformed", "its key is not UTF-8, and no --id names a column to use instead"), where
        try:
            return read_row(self._columns, _fields(record, self._columns.text), where, id), where
        except (ValueError, RecursionError) as error:
            return Flaw(where, "malformed", f"its value is no text and no JSON object: {error}", id), where

    def _id(self, record: ConsumerRecord[Any, Any]) -> str:
        """The id of a record that has no column of ids."""
        if record.key is None or self._columns.id is not None:
            return f"{self._name}-{record.partition}-{record.offset}"
        key: bytes = record.key
        return key.decode()


class _Place(Struct, frozen=True):
    """Where reading goes on in each partition."""

    next: dict[str, int]


def _fields(record: ConsumerRecord[Any, Any], text: str) -> Mapping[str, object]:
    """The columns of a record's value; raises ValueError where it is no UTF-8, or says that it is JSON and is not."""
    value: bytes = record.value
    type = (h.last(record.headers, h.CONTENT_TYPE) or b"").partition(b";")[0].strip(b' "').lower()
    plain = type.startswith(b"text/") or not (b"json" in type or value.lstrip().startswith(b"{"))
    return {text: value.decode()} if plain else _DECODE(value)
