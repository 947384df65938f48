"""What if there is far more to do than can be done, or nobody takes what was done?"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from tests.faults.asking import Wish
from tests.faults.callers import Callers
from tests.faults.crew import peak_rss_bytes
from tests.faults.rig import Rig
from tests.faults.site import Site

PROBES: Final = 20
FLOOD: Final = 6_000
AT_ONCE: Final = 200
FILLING: Final = "x" * 4_000
MOST_GROWTH_BYTES: Final = 160 * 2**20
MOST_ENTRIES: Final = 50


async def ten_times_overload(rig: Rig) -> None:
    """Ten times more bulk than can be done in the time: memory stays flat, and interactive requests pass it by."""
    async with rig.site(worker={"max_batch_items": 32, "max_in_flight_bytes": 4 * 2**20}) as site:
        worker = await site.crew.hire()
        await site.asking.burst(40)
        await site.answered()
        calm = peak_rss_bytes(worker.pid)
        bulk = Wish(model="null", lane="bulk", items=1, words=(FILLING,))
        flooding = asyncio.create_task(_flood(site, bulk, FLOOD * rig.rounds))
        waits_s: list[float] = []
        async with site.crew.strike("overload", interrupts=0):
            for _ in range(PROBES):
                start_s = time.monotonic()
                (probe,) = await site.asking.ask(Wish(model="null", lane="interactive", items=1))
                await site.until(partial(site.outcomes.answered, probe), "an interactive answer")
                waits_s.append(time.monotonic() - start_s)
            still = len(site.open)
        await flooding
        await site.settle(120)
        peak = peak_rss_bytes(worker.pid)
        if not still:
            site.problem("the flood was over before the probes were")
        if peak - calm > MOST_GROWTH_BYTES:
            site.problem(f"I7: memory grew by {(peak - calm) >> 20} MiB under overload")
        rig.figures.notes |= {
            "peak_rss_bytes": peak,
            "calm_rss_bytes": calm,
            "interactive_p50_s": round(sorted(waits_s)[len(waits_s) // 2], 3),
            "interactive_max_s": round(max(waits_s), 3),
        }


async def _flood(site: Site, wish: Wish, count: int) -> None:
    for _ in range(count // AT_ONCE):
        await site.asking.burst(AT_ONCE, wish)


async def nobody_reads(rig: Rig) -> None:
    """Clients that are dead, or read slowly: their streams stay bounded and expire, and nobody else waits for them."""
    async with rig.site(redis={"stream_max_entries": MOST_ENTRIES, "stream_ttl_s": 60}) as site:
        site.redis_lossy = True  # what exceeds the bound of a stream is gone
        await site.crew.hire()
        dead = Wish(where="stream", model="null", items=1, fields={"reply": {"type": "stream", "client": "dead"}})
        composed = [site.asking.compose(dead) for _ in range(600)]
        async with Callers(site) as callers:
            callers.call(40)
            async with site.crew.strike("dead client", interrupts=0):
                await site.asking.unledgered(record for _, record in composed)
                site.network.bytes_per_s = 300_000.0
                callers.call(40)
                await callers.end()
            site.network.heal()
            if callers.errors:
                site.problem(f"others got errors: {dict(callers.errors)}")
        await site.settle()
        length = await site.reading.client.xlen(f"{site.prefix}:replies:dead")
        if length > 3 * MOST_ENTRIES + 100:  # Redis cuts whole nodes of 100
            site.problem(f"I7: {length} entries wait for a client that is dead")
