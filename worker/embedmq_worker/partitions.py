"""Which partitions are ours, and what is still known of those that were? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aiokafka import TopicPartition

from embedmq_worker.past import Fate, Past
from embedmq_worker.progress import Progress


class Partitions:
    """All that one reader was assigned. `ours` is another object after each rebalance."""

    def __init__(self, now_s: Callable[[], float], repeated: Callable[[Fate], None]) -> None:
        """`repeated` is told of each record that is read again."""
        self._now_s = now_s
        self._repeated = repeated
        self._pasts: dict[TopicPartition, Past] = {}
        self.ours: Mapping[TopicPartition, Progress] = {}

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """These are ours now, and no others."""
        self.revoke()
        self.forget()
        self.ours = {tp: self._assign(tp) for tp in partitions}

    def revoke(self) -> None:
        """None is ours; for a while what is known of them is kept."""
        for progress in self.ours.values():
            progress.revoke(self._now_s())
        self.ours = {}

    def forget(self) -> None:
        """Give up what is known of partitions that were taken away long ago."""
        self._pasts = {tp: past for tp, past in self._pasts.items() if not past.is_over(self._now_s())}

    @property
    def held(self) -> int:
        """Of how many no more is to be read just now."""
        return sum(progress.held for progress in self.ours.values())

    def committable(self) -> dict[Progress, int]:
        """The next offset of each partition that has anything new to commit."""
        found = {progress: progress.committable() for progress in self.ours.values()}
        return {progress: offset for progress, offset in found.items() if offset is not None}

    def _assign(self, tp: TopicPartition) -> Progress:
        past = self._pasts.setdefault(tp, Past(self._repeated))
        progress = Progress(tp.topic, tp.partition, past)
        past.assign(progress)
        return progress
