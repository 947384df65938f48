"""What if a request breaks whoever touches it, or the device breaks by itself?"""

from __future__ import annotations

from typing import Final

from aiokafka.errors import KafkaError
from embedmq_schemas.limits import MAX_ATTEMPTS

from tests.faults import truth
from tests.faults.asking import Record, Wish
from tests.faults.ledger import Asked
from tests.faults.rig import Rig
from tests.faults.site import Site

FAILED: Final = "processing_failed"
ALONE: Final = {0: FAILED}
SHORT_SESSION: Final = {"session_timeout_ms": 1_500, "heartbeat_interval_ms": 300}
"""Where many deaths in a row are to be seen."""
ANY_FAILURE: Final = frozenset({FAILED})
MOST_DEATHS: Final = 9
TEN_MEGABYTES: Final = 10 * 2**20


async def requests_that_break(rig: Rig) -> None:
    """Undecodable, null, NaN, unknown model, 10 MB, failing texts: each ends as named, and its neighbours succeed."""
    async with rig.site() as site:
        await site.crew.hire()
        poison = [
            Wish(words=(truth.FAIL,), items=3, failures=ALONE),
            Wish(words=(truth.FAIL,), items=1, failures=ALONE, dead=True),
            Wish(words=(truth.NAN,), items=2, failures=ALONE),
            Wish(words=(truth.NAN,), items=1, failures=ALONE, dead=True),
            Wish(model="nobody", codes=frozenset({"unknown_model"}), dead=True),
            Wish(fields={"dimension": 8}, codes=frozenset({"unsupported"})),
            Wish(fields={"items": 7}, codes=frozenset({"malformed"}), dead=True),
        ]
        await site.asking.burst(120)
        async with site.crew.strike("poison", interrupts=0):
            await site.asking.ask(*poison)
            await site.asking.send([_raw(site, b"\xc1\xff\x00"), _raw(site, None), _raw(site, b"{" * 5_000)])
            await site.asking.burst(60)
        await _refused_by_kafka(site)
        await site.settle()


async def device_out_of_memory(rig: Rig) -> None:
    """The device is out of memory for a batch, or for one text: batches are halved, the one text fails alone."""
    async with rig.site() as site:
        await site.crew.hire()
        await site.asking.burst(80)
        async with site.crew.strike("device out of memory", interrupts=1):
            await site.asking.ask(
                Wish(words=(truth.OOM,)),
                Wish(words=(truth.OOM,)),
                Wish(words=(truth.OOM_ALONE,), failures=ALONE, items=2),
            )
            await site.asking.burst(80)
        await site.settle()


async def device_lost(rig: Rig) -> None:
    """A device assert: the batch is sent on to be run alone, the worker starts anew, and only the culprit fails."""
    async with rig.site(kafka=SHORT_SESSION) as site:
        worker = await site.crew.hire()
        await site.asking.burst(60)
        async with site.crew.kept_alive(worker) as codes:
            async with site.crew.strike("device assert", interrupts=4):
                await site.asking.ask(fatal(truth.ASSERT))
                await site.asking.burst(60)
            await site.answered(90)
            await site.until(lambda: codes.total() >= MAX_ATTEMPTS, "a new start after each time the device was lost")
        rig.figures.notes["deaths"] = dict(codes)
        await site.settle()


async def process_killed_by_a_record(rig: Rig) -> None:
    """A segfault, or the kernel's out-of-memory kill: found by counting deaths; that record fails, unrun, no other."""
    async with rig.site(kafka=SHORT_SESSION) as site:
        worker = await site.crew.hire()
        await site.asking.burst(40, Wish(model="null"))
        async with site.crew.kept_alive(worker) as codes:
            async with site.crew.strike("segfault", interrupts=8):
                kinds = (truth.SEGFAULT, truth.OOM_KILL)[: 1 if rig.plant else 2]
                await site.asking.ask(*map(fatal, kinds))
                await site.asking.burst(40, Wish(model="null"))
            await site.until(lambda: not site.open or codes.total() > MOST_DEATHS * len(kinds), "an end of dying", 130)
            if site.open:
                site.problem(f"{codes.total()} deaths, and the record that kills is not found")
        rig.figures.notes["deaths"] = dict(codes)
        if not rig.plant:
            await site.settle()


async def model_that_does_not_load(rig: Rig) -> None:
    """A model does not load for a while: its requests are tried again and succeed, others never wait for them."""
    models = """
[models.null]
checkpoint = "null:8?batch_ms=40"
pinned = true
[models.late]
checkpoint = "null:8?batch_ms=40"
"""
    settings = {"load_attempts": 1, "load_failure_s": 0.5, "guard_failures": 1_000, "guard_window": 10_000}
    async with rig.site(models=models, worker=settings) as site:
        await site.crew.hire()
        site.crew.switches.set("load", "unreachable")
        late = Wish(model="late")
        await site.asking.burst(60, Wish(model="null"))
        async with site.crew.strike("model does not load", interrupts=0):
            asked = await site.asking.burst(20, late)
            await site.until(lambda: all(site.outcomes.of(each.id, "retry") for each in asked), "all tried again")
            site.crew.switches.clear("load")
        await site.settle()


def fatal(word: str) -> Wish:
    """One text that ends the process that computes it."""
    return Wish(words=(word,), model="null", items=1, failures=ALONE, codes=ANY_FAILURE, dead=True)


def _raw(site: Site, value: bytes | None) -> tuple[Asked, Record]:
    """Bytes that are no request, whose headers say who asks, and where the answer goes."""
    asked, record = site.asking.compose(Wish(where="topic", model="null"))
    broken = Asked(id=asked.id, items=(), where="topic", codes=frozenset({"malformed", "unsupported"}), dead=True)
    headers = (("ce_id", asked.id.encode()), ("kafka_replyTopic", site.reply_topic.encode()))
    return broken, Record(topic=record.topic, value=value, key=b"k", headers=headers)


async def _refused_by_kafka(site: Site) -> None:
    asked, record = site.asking.compose()
    try:
        await site.asking.send([(asked, Record(topic=record.topic, value=b"x" * TEN_MEGABYTES))])
    except KafkaError:
        return
    site.problem("Kafka took a request of 10 MB")
