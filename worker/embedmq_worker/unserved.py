"""How much waits on request topics that nobody reads? Lag is told by who reads, so of these it would be by no one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES

from embedmq_worker.config import Kafka
from embedmq_worker.login import connection_options
from embedmq_worker.metrics import Metrics
from embedmq_worker.roster import Roster
from embedmq_worker.topics import Topics, request_topics

LOOK_S: Final = 60.0
"""How often, on average, a worker looks."""
MOST_TOPICS: Final = 200
"""As many are looked at each time; where there are more, it is their turn the next time."""

Offsets = Mapping[TopicPartition, int]


class Place(NamedTuple):
    """How far the group had come on one topic, and how many records it had not committed."""

    committed: Offsets
    waiting: int


class Unserved:
    """Looks at the topics that this worker does not read, since somebody else may or may not. Whether somebody does is
    seen by the commits: what waited before and still waits, with none in between, is read by nobody.
    """

    def __init__(self, settings: Kafka, names: Names, roster: Roster, topics: Topics, metrics: Metrics) -> None:
        self._settings = settings
        self._names = names
        self._roster = roster
        self._topics = topics
        self._metrics = metrics
        self._places: dict[str, Place] = {}
        self._unread: dict[str, int] = {}
        self._last = ""

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look again and again meanwhile."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def look(self) -> None:
        """Ask Kafka once; raises KafkaError."""
        ours = {topic for topics in request_topics(self._roster, self._names).values() for topic in topics}
        found: Iterable[str] = await self._topics.admin.list_topics()
        others = sorted(topic for topic in found if topic not in ours and self._names.parse(topic) is not None)
        turn = next_turn(others, self._last, MOST_TOPICS)
        self._last = turn[-1] if turn else ""
        places = await self._ask(turn) if turn else {}
        self._unread |= {topic: unread(self._places.get(topic), place) for topic, place in places.items()}
        self._places = {topic: place for topic, place in (self._places | places).items() if topic in others}
        self._tell({topic: self._unread.get(topic, 0) for topic in others})

    def _tell(self, unread: Mapping[str, int]) -> None:
        self._unread = {topic: records for topic, records in unread.items() if records}
        values: dict[tuple[str, ...], float] = {}
        for topic, records in self._unread.items():
            if (whose := self._names.parse(topic)) is not None:
                model, lane = whose
                values[model or "shared", lane] = records  # no model can be called so
        self._metrics.set_all("unserved_records", values)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S * random.uniform(0.5, 1.5))  # or all workers would ask at the same moment
            with contextlib.suppress(KafkaError, OSError, TimeoutError):  # Kafka is away, which others say
                async with asyncio.timeout(LOOK_S):
                    await self.look()

    async def _ask(self, topics: Sequence[str]) -> dict[str, Place]:
        described: Iterable[Mapping[str, Sequence[object]]] = await self._topics.admin.describe_topics(list(topics))
        tps = [
            TopicPartition(topic["topic"], number) for topic in described for number in range(len(topic["partitions"]))
        ]
        committed = await self._committed(tps)
        consumer = AIOKafkaConsumer(**connection_options(self._settings), client_id="embedmq-unserved")
        try:
            await consumer.start()
            ends: Offsets = await consumer.end_offsets(tps)
            begins: Offsets = await consumer.beginning_offsets(tps)
        finally:
            await consumer.stop()
        places: dict[str, Place] = {}
        for topic in {tp.topic for tp in tps}:
            own = [tp for tp in tps if tp.topic == topic]
            waiting = sum(max(0, ends[tp] - max(begins[tp], committed.get(tp, 0))) for tp in own)
            places[topic] = Place({tp: committed[tp] for tp in own if tp in committed}, waiting)
        return places

    async def _committed(self, tps: Sequence[TopicPartition]) -> Offsets:
        """Of each partition, by the group of its lane; one without a commit is left out."""
        committed: dict[TopicPartition, int] = {}
        for lane in LANES:
            own = [tp for tp in tps if tp.topic.endswith(f".{lane}")]
            if own:
                found = await self._topics.admin.list_consumer_group_offsets(self._names.group(lane), partitions=own)
                committed |= {tp: place.offset for tp, place in found.items() if place.offset >= 0}
        return committed


def unread(before: Place | None, now: Place) -> int:
    """How many records wait that nobody reads: nobody committed anything since some waited already."""
    return now.waiting if before is not None and before.waiting and before.committed == now.committed else 0


def next_turn(topics: Sequence[str], last: str, most: int) -> list[str]:
    """Those that follow the last one looked at, in order, and from the first on again."""
    after = [topic for topic in topics if topic > last]
    return [*after, *(topic for topic in topics if topic <= last)][:most]
