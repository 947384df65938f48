"""What if anything may fail at any time?"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tests.faults.proxy import WAYS, Way
from tests.faults.rig import Rig
from tests.faults.site import Site

CUTS: Final[Sequence[tuple[Way, ...]]] = (WAYS, ("up",), ("down",))
SECONDS: Final = 60.0
"""For each of ROUNDS."""
OPEN: Final = 300
"""Requests that are always under way."""


async def anything_at_any_time(rig: Rig) -> None:
    """Faults drawn by the seed, one after the other, under steady load: every invariant holds."""
    async with rig.site() as site:
        await site.crew.hire(3)
        end_s = time.monotonic() + SECONDS * rig.rounds
        faults = (_kill, _stop, _leave, _cut_redis, _reset_redis, _kill_clients)
        async with site.under_load(OPEN):
            while time.monotonic() < end_s:
                fault: Callable[[Rig, Site], Awaitable[None]] = rig.rng.choice(faults)
                await fault(rig, site)
                rig.figures.rounds += 1
                await asyncio.sleep(rig.rng.uniform(0, 1.5))
        await site.settle(90)


async def _kill(rig: Rig, site: Site) -> None:
    victim = await site.crew.busy_one()
    await site.crew.kill(victim, kind="soak: worker kill -9")
    site.crew.interruptions += 2
    await site.crew.again(victim, ready=False)


async def _stop(rig: Rig, site: Site) -> None:
    victim = rig.rng.choice(site.crew.running)
    async with site.crew.strike("soak: worker SIGSTOP", interrupts=4):
        assert victim.process is not None
        victim.process.signal(signal.SIGSTOP)
        await asyncio.sleep(rig.rng.uniform(1, 8))
        victim.process.signal(signal.SIGCONT)


async def _leave(rig: Rig, site: Site) -> None:
    victim = rig.rng.choice(site.crew.running)
    await site.crew.terminate(victim, "soak: worker SIGTERM")
    await site.crew.again(victim, ready=False)


async def _cut_redis(rig: Rig, site: Site) -> None:
    async with site.crew.strike("soak: Redis cut", interrupts=0):
        site.network.cut(*rig.rng.choice(CUTS))
        await asyncio.sleep(rig.rng.uniform(0.5, 4))
        site.network.heal()


async def _reset_redis(rig: Rig, site: Site) -> None:
    async with site.crew.strike("soak: Redis reset", interrupts=0):
        site.network.reset()


async def _kill_clients(rig: Rig, site: Site) -> None:
    async with site.crew.strike("soak: CLIENT KILL", interrupts=0):
        await site.reading.client.client_kill_filter(_type="normal", skipme=True)
