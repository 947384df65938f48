"""How does the real client run on a fake fleet? Its own session, with Kafka and Redis replaced at their edges."""

from __future__ import annotations

import asyncio

from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Result
from msgspec.structs import replace

from embedmq.cancel import Cancel
from embedmq.errors import RequestCancelled
from embedmq.fleet import Fleet
from embedmq.kafka import Kafka
from embedmq.kept import Kept
from embedmq.publisher import CLOSED, Publisher, Record
from embedmq.reply_stream import ReplyStream
from embedmq.requests import encode
from embedmq.routes import Route, Routes
from embedmq.session import Session
from embedmq.settings import Setup
from embedmq.testing.fleet import FakeFleet
from embedmq.testing.memory import MemoryStore


class FakeSession(Session):
    """Everything between a call and its record, and between an answer and its caller, is the real client's."""

    def __init__(self, setup: Setup, fleet: FakeFleet) -> None:
        super().__init__(replace(setup, redis=None))
        self.setup = setup
        self.kafka = _Kafka(setup)
        self.publisher = _Publisher(fleet, self.names, self.loop)
        if setup.redis is not None:
            self.store = MemoryStore(fleet.memory)
            self.stream = _Stream()
            self.fleet = Fleet(self.store, self.names)
            self.kept = Kept(self.store, self.names)
            self.cancelling = Cancel(self.store, self.names)
        self.routes = _Routes(self.names, self.publisher, self.store)
        self._fake = fleet

    async def start(self) -> None:
        """Join the fleet; there is nothing that could be away."""
        loop, resolve = self.loop, self.pending.resolve
        self._fake.join(self.client, self.names, lambda result: loop.call_soon_threadsafe(resolve, result))
        await super().start()

    async def stop(self) -> None:
        """Leave it, as the real one disconnects."""
        self._fake.leave(self.client)
        await super().stop()

    async def ask_in_company(self, route: Route, request: Embed, size_bytes: int, due: float) -> Result:  # noqa: ARG002  # the real one's
        """Alone: what a test scripts is to happen to one call, whatever else runs beside it."""
        return await self.ask(route, request, encode(request), len(request.items), due)


class _Publisher(Publisher):
    """Hands each record to the fleet at the loop's next turn, as no network would be quicker."""

    def __init__(self, fleet: FakeFleet, names: Names, loop: asyncio.AbstractEventLoop) -> None:
        self._fleet = fleet
        self._names = names
        self._loop = loop
        self._stopped = False

    async def prepare(self, topic: str) -> bool:
        return self._fleet.has_topic(topic, self._names)

    def put(self, topic: str, record: Record) -> None:
        self._loop.call_soon(self._hand_over, topic, record)

    async def stop(self) -> None:
        self._stopped = True

    def _hand_over(self, topic: str, record: Record) -> None:
        if record.future.done():  # its caller has gone
            return
        if self._stopped:
            record.future.set_exception(RequestCancelled(CLOSED))
            return
        try:
            self._fleet.take(topic, record.value, self._names, left=record.confirm)
        except Exception as error:  # also of a function that the test gave: else the call would wait for ever
            record.future.set_exception(error)
            return
        record.accepted = True
        if record.confirm:
            record.future.set_result(None)  # type: ignore[arg-type]  # `confirm` goes with a Future[None]


class _Routes(Routes):
    async def _prepare(self, topic: str, patience_s: float) -> bool:  # noqa: ARG002  # the real one's
        """A topic of the fleet is there or is not: it takes no time to be seen."""
        return await self._publisher.prepare(topic)


class _Kafka(Kafka):
    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class _Stream(ReplyStream):
    def __init__(self) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def check(self) -> None:
        pass
