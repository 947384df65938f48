"""What becomes of a request for a model that this worker does not have?"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.names import Names
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

from embedmq_worker.decode import fail
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending, Job
from embedmq_worker.retry import Retries
from embedmq_worker.roster import Roster

REMEMBER_S: Final = 5.0
"""How long it is believed that the catalogue knows a model. That it does not is never remembered: it may any moment."""
REMEMBER_MOST: Final = 1_000
"""Names of models may be anything that was sent: no more of them are remembered."""

log = logging.getLogger(__name__)


class Strays:
    """Parks them, unspent, while the fleet knows the model: a deploy is under way, or hosts differ.

    One that this worker may load and does not serve is known, too: its requests wait until somebody serves it. A model
    that nobody knows gets one more chance, since a catalogue that was lost with its Redis is back by then.
    """

    def __init__(self, client: RedisClient, names: Names, roster: Roster, retries: Retries) -> None:
        self._client = client
        self._names = names
        self._roster = roster
        self._retries = retries
        self._known_s: dict[str, float] = {}

    async def settle(self, jobs: Sequence[Job]) -> list[Ending]:
        """Decide for each; asks the catalogue at most once, and takes a model for known when it cannot be asked."""
        now_s = time.monotonic()
        models = {job.envelope.model for job in jobs}
        ours = models.intersection(self._roster)
        unsure = [model for model in models - ours if now_s - self._known_s.get(model, float("-inf")) > REMEMBER_S]
        known = models.difference(unsure) | await self._look(unsure)
        if len(self._known_s) > REMEMBER_MOST:
            self._known_s.clear()
        self._known_s |= dict.fromkeys(known.intersection(unsure), now_s)
        return [self._settle(job, time.time() * 1000, known=job.envelope.model in known) for job in jobs]

    async def _look(self, models: Sequence[str]) -> set[str]:
        if not models:
            return set()
        try:
            found = await self._client.mget([self._names.model(model) for model in models])
        except (RedisError, *TRANSPORT_ERRORS) as error:
            log.warning("catalogue_not_read", extra={"error": f"{type(error).__name__}: {error}"})
            return set(models)
        return {model for model, entry in zip(models, found, strict=True) if entry is not None}

    def _settle(self, job: Job, now_unix_ms: float, *, known: bool) -> Ending:
        model, journey = job.envelope.model, job.envelope.journey
        if known:
            return self._retries.park(job, Fault("unknown_model", f"{model} is not served here just now"), now_unix_ms)
        fault = Fault("unknown_model", f"no model {model!r} is served here; there are: {self._served()}")
        return fail(job, fault) if journey.parked else self._retries.park(job, fault, now_unix_ms)

    def _served(self) -> str:
        return ", ".join(sorted(name for name in self._roster if self._roster.serves(name)))
