"""Which models are loaded, and which parts make the road of one worker?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES

from embedmq_worker.choose import budget
from embedmq_worker.config import Config
from embedmq_worker.decode import Decoder
from embedmq_worker.delivery import Delivery
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Engine
from embedmq_worker.meter import Meter
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import Planner
from embedmq_worker.redis_sink import RedisSink
from embedmq_worker.road import Road
from embedmq_worker.room import Room
from embedmq_worker.source import Source
from embedmq_worker.topics import request_topics
from embedmq_worker.waiting import Waiting
from embedmq_worker.world import World

log = logging.getLogger(__name__)


async def load_engines(config: Config, device: ThreadPoolExecutor) -> dict[str, Engine]:
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


def assemble(
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


def _finite(rate: float) -> float | None:
    """JSON has no infinity."""
    return None if rate == float("inf") else round(rate, 1)
