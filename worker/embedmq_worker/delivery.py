"""How does a set of outcomes reach everybody who waits for one of them?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from embedmq_worker.decode import fail
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending, Outcome
from embedmq_worker.meter import Meter
from embedmq_worker.plan import Plan, Planner
from embedmq_worker.redis_sink import RedisSink
from embedmq_worker.topic_sink import TopicSink


class Delivery:
    """Plans the writes and has them done; returns once all of them are acknowledged."""

    def __init__(self, planner: Planner, redis: RedisSink, topics: TopicSink, meter: Meter) -> None:
        self._planner = planner
        self.redis = redis
        self.topics = topics
        self._meter = meter

    async def deliver(self, endings: Sequence[Ending]) -> None:
        """Write everything; what cannot be delivered leaves a dead letter, and the failure kept under its id. A request
        that fits no retry topic has failed.
        """
        if not endings:
            return
        refused = await self._write(self._planner.plan(endings))
        failed = [fail(ending.job, fault) for ending, fault in refused if not isinstance(ending, Outcome)]
        if failed:
            refused += await self._write(self._planner.plan(failed))
        lost = [(ending, fault) for ending, fault in refused if isinstance(ending, Outcome)]
        if lost:
            await self._write(self._planner.undelivered(lost))

    async def _write(self, plan: Plan) -> list[tuple[Ending, Fault]]:
        redis, topics = await asyncio.gather(
            self.redis.write([*plan.streams, *plan.keeps]),
            self.topics.write([*plan.replies, *plan.dead, *plan.retries]),
        )
        self._meter.sent_on(plan)
        return [*redis, *topics]
