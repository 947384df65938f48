"""What if brokers die: one after the other, or all of them?"""

from __future__ import annotations

import asyncio
from typing import Final

from tests.faults.rig import Rig

AWAY_S: Final = 12.0
AWAY_LONG_S: Final = 300.0
"""With ROUNDS > 1."""


async def each_broker_killed(rig: Rig) -> None:
    """Each of three brokers is killed and comes back: nothing is lost, and no worker needs a restart."""
    async with rig.site() as site:
        await site.crew.hire(2)
        born = [worker.pid for worker in site.crew.running]
        for broker in site.stack.brokers:
            await site.asking.burst(120)
            async with site.crew.strike("broker kill -9", interrupts=2):
                await asyncio.to_thread(broker.stop, kill=True)
                await site.asking.burst(60)
            await site.answered(60)
            await asyncio.to_thread(broker.start)
        if [worker.pid for worker in site.crew.running] != born:
            site.problem("a worker died of a broker's death")
        await site.settle(60)


async def whole_cluster_away(rig: Rig) -> None:
    """All brokers are gone for a while: workers wait, take up where they were, and need no restart."""
    async with rig.site() as site:
        await site.crew.hire(2)
        born = [worker.pid for worker in site.crew.running]
        await site.asking.burst(160)
        async with site.crew.strike("cluster down", interrupts=2):
            brokers = site.stack.brokers
            await asyncio.gather(*(asyncio.to_thread(broker.stop, kill=True) for broker in brokers))
            await asyncio.sleep(AWAY_LONG_S if rig.rounds > 1 else AWAY_S)
            for broker in brokers:
                await asyncio.to_thread(broker.spawn)
            await asyncio.gather(*(asyncio.to_thread(broker.wait_ready) for broker in brokers))
        await site.asking.burst(40)
        await site.settle(90)
        if [worker.pid for worker in site.crew.running] != born:
            site.problem("a worker died while Kafka was away")
