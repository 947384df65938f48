"""How does a program without our library ask? Requests as bytes, mixed by a seed, and produced with acknowledgement."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer
from msgspec import Struct

from tests.faults import truth
from tests.faults.ledger import Asked, Ledger, Place, Where

MSGPACK: Final = (("content-type", b"application/msgpack"),)
WHERE: Final[Sequence[Where]] = ("stream", "stream", "stream", "topic", "kept")
MODELS: Final = ("null", "null", "null", "tail")
SHARED: Final = ("tail", "rare", "nobody")
"""Models that have no topics of their own; the last is not there at all."""
LANES: Final = ("interactive", "bulk")
CLIENTS: Final = 4


class Record(Struct, frozen=True, kw_only=True):
    """What is produced."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = MSGPACK
    partition: int | None = None


class Wish(Struct, frozen=True, kw_only=True):
    """What one request should be like; what is left open is drawn."""

    words: Sequence[str] = ()
    """Further words of its first text."""
    where: Where | None = None
    model: str | None = None
    lane: str | None = None
    items: int | None = None
    partition: int | None = None
    failures: Mapping[int, str] = {}
    codes: frozenset[str] = frozenset()
    or_codes: frozenset[str] = frozenset()
    dead: bool = False
    fields: Mapping[str, Any] = {}
    """Further fields of the request."""


ANY: Final = Wish()


class Asking:
    """One producer of one site: what it sends is in the ledger before, and accepted with Kafka's acknowledgement."""

    def __init__(self, prefix: str, reply_topic: str, rng: random.Random, ledger: Ledger, bootstrap: str) -> None:
        self.clients = [self._id(rng) for _ in range(CLIENTS)]
        self._prefix = prefix
        self._reply_topic = reply_topic
        self._rng = rng
        self._ledger = ledger
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_request_size=64 * 2**20
        )

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    def compose(self, wish: Wish = ANY) -> tuple[Asked, Record]:
        """A request of the mix."""
        rng = self._rng
        id = self._id(rng)
        where = rng.choice(WHERE) if wish.where is None else wish.where
        model, lane = wish.model or rng.choice(MODELS), wish.lane or rng.choice(LANES)
        count = wish.items or rng.randint(1, 3)
        texts = [truth.text(id, item, *(wish.words if item == 0 else ())) for item in range(count)]
        client = rng.choice(self.clients)
        asked = Asked(
            id=id,
            items=texts,
            where=where,
            client=client,
            failures=wish.failures,
            codes=wish.codes,
            or_codes=wish.or_codes,
            dead=wish.dead,
        )
        request = {"type": "embed", "id": id, "model": model, "items": texts, **self._reply(asked), **wish.fields}
        name = "shared" if model in SHARED else model
        record = Record(
            topic=f"{self._prefix}.{name}.{lane}",
            value=msgspec.msgpack.encode(request),
            key=model.encode() if name == "shared" else None,
            partition=wish.partition,
        )
        return asked, record

    async def ask(self, *wishes: Wish) -> list[Asked]:
        """Send requests; returns with Kafka's acknowledgement of all."""
        composed = [self.compose(wish) for wish in wishes]
        await self.send(composed)
        return [asked for asked, _ in composed]

    async def burst(self, count: int, wish: Wish = ANY) -> list[Asked]:
        """Many of the mix."""
        return await self.ask(*[wish] * count)

    async def send(self, composed: Iterable[tuple[Asked, Record]]) -> None:
        """Produce what was composed, perhaps once more."""
        await asyncio.gather(*(self._send(asked, record) for asked, record in composed))

    async def unledgered(self, records: Iterable[Record]) -> None:
        """Send what nobody keeps account of."""
        await asyncio.gather(*(self._produce(record) for record in records))

    async def know_partitions(self, topic: str, count: int) -> None:
        """Until this producer knows that a topic has so many."""
        while len(await self._producer.partitions_for(topic)) < count:
            await self._producer.client.force_metadata_update()

    async def _produce(self, record: Record) -> Any:
        return await self._producer.send_and_wait(
            record.topic, record.value, record.key, record.partition, headers=list(record.headers)
        )

    async def _send(self, asked: Asked, record: Record) -> None:
        self._ledger.ask(asked)
        sent = await self._produce(record)
        self._ledger.accept(asked.id, Place(sent.topic, sent.partition, sent.offset))

    def _reply(self, asked: Asked) -> dict[str, Any]:
        match asked.where:
            case "stream":
                return {"reply": {"type": "stream", "client": asked.client}}
            case "topic":
                return {"reply": {"type": "topic", "topic": self._reply_topic}}
            case "kept":
                return {"keep_s": 3_600}
            case "nobody":
                return {"keep_s": 0}

    @staticmethod
    def _id(rng: random.Random) -> str:
        return uuid.UUID(int=rng.getrandbits(128), version=4).hex
