"""What is served changes as a whole: nobody sees a half of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from embedmq_schemas.topics import Topic
from embedmq_worker.config import Config, Kafka, Model
from embedmq_worker.rollout import Rollout
from embedmq_worker.roster import Roster
from embedmq_worker.served import Served
from embedmq_worker.topics import Topics

from tests.worker.test_residents import FakeOpener, StartResidents, start

__all__ = ["start"]


class Slow(Topics):
    """A Kafka that does not answer, for as long as one likes."""

    def __init__(self) -> None:
        super().__init__(Kafka(bootstrap=["127.0.0.1:1"]))
        self.asked = asyncio.Event()

    async def create(self, topics: Iterable[Topic]) -> list[str]:
        self.asked.set()
        return await asyncio.Future[list[str]]()


async def test_a_model_that_is_added_is_known_everywhere_before_its_topic_is_made(start: StartResidents) -> None:
    """Kafka may be away for long: meanwhile the status is written and requests of other topics are read, and each model
    of the roster can be asked for; and so if the worker is stopped just then."""
    before = {"a": Model(checkpoint="null:8")}
    roster, residents = Roster(Served(before)), start(FakeOpener({"a": 1}))
    topics, changed = Slow(), asyncio.Event()
    rollout = Rollout(Config(models=before), roster, residents, topics, [], changed)
    applying = asyncio.create_task(rollout.apply(Served(before | {"added": Model(checkpoint="null:16")}), 0))
    await asyncio.wait_for(changed.wait(), 60)
    for name in roster:
        assert residents.facts(name) is None
    assert roster.keys() == residents.states().keys()
    await asyncio.wait_for(topics.asked.wait(), 60)
    applying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await applying
    assert roster.keys() == residents.states().keys()
    await topics.close()
