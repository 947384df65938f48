"""When is what failed tried again, and what if the place where the dead go is away?"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.faults import truth
from tests.faults.asking import Wish
from tests.faults.rig import Rig
from tests.faults.site import Site

LATE: Final = """
[models.null]
checkpoint = "null:8?batch_ms=40"
pinned = true
[models.late]
checkpoint = "null:8?batch_ms=40"
"""
TRUSTING: Final = {"load_attempts": 1, "load_failure_s": 0.2, "guard_failures": 1_000, "guard_window": 10_000}
"""A model that does not load is not paused for it."""
FAILING: Final = frozenset({"processing_failed"})
LETTERS_AWAY_S: Final = 3.0
WRONG_S: Final = 3_600


async def never_early(rig: Rig) -> None:
    """What is tried again is never tried before it is due."""
    async with rig.site(models=LATE, worker=TRUSTING) as site:
        await site.crew.hire()
        site.crew.switches.set("load", "unreachable")
        await site.asking.burst(40, Wish(model="null"))
        async with site.crew.strike("tried again", interrupts=0):
            asked = await site.asking.burst(30, Wish(model="late"))
            await site.until(lambda: all(site.outcomes.of(each.id, "retry") for each in asked), "all tried again")
            site.crew.switches.clear("load")
        await site.settle()
        early, waits_s = _early(site)
        if early:
            site.problem(f"{early} requests were tried before they were due")
        rig.figures.notes["tried after due, max s"] = round(max(waits_s, default=0.0), 2)


async def dead_letters_away(rig: Rig) -> None:
    """The dead-letter topic takes nothing for a while: no offset is committed before its letter is there."""
    async with rig.site() as site:
        await site.crew.hire()
        dead = f"{site.prefix}.dead"
        await _need_replicas(site, dead, 2 if len(site.stack.brokers) == 1 else 4)
        async with site.crew.strike("dead letters away", interrupts=0, busy=False):
            await site.asking.burst(60)
            wish = Wish(words=(truth.FAIL,), items=1, failures={0: "processing_failed"}, dead=True)
            await site.asking.burst(4, wish)
            await site.crew.busy()
            await asyncio.sleep(LETTERS_AWAY_S)
            await _need_replicas(site, dead, 1)
        async with site.crew.strike("dead letters away", interrupts=0, busy=False) as strike:
            strike.hit = True  # the four waited for their letters all the while
        await site.settle()


async def bad_deploy(rig: Rig) -> None:
    """Every batch fails, as after a bad deploy: the model is paused, and its topics are not emptied."""
    settings = {"guard_failures": 8, "guard_window": 40, "guard_pause_s": 1.0}
    async with rig.site(worker=settings) as site:
        worker = await site.crew.hire()
        site.crew.switches.set("fail", 1)
        async with site.crew.strike("bad deploy", interrupts=0, busy=False) as strike:
            await site.asking.burst(160, Wish(model="null", items=1, or_codes=FAILING))
            await site.crew.busy()
            strike.hit = True
            await site.until(lambda: bool(site.crew.events(worker, "model_paused")), "an alarm", 20)
            site.crew.switches.clear("fail")
        await site.settle(60)
        buried = sum(bool(site.outcomes.of(id, "dead")) for id in site.ledger.accepted)
        rig.figures.notes["dead letters before the pause"] = buried
        if buried > len(site.ledger) / 2:
            site.problem(f"{buried} of {len(site.ledger)} requests were buried: the guard came too late")


async def clock_jumps(rig: Rig) -> None:
    """The wall clock jumps an hour ahead, then an hour back: nothing is lost, nothing waits for an hour."""
    async with rig.site(models=LATE, worker=TRUSTING) as site:
        await site.crew.hire()
        for jump_s in (WRONG_S, -WRONG_S, 0):
            site.crew.switches.set("load", "unreachable")
            await site.asking.burst(20, Wish(model="late"))
            await site.asking.burst(60, Wish(model="null"))
            async with site.crew.strike("clock jump", interrupts=0):
                site.crew.switches.set("clock", jump_s)
                soon = {"deadline_unix_ms": int(time.time() * 1000) + 60_000}
                late = frozenset({"deadline_exceeded"}) if jump_s else frozenset[str]()
                await site.asking.burst(20, Wish(model="null", fields=soon, or_codes=late))
                site.crew.switches.clear("load")
            await site.answered()
        await site.settle()


def _early(site: Site) -> tuple[int, list[float]]:
    """How many were computed before they were due, and how much later than that the others were."""
    wall_ns = time.time_ns() - time.monotonic_ns()
    first = site.crew.diaries.first_begins()
    early, waits_s = 0, list[float]()
    for asked in site.ledger:
        dues = [int(seen.headers["embedmq-not-before"]) for seen in site.outcomes.of(asked.id, "retry")]
        begin_ns = first.get(truth.key(asked.id, 0))
        if dues and begin_ns is not None:
            wait_s = (begin_ns + wall_ns) / 1e9 - max(dues) / 1000
            early += wait_s < -0.005  # two clocks, read one after the other
            waits_s.append(wait_s)
    return early, waits_s


async def _need_replicas(site: Site, topic: str, count: int) -> None:
    wanted = ConfigResource(ConfigResourceType.TOPIC, topic, {"min.insync.replicas": str(count)})
    await site.admin(lambda admin: admin.alter_configs([wanted]))
