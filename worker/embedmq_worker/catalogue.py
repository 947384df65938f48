"""What does this worker tell clients and colleagues, and when?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import islice

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.catalogue import (
    CATALOGUE_TTL_S,
    STATUS_PERIOD_S,
    STATUS_TTL_S,
    ModelEntry,
    ModelStatus,
    WorkerStatus,
    decode_model,
    encode,
)
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES, Lane
from msgspec import MsgspecError, structs
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

from embedmq_worker.config import Config
from embedmq_worker.meter import Meter
from embedmq_worker.residents import Residents
from embedmq_worker.roster import Roster
from embedmq_worker.source import Source
from embedmq_worker.waiting import Waiting

WITHDRAW_TIMEOUT_S = 1.0
"""It expires anyway: a stop does not wait for a Redis that is away."""

MOST_REFUSED = 100
"""Models named in the status whose last order is not followed."""

log = logging.getLogger(__name__)


class Catalogue:
    """Writes the models' entries and this worker's status while the worker runs."""

    def __init__(
        self,
        client: RedisClient,
        config: Config,
        roster: Roster,
        names: Names,
        worker_id: str,
        residents: Residents,
    ) -> None:
        self._client = client
        self._config = config
        self._roster = roster
        self._names = names
        self._worker_id = worker_id
        self._residents = residents
        self._started_unix_ms = int(time.time() * 1000)

    async def publish(self, waiting: Waiting, meter: Meter, sources: Sequence[Source], changed: asyncio.Event) -> None:
        """Write the catalogue and the status every few seconds, since a Redis that was restarted has forgotten both,
        and whenever what is served `changed`.
        """
        missed = False
        while True:
            try:
                await self._write(self.status(waiting, meter, sources))
                missed = False
            except (RedisError, *TRANSPORT_ERRORS) as error:
                if not missed:
                    log.warning("catalogue_not_written", extra={"error": f"{type(error).__name__}: {error}"})
                missed = True
            changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), STATUS_PERIOD_S)

    async def withdraw(self) -> None:
        """Take this worker's status away when it stops; the catalogue stays for the others, and expires."""
        try:
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await self._client.delete(self._names.worker(self._worker_id))
        except (RedisError, *TRANSPORT_ERRORS):
            log.warning("status_not_withdrawn")

    def status(self, waiting: Waiting, meter: Meter, sources: Sequence[Source]) -> WorkerStatus:
        """What clients are told to expect: tokens that wait here and in Kafka, by the rate of late."""
        lags = {source.reader: source.lag() for source in sources}
        now_s = time.monotonic()
        models: dict[str, ModelStatus] = {}
        for name, state in self._residents.states().items():
            if name not in self._roster:
                continue
            facts = self._residents.facts(name)
            models[name] = ModelStatus(
                state=state.state,
                pinned=self._roster[name].pinned,
                served=self._roster.serves(name),
                entry=self._roster.entry(name),
                bytes=state.bytes,
                wait_s={lane: self._wait_s(name, lane, waiting, meter, lags.get(lane, {})) for lane in LANES}
                if name in meter.tokens_per_s
                else {},
                path=facts.path if facts else "",
                reason=facts.reason if facts else "",
                computed_in=facts.computed_in if facts else "",
                idle_s=None if state.last_use_s is None else round(now_s - state.last_use_s, 3),
                loads=state.loads,
                evictions=state.evictions,
                failures=state.failures,
                error=state.error,
                thrashing=state.thrashing,
            )
        return WorkerStatus(
            id=self._worker_id,
            host=socket.gethostname(),
            started_unix_ms=self._started_unix_ms,
            device=self._config.worker.device,
            models=models,
            control_offset=self._roster.offset,
            refused=dict(islice(self._roster.refused.items(), MOST_REFUSED)),
        )

    def _wait_s(self, model: str, lane: Lane, waiting: Waiting, meter: Meter, lags: Mapping[str, int]) -> float:
        """What waits here and in Kafka, by the rate of late."""
        shared = self._roster[model].shared
        topic = self._names.shared(lane) if shared else self._names.requests(model, lane)
        behind = lags.get(topic, 0) * meter.tokens_per_request.get(model, 0.0)
        return round((waiting.wait_tokens(model, lane) + behind) / meter.tokens_per_s[model], 3)

    async def _write(self, status: WorkerStatus) -> None:
        roster = dict(self._roster)  # it may change while Redis answers
        keys = [self._names.model(name) for name in roster]
        known = await self._client.mget(keys)
        pipe = self._client.pipeline(transaction=False)
        for name, key, value in zip(roster, keys, known, strict=True):
            pipe.execute_command("SET", key, encode(self._entry(name, roster[name].shared, value)), "EX", CATALOGUE_TTL_S)
        pipe.execute_command("SET", self._names.worker(self._worker_id), encode(status), "EX", STATUS_TTL_S)
        await pipe.execute()

    def _entry(self, name: str, shared: bool, known: bytes | str | None) -> ModelEntry:
        """Where a model is served, which the configuration says, and what it can do, which whoever loaded it says."""
        limits = self._config.limits
        facts = self._residents.facts(name)
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
