"""Which requests wait for an answer in this process, and until when?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from embedmq_schemas.results import Result

from embedmq.errors import DeadlineExceeded, EmbedMQError, InvalidRequest

SWEEP_INTERVAL_S = 0.01  # calls that end together are looked at together


class Pending:
    """The calls that wait, by id. One timer serves all deadlines: it wakes for the earliest and looks at every call,
    which are as many as may be in flight; nothing is to be undone for a call that is answered in time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[str, tuple[asyncio.Future[Result], float]] = {}
        self._next_sweep = inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, id: str, due: float) -> asyncio.Future[Result]:
        """Wait for the answer to `id` until the loop's time `due`; the future then fails with DeadlineExceeded.

        Raises:
            InvalidRequest: an id that waits already.
        """
        if id in self._calls:
            raise InvalidRequest(f"id: {id} waits for its answer already: ids are unique, use UUIDs")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._calls[id] = (future, due)
        if due < self._next_sweep:
            self._arm(due)
        return future

    def remove(self, id: str) -> None:
        """Wait no longer."""
        self._calls.pop(id, None)

    def resolve(self, result: Result) -> None:
        """Hand over an answer; one that nobody waits for (a second delivery, a cancelled call) is passed over."""
        call = self._calls.get(result.id)
        if call is not None and not call[0].done():
            call[0].set_result(result)

    def fail_all(self, error: Callable[[str], EmbedMQError]) -> None:
        """End every wait with the error made for its id."""
        for id, (future, _) in self._calls.items():
            if not future.done():
                future.set_exception(error(id))

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        self.close()
        self._next_sweep = due
        self._timer = self._loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._next_sweep = inf
        for id, (future, due) in self._calls.items():
            if due <= now and not future.done():
                future.set_exception(DeadlineExceeded(f"request {id}: no answer within its time limit"))
        earliest = min((due for future, due in self._calls.values() if not future.done()), default=inf)
        if earliest < inf:
            self._arm(max(earliest, now + SWEEP_INTERVAL_S))
