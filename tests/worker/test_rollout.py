"""What is served changes as a whole: nobody sees a half of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import pytest
from aiokafka.errors import NoBrokersAvailable
from embedmq_schemas.names import Names
from embedmq_schemas.topics import Topic
from embedmq_worker import rollout
from embedmq_worker.config import Config, Kafka, Model
from embedmq_worker.control import Control
from embedmq_worker.orders import Orders
from embedmq_worker.rollout import Rollout
from embedmq_worker.roster import Roster
from embedmq_worker.served import Served
from embedmq_worker.steering import Steering
from embedmq_worker.topics import Topics

from tests.worker.test_residents import FakeOpener, StartResidents, start
from tests.worker.world import until

__all__ = ["start"]


class Away(Topics):
    """A Kafka without a controller: aiokafka's admin client says that in several ways."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(Kafka(bootstrap=["127.0.0.1:1"]))
        self.errors = list(errors)

    async def create(self, topics: Iterable[Topic]) -> list[str]:
        if self.errors:
            raise self.errors.pop(0)
        return []


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
    rolling = Rollout(Config(models=before), roster, residents, topics, [], changed)
    applying = asyncio.create_task(rolling.apply(Served(before | {"added": Model(checkpoint="null:16")}), 0))
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


async def test_kafka_may_be_away_while_an_order_is_followed(
    start: StartResidents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its client makes of that: the topics are made when it is back, and no worker ends."""
    monkeypatch.setattr(rollout, "AGAIN_S", 0.0)
    before = {"a": Model(checkpoint="null:8", served=False)}
    after = Served({"a": Model(checkpoint="null:8")})
    topics = Away(NoBrokersAvailable(), TimeoutError(), AttributeError("nodeId"))
    roster = Roster(Served(before))
    rolling = Rollout(Config(models=before), roster, start(FakeOpener({"a": 1})), topics, [], asyncio.Event())
    await asyncio.wait_for(rolling.apply(after, 7), 60)
    assert (topics.errors, roster.offset) == ([], 7)
    await topics.close()


async def test_whatever_a_file_holds_it_stops_no_worker(
    start: StartResidents, caplog: pytest.LogCaptureFixture
) -> None:
    """A path that the system does not take, a folder that may not be looked into: the old state stays, the log says
    why, and the next SIGHUP is heeded."""
    errors: list[Exception] = [OSError(36, "File name too long"), RuntimeError("no home"), RecursionError("nested")]
    before = {"a": Model(checkpoint="null:8", served=False)}
    config, roster, hung_up, topics = Config(models=before), Roster(Served(before)), asyncio.Event(), Away()

    def reread() -> Config:
        if errors:
            raise errors.pop(0)
        return Config(models={"a": Model(checkpoint="null:8")})

    rolling = Rollout(config, roster, start(FakeOpener({"a": 1})), topics, [], asyncio.Event())
    control = Control(Kafka(bootstrap=["127.0.0.1:1"], start_timeout_s=1.0), Names("p"), "w")
    running = asyncio.create_task(Steering(config, Orders(), control, rolling, reread, hung_up).run())
    while not roster["a"].served:
        hung_up.set()
        await until(lambda: not hung_up.is_set() or running.done(), "it is heeded")
        assert not running.done()
    told = [record for record in caplog.records if record.getMessage() == "config_not_reloaded"]
    assert [vars(record)["error"].split(":")[0] for record in told] == ["OSError", "RuntimeError", "RecursionError"]
    running.cancel()
    await asyncio.wait({running})
    await control.close()
    await topics.close()
