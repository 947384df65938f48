"""How do calls that share a record each get their own answer?"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Embedded, Failed, Result
from msgspec import Struct
from msgspec.structs import replace

from embedmq.coalesce import SHARED_ITEMS, Mismatch, kind, merge, pack, split
from embedmq.errors import RequestCancelled, Unavailable
from embedmq.pending import Call, Pending
from embedmq.publisher import Record
from embedmq.records import Records
from embedmq.requests import encode
from embedmq.routes import Route

if TYPE_CHECKING:
    from embedmq.tracing import Sending


class Rider(Call, kw_only=True, eq=False):
    """A call that may share a record; it waits under its own id and until its own time."""

    route: Route
    request: Embed
    size_bytes: int
    shared: Shared | None = None
    sending: Sending | None = None
    """Its own place in its caller's trace."""


class Shared(Struct, eq=False):
    """A record on its way that `riders` calls still want, the last of them until the loop's time `due`."""

    id: str
    future: asyncio.Future[Result]
    riders: int
    due: float


class Sharing:
    """Puts the calls of one turn of the event loop into as few records as they fit, and takes the answers apart.

    What fails as a whole says nothing about any one call: each that still waits is then sent once more, in a record of
    its own under its own id. An Unavailable is everybody's.
    """

    def __init__(
        self,
        pending: Pending,
        records: Records,
        next_id: Callable[[], str],
        put: Callable[[str, Record], None],
        unwanted: Callable[[str, float], None],
    ) -> None:
        """`put` sends a record to a topic; `unwanted` is told the id of a record for which nobody waits any more, and
        the loop's time until which somebody would have.
        """
        self._loop = asyncio.get_running_loop()
        self._pending = pending
        self._records = records
        self._next_id = next_id
        self._put = put
        self._unwanted = unwanted
        self._boarding = defaultdict[Hashable, list[Rider]](list)

    def board(self, rider: Rider) -> None:
        """Send a call at the end of this turn of the loop, with others of its kind."""
        if not self._boarding:
            self._loop.call_soon(self._send_all)
        self._boarding[kind(rider.topic, rider.request)].append(rider)

    def leave(self, rider: Rider) -> None:
        """Its call has ended; who is the last to leave a record that is under way calls it off."""
        shared = rider.shared
        if shared is None:
            return
        shared.riders -= 1
        if not shared.riders and not shared.future.done():
            shared.future.cancel()
            if self._loop.time() < shared.due:
                self._unwanted(shared.id, shared.due)

    def _send_all(self) -> None:
        boarding, self._boarding = self._boarding, defaultdict(list)
        for riders in boarding.values():
            waiting = [rider for rider in riders if not rider.future.done()]
            sizes = [(len(rider.request.items), rider.size_bytes) for rider in waiting]
            for part in pack(sizes, min(SHARED_ITEMS, riders[0].route.limits.max_items)):
                self._send(waiting[part.start : part.stop])

    def _send(self, riders: Sequence[Rider]) -> None:
        if len(riders) == 1:
            self._send_alone(riders[0])
            return
        route = riders[0].route
        request = merge(self._next_id(), [rider.request for rider in riders])
        try:
            value = encode(request)
        except Exception:  # something that cannot be written: its caller is told what, and the others travel
            for rider in riders:
                self._send_alone(rider)
            return
        future: asyncio.Future[Result] = self._loop.create_future()
        shared = Shared(request.id or "", future, len(riders), max(rider.due for rider in riders))
        for rider in riders:
            rider.shared = shared
        record = self._records.awaited(route, request, value, future, _lead(riders))
        self._pending.add(shared.id, Call(future, shared.due, shared.id, route.topic, record))
        future.add_done_callback(partial(self._answered, shared.id, riders))
        self._put(route.topic, record)

    def _send_alone(self, rider: Rider) -> None:
        rider.shared = None
        try:
            value = encode(rider.request)
        except Exception as error:  # whatever it is, nobody else would tell the call, which waits
            rider.future.set_exception(error)
            return
        rider.record = self._records.awaited(rider.route, rider.request, value, rider.future, rider.sending)
        self._put(rider.topic, rider.record)

    def _answered(self, id: str, riders: Sequence[Rider], answer: asyncio.Future[Result]) -> None:
        self._pending.remove(id)
        if answer.cancelled():
            return  # nobody waits
        error = answer.exception()
        results = None if error else take_apart(answer.result(), riders)
        for i, rider in enumerate(riders):
            future = rider.future
            if future.done():
                continue
            if results is not None:
                future.set_result(results[i])
            elif isinstance(error, (Unavailable, RequestCancelled)):
                future.set_exception(type(error)(*error.args))
            else:
                self._send_alone(rider)


def _lead(riders: Sequence[Rider]) -> Sending | None:
    """The place of a shared record, which can be in one trace only."""
    traced = [rider.sending for rider in riders if rider.sending is not None]
    return traced[0].lead(traced[1:]) if traced else None


def take_apart(result: Result, riders: Sequence[Rider]) -> list[Embedded] | list[Failed] | None:
    """What each rider asked for; None where there is nothing to share out. A quota is everybody's."""
    if isinstance(result, Failed) and result.code == "quota_exceeded":
        return [replace(result, id=rider.whole) for rider in riders]
    if not isinstance(result, Embedded):
        return None
    try:
        return list(split(result, [(rider.whole, len(rider.request.items)) for rider in riders]))
    except Mismatch:
        return None
