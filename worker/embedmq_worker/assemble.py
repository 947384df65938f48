"""Which parts make the road of one worker?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from embedmq_schemas.names import READERS, Names, Reader
from embedmq_schemas.requests import LANES

from embedmq_worker.absent import Absent
from embedmq_worker.cancel import Cancellations
from embedmq_worker.choose import Budget, Chooser, budget
from embedmq_worker.config import Config, Worker
from embedmq_worker.contents import Contents
from embedmq_worker.decode import Decoder
from embedmq_worker.delivery import Delivery
from embedmq_worker.device import Device
from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.forward import Forward
from embedmq_worker.gather import Gather
from embedmq_worker.guard import Guard
from embedmq_worker.meter import Meter
from embedmq_worker.metrics import Metrics
from embedmq_worker.pauses import Pauses
from embedmq_worker.plan import Planner
from embedmq_worker.quotas import Quotas
from embedmq_worker.recall import Recall
from embedmq_worker.redis_sink import RedisSink
from embedmq_worker.residents import Residents
from embedmq_worker.retry import Retries
from embedmq_worker.road import Road
from embedmq_worker.room import Room
from embedmq_worker.roster import Roster
from embedmq_worker.source import Source
from embedmq_worker.standing import Standing, see
from embedmq_worker.starts import Starts
from embedmq_worker.strays import Strays
from embedmq_worker.supply import Supply
from embedmq_worker.suspects import Suspects
from embedmq_worker.topics import request_topics, retry_topics
from embedmq_worker.trace import Noted
from embedmq_worker.tracing import Tracing
from embedmq_worker.twins import Twins
from embedmq_worker.waiting import Waiting
from embedmq_worker.world import World


class Threads(NamedTuple):
    """Where what would hold up the event loop is done."""

    tokenizers: Executor
    launcher: Executor
    collector: Executor


def pools(config: Config) -> Iterator[ThreadPoolExecutor]:
    """The threads, in the order of `Threads`."""
    yield ThreadPoolExecutor(config.worker.tokenizer_threads, "tokenizer")
    yield ThreadPoolExecutor(1, "device")
    yield ThreadPoolExecutor(1, "collector")


def assemble(
    config: Config,
    roster: Roster,
    worker_id: str,
    world: World,
    residents: Residents,
    metrics: Metrics,
    threads: Threads,
    put: Callable[[Noted], None] | None = None,
) -> Road:
    """Make the road, its sources included; nothing moves yet. `put` takes what is noted of traced requests."""
    names, settings = Names(config.prefix), config.worker
    budgets: dict[str, Budget] = {}
    room = Room(settings)
    meter = Meter(metrics, roster, budgets)
    retries, suspects = Retries(settings.retry_delays_s, names), Suspects(Starts(world.marks, names), meter)
    tracing = None if put is None else Tracing(put, names, budgets, config.tracing, metrics)
    decoder, twins = Decoder(config, roster, names, residents.facts, retries.park), Twins()
    chooser = Chooser(settings.bulk_min_share, settings.max_batch_ms)
    waiting = Waiting(budgets, chooser, lambda model: residents.engine(model) is not None)
    budget_of = partial(_budget, settings)
    gathering = Gather(
        decoder=decoder,
        residents=residents,
        absent=Absent(settings),
        waiting=waiting,
        room=room,
        meter=meter,
        tokenizers=threads.tokenizers,
        budget=budget_of,
        pauses=Pauses(Guard(settings), meter),
        retries=retries,
        suspects=suspects,
        twins=twins,
        quotas=Quotas(world.marks, names, config.tenants, metrics),
        shared_topics=frozenset(names.shared(lane) for lane in LANES) | set(retry_topics(config, names)),
        max_waiting=settings.max_waiting_for_model,
    )
    forward = Forward(
        supply=Supply(
            Device(threads.launcher, threads.collector, meter.busy),
            twins,
            Recall(Contents(world.marks, names, config.cache, metrics)) if config.cache.enabled else None,
        ),
        residents=residents,
        waiting=waiting,
        gathering=gathering,
        suspects=suspects,
        cancellations=Cancellations(world.marks, names),
        retries=retries,
        meter=meter,
        tracing=tracing,
    )
    road = Road(
        roster=roster,
        sources=[],
        decoder=decoder,
        suspects=suspects,
        strays=Strays(world.redis, names, roster, retries),
        retries=retries,
        gathering=gathering,
        residents=residents,
        room=room,
        waiting=waiting,
        forward=forward,
        delivery=Delivery(
            Planner(names, config.redis, config.limits, worker_id),
            RedisSink(world.redis, config.redis, metrics),
            world.replies,
            meter,
        ),
        meter=meter,
        commit_interval_s=config.kafka.commit_interval_ms / 1000,
        tracing=tracing,
    )
    road.sources = _sources(config, worker_id, metrics, road)
    return road


def _sources(config: Config, worker_id: str, metrics: Metrics, road: Road) -> list[Source]:
    """One for each group; the leader of each is told what this worker has in memory, and what arrives."""
    names, residents, meter = Names(config.prefix), road.residents, road.meter

    def look() -> Standing:
        shared = {name for name, model in road.roster.items() if model.shared}
        return see(residents.states(), meter.rates.now(), meter.speeds, residents.budget_bytes, shared)

    topics: dict[Reader, list[str]] = {"retry": retry_topics(config, names)}
    topics.update(request_topics(road.roster, names).items())
    return [
        Source(reader, names.group(reader), topics[reader], config.kafka, worker_id, metrics, road.revoke, look)
        for reader in READERS
    ]


def _budget(settings: Worker, facts: ModelFacts) -> Budget:
    """What one batch of a model may hold, by the rate that was measured when it was loaded."""
    return budget(facts.tokens_per_s, settings.max_batch_ms, settings.max_batch_tokens, settings.max_batch_items)
