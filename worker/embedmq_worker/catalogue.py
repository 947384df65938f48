"""What does this worker tell clients and colleagues, and when?"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, Sequence

from embedmq_schemas.catalogue import (
    CATALOGUE_TTL_S,
    STATUS_PERIOD_S,
    STATUS_TTL_S,
    ModelEntry,
    ModelStatus,
    WorkerStatus,
    encode,
)
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

from embedmq_worker.config import Config
from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.meter import Meter
from embedmq_worker.source import Source
from embedmq_worker.waiting import Waiting

WITHDRAW_TIMEOUT_S = 1.0
"""It expires anyway: a stop does not wait for a Redis that is away."""

log = logging.getLogger(__name__)


class Catalogue:
    """Writes the models' entries and this worker's status while the worker runs."""

    def __init__(
        self, client: RedisClient, config: Config, names: Names, worker_id: str, facts: Mapping[str, ModelFacts]
    ) -> None:
        self._client = client
        self._config = config
        self._names = names
        self._worker_id = worker_id
        self._facts = facts
        self._started_unix_ms = int(time.time() * 1000)

    async def publish(self, waiting: Waiting, meter: Meter, sources: Sequence[Source]) -> None:
        """Write the catalogue and the status every few seconds: a Redis that was restarted has forgotten both."""
        missed = False
        while True:
            try:
                await self._write(self.status(waiting, meter, sources))
                missed = False
            except (RedisError, OSError) as error:
                if not missed:
                    log.warning("catalogue_not_written", extra={"error": f"{type(error).__name__}: {error}"})
                missed = True
            await asyncio.sleep(STATUS_PERIOD_S)

    async def withdraw(self) -> None:
        """Take this worker's status away when it stops; the catalogue stays for the others, and expires."""
        try:
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await self._client.delete(self._names.worker(self._worker_id))
        except (RedisError, OSError, TimeoutError):
            log.warning("status_not_withdrawn")

    def status(self, waiting: Waiting, meter: Meter, sources: Sequence[Source]) -> WorkerStatus:
        """What clients are told to expect: tokens that wait here and in Kafka, by the rate of late."""
        lags = {source.lane: source.lag() for source in sources}
        models: dict[str, ModelStatus] = {}
        for name, facts in self._facts.items():
            model = self._config.models[name]
            wait_s: dict[str, float] = {}
            for lane in LANES:
                topic = self._names.shared(lane) if model.shared else self._names.requests(name, lane)
                behind = lags.get(lane, {}).get(topic, 0) * meter.tokens_per_request.get(name, 0.0)
                tokens = waiting.wait_tokens(name, lane) + behind
                wait_s[lane] = round(tokens / meter.tokens_per_s[name], 3)
            models[name] = ModelStatus(state="resident", pinned=model.pinned, bytes=facts.bytes, wait_s=wait_s)
        return WorkerStatus(
            id=self._worker_id,
            host=socket.gethostname(),
            started_unix_ms=self._started_unix_ms,
            device=self._config.worker.device,
            models=models,
        )

    async def _write(self, status: WorkerStatus) -> None:
        pipe = self._client.pipeline(transaction=False)
        for name, facts in self._facts.items():
            entry = ModelEntry(
                name=name,
                shared=self._config.models[name].shared,
                outputs=list(facts.outputs),
                scores=facts.scores,
                dimensions=facts.dimensions,
                max_tokens=facts.max_tokens,
                revision=facts.revision,
                limits=self._config.limits,
            )
            pipe.execute_command("SET", self._names.model(name), encode(entry), "EX", CATALOGUE_TTL_S)
        pipe.execute_command("SET", self._names.worker(self._worker_id), encode(status), "EX", STATUS_TTL_S)
        await pipe.execute()
