"""May this tenant have more computed now, by what the whole fleet computed for it of late?

Each tenant has two budgets in Redis, of items and of tokens, which fill up at a fixed rate until they hold `burst_s`
seconds' worth. A request takes what it needs as long as neither is overdrawn, and may overdraw them: so a large one is
not refused for ever, and what a tenant gets within t seconds is at most `rate * (t + burst_s)` and one request. Kept
as the moment at which a budget will be full again (the generic cell rate algorithm, ITU-T I.371), by Redis's clock.
While Redis does not answer, nothing is counted and nobody refused: quotas protect neighbours, not the device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.names import Names
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

from embedmq_worker.config import ANYBODY, Tenant
from embedmq_worker.decode import fail
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending, Job
from embedmq_worker.metrics import Metrics

AWAY_S: Final = 1.0
"""How long Redis is not asked again that did not answer."""
NAME_CHARACTERS: Final = 128
"""Tenants whose names agree in so many share their budgets."""
FREE: Final = Tenant()

SCRIPT: Final = """
local clock = redis.call('TIME')
local now, burst = clock[1] + clock[2] / 1e6, tonumber(ARGV[1])
local full, waits = redis.call('HMGET', KEYS[1], 'items', 'tokens'), {}
local items, tokens = math.max(tonumber(full[1]) or 0, now), math.max(tonumber(full[2]) or 0, now)
for i = 2, #ARGV, 2 do
  local wait = math.max(items, tokens) - now - burst
  if wait <= 0 then
    items, tokens, wait = items + ARGV[i], tokens + ARGV[i + 1], 0
  end
  waits[#waits + 1] = string.format('%.3f', wait)
end
redis.call('HSET', KEYS[1], 'items', string.format('%.6f', items), 'tokens', string.format('%.6f', tokens))
redis.call('EXPIRE', KEYS[1], math.ceil(math.max(items, tokens) - now) + 1)
return waits
"""
"""KEYS: a tenant's budgets. ARGV: `burst_s`, then for each request how many seconds its items and its tokens take to
fill up again. Answers in how many seconds each would be taken: 0 for one that is."""

log = logging.getLogger(__name__)


class Quotas:
    """Charges requests to their tenants, in one round trip for all that was read together."""

    def __init__(self, client: RedisClient, names: Names, tenants: Mapping[str, Tenant], metrics: Metrics) -> None:
        """`client` should give up soon: what was read waits meanwhile."""
        self._client = client
        self._names = names
        self._tenants = tenants
        self._limiting = any(found.items_per_s or found.tokens_per_s for found in tenants.values())
        self._metrics = metrics
        self._away_until_s = 0.0

    async def charge(self, jobs: Sequence[Job]) -> list[Ending]:
        """Take what jobs need, whose tokens are counted, from their tenants' budgets; returns what becomes of those
        that there is too little for. What is tried again, or cut into tokens anew, was charged the first time.
        """
        charged = self._limited(jobs) if self._limiting else {}
        if not charged or time.monotonic() < self._away_until_s:
            return []
        pipe = self._client.pipeline(transaction=False)
        for tenant, group in charged.items():
            key = self._names.quota(tenant[:NAME_CHARACTERS])
            pipe.execute_command("EVAL", SCRIPT, 1, key, *_bill(self._limit(tenant), group))
        try:
            answers: list[list[bytes]] = await pipe.execute()
        except (RedisError, *TRANSPORT_ERRORS) as error:
            self._away_until_s = time.monotonic() + AWAY_S
            log.warning("quotas_not_counted", extra={"error": f"{type(error).__name__}: {error}"})
            return []
        refused: list[Ending] = []
        for group, waits in zip(charged.values(), answers, strict=True):
            for job, wait_s in zip(group, map(float, waits), strict=True):
                job.charged = wait_s <= 0
                refused += [] if job.charged else [self._refuse(job, wait_s)]
        return refused

    def _limited(self, jobs: Sequence[Job]) -> dict[str, list[Job]]:
        """Those whose tenants have quotas, by tenant."""
        found: dict[str, list[Job]] = {}
        for job in jobs:
            limit = self._limit(job.envelope.tenant)
            paid = job.charged or job.envelope.journey.attempts
            if (limit.items_per_s or limit.tokens_per_s) and not paid:
                found.setdefault(job.envelope.tenant, []).append(job)
        return found

    def _limit(self, tenant: str) -> Tenant:
        return self._tenants.get(tenant) or self._tenants.get(ANYBODY, FREE)

    def _refuse(self, job: Job, wait_s: float) -> Ending:
        tenant = job.envelope.tenant
        self._metrics.count("quota_refused_total", 1, tenant if tenant in self._tenants else ANYBODY)
        message = f"tenant {tenant[:64]!r} is over its quota: send it again in {wait_s:.1f} s"
        return fail(job, Fault("quota_exceeded", message), retry_after_s=wait_s)


def _bill(limit: Tenant, jobs: Sequence[Job]) -> list[float]:
    """The arguments of the script for the jobs of one tenant."""
    bill = [limit.burst_s]
    for job in jobs:
        tokens = job.prepared.tokens
        bill.append(len(tokens) / limit.items_per_s if limit.items_per_s else 0.0)
        bill.append(sum(tokens) / limit.tokens_per_s if limit.tokens_per_s else 0.0)
    return bill
