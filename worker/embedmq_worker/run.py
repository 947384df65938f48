"""How do the parts become a running worker, and how does it stop? The only place that knows them all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from aiokafka.errors import KafkaError
from embedmq_schemas.connection import redact_url
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES
from redis.asyncio import Redis as RedisClient

from embedmq_worker.catalogue import Catalogue
from embedmq_worker.choose import budget
from embedmq_worker.config import Config
from embedmq_worker.decode import Decoder
from embedmq_worker.delivery import Delivery
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Engine
from embedmq_worker.errors import ConfigInvalid, Unreachable
from embedmq_worker.health import Endpoint, Health
from embedmq_worker.meter import Meter
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import Planner
from embedmq_worker.redis_sink import RedisSink, connect, wait_reachable
from embedmq_worker.road import Road
from embedmq_worker.room import Room
from embedmq_worker.source import Source
from embedmq_worker.topic_sink import TopicSink
from embedmq_worker.topics import Topics, ensure, request_topics
from embedmq_worker.waiting import Waiting

BEAT_S = 1.0
COLLECT_AFTER_OBJECTS = 50_000

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class World:
    """The open connections of one worker."""

    redis: RedisClient
    topics: Topics
    replies: TopicSink


def worker_name() -> str:
    """A name of its own for each process: host and pid come back, random bits do not."""
    return uuid.uuid4().hex[:12]


async def serve(config: Config, worker_id: str) -> None:
    """Run one worker until SIGTERM or SIGINT; returns when all that it read is delivered, committed and left.

    Raises:
        CheckpointInvalid: a model cannot be loaded.
        ConfigInvalid: the HTTP address cannot be used.
        Unreachable: Kafka or Redis did not answer in time.
    """
    stop = _stop_on_signals()
    health, metrics = Health(), Metrics()
    async with contextlib.AsyncExitStack() as stack:
        endpoint = Endpoint(config.worker.http, health, metrics.registry)
        endpoint.start()
        stack.callback(endpoint.stop)
        stack.callback(asyncio.create_task(_beat(health)).cancel)
        device = stack.enter_context(ThreadPoolExecutor(1, "device"))
        tokenizers = stack.enter_context(ThreadPoolExecutor(config.worker.tokenizer_threads, "tokenizer"))
        starting = asyncio.create_task(_start(config, stack, health, device))
        await _first(starting, stop)
        if not starting.cancelled():
            world, engines = starting.result()
            road = _assemble(config, worker_id, world, engines, metrics, (tokenizers, device))
            endpoint.refresh = lambda: _refresh(metrics, road, engines)
            _spare_the_collector()
            log.info("started", extra={"http": endpoint.address, "models": sorted(engines)})
            facts = {name: engine.facts for name, engine in engines.items()}
            catalogue = Catalogue(world.redis, config, Names(config.prefix), worker_id, facts)
            await _run(config, road, health, catalogue, stop)
    log.info("stopped")


async def _start(
    config: Config, stack: contextlib.AsyncExitStack, health: Health, device: ThreadPoolExecutor
) -> tuple[World, dict[str, Engine]]:
    """Whatever may take long before there is work to be drained."""
    health.waiting_for = ("Kafka and Redis",)
    world = await stack.enter_async_context(connected(config))
    health.waiting_for = ("models",)
    return world, await _load(config, device)


async def _first(task: asyncio.Task[T], stop: asyncio.Event) -> None:
    """Wait for a task, which is cancelled when told to stop first."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for late in (task, stopping):
        late.cancel()
    await asyncio.wait({task, stopping})


async def _run(config: Config, road: Road, health: Health, catalogue: Catalogue, stop: asyncio.Event) -> None:
    """Join the groups, work until told to stop, drain, leave."""
    health.waiting_for = ("Kafka's groups",)
    for source in road.sources:
        await source.start()
    background = [
        asyncio.create_task(_become_ready(health, road)),
        asyncio.create_task(catalogue.publish(road.waiting, road.meter, road.sources)),
    ]
    running = asyncio.create_task(road.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        health.waiting_for = ("the end: stopping",)
        log.info("stopping", extra={"in_flight_items": road.room.held.items})
        for source in road.sources:
            source.stop()
        await asyncio.wait({running}, timeout=config.worker.shutdown_grace_s)
        if not running.done():
            log.warning("grace_passed", extra={"in_flight_items": road.room.held.items})
    finally:
        for task in (*background, stopping, running):
            task.cancel()
        await asyncio.gather(*background, stopping, return_exceptions=True)
        await catalogue.withdraw()
        for source in road.sources:
            await source.close()
    if running.done() and not running.cancelled():
        running.result()


@contextlib.asynccontextmanager
async def connected(config: Config) -> AsyncIterator[World]:
    """Reach Redis and Kafka, create the topics, and close everything at the end."""
    redis = connect(config.redis)
    try:
        topics = Topics(config.kafka)
        replies = TopicSink(config, topics)
    except OSError as error:  # ssl's errors are some
        raise ConfigInvalid(f"kafka: a certificate or key cannot be used: {error}") from error
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        reason = await wait_reachable(redis, config.redis.start_timeout_s)
        if reason is not None:
            shown = redact_url(config.redis.url)
            raise Unreachable(f"Redis at {shown} did not answer in {config.redis.start_timeout_s:g} s: {reason}")
        stack.push_async_callback(topics.close)
        stack.push_async_callback(replies.close)
        await _reach_kafka(config, topics, replies)
        await ensure(topics, config, Names(config.prefix))
        yield World(redis, topics, replies)


async def _reach_kafka(config: Config, topics: Topics, replies: TopicSink) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + config.kafka.start_timeout_s
    while True:
        try:
            await topics.start()
            await replies.start()
        except KafkaError as error:
            if loop.time() >= end_s or not error.retriable:
                shown = ",".join(config.kafka.bootstrap)
                raise Unreachable(
                    f"Kafka at {shown} did not let us in within {config.kafka.start_timeout_s:g} s: "
                    f"{type(error).__name__}: {error}"
                ) from error
            await asyncio.sleep(0.5)
        else:
            return


async def _load(config: Config, device: ThreadPoolExecutor) -> dict[str, Engine]:
    loop = asyncio.get_running_loop()
    engines: dict[str, Engine] = {}
    for name, model in config.models.items():
        start_s = loop.time()
        engines[name] = await loop.run_in_executor(device, load, model, config.worker.device)
        facts = engines[name].facts
        extra = {
            "model": name,
            "path": facts.path,
            "revision": facts.revision,
            "tokens_per_s": _finite(facts.tokens_per_s),
        }
        log.info("model_loaded", extra={**extra, "seconds": round(loop.time() - start_s, 3)})
    return engines


def _assemble(
    config: Config,
    worker_id: str,
    world: World,
    engines: Mapping[str, Engine],
    metrics: Metrics,
    executors: tuple[ThreadPoolExecutor, ThreadPoolExecutor],
) -> Road:
    names, settings = Names(config.prefix), config.worker
    facts = {name: engine.facts for name, engine in engines.items()}
    budgets = {
        name: budget(f.tokens_per_s, settings.max_batch_ms, settings.max_batch_tokens, settings.max_batch_items)
        for name, f in facts.items()
    }
    meter = Meter(metrics, budgets, {name: f.tokens_per_s for name, f in facts.items()})
    road = Road(
        sources=[],
        decoder=Decoder(config, names, facts),
        engines=engines,
        room=Room(settings),
        waiting=Waiting(budgets),
        delivery=Delivery(
            Planner(names, config.redis, config.limits, worker_id),
            RedisSink(world.redis, config.redis, metrics),
            world.replies,
            meter,
        ),
        meter=meter,
        tokenizers=executors[0],
        device=executors[1],
        commit_interval_s=config.kafka.commit_interval_ms / 1000,
    )
    topics = request_topics(config, names)
    road.sources = [
        Source(
            lane,
            names.group(lane),
            topics[lane],
            config.kafka,
            worker_id,
            partial(metrics.count, "rebalances_total", 1, lane),
            road.discard_revoked,
        )
        for lane in LANES
    ]
    return road


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _spare_the_collector() -> None:
    """What was made until now stays, and what travels the road dies by reference count: it is made without cycles. So
    the cyclic collector has little to find; left alone, it took a fifth of the loop's time at 256 requests in flight.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, 20, 20)


async def _beat(health: Health) -> None:
    while True:
        health.beat()
        await asyncio.sleep(BEAT_S)


async def _become_ready(health: Health, road: Road) -> None:
    for source in road.sources:
        await source.joined.wait()
    health.waiting_for = ()
    log.info("ready")


def _refresh(metrics: Metrics, road: Road, engines: Mapping[str, Engine]) -> None:
    """Bring the gauges up to date when somebody looks. Called in the HTTP thread: it only reads numbers."""
    metrics.set("in_flight_bytes", road.room.held.bytes)
    metrics.set("in_flight_bytes_peak", road.room.peak_bytes)
    metrics.set("in_flight_items", road.room.held.items)
    for source in road.sources:
        metrics.set("assigned_partitions", source.partitions, source.lane)
    for name, engine in engines.items():
        metrics.set("model_loaded", 1, name)
        metrics.set("model_bytes", engine.facts.bytes, name)


def _finite(rate: float) -> float | None:
    """JSON has no infinity."""
    return None if rate == float("inf") else round(rate, 1)
