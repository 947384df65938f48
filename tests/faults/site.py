"""Where does a row take place? Topics and a Redis of its own, workers under test, and an oracle that never looks away.

    async with Site(place, "1", rng, figures) as site:
        worker = await site.crew.hire()
        await site.asking.burst(100)
        await site.crew.kill(worker)
        ...
        await site.settle()      # everything is answered, and every invariant holds

Workers reach Redis through `site.network`, and Kafka through the place's fronts if a row says so; the oracle reaches
both directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_local.stack import Stack
from redis.exceptions import RedisError

from tests.faults.asking import Asking
from tests.faults.crew import Crew
from tests.faults.figures import Figures
from tests.faults.ledger import Ledger
from tests.faults.oracle import Commits, contradictions, duplicates, listed, repeated, unanswered
from tests.faults.proxy import Proxy
from tests.faults.seen import KafkaReader, Outcomes, RedisReader

LOOK_S: Final = 0.1
PATIENCE_S: Final = 90.0
"""For answers, which come on any machine; …"""
LOST_S: Final = 20.0
"""… with a bug planted, some are lost, and then nothing comes."""
POLL_S: Final = 0.02
MODELS: Final = """
[models.null]
checkpoint = "null:8?batch_ms=40"
pinned = true

[models.tail]
checkpoint = "null:8?batch_ms=40"
shared = true
pinned = true
"""
SESSION: Final = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_000, "rebalance_timeout_ms": 15_000}
KAFKA: Final = {**SESSION, "partitions": 4}
WORKER: Final = {"max_batch_items": 8, "max_in_flight_items": 128, "retry_delays_s": [1, 3]}


class Site:
    """One row's place. Enter it, hire workers, ask, strike, settle."""

    def __init__(
        self,
        stack: Stack,
        folder: Path,
        rng: random.Random,
        figures: Figures,
        *,
        models: str = MODELS,
        kafka: dict[str, object] | None = None,
        worker: dict[str, object] | None = None,
        redis: dict[str, object] | None = None,
        plant: str = "",
    ) -> None:
        self.prefix = f"f{uuid.uuid4().hex[:10]}"
        self.rng = rng
        self.figures = figures
        self.ledger = Ledger()
        self.outcomes = Outcomes()
        self.redis_lossy = False
        """Redis has lost data: what a worker delivered before may be gone."""
        self.network = Proxy()
        self.reply_topic = f"{self.prefix}-replies"
        self.stack = stack
        self._folder = folder / self.prefix
        tables = {"kafka": {**KAFKA, **(kafka or {})}, "worker": {**WORKER, **(worker or {})}, "redis": redis or {}}
        self._config = "\n".join([f'prefix = "{self.prefix}"', *map(toml, tables.items()), models])
        self.plant = plant
        self.patience_s = LOST_S if plant else PATIENCE_S
        self._rounds = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True)
        self.redis = await self.own_redis("redis")
        self.network.target = self.redis.address
        await self._stack.enter_async_context(self.network)
        await self.create(self.reply_topic, 2)
        config = self._folder / "worker.toml"
        config.write_text(self._config)
        self.crew = Crew(self, self._folder, config, self.plant)
        self._stack.push_async_callback(self.crew.dismiss)
        self.asking = Asking(self.prefix, self.reply_topic, self.rng, self.ledger, self.stack.kafka)
        self.kafka = KafkaReader(self.stack.kafka, self.prefix, self.reply_topic, self.outcomes)
        self.reading = RedisReader(self.redis.url, self.prefix, self.outcomes)
        self.commits = Commits(self.ledger, self.outcomes)
        await self.asking.start()
        self._stack.push_async_callback(self.asking.stop)
        await self.kafka.start()
        self._stack.push_async_callback(self.kafka.stop)
        self._stack.push_async_callback(self.reading.client.aclose)
        watching = asyncio.create_task(self._watch())
        self._stack.push_async_callback(self._end, watching)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.problem(f"ended by {kind.__name__}")
        await self._stack.aclose()

    @property
    def open(self) -> list[str]:
        """Accepted ids without any outcome yet."""
        return [id for id in self.ledger.accepted if id not in self.outcomes.answered_ns]

    def problem(self, what: str) -> None:
        self.figures.problems.append(what)

    async def admin(self, order: Callable[[AIOKafkaAdminClient], Awaitable[object]]) -> object:
        """Have Kafka do something to its topics."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.kafka)
        await admin.start()
        try:
            return await order(admin)
        finally:
            await admin.close()

    async def create(self, topic: str, partitions: int) -> None:
        """Create a topic, perhaps one whose deletion is under way."""
        new = NewTopic(topic, partitions, min(3, len(self.stack.brokers)))
        while True:
            answer: Any = await self.admin(lambda admin: admin.create_topics([new]))
            if not answer.topic_errors[0][1]:
                return
            await asyncio.sleep(LOOK_S)

    async def own_redis(self, name: str) -> RedisServer:
        """A Redis that belongs to this site."""
        folder = self._folder / name
        (folder / "logs").mkdir(parents=True)
        server = RedisServer(find_redis(), folder, None, persistent=False)
        await asyncio.to_thread(server.start)
        self._stack.push_async_callback(asyncio.to_thread, _end_server, server)
        return server

    @contextlib.asynccontextmanager
    async def under_load(self, open: int = 200) -> AsyncIterator[None]:
        """So many requests are always under way."""

        async def keep_asking() -> None:
            while True:
                if len(self.open) < open:
                    await self.asking.burst(40)
                await asyncio.sleep(POLL_S)

        asking = asyncio.create_task(keep_asking())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait({asking})

    def move_redis(self, server: RedisServer) -> None:
        """From now on, results are read there."""
        self.reading = RedisReader(server.url, self.prefix, self.outcomes)
        self._stack.push_async_callback(self.reading.client.aclose)

    async def until(self, holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> bool:
        """Wait until something holds; a problem of the row if it does not in time."""
        held = await self._wait(holds, timeout_s)
        if not held:
            self.problem(f"{what}: not within {timeout_s:g} s")
        return held

    async def answered(self, timeout_s: float | None = None) -> None:
        """Until every accepted request has its answer (I1)."""
        await self._wait(lambda: not unanswered(self.ledger, self.outcomes), timeout_s or self.patience_s)

    async def settle(self, timeout_s: float | None = None) -> None:
        """Everything is answered and at rest; then all invariants are looked at. The end of each row."""
        timeout_s = timeout_s or self.patience_s
        await self.answered(timeout_s)
        lag = await self._lag()
        end_s = time.monotonic() + timeout_s / 3
        while lag and time.monotonic() < end_s:
            await asyncio.sleep(LOOK_S)
            lag = await self._lag()
        await self._look_again()
        await self.crew.measure()
        self._judge(lag)
        await self._check_rest()

    async def _wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Look until something holds, or the time is over; what is looked at are other processes."""
        end_s = time.monotonic() + timeout_s
        while not (held := holds()) and time.monotonic() < end_s:  # noqa: ASYNC110  # no event comes from outside
            await asyncio.sleep(POLL_S)
        return held

    def _judge(self, lag: dict[str, int]) -> None:
        figures, missing = self.figures, unanswered(self.ledger, self.outcomes)
        wrong = contradictions(self.ledger, self.outcomes)
        figures.ids += len(self.ledger)
        figures.answers += len(self.ledger) - len(missing)
        figures.lost += len(missing)
        figures.second_results += sum(problem.startswith("I2") for problem in wrong)
        figures.repeated += repeated(self.ledger, self.outcomes)
        figures.commits_checked += self.commits.checks
        twice = duplicates(self.crew.diaries.computed(), self.ledger)
        figures.computed_twice += twice
        bound = self.crew.interruptions * self.crew.window_items
        figures.computed_twice_bound += bound
        if twice > bound:
            wrong.append(f"I6: {twice} items were computed twice, more than the {bound} that were in flight")
        if missing:
            wrong.append(f"I1: {len(missing)} of {len(self.ledger)} accepted requests have no answer: {missing[:3]}")
        wrong += [f"I5: lag of {lag}"] if lag else []
        wrong += [f"I4 (seen by the worker): {what}" for life in self.crew.diaries.read() for what in life.violations]
        figures.problems += listed(wrong)

    async def _check_rest(self) -> None:
        """I5: nothing is left behind in Redis or in a worker."""
        client = self.reading.client
        keys = [key async for key in client.scan_iter(match=f"{self.prefix}*", count=1_000)]
        eternal = [key.decode() for key in keys if await client.ttl(key) == -1]
        if eternal:
            self.problem(f"I5: keys without a time to live: {eternal[:3]}")
        await self.crew.ready(*self.crew.running)
        for worker in self.crew.running:
            if held := await self.crew.held(worker):
                self.problem(f"I5: {worker.name} holds {held:g} items at rest")

    async def _lag(self) -> dict[str, int]:
        try:
            parts = await self.kafka.read_by_groups()
            ends, committed = await self.kafka.ends(parts), await self.kafka.committed()
        except (KafkaError, OSError) as error:
            return {type(error).__name__: 1}
        return {
            f"{tp.topic}-{tp.partition}": end - committed.get(tp, 0)
            for tp, end in ends.items()
            if end > committed.get(tp, 0)
        }

    async def _watch(self) -> None:
        """Read commits first, then outcomes: what is committed must have one by then (I4)."""
        while True:
            try:
                committed = await self.kafka.committed()
                await self.kafka.read()
                kept = [asked.id for asked in self.ledger if asked.where == "kept"]
                await self.reading.read(self.asking.clients, kept)
            except (KafkaError, RedisError, OSError):
                await asyncio.sleep(LOOK_S)
                continue
            self.figures.problems += listed(self.commits.check(committed, self._excused()))
            self._rounds += 1
            await asyncio.sleep(LOOK_S)

    def _excused(self) -> set[str]:
        if not self.redis_lossy:
            return set()
        return {id for life in self.crew.diaries.read() for id in life.delivered}

    async def _look_again(self) -> None:
        """Until the watch has read everything once more."""
        before = self._rounds
        await self.until(lambda: self._rounds >= before + 2, "reading what became of the requests")

    async def _end(self, watching: asyncio.Task[None]) -> None:
        if watching.done():
            watching.result()  # it never ends by itself: say why
        watching.cancel()
        await asyncio.wait({watching})


def toml(section: tuple[str, dict[str, object]]) -> str:
    """A section of simple values as TOML, which for those is JSON."""
    name, table = section
    return "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())])


def _end_server(server: RedisServer) -> None:
    if server.running:
        server.stop(kill=True)
    server.close()
