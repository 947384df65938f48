"""What if Redis drops its connections, loses its data, goes away, or takes nothing more?"""

from __future__ import annotations

import asyncio
from typing import Final

from redis.asyncio import Redis

from tests.faults.asking import Wish
from tests.faults.callers import Callers
from tests.faults.proxy import Proxy
from tests.faults.rig import Rig
from tests.faults.site import Site

STORMS: Final = 12
AWAY_S: Final = 10.0
AWAY_LONG_S: Final = 60.0
"""With ROUNDS > 1."""
GRACE_S: Final = 60.0
"""More than any machine needs for what is on its way."""
ON_TOPIC: Final = Wish(where="topic")
"""What Redis loses was there; a reply topic is where nothing of it can be missed."""


async def connections_killed(rig: Rig) -> None:
    """A storm of CLIENT KILL and resets: not one answer is dropped."""
    async with rig.site() as site:
        await site.crew.hire()
        await site.asking.burst(240)
        for storm in range(STORMS):
            async with site.crew.strike("CLIENT KILL" if storm % 2 else "Redis reset", interrupts=0):
                if storm % 2:
                    await site.reading.client.client_kill_filter(_type="normal", skipme=True)
                else:
                    site.network.reset()
            await asyncio.sleep(rig.rng.uniform(0, 0.2))
        await site.settle()


async def data_lost(rig: Rig) -> None:
    """Redis restarts empty: every caller that waits gets its result, asked for once more where it was lost."""
    async with rig.site() as site:
        site.redis_lossy = True
        await site.crew.hire()
        async with Callers(site) as callers:
            for _ in range(2):
                callers.call(150)
                await site.asking.burst(40, ON_TOPIC)
                async with site.crew.strike("Redis restart, empty", interrupts=4):
                    await asyncio.to_thread(site.redis.stop, kill=True)
                    site.reading.forget_places()
                    await asyncio.to_thread(site.redis.start)
                await callers.end()
            _no_errors(site, callers)
        await site.settle()


async def lagging_replica_promoted(rig: Rig) -> None:
    """The primary dies, a replica that lacks the last answers takes its place: every caller gets its result."""
    async with rig.site() as site, Proxy(site.redis.address) as link:
        site.redis_lossy = True
        await site.crew.hire()
        replica = await site.own_redis("replica")
        host, _, port = link.address.rpartition(":")
        promoted = Redis.from_url(replica.url)
        await promoted.replicaof(host, port)
        await site.until(lambda: link.connections > 0, "the replica")
        async with Callers(site) as callers:
            callers.call(200)
            await site.crew.busy()
            link.cut()  # from here on, the replica lags
            await site.until(lambda: callers.results >= 40, "answers that the replica lacks")
            async with site.crew.strike("failover to a lagging replica", interrupts=4):
                await asyncio.to_thread(site.redis.stop, kill=True)
                await promoted.replicaof("NO", "ONE")
                site.network.target = replica.address
                site.network.reset()
                site.move_redis(replica)
            await callers.end()
            _no_errors(site, callers)
        await promoted.aclose()
        await site.settle()


async def takes_nothing_more(rig: Rig) -> None:
    """Redis is out of memory, then read-only: workers hold back for as long as it lasts, and lose nothing."""
    async with rig.site() as site:
        await site.crew.hire()
        client = site.reading.client
        await site.asking.burst(160)
        async with site.crew.strike("Redis OOM", interrupts=0):
            await client.config_set("maxmemory", 1)
            await asyncio.sleep(3)
            await client.config_set("maxmemory", 0)
        await site.answered()
        await site.asking.burst(160)
        async with site.crew.strike("Redis READONLY", interrupts=0):
            await client.replicaof("127.0.0.1", "1")  # of nobody: it keeps its data, and takes no writes
            await asyncio.sleep(3)
            await client.replicaof("NO", "ONE")
        await site.settle()


async def away(rig: Rig) -> None:
    """Redis is away for long: workers hold back, callers get results or named errors, and none hangs."""
    async with rig.site() as site:
        await site.crew.hire()
        async with Callers(site, timeout_s=45) as callers:
            callers.call(100)
            await site.asking.burst(100)
            async with site.crew.strike("Redis away", interrupts=4):
                site.network.refusing = True
                site.network.reset()
                await asyncio.sleep(AWAY_LONG_S if rig.rounds > 1 else AWAY_S)
                site.network.heal()
            await callers.end()
        await site.settle()


async def a_drop_alone_asks_nothing_twice(rig: Rig) -> None:
    """A connection drops while answers are on their way: within the grace they come, and nothing is asked twice."""
    async with rig.site(worker={"max_batch_items": 4}) as site:
        await site.crew.hire()
        async with Callers(site, resend_grace_s=GRACE_S) as callers:
            callers.call(60)
            async with site.crew.strike("Redis reset", interrupts=0):
                site.network.reset()
            await callers.end()
            _no_errors(site, callers)
            again = {id: count for id, count in (await callers.published()).items() if count > 1}
        if again:
            site.problem(f"{len(again)} requests were published again within the grace")
        await site.settle()


def _no_errors(site: Site, callers: Callers) -> None:
    if callers.errors:
        site.problem(f"callers got errors instead of results: {dict(callers.errors)}")
