"""How do records leave Kafka, and how are they committed?"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from embedmq_schemas.names import Reader

from embedmq_worker.assignor import Assignor
from embedmq_worker.commits import Commits
from embedmq_worker.config import Kafka
from embedmq_worker.lag import Stand
from embedmq_worker.login import connection_options
from embedmq_worker.metrics import Metrics
from embedmq_worker.parting import part
from embedmq_worker.partitions import Partitions
from embedmq_worker.past import KEPT_S, Fate
from embedmq_worker.polling import Polling, Read
from embedmq_worker.progress import Progress
from embedmq_worker.retention import Retention
from embedmq_worker.standing import Look, Standing

FETCHER_LOOK_MS: Final = 1_000
"""aiokafka's fetcher looks over all partitions this often even when nothing happened; at its own 200 ms that costs more
than the fetches."""
NEVER_MS: Final = 2**31 - 1

log = logging.getLogger(__name__)


class Source:
    """One reader's consumer: records in, commits out. It decides nothing."""

    def __init__(
        self,
        reader: Reader,
        group: str,
        topics: Sequence[str],
        settings: Kafka,
        worker_id: str,
        metrics: Metrics,
        on_revoke: Callable[[], Awaitable[None]],
        look: Look = Standing,
    ) -> None:
        self.reader: Reader = reader
        self.joined = asyncio.Event()
        self.wake = asyncio.Event()
        self.released = asyncio.Event()
        self.finished = False
        self._topics = sorted(topics)
        self._leaving: frozenset[str] = frozenset()
        self._settled = asyncio.Event()
        self._metrics = metrics
        self._on_revoke = on_revoke
        self._stop = asyncio.Event()
        self._consumer = AIOKafkaConsumer(
            **connection_options(settings),
            group_id=group,
            client_id=f"embedmq-{worker_id}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(Assignor(worker_id, look),),
            session_timeout_ms=settings.session_timeout_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            metadata_max_age_ms=settings.metadata_max_age_ms,
            # What is put back is fetched anew once the fetch under way has ended: a longer wait makes retries late.
            fetch_max_wait_ms=settings.bulk_fetch_max_wait_ms if reader == "bulk" else settings.fetch_max_wait_ms,
            fetch_max_bytes=settings.fetch_max_bytes,
            max_partition_fetch_bytes=settings.max_partition_fetch_bytes,
            consumer_timeout_ms=FETCHER_LOOK_MS,
            # Backpressure means not polling, for as long as Redis is away. Only aiokafka itself enforces this limit;
            # whether the loop still turns is what /health tells.
            max_poll_interval_ms=NEVER_MS,
        )
        parts = self._partitions = Partitions(time.monotonic, self._repeated)
        self._retention = Retention(self._consumer, parts, reader, metrics, settings.retention_ms)
        self._commits = Commits(self._consumer, parts, self._retention, reader)
        self._polling = Polling(self._consumer, parts, self.released, settings.max_poll_records)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the group; raises KafkaError when it cannot."""
        await self._consumer.start()
        self._subscribe()
        self._watching = asyncio.create_task(self._retention.watch())

    async def read(self) -> AsyncGenerator[list[Read], None]:
        """Yield what has arrived, each record with the progress of its partition, until `stop` is called."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                poll = asyncio.create_task(self._polling.poll())
                try:
                    await asyncio.wait({poll, stopping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    # During a rebalance getmany outlasts its timeout. Cancelled, it leaves aiokafka's count of running
                    # fetches wrong, which matters to no one who fetches no more.
                    if poll.cancel():
                        await asyncio.wait({poll})
                if not poll.cancelled() and (records := poll.result()):
                    self._retention.read(records)
                    yield records
        finally:
            stopping.cancel()

    async def subscribe(self, topics: Sequence[str], grace_s: float) -> None:
        """Read these topics from now on. Of those that are given up no more is read, and what was read is answered and
        committed first, for at most `grace_s`; the rest is read again when somebody reads them.
        """
        if (topics := sorted(topics)) == self._topics:
            return
        self._leaving = frozenset(self._topics).difference(topics)
        self._hold_leaving()
        try:
            async with asyncio.timeout(grace_s):
                while self._unfinished():
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            log.warning("topics_left_unfinished", extra={"reader": self.reader, "requests": self._unfinished()})
        await self._commits.revoke(self._partitions.committable())  # of those that stay, too, while they are ours
        self._topics, self._leaving = topics, frozenset()
        # aiokafka forgets the assignment at once, and says so later: whoever trusted in it until then would be wrong
        self._partitions.revoke()
        revoked = self._on_revoke()
        self._subscribe()
        self.released.set()
        await revoked

    def put_back(self, progress: Progress, offset: int) -> None:
        """Have a record that was just handed out, and what follows it in its partition, handed out again later."""
        self._consumer.seek(TopicPartition(progress.topic, progress.partition), offset)

    def defer(self, progress: Progress, offset: int, wait_s: float) -> None:
        """Put a record back that is not due yet; when it is handed out again, after `wait_s`, `progress.is_due`."""
        self.put_back(progress, offset)
        progress.defer(offset)
        asyncio.get_running_loop().call_later(wait_s, self._release, progress)

    def stop(self) -> None:
        """End `read`; membership goes on, so that nobody else starts what is in flight here."""
        self._stop.set()

    def finish(self) -> None:
        """Everything that was read is delivered: one last commit, and no more."""
        self.finished = True
        self.wake.set()

    async def commit(self) -> bool:
        """Commit what is complete. A rebalance in between is no error; what Kafka does not take is tried again."""
        held = self._partitions.held
        if not (done := await self._commits.commit()):
            self.wake.set()
        if self._partitions.held < held:
            self.released.set()
        self._settled.set()
        return done

    async def commit_last(self) -> None:
        """Commit what is complete before the group is left, over a rebalance if there is one just now."""
        await self._commits.commit_last()

    async def close(self) -> None:
        """Leave the group. Where Kafka does not let go, the others get what was ours after `session_timeout_ms`."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        if not await part(self._consumer.stop()):
            log.warning("group_not_left", extra={"reader": self.reader})

    @property
    def partitions(self) -> int:
        """How many partitions are assigned."""
        return len(self._partitions.ours)

    @property
    def away_s(self) -> float:
        """For how long Kafka has taken no commit, or not answered at all."""
        return max(self._commits.away_s, self._retention.silent_s)

    def stands(self) -> list[Stand]:
        """What waits in each partition, read or unread."""
        return self._retention.stands()

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        """Start to track; called by aiokafka."""
        self._partitions.assign(partitions)
        self._hold_leaving()
        self._retention.assigned()
        self._commits.assigned(partitions)
        self._metrics.count("rebalances_total", 1, self.reader)
        for event in (self.released, self.joined, self.wake, self._settled):
            event.set()
        log.info("assigned", extra={"reader": self.reader, "partitions": len(partitions)})

    async def revoked(self, partitions: set[TopicPartition]) -> None:
        """Commit what is complete, and leave the rest to others, quickly: the whole group waits. Called by aiokafka."""
        offsets = self._partitions.committable()
        self._partitions.revoke()
        await asyncio.gather(self._on_revoke(), self._commits.revoke(offsets))
        asyncio.get_running_loop().call_later(KEPT_S, self._partitions.forget)
        log.info("revoked", extra={"reader": self.reader, "partitions": len(partitions)})

    def _subscribe(self) -> None:
        if self._topics:
            self._consumer.subscribe(self._topics, listener=_Listener(self))
        else:  # nothing is served here on this lane: the worker is no member, and ready all the same
            self._consumer.unsubscribe()
            self.joined.set()

    def _hold_leaving(self) -> None:
        for progress in self._partitions.ours.values():
            if progress.topic in self._leaving:
                progress.hold("leaving")

    def _unfinished(self) -> int:
        """How many records of the topics that are given up are read and not committed as complete."""
        leaving = [progress for progress in self._partitions.ours.values() if progress.topic in self._leaving]
        return sum(progress.open + (progress.committable() is not None) for progress in leaving)

    def _repeated(self, fate: Fate) -> None:
        self._metrics.count("records_repeated_total", 1, self.reader, fate)
        if fate == "skipped":
            self.wake.set()  # no outcome will come that sets it

    def _release(self, progress: Progress) -> None:
        progress.release("due")
        self.released.set()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Tells the source of rebalances."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._source.revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._source.assigned(assigned)
