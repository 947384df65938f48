"""What if the network between a worker and Kafka, or Redis, is slow, cut, or passes one direction only?"""

from __future__ import annotations

import asyncio
from typing import Final

from embedmq_local.worker import Worker

from tests.faults.proxy import WAYS, Way
from tests.faults.rig import Rig
from tests.faults.site import Site

CUT_S: Final = 9.0
"""Longer than a session."""
BOUND_ITEMS: Final = 128
"""`max_in_flight_items` of the workers here."""


async def worker_cut_off_from_kafka(rig: Rig) -> None:
    """A worker loses Kafka, then hears it only, then speaks only: others take over, and it comes back by itself."""
    async with rig.site() as site:
        lone = await site.crew.hire(env={"EMBEDMQ_KAFKA": rig.cluster.through_fronts})
        await site.crew.hire()
        cuts: list[tuple[Way, ...]] = [WAYS, ("up",), ("down",)]
        for ways in cuts:
            await site.asking.burst(160)
            await site.crew.busy(lone)
            async with site.crew.strike(f"Kafka cut ({' and '.join(ways)})", interrupts=3):
                for front in rig.cluster.fronts:
                    front.cut(*ways)
                await asyncio.sleep(CUT_S)
                for front in rig.cluster.fronts:
                    front.heal()
            await site.answered()
        await site.settle()


async def worker_cut_off_from_redis(rig: Rig) -> None:
    """Redis is cut off, hears but is not heard, answers slowly and in slices: workers hold back, and lose nothing."""
    async with rig.site() as site:
        worker = await site.crew.hire()
        cuts: list[tuple[Way, ...]] = [WAYS, ("down",)]
        for ways in cuts:
            await site.asking.burst(240)
            async with site.crew.strike(f"Redis cut ({' and '.join(ways)})", interrupts=0):
                site.network.cut(*ways)
                await asyncio.sleep(CUT_S / 3)
                await _bounded(site, worker)
                site.network.heal()
            await site.answered()
        await site.asking.burst(80)
        async with site.crew.strike("Redis slow", interrupts=0):
            site.network.latency_s, site.network.chunk_bytes, site.network.bytes_per_s = 0.02, 512, 200_000.0
            await site.answered()
            site.network.heal()
        await site.settle()


async def _bounded(site: Site, worker: Worker) -> None:
    held = await site.crew.metric(worker, "embedmq_in_flight_items")
    if held > BOUND_ITEMS:
        site.problem(f"I7: {held:g} items are held while Redis is away, more than {BOUND_ITEMS}")
