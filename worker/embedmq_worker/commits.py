"""How does Kafka learn what is complete?"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from embedmq_schemas.names import Reader

from embedmq_worker.partitions import Partitions
from embedmq_worker.progress import Progress
from embedmq_worker.retention import Retention

TIMEOUT_S: Final = 10.0
REVOKE_TIMEOUT_S: Final = 1.5
RETRY_S: Final = 0.1
LOOK_S: Final = 0.02
"""How soon it is noticed that a topic is deleted while its offsets are being committed."""
LAST_ATTEMPTS: Final = 3

Offsets = Mapping[Progress, int]

log = logging.getLogger(__name__)


class Commits:
    """One group's commits. What Kafka does not take is tried again: nothing is lost by that, at worst read twice."""

    def __init__(
        self, consumer: AIOKafkaConsumer, partitions: Partitions, retention: Retention, reader: Reader
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._retention = retention
        self._reader = reader
        self._failing_since_s: float | None = None
        self._unsettled: set[TopicPartition] = set()

    @property
    def away_s(self) -> float:
        """For how long Kafka has taken no commit; 0 while it does. May be read from any thread."""
        since_s = self._failing_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Where these begin is to be settled first."""
        self._unsettled = set(partitions)

    async def commit(self) -> bool:
        """Commit what is complete; whether there is nothing left to be tried again."""
        settled = not self._unsettled or await self._settle()
        return await self._commit(self._partitions.committable(), TIMEOUT_S) and settled

    async def commit_last(self) -> None:
        """Commit what is complete before the group is left, over a rebalance if there is one just now."""
        for _ in range(LAST_ATTEMPTS):
            if await self._commit(self._partitions.committable(), TIMEOUT_S):
                return

    async def revoke(self, offsets: Offsets) -> None:
        """Commit what was complete of partitions that are taken away, quickly: the whole group waits."""
        await self._commit(offsets, REVOKE_TIMEOUT_S)

    async def _settle(self) -> bool:
        """Commit where a group starts that never committed, so that lag is a number from the first moment on; and where
        it goes on when retention has passed its commit, so that all its members together count once what was lost.
        """
        ours = self._partitions.ours
        asked = self._unsettled & ours.keys()
        if not asked:
            return True  # they are given up, and it is not known yet what comes
        try:
            async with asyncio.timeout(TIMEOUT_S):
                commits: dict[TopicPartition, int | None] = {tp: await self._consumer.committed(tp) for tp in asked}
                beginnings: dict[TopicPartition, int] = await self._consumer.beginning_offsets(asked)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            await self._failed(error)
            return False
        if ours is not self._partitions.ours:
            return True  # a rebalance since then asks anew
        lost = {tp: self._retention.lost_before(tp, commits[tp], beginnings[tp]) for tp in asked}
        # what was read already commits more than the beginning
        untouched = {tp for tp in asked if ours[tp].reached is None and (commits[tp] is None or lost[tp])}
        self._retention.report({tp: lost[tp] for tp in asked - untouched})
        self._unsettled = untouched
        if not await self._commit({ours[tp]: beginnings[tp] for tp in untouched}, TIMEOUT_S):
            return False
        self._retention.report({tp: lost[tp] for tp in untouched})
        if ours is self._partitions.ours:
            self._unsettled = set()
        return True

    async def _commit(self, offsets: Offsets, timeout_s: float) -> bool:
        """Commit all at once; where that fails, topic by topic, so that one that is denied does not stop the others."""
        asked = {progress: at for progress, at in offsets.items() if self._exists(progress.topic)}
        topics = {progress.topic for progress in asked}
        if await self._try(asked, timeout_s):
            return True
        if len(topics) == 1 or timeout_s < TIMEOUT_S:
            return False
        for topic in sorted(topics):
            await self._try(
                {progress: at for progress, at in asked.items() if progress.topic == topic}, REVOKE_TIMEOUT_S
            )
        return False

    async def _try(self, asked: Offsets, timeout_s: float) -> bool:
        try:
            await self._send(
                {TopicPartition(progress.topic, progress.partition): at for progress, at in asked.items()}, timeout_s
            )
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            await self._failed(error)
            return False
        self._failing_since_s = None
        for progress, offset in asked.items():
            progress.committed(offset)
        return True

    async def _send(self, offsets: Mapping[TopicPartition, int], timeout_s: float) -> None:
        """Commit, unless a topic is deleted meanwhile: aiokafka would try until it is there again, and commit the old
        one's offsets into the new one. Raises TimeoutError, too.
        """
        if not offsets:
            return
        clock = asyncio.get_running_loop().time
        committing, end_s = asyncio.ensure_future(self._consumer.commit(offsets)), clock() + timeout_s
        try:
            while not committing.done() and clock() < end_s and all(self._exists(tp.topic) for tp in offsets):
                await asyncio.wait({committing}, timeout=LOOK_S)
            if not committing.done():
                raise TimeoutError
        finally:
            if committing.cancel():
                await asyncio.wait({committing})
        committing.result()

    def _exists(self, topic: str) -> bool:
        """Whether there is such a topic, as far as this client knows."""
        return bool(self._consumer.partitions_for_topic(topic))

    async def _failed(self, error: Exception) -> None:
        if self._failing_since_s is None:
            self._failing_since_s = time.monotonic()
            log.warning("commit_failed", extra={"reader": self._reader, "error": f"{type(error).__name__}: {error}"})
        await asyncio.sleep(RETRY_S)
