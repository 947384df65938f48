"""What must be there before a worker can take in work?"""

from __future__ import annotations

import contextlib
from functools import partial, reduce
from typing import NamedTuple

from embedmq_schemas.names import Names

from embedmq_worker.config import Config
from embedmq_worker.control import Control
from embedmq_worker.health import Health
from embedmq_worker.house import house
from embedmq_worker.metrics import Metrics
from embedmq_worker.offload import in_thread
from embedmq_worker.orders import Orders, heed
from embedmq_worker.residents import Residents
from embedmq_worker.rollout import tell_refused
from embedmq_worker.roster import Roster
from embedmq_worker.served import overlay, pinned_by_order
from embedmq_worker.topics import ensure, wanted_requests
from embedmq_worker.world import World, connected


class Started(NamedTuple):
    """What there is by then."""

    world: World
    control: Control
    orders: Orders
    roster: Roster
    residents: Residents


async def start(
    config: Config, worker_id: str, stack: contextlib.AsyncExitStack, health: Health, metrics: Metrics, sharers: int
) -> Started:
    """Whatever may take long: reach Kafka and Redis, learn what the fleet was ordered to serve, load pinned models.

    Raises:
        CheckpointInvalid, CheckpointUnreachable: a pinned model cannot be loaded.
        Unreachable: Kafka or Redis did not answer in time.
    """
    health.waiting_for = ("Kafka and Redis",)
    world, names = await stack.enter_async_context(connected(config, metrics)), Names(config.prefix)
    health.waiting_for = ("the orders of the control topic",)
    control = Control(config.kafka, names, worker_id)
    stack.push_async_callback(control.close)
    orders = reduce(heed, await control.start(), Orders())
    roster = Roster(overlay(config.models, orders), orders.offset)
    tell_refused({}, roster.refused)
    await ensure(world.topics, wanted_requests(config, roster, names))
    health.waiting_for = ("pinned models",)
    residents = await in_thread(partial(house, config, roster, sharers), "house")  # it may import torch
    stack.push_async_callback(residents.close)
    # what an order asks for must not keep a worker from starting
    await residents.load_pinned(but=pinned_by_order(config.models, orders))
    return Started(world, control, orders, roster, residents)
