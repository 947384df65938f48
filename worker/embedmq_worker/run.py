"""How does a worker start, become ready, drain and stop?"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import uuid
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from embedmq_schemas.names import Names

from embedmq_worker.assemble import Threads, assemble, pools
from embedmq_worker.begin import start
from embedmq_worker.catalogue import Catalogue
from embedmq_worker.config import Config
from embedmq_worker.errors import Unreachable
from embedmq_worker.gauges import describe, refresh
from embedmq_worker.health import Endpoint, Health
from embedmq_worker.heap import return_large_buffers
from embedmq_worker.metrics import Metrics
from embedmq_worker.offload import in_thread
from embedmq_worker.road import Road
from embedmq_worker.rollout import Rollout
from embedmq_worker.steering import Reread, Steering, on_hangup
from embedmq_worker.trace import Noted
from embedmq_worker.trace_export import Exporter
from embedmq_worker.unserved import Unserved
from embedmq_worker.watch import Watch

BEAT_S = 1.0
CANCEL_AGAIN_S = 1.0
COLLECT_AFTER_OBJECTS = 20_000

T = TypeVar("T")

log = logging.getLogger(__name__)


def worker_name() -> str:
    """A name of its own for each process: host and pid come back, random bits do not."""
    return uuid.uuid4().hex[:12]


async def serve(config: Config, worker_id: str, sharers: int = 1, reread: Reread | None = None) -> None:
    """Run one worker until SIGTERM or SIGINT; returns when all that it read is delivered, committed and left.

    `sharers` workers share the device, so each takes its part of the memory. At SIGHUP `reread` says what is configured
    by now; without it nothing else is.

    Raises:
        CheckpointInvalid, CheckpointUnreachable: a pinned model cannot be loaded.
        ConfigInvalid: the HTTP address cannot be used, or what tracing needs is not installed.
        Unreachable: Kafka or Redis did not answer in time.
    """
    stop, hung_up = _stop_on_signals(), on_hangup()
    return_large_buffers()  # unless a model that is loaded wants it otherwise
    health, metrics = Health(), Metrics()
    async with contextlib.AsyncExitStack() as stack:
        endpoint = Endpoint(config.worker.http, health, metrics.registry)
        describe(metrics, config)
        endpoint.refresh_by(partial(refresh, metrics, health, None, config.worker.device))
        endpoint.start()
        stack.callback(endpoint.stop)
        stack.callback(asyncio.create_task(_beat(health)).cancel)
        threads = Threads(*(stack.enter_context(pool) for pool in pools(config)))
        put = _exporting(config, worker_id, metrics, stack) if config.tracing.enabled else None
        starting = asyncio.create_task(start(config, worker_id, stack, health, metrics, sharers))
        await _first(starting, stop)
        if not starting.cancelled():
            world, control, orders, roster, residents = starting.result()
            road = assemble(config, roster, worker_id, world, residents, metrics, threads, put)
            rollout = Rollout(config, roster, residents, world.topics, road.sources, road.changed)
            steering = Steering(config, orders, control, rollout, reread or (lambda: config), hung_up)
            endpoint.refresh_by(partial(refresh, metrics, health, road, config.worker.device))
            watch = Watch(config.worker.blocked_loop_s, metrics)
            watch.start()
            stack.callback(watch.stop)
            unserved = Unserved(config.kafka, Names(config.prefix), roster, world.topics, metrics)
            await stack.enter_async_context(unserved.watched())
            _spare_the_collector()
            served = [name for name in roster if roster.serves(name)]
            log.info("started", extra={"http": endpoint.address, "models": sorted(served), "order": roster.offset})
            catalogue = Catalogue(world.redis, config, Names(config.prefix), worker_id, residents, metrics)
            await _run(config, road, health, catalogue, steering, stop)
    log.info("stopped")


def _exporting(
    config: Config, worker_id: str, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Callable[[Noted], None]:
    """Begin to send spans; the last ones go when everything else has ended."""
    exporter = Exporter(config.tracing, worker_id, metrics)
    exporter.start()
    stack.push_async_callback(in_thread, exporter.close, "spans")
    return exporter.put


async def _first(task: asyncio.Task[T], stop: asyncio.Event) -> None:
    """Wait for a task, which is cancelled when told to stop first."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    while not task.done():
        task.cancel()  # a library beneath may take one for the end of something of its own
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)


async def _run(
    config: Config, road: Road, health: Health, catalogue: Catalogue, steering: Steering, stop: asyncio.Event
) -> None:
    """Join the groups, work until told to stop, drain, leave."""
    health.waiting_for = ("Kafka's groups",)
    started = asyncio.Event()
    joining = asyncio.create_task(_become_ready(health, road))
    publishing = asyncio.create_task(catalogue.publish(road))
    running = asyncio.create_task(_work(road, started))
    obeying = asyncio.create_task(_obey(steering, started))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, publishing, obeying, stopping}, return_when=asyncio.FIRST_COMPLETED)
        health.waiting_for = ("the end: stopping",)
        log.info("stopping", extra={"in_flight_items": road.room.held.items})
        obeying.cancel()  # what is served stays as it is from now on
        for source in road.sources:
            source.stop()
        await asyncio.wait({running}, timeout=config.worker.shutdown_grace_s)
        if not running.done():
            log.warning("grace_passed", extra={"in_flight_items": road.room.held.items})
    finally:
        tasks = (joining, publishing, obeying, stopping, running)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await road.suspects.end()
        await asyncio.gather(*(source.close() for source in road.sources))
        await catalogue.withdraw()
    for work in (running, publishing, obeying):
        if not work.cancelled():
            work.result()


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


async def _work(road: Road, started: asyncio.Event) -> None:
    """Join the groups and run the road to its end."""
    try:
        for source in road.sources:
            await source.start()
    except KafkaError as error:
        raise Unreachable(f"Kafka went away before the groups were joined: {type(error).__name__}: {error}") from error
    started.set()
    try:
        await road.run()
    except BaseExceptionGroup as errors:
        first = first_of(errors, KafkaError)
        if first is None:
            raise
        told = f"{type(first).__name__}: {first}"
        if isinstance(first, GroupAuthorizationFailedError):
            told = f"it lacks Read on group {first.args[0]}: have an ACL allow it (docs/security.md)"
        raise Unreachable(f"Kafka does not let this worker go on: {told}") from errors


def first_of(errors: BaseExceptionGroup, kind: type[Exception]) -> BaseException | None:
    """The first error of a kind within groups of groups."""
    found = errors.subgroup(kind)
    error: BaseException | None = found
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _obey(steering: Steering, started: asyncio.Event) -> None:
    """Follow orders and SIGHUPs from when there are consumers to be told."""
    await started.wait()
    await steering.run()


async def _become_ready(health: Health, road: Road) -> None:
    for source in road.sources:
        await source.joined.wait()
    health.waiting_for = ()
    log.info("ready")
