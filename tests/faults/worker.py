"""A real worker, told apart from the one that is shipped by its engine, its diary, and perhaps a planted bug.

`python -m tests.faults.worker --config FILE`; `FAULTS_FOLDER` is where its diary and its switches are, `FAULTS_PLANT`
the bug. It tells its diary what is on the device, what was delivered, and, at every commit, whether a record below it
is not delivered yet: seen from inside, where Redis may lose what the oracle would have to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from embedmq.cli.root import main
from embedmq_worker import house, run
from embedmq_worker.config import Config
from embedmq_worker.delivery import Delivery

from tests.faults import plants
from tests.faults.diary import Writer
from tests.faults.engine import Loader
from tests.faults.switches import Switches

LOOK_S = 0.02


class Assigned(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """A listener, and before it another that is told of what is assigned."""

    def __init__(self, first: Callable[[set[TopicPartition]], None], then: ConsumerRebalanceListener) -> None:
        self._first = first
        self._then = then

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._then.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._first(assigned)
        await self._then.on_partitions_assigned(assigned)


def watch_commits(diary: Writer) -> None:
    """Report each commit that passes a record which was handed out here and is not delivered.

    A record counts as delivered when `Delivery.deliver` has returned for it; by offset and Kafka's timestamp, since a
    topic may be deleted and created again. What was handed out before an assignment is the business of others.
    """
    handed: defaultdict[TopicPartition, dict[int, int]] = defaultdict(dict)
    delivered: set[tuple[str, int, int, int]] = set()
    getmany, commit, deliver = AIOKafkaConsumer.getmany, AIOKafkaConsumer.commit, Delivery.deliver
    subscribe = AIOKafkaConsumer.subscribe

    def forget(assigned: set[TopicPartition]) -> None:
        for tp in assigned:
            handed.pop(tp, None)

    def subscribed(self: Any, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        subscribe(self, topics, listener=Assigned(forget, listener))

    async def note_handed(self: Any, *args: Any, **options: Any) -> Mapping[TopicPartition, Any]:
        found: Mapping[TopicPartition, Any] = await getmany(self, *args, **options)
        for tp, records in found.items():
            handed[tp].update((record.offset, record.timestamp) for record in records)
        return found

    async def note_delivered(self: Any, endings: Sequence[Any]) -> None:
        await deliver(self, endings)
        for ending in endings:
            record = ending.job.record
            delivered.add((record.topic, record.partition, record.offset, record.timestamp_ms))
        if endings:
            diary.write("delivered", [ending.job.envelope.id for ending in endings])

    async def check_commit(self: Any, offsets: Mapping[TopicPartition, int]) -> None:
        for tp, offset in offsets.items():
            passed = {at: stamp for at, stamp in handed[tp].items() if at < offset}
            missing = [at for at, stamp in passed.items() if (tp.topic, tp.partition, at, stamp) not in delivered]
            if missing:
                diary.write("violation", f"{tp.topic}-{tp.partition}: commit {offset} passes {sorted(missing)[:5]}")
            for at in passed:
                del handed[tp][at]
        await commit(self, offsets)

    AIOKafkaConsumer.getmany, AIOKafkaConsumer.commit = note_handed, check_commit
    AIOKafkaConsumer.subscribe = subscribed
    setattr(Delivery, "deliver", note_delivered)  # noqa: B010  # both type checkers refuse the plain form


def obey(switches: Switches) -> None:
    """Have the worker's wall clock and its loop do what the switches say."""
    real, wrong_s = time.time, [0.0]
    time.time = lambda: real() + wrong_s[0]
    serve: Callable[..., Awaitable[None]] = run.serve

    async def look() -> None:
        while True:
            wrong_s[0] = float(switches.get("clock") or 0.0)
            if seconds := switches.get("block"):
                switches.clear("block")
                time.sleep(float(seconds))  # noqa: ASYNC251  # that is the fault
            await asyncio.sleep(LOOK_S)

    async def served(config: Config, *args: Any) -> None:
        looking = asyncio.create_task(look())
        try:
            await serve(config, *args)
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    setattr(run, "serve", served)  # noqa: B010  # both type checkers refuse the plain form


if __name__ == "__main__":
    folder = Path(os.environ["FAULTS_FOLDER"])
    written = Writer(folder)
    watch_commits(written)
    obey(Switches(folder))
    setattr(house, "load", Loader(written, Switches(folder)))  # noqa: B010
    plants.plant(os.environ.get("FAULTS_PLANT", ""))
    sys.argv[1:1] = ["worker"]
    main()
