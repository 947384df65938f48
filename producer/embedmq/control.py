"""How is a running fleet told which models to serve, and how does one learn that it does?

An order is the last record of its model on a compacted topic (`embedmq_schemas.control`), so a new one says all that is
to hold: what it does not speak of is taken from the order before it. Kafka has no lock for that, so whoever gives an
order looks afterwards whether another one came between, and gives it again on top of that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import reduce
from typing import TYPE_CHECKING, Final

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from embedmq_schemas.control import Order, decode_order, encode_order
from embedmq_schemas.names import Names, is_model_name
from msgspec import Struct

from embedmq.errors import InvalidRequest, StillPending, Unavailable
from embedmq.kafka import GRANT, Kafka, connection_options, denied

if TYPE_CHECKING:
    from embedmq_schemas.catalogue import WorkerStatus

    from embedmq.fleet import Fleet
    from embedmq.settings import Setup

LOOK_S: Final = 0.2
"""How often it is looked whether the workers have followed; they say so as soon as they have."""
READ_MS: Final = 200
ATTEMPTS: Final = 8
"""How often an order is given before it is said that too many give orders for its model."""
CREATE: Final = "have embedmq topics create make it"


class Followed(Struct, frozen=True):
    """What one worker made of an order: `state` is that of the model there, empty where it is not on the worker's list;
    `refused` is why it did not follow, empty where it did.
    """

    worker: str
    served: bool
    pinned: bool
    state: str
    refused: str = ""
    error: str = ""
    """Why the model cannot be loaded there."""


async def give_order(
    setup: Setup,
    model: str,
    *,
    served: bool | None = None,
    pinned: bool | None = None,
    entry: str | None = None,
    reset: bool = False,
    by: str,
) -> int:
    """Tell all workers how one model is to be served; returns the order's offset, to be waited for by `followed`.

    What is None stays as the last order of the model has it; with `reset` nothing of that stays, and it is as each
    worker's configuration says.

    Raises:
        InvalidRequest: that is no model's name, or there is no control topic, or none that we may write to.
        Unavailable: Kafka is not there, or does not let us, or others go on ordering the same model.
    """
    if not is_model_name(model):
        raise InvalidRequest(f"{model!r} is no model's name: lower-case letters, digits and dashes")
    topic = Names(setup.prefix).control
    kafka = Kafka(setup)
    await kafka.start()
    try:
        if not await kafka.find(topic):
            raise InvalidRequest(f"we may not Read and Write topic {topic}, or it is not there: {GRANT}, or {CREATE}")
        seen, found = (0, []) if reset else await read_orders(setup, model)
        before = reduce(_read, found, Order())
        for _ in range(ATTEMPTS):
            order = merge(before, served, pinned, entry, by, time.time_ns() // 1_000_000)
            taken_back = reset and (served, pinned, entry) == (None, None, None)
            offset = await _send(setup, kafka, model, None if taken_back else encode_order(order))
            _, between = (0, []) if reset else await read_orders(setup, model, seen, offset)
            seen, before = offset + 1, catch_up(before, between)
            if merge(before, served, pinned, entry, by, order.issued_unix_ms) == order:  # it undid nothing
                return offset
    except (TimeoutError, KafkaError) as error:
        told = denied(error, "Write") or str(error) or type(error).__name__
        raise Unavailable(f"Kafka did not take the order on {topic}: {told}") from error
    finally:
        await kafka.stop()
    raise Unavailable(f"others order {model} all the time: `embedmq models` says what holds")


def merge(
    before: Order, served: bool | None, pinned: bool | None, entry: str | None, by: str, now_unix_ms: int
) -> Order:
    """The last order of a model with what is said now laid over it. Pure."""
    return Order(
        served=before.served if served is None else served,
        pinned=before.pinned if pinned is None else pinned,
        entry=before.entry if entry is None else entry,
        by=by,
        issued_unix_ms=now_unix_ms,
    )


def catch_up(before: Order, between: Iterable[bytes | None]) -> Order:
    """What was to hold, with what others ordered meanwhile. Each of theirs says all that it knew of, maybe not of the
    others: what it is about is what it says otherwise than `before`. Pure.
    """
    found = before
    for value in between:
        order = _read(before, value)
        if value is None:
            before = found = order
            continue
        served = order.served if order.served != before.served else None
        pinned = order.pinned if order.pinned != before.pinned else None
        entry = order.entry if order.entry != before.entry else None
        found = merge(found, served, pinned, entry, order.by, order.issued_unix_ms)
    return found


async def read_orders(
    setup: Setup, model: str, start: int = 0, stop: int | None = None
) -> tuple[int, list[bytes | None]]:
    """What the topic says of a model from one offset up to another, or to its end, and where that is.

    Raises:
        Unavailable: Kafka is not there.
    """
    found: list[bytes | None] = []
    async with _reading(setup) as (consumer, place):
        end = (await consumer.end_offsets([place]))[place] if stop is None else stop
        first = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, max(start, first))
        while await consumer.position(place) < end:
            records = await _next(consumer, place)
            found += [record.value for record in records if record.key == model.encode() and record.offset < end]
    return end, found


async def _send(setup: Setup, kafka: Kafka, model: str, value: bytes | None) -> int:
    """Write one record; where it lies. Raises KafkaError and TimeoutError."""
    async with asyncio.timeout(setup.publish_timeout_s):
        producer = await kafka.producer()
        sent = await producer.send_and_wait(Names(setup.prefix).control, value, model.encode(), partition=0)
    offset: int = sent.offset
    return offset


async def followed(fleet: Fleet, model: str, offset: int, wait_s: float) -> list[Followed]:
    """Wait until every worker that says how it is has heeded the order at an offset; what each made of it.

    Raises:
        StillPending: one has not within `wait_s`; the order stands all the same.
        Unavailable: Redis is not there.
    """
    end_s = time.monotonic() + wait_s
    while True:
        workers = await fleet.workers()
        late = sorted(worker.id for worker in workers if worker.control_offset < offset)
        if not late:
            return [follow for worker in workers if (follow := _follow(worker, model)) is not None]
        if time.monotonic() >= end_s:
            raise StillPending(f"{', '.join(late)} did not heed the order within {wait_s:g} s: it stands, see models")
        await asyncio.sleep(LOOK_S)


def serving(found: Iterable[Followed]) -> bool:
    """Whether any worker serves the model."""
    return any(one.served and not one.refused for one in found)


def _follow(worker: WorkerStatus, model: str) -> Followed | None:
    refused, status = worker.refused.get(model, ""), worker.models.get(model)
    if status is None:
        return Followed(worker.id, served=False, pinned=False, state="", refused=refused) if refused else None
    return Followed(worker.id, status.served, status.pinned, status.state, refused, status.error)


def _read(before: Order, value: bytes | None) -> Order:
    """What a record makes of the order before it; one that cannot be read counts for nothing."""
    try:
        return Order() if value is None else decode_order(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return before


async def _next(consumer: AIOKafkaConsumer, place: TopicPartition) -> Sequence[ConsumerRecord]:
    """At most one record: one that has a header whose name is no UTF-8 cannot be read, and is passed over."""
    at = await consumer.position(place)
    try:
        found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await consumer.getmany(
            place, timeout_ms=READ_MS, max_records=1
        )
    except UnicodeDecodeError:
        consumer.seek(place, at + 1)
        return ()
    return found.get(place, ())


@asynccontextmanager
async def _reading(setup: Setup) -> AsyncIterator[tuple[AIOKafkaConsumer, TopicPartition]]:
    """A consumer of the control topic, in no group."""
    consumer = AIOKafkaConsumer(**connection_options(setup), enable_auto_commit=False, auto_offset_reset="earliest")
    place = TopicPartition(Names(setup.prefix).control, 0)
    try:
        async with asyncio.timeout(setup.connect_timeout_s):
            await consumer.start()
            consumer.assign([place])
            yield consumer, place
    except (TimeoutError, KafkaError, OSError) as error:
        told = denied(error, "Read") or str(error) or "no answer in time"
        raise Unavailable(f"Kafka does not say what the last order was: {told}") from error
    finally:
        await consumer.stop()
