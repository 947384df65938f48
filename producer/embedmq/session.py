"""What does a started client consist of, and how does one record get its answer?"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Coroutine
from itertools import count
from math import inf
from typing import Final

from embedmq_schemas import headers as h
from embedmq_schemas.codec import CONTENT_TYPES
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed, Lane, Request, Score, StreamReply
from embedmq_schemas.results import Result

from embedmq.errors import DeadlineExceeded, InvalidRequest, Overloaded, RequestCancelled, Unavailable
from embedmq.fleet import Fleet
from embedmq.kafka import Kafka
from embedmq.kept import Kept
from embedmq.pending import Pending
from embedmq.publisher import Publisher, Record
from embedmq.replies import ReplyStream
from embedmq.room import Room
from embedmq.routes import Route, Routes
from embedmq.settings import Setup
from embedmq.store import Store
from embedmq.validation import check_place

_KINDS: Final[dict[type[Request], str]] = {Embed: "embed", Score: "score"}


class Session:
    """The connections and the bookkeeping of one client in one event loop."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.loop = asyncio.get_running_loop()
        self.names = Names(setup.prefix)
        self.client = uuid.uuid4().hex
        self.reply = StreamReply(self.client)
        self.pending = Pending(self.loop)
        self.room = Room(setup.max_in_flight_items)
        self.kafka = Kafka(setup)
        self.publisher = Publisher(self.kafka, setup.publish_timeout_s, self.loop)
        self.store: Store | None = None
        self.stream: ReplyStream | None = None
        self.fleet: Fleet | None = None
        self.kept: Kept | None = None
        if setup.redis is not None:
            self.store = Store(setup.redis, setup.connect_timeout_s)
            self.stream = ReplyStream(setup.redis, setup, self.names.stream(self.client), self.pending)
            self.fleet = Fleet(self.store, self.names)
            self.kept = Kept(self.store, self.names)
        self.routes = Routes(self.names, self.publisher, self.store)
        self._numbers = count(1)
        self._started = False
        source = f"embedmq/client/{self.client}".encode()
        self._headers = {
            kind: (
                (h.CONTENT_TYPE, CONTENT_TYPES["msgpack"]),
                (h.CE_SPECVERSION, b"1.0"),
                (h.CE_SOURCE, source),
                (h.CE_TYPE, h.CE_TYPES[name].encode()),
            )
            for kind, name in _KINDS.items()
        }

    async def start(self) -> None:
        """Connect to Kafka and Redis; raises Unavailable. Replies are read before anything is sent."""
        starts: list[Coroutine[object, object, None]] = [self.kafka.start()]
        if self.store is not None and self.stream is not None:
            starts += [self.store.start(), self.stream.start()]
        try:
            # none is cancelled because another failed: aiokafka would leave a connection open; each has its time limit
            outcomes = await asyncio.gather(*starts, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
        except BaseException:
            await self.stop()
            raise
        self._started = True

    async def stop(self) -> None:
        """End every wait and disconnect, in bounded time, whatever is away."""
        self.pending.fail_all(lambda request: RequestCancelled(f"request {request}: the client was closed"))
        self.pending.close()
        await self.routes.stop()
        await self.publisher.stop()
        await self.kafka.stop()
        if self.store is not None and self.stream is not None and self.fleet is not None and self.kept is not None:
            await self.fleet.stop()
            await self.kept.stop()
            await self.stream.stop()
            if self._started:
                with contextlib.suppress(Unavailable):  # it expires anyway
                    await self.store.drop(self.names.stream(self.client))
            await self.store.stop()

    def next_id(self) -> str:
        """An id for an answer that only this client will see: its own 128 random bits and a number."""
        return f"{self.client}-{next(self._numbers)}"

    async def route(self, model: str, lane: Lane, topic: str | None = None) -> Route:
        """Where a model's requests go: as the caller says, as remembered, or as the catalogue says when asked.

        Raises:
            InvalidRequest: a model or lane that is none, or that nobody serves. Unavailable.
        """
        if topic is not None:
            check_place(model, lane)
            return await self.routes.explicit(topic)
        route = self.routes.known(model, lane, self.loop.time())
        if route is None:
            check_place(model, lane)
            route = await self.routes.find(model, lane)
        return route

    def check_streaming(self) -> None:
        """Raises InvalidRequest without Redis, Unavailable when it has been away for too long."""
        if self.stream is None:
            raise InvalidRequest("this client has no Redis, so it can only publish: pass redis= to wait for answers")
        self.stream.check()

    def check_wait(self, model: str, lane: Lane, timeout_s: float) -> None:
        """Raises Overloaded when the workers would let a request wait for longer than its time limit."""
        wait_s = None if self.fleet is None else self.fleet.wait_s(model, lane, self.loop.time())
        if wait_s is not None and wait_s > timeout_s:
            message = f"requests to {model} wait {wait_s:.1f} s now, longer than the time limit of {timeout_s:g} s"
            raise Overloaded(f"{message}: ask later, or allow more time", max(1.0, wait_s - timeout_s))

    async def ask(self, route: Route, request: Request, value: bytes, items: int, due: float) -> Result:
        """Send one record and wait for its answer until the loop's time `due`; raises the named errors."""
        id = request.id or ""
        if not self.room.take(items):
            await self._wait_for_room(items, due, id)
        try:
            future = self.pending.add(id, due)
            try:
                self.publisher.put(route.topic, Record(_key(route, request), value, self._head(request), future))
                return await future
            finally:
                self.pending.remove(id)
        finally:
            self.room.give_back(items)

    async def publish(self, route: Route, request: Request, value: bytes, items: int) -> None:
        """Send one record; returns with Kafka's acknowledgement."""
        if not self.room.take(items):
            await self.room.wait(items)  # places come back with answers, acknowledgements and time limits
        try:
            future: asyncio.Future[None] = self.loop.create_future()
            record = Record(_key(route, request), value, self._head(request), future, confirm=True)
            self.publisher.put(route.topic, record)
            await future
        finally:
            self.room.give_back(items)

    async def _wait_for_room(self, items: int, due: float, id: str) -> None:
        try:
            async with asyncio.timeout_at(None if due == inf else due):
                await self.room.wait(items)
        except TimeoutError:
            raise DeadlineExceeded(
                f"request {id} was not sent: {self.setup.max_in_flight_items} items are in flight (max_in_flight_items)"
            ) from None

    def _head(self, request: Request) -> list[tuple[str, bytes]]:
        headers = [*self._headers[type(request)], (h.CE_ID, (request.id or "").encode())]
        if request.tenant:
            headers.append((h.TENANT, request.tenant.encode()))
        return headers


def _key(route: Route, request: Request) -> bytes | None:
    """The model on a shared topic, else the tenant."""
    if route.key is not None:
        return route.key
    return request.tenant.encode() if request.tenant else None
