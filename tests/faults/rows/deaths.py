"""What if a worker dies, is stopped, or stands still?"""

from __future__ import annotations

import asyncio
import signal
from typing import Final

from tests.faults.rig import Rig

SESSION_S: Final = 6.0
MANY: Final = 10
REAL_SESSION: Final = {"session_timeout_ms": 45_000, "heartbeat_interval_ms": 3_000, "rebalance_timeout_ms": 60_000}
MARGIN_S: Final = 8.0
"""From the end of a session until what its member had is done."""


async def killed_mid_batch(rig: Rig) -> None:
    """kill -9 with a batch on the device: everything is answered once, and little is computed twice."""
    async with rig.site() as site:
        crew = site.crew
        await crew.hire(4)
        for _ in range(1 if rig.fast else MANY * rig.rounds):
            await site.asking.burst(240)
            victims = rig.rng.sample(crew.running, 3)
            await crew.kill(*victims)
            await asyncio.gather(*(crew.again(victim, ready=False) for victim in victims))
            await site.answered()
            rig.figures.rounds += 1
        await site.settle()


async def killed_with_the_real_session(rig: Rig) -> None:
    """kill -9 with sessions of 45 s, as shipped: what the dead one had is done when its session is over."""
    async with rig.site(kafka=REAL_SESSION) as site:
        await site.crew.hire(2)
        await site.asking.burst(240)
        await site.crew.kill(site.crew.running[0], kind="worker kill -9, session of 45 s")
        await site.settle(90)
        (seconds,) = rig.figures.recovery_s["worker kill -9, session of 45 s"]
        if seconds > REAL_SESSION["session_timeout_ms"] / 1000 + MARGIN_S:
            site.problem(f"recovery took {seconds} s")


async def terminated_under_load(rig: Rig) -> None:
    """SIGTERM under load: the exit code is 0, and nothing that was done is done again by others."""
    async with rig.site() as site:
        first, second = await site.crew.hire(), await site.crew.hire()
        for worker in (first, second):
            await site.asking.burst(160)
            gone = site.crew.life(worker.pid)
            code = await site.crew.terminate(worker)
            if code != 0:
                site.problem(f"{worker.name} ended with exit code {code}")
            await site.crew.again(worker)
            await site.answered()
            repeated = site.crew.diaries.repeated(gone)
            if repeated:
                site.problem(f"{len(repeated)} items that {worker.name} had computed were computed by others, too")
        await site.settle()


async def stopped_for_two_sessions(rig: Rig) -> None:
    """SIGSTOP for two sessions, then CONT: the zombie commits nothing over its successor; nobody sees two answers."""
    async with rig.site() as site:
        crew = site.crew
        await crew.hire(2)
        zombie = crew.running[0]
        await site.asking.burst(200)
        async with crew.strike("worker SIGSTOP", interrupts=2):
            await crew.busy(zombie)
            assert zombie.process is not None
            zombie.process.signal(signal.SIGSTOP)
            await asyncio.sleep(2 * SESSION_S)
            zombie.process.signal(signal.SIGCONT)
        await site.asking.burst(100)
        await site.settle()


async def loop_blocked(rig: Rig) -> None:
    """The event loop stands still for longer than a session: the log names it, others take over, nothing is split."""
    async with rig.site(worker={"blocked_loop_s": 2.0}) as site:
        crew = site.crew
        await crew.hire(2)
        await site.asking.burst(240)
        async with crew.strike("loop blocked", interrupts=2):
            crew.switches.set("block", SESSION_S + 3)
            await site.until(
                lambda: any(crew.events(worker, "loop_blocked") for worker in crew.workers), "loop_blocked in a log"
            )
        await site.asking.burst(60)
        await site.settle()


async def members_come_and_go(rig: Rig) -> None:
    """Members join, leave and die every second or two: work goes on in every generation."""
    async with rig.site() as site:
        crew = site.crew
        await crew.hire(3)
        async with site.under_load():
            for turn in range(10 * rig.rounds):
                victim = await crew.busy_one()
                if turn % 3 == 0:
                    await crew.kill(victim, kind="worker kill -9 in a storm")
                    crew.interruptions += 3
                else:
                    await crew.terminate(victim, "worker leaves in a storm")
                    crew.interruptions += 2
                await crew.again(victim, ready=False)
        await site.settle(90)
