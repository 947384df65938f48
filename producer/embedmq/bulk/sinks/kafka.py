"""How do vectors get into a Kafka topic, a record a row?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from embedmq_schemas.codec import CONTENT_TYPES
from embedmq_schemas.environment import overrides
from embedmq_schemas.headers import CONTENT_TYPE
from embedmq_schemas.names import is_topic
from msgspec import Struct

from embedmq.bulk.errors import Away, SinkRefused
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq.bulk.sinks.address import read_address
from embedmq.bulk.sinks.beside import Beside
from embedmq.bulk.sinks.kafka_values import ENCODINGS, OWN, values
from embedmq.bulk.sinks.kept import refuse_collisions
from embedmq.errors import EmbedMQError, RequestFailed, Unavailable
from embedmq.kafka import Kafka
from embedmq.publisher import Publisher, Record
from embedmq.settings import Setup

_HEADERS: Final = [(CONTENT_TYPE, CONTENT_TYPES["json"])]
_T = TypeVar("_T")


class _Open(Struct, frozen=True):
    beside: Beside
    runner: asyncio.Runner
    kafka: Kafka
    publisher: Publisher
    job: str
    shape: Shape


class KafkaSink:
    """`kafka://host:9092/topic[?encoding=bytes|array]`; without a host, and for TLS and logins, by `EMBEDMQ_KAFKA` and
    `EMBEDMQ_KAFKA__*`.

    A record's key is the row's id, its value JSON; of a compacted topic Kafka keeps the last one an id. Rows behind the
    last commit are there twice after a kill. The checkpoint is a file in `<job>.checkpoint`, where the command runs: a
    log cannot be asked for one, and topics are not made from here. So the job goes on there, and nowhere else.
    """

    at_least_once = True

    def __init__(self, uri: str, columns: Columns) -> None:
        del columns  # the shape has what travels along
        address = read_address(uri, "encoding")
        self._bootstrap, self._topic = address.authority, address.path.strip("/")
        self._encoding = address.options.get("encoding", "bytes")
        self._where = f"topic {self._topic}"
        if not is_topic(self._topic):
            raise SinkRefused(f"{address.shown} names no topic: write kafka://host:9092/topic")
        if self._encoding not in ENCODINGS:
            raise SinkRefused(f"{address.shown}: encoding={self._encoding}: known are {', '.join(ENCODINGS)}")
        self._opened: _Open | None = None

    def is_there(self) -> bool:
        """A dry run has nothing to ask of a log."""
        return False

    def open(self, job: str, shape: Shape) -> None:
        """Hold the checkpoint, connect, and look for the topic."""
        refuse_collisions(shape, OWN, self._where)
        try:
            setup = self._setup()
        except ValueError as error:
            raise SinkRefused(f"{self._where}: {error}") from None
        beside = Beside(Path(f"{job}.checkpoint"))
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # with a factory, it leaves the thread's own alone
        kafka = Kafka(setup)
        publisher = Publisher(kafka, setup.publish_timeout_s, runner.get_loop())
        self._opened = _Open(beside, runner, kafka, publisher, job, shape)
        if not self._run(self._find(kafka, publisher)):
            message = f"{self._where} is not at {','.join(setup.kafka.bootstrap)}, or we may not see it"
            raise SinkRefused(f"{message}: make it first, kafka-topics.sh --create --topic {self._topic}")

    def load(self) -> bytes | None:
        """The checkpoint of this job, if it ran in this folder."""
        here = self._here()
        return here.beside.load(here.job)

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        """Raises SinkRefused."""
        del ids
        raise SinkRefused(
            f"{self._where}: a log cannot be asked what it has: go without --missing-only, --changed-only"
        )

    def write(self, vectors: Vectors) -> None:
        """Returns when Kafka has them all."""
        here = self._here()
        try:
            records = list(values(vectors, here.shape, self._encoding))
            keys = [id.encode() for id in vectors.ids]
        except UnicodeError as error:
            raise SinkRefused(f"{self._where}: no UTF-8: {error}") from None
        for id, refusal in zip(vectors.ids, self._run(self._send(here, keys, records)), strict=True):
            if refusal is not None:
                raise self._explain(refusal, f"row {id!r}")

    def commit(self, checkpoint: bytes) -> None:
        """Keep the checkpoint: Kafka has acknowledged all that was written."""
        here = self._here()
        here.beside.keep(here.job, checkpoint)

    def clear(self) -> None:
        """Forget the checkpoint."""
        here = self._here()
        here.beside.forget(here.job)

    def close(self) -> None:
        """Disconnect."""
        here, self._opened = self._opened, None
        if here is None:
            return
        try:
            with here.runner:
                here.runner.run(_stop(here))
        finally:
            here.beside.release()

    def _setup(self) -> Setup:
        found: dict[tuple[str, ...], object] = dict(overrides(os.environ))
        if self._bootstrap:
            found["kafka", "bootstrap"] = self._bootstrap
        return Setup.from_paths(found)

    async def _find(self, kafka: Kafka, publisher: Publisher) -> bool:
        await kafka.start()
        return await publisher.prepare(self._topic)

    async def _send(
        self, here: _Open, keys: Sequence[bytes], records: Sequence[bytes]
    ) -> Sequence[BaseException | None]:
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[None]] = [loop.create_future() for _ in records]
        for key, value, future in zip(keys, records, futures, strict=True):
            here.publisher.put(self._topic, Record(key, value, _HEADERS, future, confirm=True))
        return await asyncio.gather(*futures, return_exceptions=True)

    def _run(self, work: Coroutine[object, object, _T]) -> _T:
        """Run the loop until it is done; it stands still between our calls, in which nothing is on its way."""
        try:
            return self._here().runner.run(work)
        except EmbedMQError as error:
            raise self._explain(error, "it") from error

    def _explain(self, error: BaseException, what: str) -> BaseException:
        if isinstance(error, Unavailable):
            return Away(f"{self._where}: {error}")
        if isinstance(error, RequestFailed) and error.code == "too_large":
            return SinkRefused(f"{self._where}: {what} is too large for it: raise its max.message.bytes")
        return SinkRefused(f"{self._where}: {error}") if isinstance(error, EmbedMQError) else error

    def _here(self) -> _Open:
        if self._opened is None:
            raise RuntimeError("not open")
        return self._opened


async def _stop(here: _Open) -> None:
    await here.publisher.stop()
    await here.kafka.stop()
