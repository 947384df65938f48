"""What if the same record comes again, other records come in its place, or none where one should be?"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete

from tests.faults.asking import Wish
from tests.faults.ledger import Place
from tests.faults.rig import Rig
from tests.faults.site import Site

SLOW_TO_LOAD: Final = """
[models.tail]
checkpoint = "null:8?batch_ms=20"
shared = true
pinned = true
[models.rare]
checkpoint = "null:8?load_ms=15000"
shared = true
"""


async def asked_more_than_once(rig: Rig) -> None:
    """Records are produced twice, ids published again, offsets rewound: each caller sees one answer, kept ones stay."""
    async with rig.site() as site:
        worker = await site.crew.hire()
        composed = [site.asking.compose() for _ in range(80)]
        await site.asking.send(composed)
        async with site.crew.strike("records produced twice", interrupts=0):
            await site.asking.send(composed)
        await site.answered()
        await site.asking.burst(80)
        await site.crew.terminate(worker, "offsets rewound")
        await rewind(site)
        await site.crew.again(worker)
        await site.settle()


async def rewind(site: Site) -> None:
    """Set both groups, which have no members now, back to the beginning: everything is asked once more."""
    for lane in ("interactive", "bulk"):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=site.stack.kafka, group_id=f"{site.prefix}.{lane}", enable_auto_commit=False
        )
        await consumer.start()
        try:
            parts = [tp for tp in await site.kafka.read_by_groups() if tp.topic.endswith(lane)]
            consumer.assign(parts)
            await consumer.commit(dict.fromkeys(parts, 0))
        finally:
            await consumer.stop()
    for id, places in site.ledger.accepted.items():
        site.ledger.accepted[id] = places * 2


async def offsets_with_gaps(rig: Rig) -> None:
    """Transaction markers leave gaps, retention removes unread records, partitions are added: nothing stalls."""
    async with rig.site(kafka={"metadata_max_age_ms": 1_000}) as site:
        worker = await site.crew.hire()
        topic = f"{site.prefix}.null.bulk"
        for _ in range(5):
            await transacted(site, 8)
        async with site.crew.strike("gaps and new partitions", interrupts=4):
            await site.admin(lambda admin: admin.create_partitions({topic: NewPartitions(6)}))
            await site.asking.burst(60)
        await site.until(lambda: worker.running, "a worker that lives on")
        await site.asking.know_partitions(topic, 6)
        await site.asking.ask(*[Wish(model="null", lane="bulk", partition=n) for n in range(6)])
        await site.answered()
        await asyncio.to_thread(worker.stop)
        removed = await site.asking.ask(*[Wish(model="null", lane="bulk", partition=0)] * 20)
        ends = await site.kafka.ends([TopicPartition(topic, 0)])
        await site.admin(lambda admin: admin.delete_records({tp: RecordsToDelete(end) for tp, end in ends.items()}))
        for asked in removed:  # Kafka's own decision: the one loss that nobody can undo
            del site.ledger.accepted[asked.id]
        await site.asking.ask(*[Wish(model="null", lane="bulk", partition=0)] * 20)
        await site.crew.again(worker)
        await site.settle()
        counted = await site.crew.metric(worker, "embedmq_records_lost_total")
        if counted != len(removed):
            site.problem(f"{len(removed)} records were removed unread, and {counted:g} of them counted")


async def topic_made_anew(rig: Rig) -> None:
    """A topic is deleted and created again: new records at old offsets are answered, not taken for the old ones."""
    async with rig.site(kafka={"metadata_max_age_ms": 1_000}) as site:
        await site.crew.hire()
        topic = f"{site.prefix}.null.bulk"
        wish = Wish(model="null", lane="bulk", partition=0)
        await site.asking.ask(*[wish] * 60)
        await site.answered()
        async with site.crew.strike("topic made anew", interrupts=4, busy=False):
            await site.admin(lambda admin: admin.delete_topics([topic]))
            await site.create(topic, 4)
        await site.asking.ask(*[wish] * 60)
        async with site.crew.strike("topic made anew", interrupts=4):
            pass
        await site.settle(60)


async def topic_made_anew_while_a_model_loads(rig: Rig) -> None:
    """A topic is made anew while records above the commit are answered: none of the new ones is taken for them."""
    async with rig.site(models=SLOW_TO_LOAD, kafka={"metadata_max_age_ms": 1_000}) as site:
        await site.crew.hire()
        topic = f"{site.prefix}.shared.bulk"
        tail = Wish(model="tail", lane="bulk", partition=0)
        _, late = site.asking.compose(Wish(model="rare", lane="bulk", partition=0))
        await site.asking.unledgered([late])  # goes with its topic: Kafka's own decision
        asked = await site.asking.ask(*[tail] * 20)
        async with site.crew.strike("topic made anew", interrupts=4) as strike:
            await site.answered(10)
            await site.admin(lambda admin: admin.delete_topics([topic]))
            await site.create(topic, 4)
            for each in asked:
                site.ledger.accepted[each.id].clear()
            strike.hit = True  # the first record waits for its model all the while
        await site.asking.ask(*[tail] * 21)
        await site.settle(30)


async def transacted(site: Site, count: int) -> None:
    """Ask within one transaction, whose end takes an offset of its own."""
    producer = AIOKafkaProducer(bootstrap_servers=site.stack.kafka, transactional_id=site.prefix)
    await producer.start()
    try:
        async with producer.transaction():
            for _ in range(count):
                asked, record = site.asking.compose(Wish(model="null", lane="bulk"))
                site.ledger.ask(asked)
                sent = await producer.send_and_wait(
                    record.topic, record.value, headers=list(record.headers), partition=1
                )
                site.ledger.accept(asked.id, Place(sent.topic, sent.partition, sent.offset))
    finally:
        await producer.stop()
