"""What does this worker tell clients and colleagues, and when?"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.catalogue import (
    CATALOGUE_TTL_S,
    STATUS_PERIOD_S,
    STATUS_TTL_S,
    ModelEntry,
    WorkerStatus,
    decode_model,
    encode,
)
from embedmq_schemas.names import Names
from msgspec import MsgspecError, structs
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

from embedmq_worker.config import Config
from embedmq_worker.metrics import Metrics
from embedmq_worker.residents import Residents
from embedmq_worker.road import Road
from embedmq_worker.roster import Roster
from embedmq_worker.status import Status

WITHDRAW_TIMEOUT_S = 1.0
"""It expires anyway: a stop does not wait for a Redis that is away."""

log = logging.getLogger(__name__)


class Catalogue:
    """Writes the models' entries and this worker's status while the worker runs."""

    def __init__(
        self,
        client: RedisClient,
        config: Config,
        names: Names,
        worker_id: str,
        residents: Residents,
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._config = config
        self._names = names
        self._worker_id = worker_id
        self._residents = residents
        self._metrics = metrics

    async def publish(self, road: Road) -> None:
        """Write the catalogue and the status every few seconds, since a Redis that was restarted has forgotten both,
        and whenever what is served has changed. The metrics say the same, whether Redis is there or not.
        """
        status = Status(self._config, self._names, self._worker_id, road)
        missed = False
        while True:
            road.changed.clear()  # first: what changes while it is written is written next
            found = status.now()
            _measure(self._metrics, found)
            try:
                await self._write(found, road.roster)
                missed = False
            except (RedisError, *TRANSPORT_ERRORS) as error:
                if not missed:
                    log.warning("catalogue_not_written", extra={"error": f"{type(error).__name__}: {error}"})
                missed = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(road.changed.wait(), STATUS_PERIOD_S)

    async def withdraw(self) -> None:
        """Take this worker's status away when it stops; the catalogue stays for the others, and expires."""
        try:
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await self._client.delete(self._names.worker(self._worker_id))
        except (RedisError, *TRANSPORT_ERRORS):
            log.warning("status_not_withdrawn")

    async def _write(self, status: WorkerStatus, roster: Roster) -> None:
        shared = {name: model.shared for name, model in roster.items()}  # it may change while Redis answers
        keys = [self._names.model(name) for name in shared]
        known = await self._client.mget(keys)
        pipe = self._client.pipeline(transaction=False)
        for name, key, value in zip(shared, keys, known, strict=True):
            entry = self._entry(name, value, shared=shared[name])
            pipe.execute_command("SET", key, encode(entry), "EX", CATALOGUE_TTL_S)
        pipe.execute_command("SET", self._names.worker(self._worker_id), encode(status), "EX", STATUS_TTL_S)
        await pipe.execute()

    def _entry(self, name: str, known: bytes | str | None, *, shared: bool) -> ModelEntry:
        """Where a model is served, which the configuration says, and what it can do, which whoever loaded it says."""
        limits, facts = self._config.limits, self._residents.facts(name)
        if facts is None:
            return structs.replace(_read(known) or ModelEntry(name=name, outputs=[]), shared=shared, limits=limits)
        return ModelEntry(
            name=name,
            shared=shared,
            outputs=list(facts.outputs),
            scores=facts.scores,
            dimensions=facts.dimensions,
            max_tokens=facts.max_tokens,
            revision=facts.revision,
            limits=limits,
        )


def _read(known: bytes | str | None) -> ModelEntry | None:
    try:
        return decode_model(known) if isinstance(known, bytes) else None
    except MsgspecError:
        return None


def _measure(metrics: Metrics, status: WorkerStatus) -> None:
    """Bring the gauges of what waits up to date. A model that is served no more has none."""
    lags = {(name, lane): lag for name, model in status.models.items() for lane, lag in model.lag.items()}
    metrics.set_all("lag_records", {labels: lag.records for labels, lag in lags.items()})
    metrics.set_all("lag_tokens", {labels: lag.tokens for labels, lag in lags.items()})
    metrics.set_all("lag_age_seconds", {labels: lag.oldest_s for labels, lag in lags.items()})
    metrics.set("device_busy_ratio", status.busy or 0.0)
