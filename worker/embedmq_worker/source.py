"""How do records leave Kafka, and how are they committed?"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from embedmq_schemas.requests import Lane

from embedmq_worker.assignor import Assignor
from embedmq_worker.config import Kafka
from embedmq_worker.progress import Progress

READ_AROUND_MS = 500
POLL_MS = 5_000
"""How long one look at an idle queue lasts. Records end it at once, and so does a stop."""
HELD_POLL_MS = 100
"""The same while some partitions are held: none of theirs ends a look, so this is how late they are taken up again."""
FETCHER_LOOK_MS = 1_000
"""aiokafka's fetcher looks over all partitions this often even when nothing happened; at its own 200 ms that costs more
than the fetches."""
COMMIT_TIMEOUT_S = 10.0
LAST_COMMITS = 3
COMMIT_RETRY_S = 0.1
REVOKE_COMMIT_TIMEOUT_S = 1.5
NEVER_MS = 2**31 - 1

Read = tuple[Progress, ConsumerRecord]

log = logging.getLogger(__name__)


class Source:
    """One lane's consumer: records in, commits out. It decides nothing."""

    def __init__(
        self,
        lane: Lane,
        group: str,
        topics: Sequence[str],
        settings: Kafka,
        worker_id: str,
        on_assign: Callable[[], None],
        on_revoke: Callable[[], None],
    ) -> None:
        self.lane: Lane = lane
        self.joined = asyncio.Event()
        self.wake = asyncio.Event()
        self.released = asyncio.Event()
        self.finished = False
        self._topics = sorted(topics)
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._stop = asyncio.Event()
        self._failing = False
        self._progress: dict[TopicPartition, Progress] = {}
        self._uncommitted: set[TopicPartition] = set()
        self._max_poll_records = settings.max_poll_records
        self._consumer = AIOKafkaConsumer(
            **settings.options(),
            group_id=group,
            client_id=f"embedmq-{worker_id}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(Assignor(worker_id),),
            session_timeout_ms=settings.session_timeout_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            fetch_max_wait_ms=settings.bulk_fetch_max_wait_ms if lane == "bulk" else settings.fetch_max_wait_ms,
            fetch_max_bytes=settings.fetch_max_bytes,
            max_partition_fetch_bytes=settings.max_partition_fetch_bytes,
            consumer_timeout_ms=FETCHER_LOOK_MS,
            # Backpressure means not polling, for as long as Redis is away. Only aiokafka itself enforces this limit;
            # whether the loop still turns is what /health tells.
            max_poll_interval_ms=NEVER_MS,
        )

    async def start(self) -> None:
        """Join the group; raises KafkaError when it cannot."""
        await self._consumer.start()
        self._consumer.subscribe(self._topics, listener=_Listener(self))

    async def read(self) -> AsyncIterator[list[Read]]:
        """Yield what has arrived, each record with the progress of its partition, until `stop` is called."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                poll = asyncio.create_task(self._poll())
                await asyncio.wait({poll, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not poll.done():
                    # During a rebalance getmany outlasts its timeout. Cancelled, it leaves aiokafka's count of running
                    # fetches wrong, which matters to no one who fetches no more.
                    poll.cancel()
                    await asyncio.wait({poll})
                elif records := poll.result():
                    yield records
        finally:
            stopping.cancel()

    def put_back(self, progress: Progress, offset: int) -> None:
        """Have a record that was just handed out, and what follows it in its partition, handed out again later."""
        self._consumer.seek(TopicPartition(progress.topic, progress.partition), offset)

    def stop(self) -> None:
        """End `read`; membership goes on, so that nobody else starts what is in flight here."""
        self._stop.set()

    def finish(self) -> None:
        """Everything that was read is delivered: one last commit, and no more."""
        self.finished = True
        self.wake.set()

    async def commit(self) -> bool:
        """Commit what is complete. A rebalance in between is no error; what Kafka does not take is tried again."""
        done = await self._commit_beginnings() if self._uncommitted else True
        if offsets := self._committable():
            done = await self._commit(offsets, COMMIT_TIMEOUT_S) and done
        if not done:
            self.wake.set()
        return done

    async def commit_last(self) -> None:
        """Commit what is complete before the group is left, over a rebalance if there is one just now."""
        for _ in range(LAST_COMMITS):
            if await self.commit():
                return

    async def close(self) -> None:
        """Leave the group."""
        await self._consumer.stop()

    @property
    def partitions(self) -> int:
        """How many partitions are assigned."""
        return len(self._progress)

    def lag(self) -> dict[str, int]:
        """Records that wait in Kafka, by topic, as of the last fetch."""
        lags: dict[str, int] = {}
        for tp, progress in self._progress.items():
            end: int | None = self._consumer.highwater(tp)
            if end is not None and progress.reached is not None:
                lags[tp.topic] = lags.get(tp.topic, 0) + max(0, end - progress.reached)
        return lags

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        """Start to track; called by aiokafka."""
        self._progress = {tp: Progress(tp.topic, tp.partition) for tp in partitions}
        self.released.set()
        self._uncommitted = set(partitions)
        self._on_assign()
        self.joined.set()
        self.wake.set()
        log.info("assigned", extra={"lane": self.lane, "partitions": len(partitions)})

    async def revoked(self, partitions: set[TopicPartition]) -> None:
        """Commit what is complete and forget the rest, quickly: the whole group waits. Called by aiokafka."""
        offsets = self._committable()
        for progress in self._progress.values():
            progress.revoked = True
        self._progress = {}
        self._on_revoke()
        if offsets:
            await self._commit(offsets, REVOKE_COMMIT_TIMEOUT_S)
        log.info("revoked", extra={"lane": self.lane, "partitions": len(partitions)})

    async def _commit_beginnings(self) -> bool:
        """Commit where a group starts that never committed, so that lag is a number from the first moment on."""
        asked, self._uncommitted = self._uncommitted, set()
        held = self._progress
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                fresh = [tp for tp in asked if await self._consumer.committed(tp) is None]
                starts: dict[TopicPartition, int] = await self._consumer.beginning_offsets(fresh) if fresh else {}
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            await self._failed(error)
            if held is self._progress:
                self._uncommitted = asked
            return False
        # a rebalance since then has asked anew, and what was read since then commits more than the beginning
        untouched = {tp: at for tp, at in starts.items() if held is self._progress and held[tp].committable() is None}
        return await self._commit(untouched, COMMIT_TIMEOUT_S) if untouched else True

    async def _poll(self) -> list[Read]:
        held = [tp for tp, progress in self._progress.items() if progress.held]
        free = [tp for tp in self._progress if tp not in held] if held else []
        if held and not free:  # asked for no partition, aiokafka would give of all
            self.released.clear()
            await self.released.wait()
            return []
        try:
            found: Mapping[TopicPartition, list[ConsumerRecord]] = await self._consumer.getmany(
                *free, timeout_ms=HELD_POLL_MS if held else POLL_MS, max_records=self._max_poll_records
            )
        except UnicodeDecodeError:
            return await self._read_around()
        # looked up before the next await, during which a rebalance may replace them
        return [(self._progress[tp], record) for tp, batch in found.items() if tp in self._progress for record in batch]

    async def _read_around(self) -> list[Read]:
        """Pass over a record that has a header whose name is no UTF-8: aiokafka cannot read it, and says not which.

        What the failed fetch had taken is read again, partition by partition, until the one record is found.
        """
        reads: list[Read] = []
        for tp, progress in random.sample(list(self._progress.items()), len(self._progress)):
            if not await self._rewind(tp, progress):
                continue
            try:
                while len(reads) < self._max_poll_records:
                    found = await self._consumer.getmany(tp, timeout_ms=READ_AROUND_MS, max_records=1)
                    if not found:
                        break
                    reads += [(progress, record) for record in found[tp]]
            except UnicodeDecodeError:
                await self._pass_over(tp)
        return reads

    async def _pass_over(self, tp: TopicPartition) -> None:
        offset = await self._consumer.position(tp)
        place = {"topic": tp.topic, "partition": tp.partition, "offset": offset}
        log.error("record_unreadable", extra={**place, "reason": "the name of a header is not UTF-8"})
        self._consumer.seek(tp, offset + 1)

    async def _rewind(self, tp: TopicPartition, progress: Progress) -> bool:
        """Go back to what was last handed out; whether there is anything behind it."""
        offset = progress.reached if progress.reached is not None else await self._consumer.committed(tp)
        if offset is None:
            await self._consumer.seek_to_beginning(tp)
            return True
        self._consumer.seek(tp, offset)
        end: int | None = self._consumer.highwater(tp)
        return end is None or offset < end

    def _committable(self) -> dict[TopicPartition, int]:
        found = {tp: progress.committable() for tp, progress in self._progress.items()}
        return {tp: offset for tp, offset in found.items() if offset is not None}

    async def _commit(self, offsets: Mapping[TopicPartition, int], timeout_s: float) -> bool:
        progress = {tp: self._progress.get(tp) for tp in offsets}
        try:
            await asyncio.wait_for(self._consumer.commit(dict(offsets)), timeout_s)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # Nothing is lost: what is complete is committed next time, or read again by the partition's next owner.
            await self._failed(error)
            return False
        self._failing = False
        for tp, offset in offsets.items():
            if (known := progress[tp]) is not None:
                known.committed(offset)
        return True

    async def _failed(self, error: Exception) -> None:
        if not self._failing:
            log.warning("commit_failed", extra={"lane": self.lane, "error": f"{type(error).__name__}: {error}"})
        self._failing = True
        await asyncio.sleep(COMMIT_RETRY_S)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Tells the source of rebalances."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._source.revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._source.assigned(assigned)
