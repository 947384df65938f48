"""What does a started client consist of, and how does one record get its answer?"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import Coroutine
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed, Lane, Request, StreamReply
from embedmq_schemas.results import Result

from embedmq.cancel import Cancel, Cancelled
from embedmq.errors import DeadlineExceeded, InvalidRequest, Overloaded, RequestCancelled, Unavailable
from embedmq.fleet import Fleet
from embedmq.kafka import Kafka
from embedmq.kept import Kept
from embedmq.pending import Call, Pending
from embedmq.publisher import Publisher, Record
from embedmq.records import Records
from embedmq.reply_stream import ReplyStream
from embedmq.resend import Resend
from embedmq.room import Room
from embedmq.routes import Route, Routes
from embedmq.settings import Setup
from embedmq.sharing import Rider, Sharing
from embedmq.store import Store
from embedmq.validation import check_place, check_request_topic

if TYPE_CHECKING:
    from embedmq.tracing import Sending, Tracing


class Session:
    """The connections and the bookkeeping of one client in one event loop."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.loop = asyncio.get_running_loop()
        self.names = Names(setup.prefix)
        self.client = uuid.uuid4().hex
        self.reply = StreamReply(self.client)
        self.records = Records(self.client)
        self.pending = Pending(self.loop)
        self.room = Room(setup.max_in_flight_items)
        self.tracing = _tracing()
        self.kafka = Kafka(setup)
        self.publisher = Publisher(self.kafka, setup.publish_timeout_s, self.loop)
        self.store: Store | None = None
        self.stream: ReplyStream | None = None
        self.fleet: Fleet | None = None
        self.kept: Kept | None = None
        self.cancelling: Cancel | None = None
        if setup.redis is not None:
            self.store = Store(setup.redis, setup.connect_timeout_s)
            resend = Resend(self.pending, self.publisher, setup.resend_grace_s, setup.resend_per_s)
            self.stream = ReplyStream(setup.redis, setup, self.names.stream(self.client), self.pending, resend)
            self.fleet = Fleet(self.store, self.names)
            self.kept = Kept(self.store, self.names)
            self.cancelling = Cancel(self.store, self.names)
        self.routes = Routes(self.names, self.publisher, self.store)
        self.sharing = Sharing(self.pending, self.records, self.next_id, self._put, self._unwanted)
        self._numbers = count(1)
        self._started = False

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
        """End every wait and disconnect, in bounded time, whatever is away; workers are told what nobody awaits."""
        for id, due in self.pending.sent().items():
            self._unwanted(id, due)
        self.pending.fail_all(lambda request: RequestCancelled(f"request {request}: the client was closed"))
        self.pending.close()
        if self.cancelling is not None:
            await self.cancelling.stop()
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

    async def route(
        self, model: str, lane: Lane, topic: str | None = None, id: str | None = None, due: float = inf
    ) -> Route:
        """Where a model's requests go: as the caller says, as remembered, or as the catalogue says, asked until the
        loop's time `due`; meanwhile a call whose `id` the caller chose can be cancelled.

        Raises:
            InvalidRequest: a model or lane that is none, or that nobody serves. DeadlineExceeded, Unavailable.
        """
        if topic is not None:
            check_place(model, lane)
            check_request_topic(topic, self.names)
            return await self.routes.explicit(topic)
        route = self.routes.known(model, lane, self.loop.time())
        if route is None:
            check_place(model, lane)
            turn = None if id is None else self.pending.queue(id, id)
            try:
                async with asyncio.timeout_at(None if due == inf else due):
                    route = await self.routes.find(model, lane)
            except TimeoutError:
                message = f"{model}: neither Redis nor Kafka said in time where it is served"
                raise DeadlineExceeded(f"{message}: nothing was sent") from None
            finally:
                self.pending.unqueue(id or "")
            if turn is not None and turn.done():
                turn.result()
        return route

    def check_streaming(self) -> None:
        """Raises InvalidRequest without Redis, Unavailable when it has been away for too long."""
        if self.stream is None:
            raise InvalidRequest("this client has no Redis, so it can only publish: pass redis= to wait for answers")
        self.stream.check()

    def due(self, model: str, lane: Lane, timeout_s: float | None) -> float:
        """The loop's time at which a call that begins now has waited long enough; raises Overloaded when the workers
        would let it wait for longer.
        """
        if timeout_s is None:
            return inf
        wait_s = None if self.fleet is None else self.fleet.wait_s(model, lane, self.loop.time())
        if wait_s is not None and wait_s > timeout_s:
            message = f"requests to {model} wait {wait_s:.1f} s now, longer than the time limit of {timeout_s:g} s"
            raise Overloaded(f"{message}: ask later, or allow more time", max(1.0, wait_s - timeout_s))
        return self.loop.time() + timeout_s

    async def ask(
        self, route: Route, request: Request, value: bytes, items: int, due: float, whole: str | None = None
    ) -> Result:
        """Send one record, maybe a part of the call `whole`, and wait for its answer until the loop's time `due`.

        Raises the named errors.
        """
        id = request.id or ""
        if not self.room.take(items):
            await self._wait_for_room(items, due, id, whole or id)
        try:
            future: asyncio.Future[Result] = self.loop.create_future()
            record = self.records.awaited(route, request, value, future, self._sending(route, request, future))
            self.pending.add(id, Call(future, due, whole or id, route.topic, record))
            try:
                self._put(route.topic, record)
                return await future
            except asyncio.CancelledError:
                self._unwanted(id, due)
                raise
            finally:
                self.pending.remove(id)
        finally:
            self.room.give_back(items)

    async def ask_in_company(self, route: Route, request: Embed, size_bytes: int, due: float) -> Result:
        """As `ask`, by a record that it may share with other calls of this moment."""
        id, items = request.id or "", len(request.items)
        if not self.room.take(items):
            await self._wait_for_room(items, due, id, id)
        try:
            future: asyncio.Future[Result] = self.loop.create_future()
            rider = Rider(future, due, id, route.topic, route=route, request=request, size_bytes=size_bytes)
            rider.sending = self._sending(route, request, future)
            self.pending.add(id, rider)
            try:
                self.sharing.board(rider)
                return await future
            except asyncio.CancelledError:
                if rider.record is not None:
                    self._unwanted(id, due)
                raise
            finally:
                self.pending.remove(id)
                self.sharing.leave(rider)
        finally:
            self.room.give_back(items)

    async def publish(self, route: Route, request: Request, value: bytes, items: int) -> None:
        """Send one record; returns with Kafka's acknowledgement."""
        if not self.room.take(items):
            # places come back with answers, acknowledgements and time limits
            await self.room.wait(items, self.loop.create_future())
        try:
            future: asyncio.Future[None] = self.loop.create_future()
            sending = self._sending(route, request, future)
            self.publisher.put(route.topic, self.records.confirmed(route, request, value, future, sending))
            await future
        finally:
            self.room.give_back(items)

    async def cancel(self, id: str) -> Cancelled:
        """Call off what waits in this process, else what was submitted anywhere; raises Unavailable."""
        if self.cancelling is None:
            raise InvalidRequest("this client has no Redis, where cancelled requests are marked: pass redis=")
        sent = self.pending.cancel(id)
        if sent is None:
            return await self.cancelling.submitted(id)
        for part, due in sent.items():
            self.cancelling.mark_soon(part, due)
        await self.cancelling.told()
        return "cancelled"

    def _sending(
        self, route: Route, request: Request, future: asyncio.Future[Result] | asyncio.Future[None]
    ) -> Sending | None:
        return None if self.tracing is None else self.tracing.send(route.topic, request, future)

    def _put(self, topic: str, record: Record) -> None:
        self.publisher.put(topic, record)

    def _unwanted(self, id: str, due: float) -> None:
        if self.cancelling is not None:
            self.cancelling.mark_soon(id, due)

    async def _wait_for_room(self, items: int, due: float, id: str, whole: str) -> None:
        turn = self.pending.queue(id, whole)
        try:
            async with asyncio.timeout_at(None if due == inf else due):
                await self.room.wait(items, turn)
        except TimeoutError:
            raise DeadlineExceeded(
                f"request {id} was not sent: {self.setup.max_in_flight_items} items are in flight (max_in_flight_items)"
            ) from None
        finally:
            self.pending.unqueue(id)


def _tracing() -> Tracing | None:
    """Spans, where the program uses OpenTelemetry: who has not imported it by now has no span that could be active."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from embedmq.tracing import Tracing

    return Tracing()
