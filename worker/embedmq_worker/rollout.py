"""What follows when other models are to be served than before?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka.errors import KafkaError
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Lane

from embedmq_worker.config import Config
from embedmq_worker.residents import Residents
from embedmq_worker.roster import Roster
from embedmq_worker.served import Changes, Served, diff
from embedmq_worker.source import Source
from embedmq_worker.topics import Topics, ensure, request_topics, wanted_requests

AGAIN_S: Final = 1.0
"""How long to wait before Kafka is asked once more for topics."""
MOST_TOLD: Final = 20
"""Orders that are refused at once, of which the log tells one by one."""

log = logging.getLogger(__name__)


class Rollout:
    """Brings a worker from what it serves to what it is to serve: topics are made before they are read, and what was
    read of those given up is finished before others get them.
    """

    def __init__(
        self,
        config: Config,
        roster: Roster,
        residents: Residents,
        topics: Topics,
        sources: Sequence[Source],
        changed: asyncio.Event,
    ) -> None:
        """`changed` is set when there is news for clients and colleagues."""
        self._config = config
        self._names = Names(config.prefix)
        self._roster = roster
        self._residents = residents
        self._topics = topics
        self._sources = sources
        self._changed = changed

    async def apply(self, served: Served, offset: int) -> None:
        """Serve this from now on; returns when it is so. `offset` is that of the last order in it."""
        changes = diff(self._roster.models, served.models)
        tell_refused(self._roster.refused, served.refused)
        # nothing is awaited between the two: whoever finds a model on the roster asks the residents for it
        self._roster.become(served)
        if changes:
            self._residents.follow(changes, served.models)
            tell_changes(changes, offset)
            self._changed.set()
            await self._make_topics()
            topics = request_topics(served.models, self._names)
            await asyncio.gather(*(self._read(source, topics) for source in self._sources))
            self._roster.forget()
        self._roster.offset = offset
        self._changed.set()

    async def _read(self, source: Source, topics: Mapping[Lane, Sequence[str]]) -> None:
        if source.reader != "retry":  # what is tried again is read whatever is served
            await source.subscribe(topics[source.reader], self._config.worker.shutdown_grace_s)

    async def _make_topics(self) -> None:
        """Make what is missing, however long Kafka is away: nothing could be read meanwhile in any case."""
        told = False
        while True:
            try:
                await ensure(self._topics, wanted_requests(self._config, self._roster.models, self._names))
            except (KafkaError, TimeoutError, AttributeError) as error:  # the latter: aiokafka knows no controller yet
                if not told:
                    log.warning("topics_not_created", extra={"error": f"{type(error).__name__}: {error}"})
                told = True
                await asyncio.sleep(AGAIN_S)
            else:
                return


def tell_refused(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say which orders are not followed that were not refused before."""
    new = [(model, why) for model, why in now.items() if before.get(model) != why]
    for model, why in new[:MOST_TOLD]:
        log.warning("order_refused", extra={"model": model, "why": why})
    if len(new) > MOST_TOLD:
        log.warning("orders_refused", extra={"further": len(new) - MOST_TOLD})


def tell_changes(changes: Changes, offset: int) -> None:
    """Say what is otherwise from now on, and up to which order."""
    log.info(
        "serving_changed",
        extra={
            "order": offset,
            "added": sorted(changes.added),
            "removed": sorted(changes.removed),
            "repointed": sorted(changes.repointed),
            "pinned": sorted(changes.pinned),
            "unpinned": sorted(changes.unpinned),
            "served": sorted(changes.served),
            "unserved": sorted(changes.unserved),
        },
    )
