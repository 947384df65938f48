"""What if headers lie, or the place for the answer is no good?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.faults.asking import MSGPACK, Record, Wish
from tests.faults.ledger import Asked
from tests.faults.rig import Rig
from tests.faults.site import Site

YEAR_MS: Final = 365 * 24 * 3_600_000


async def headers_that_lie(rig: Rig) -> None:
    """Corrupt retry headers, attempts out of range, a year's wait; reply topics missing, ours, too small: all end."""
    async with rig.site() as site:
        await site.crew.hire()
        await site.asking.burst(80)
        small = f"{site.prefix}-small"
        await site.create(small, 1)
        tiny = ConfigResource(ConfigResourceType.TOPIC, small, {"max.message.bytes": "100"})
        await site.admin(lambda admin: admin.alter_configs([tiny]))
        async with site.crew.strike("forged headers", interrupts=0):
            await site.asking.send(_retried(site, headers) for headers in _lies())
            for topic in (f"{site.prefix}-nowhere", f"{site.prefix}.null.bulk", small):
                reply = {"reply": {"type": "topic", "topic": topic}}
                await site.asking.ask(Wish(where="nobody", model="null", items=1, fields=reply, dead=True))
            await site.asking.burst(40)
        await site.settle()


def _lies() -> list[Mapping[str, bytes]]:
    in_a_year = str(int(time.time() * 1000) + YEAR_MS).encode()
    return [
        {"embedmq-attempt": b"99"},
        {"embedmq-attempt": b"-1", "embedmq-parked": b"many"},
        {"embedmq-attempt": b"\xff\xfe", "embedmq-first-seen": b"yesterday"},
        {"embedmq-not-before": in_a_year},
        {"embedmq-not-before": b"9" * 40},
        {"embedmq-lane": b"fast", "embedmq-model": b"*"},
    ]


def _retried(site: Site, headers: Mapping[str, bytes]) -> tuple[Asked, Record]:
    """A request on the retry topic, as nobody but a worker should write it."""
    asked, record = site.asking.compose(Wish(model="null", items=1))
    told = [*MSGPACK, ("embedmq-id", asked.id.encode()), *headers.items()]
    return asked, Record(topic=f"{site.prefix}.retry.1s", value=record.value, headers=told)
