"""Which models are in memory? Loads and evicts them as `residency` decides, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Final

from embedmq_worker.changes import Change, Evicted, Failed, Loaded
from embedmq_worker.config import Model, Worker
from embedmq_worker.engine.seam import Engine, ModelFacts
from embedmq_worker.errors import WorkerError
from embedmq_worker.offload import in_thread
from embedmq_worker.opener import Opener, load, size_bytes
from embedmq_worker.residency import (
    THRASH_LOADS,
    THRASH_PERIOD_S,
    Demand,
    View,
    check_pinned,
    least_missed,
    plan,
    too_large,
    unpinned_bytes,
)
from embedmq_worker.seat import Lease, ModelState, Seat, finite

__all__ = ["Change", "Evicted", "Failed", "Lease", "Loaded", "ModelState", "Opener", "Residents"]

THRASH_REMEDY: Final = "raise worker.memory_budget_bytes, pin the model, or serve it by a worker of its own"

log = logging.getLogger(__name__)


class Residents:
    """The models of one worker. All methods belong to the event loop's thread; `states` may be read from any."""

    def __init__(
        self,
        models: Mapping[str, Model],
        opener: Opener,
        budget_bytes: int,
        settings: Worker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seats = {name: Seat(model.pinned) for name, model in models.items()}
        self._opener = opener
        self._settings = settings
        self._clock = clock
        self._demands: Sequence[Demand] = ()
        self._unmet = False
        self._told: set[str] = set()
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.budget_bytes = budget_bytes

    async def load_pinned(self) -> None:
        """Load the pinned models, one after the other.

        Raises:
            CheckpointTooLarge: they exceed the budget together.
            CheckpointInvalid, CheckpointUnreachable, OutOfMemory: one of them cannot be loaded.
        """
        pinned = {name: seat for name, seat in self._seats.items() if seat.pinned}
        for attempt in (self._size, self._load):
            for name, seat in pinned.items():
                await self._insist(seat, partial(attempt, name, seat))
            check_pinned(self._views(), self.budget_bytes)

    def engine(self, model: str) -> Engine | None:
        """The model, if it is in memory and stays."""
        seat = self._seats[model]
        return seat.engine if seat.state == "resident" else None

    def facts(self, model: str) -> ModelFacts | None:
        """What it can do, as of its last load; None before the first."""
        return self._seats[model].facts

    def failure(self, model: str) -> WorkerError | None:
        """Why it cannot be had now and is not tried; None if it is there or may be had."""
        return self._seats[model].failure(self._clock())

    def lease(self, model: str) -> Lease:
        """Keep a model for one batch; it counts as used at the batch's start and end.

        Raises:
            LookupError: it is not in memory. Nothing may be awaited between seeing that it is and leasing it.
        """
        lease = self.hold(model)
        self._seats[model].served = self._seats[model].used = True
        return lease

    def hold(self, model: str) -> Lease:
        """Keep a model for something that is no batch, such as cutting texts into its tokens.

        Raises:
            LookupError: as `lease`.
        """
        seat = self._seats[model]
        if seat.engine is None or seat.state != "resident":
            raise LookupError(f"{model} is not in memory: look and lease it before anything is awaited")
        seat.leases += 1
        seat.last_use_s = self._clock()
        return Lease(seat.engine, partial(self._release, model, seat))

    def demand(self, demands: Sequence[Demand]) -> None:
        """Say all that waits, for models in memory or not; begins what follows, and returns at once."""
        self._demands = demands
        unmet = [name for demand in demands if self._seats[name := demand.model].state != "resident"]
        self._unmet = bool(unmet)
        for name in unmet:
            error = self.failure(name)
            if error is not None and name not in self._told:
                self._tell(Failed(name, error))
        if unmet:
            self._decide()

    async def next_change(self) -> Change:
        """What changed next; every change is told once, in order."""
        change = await self._changes.get()
        self._told.discard(change.model)
        return change

    async def make_room(self, besides: str) -> bool:
        """Evict the least recently used model that has no work, since memory ran out; whether there was one."""
        name = least_missed(self._views(), self._demands, besides)
        if name is None:
            return False
        self._evict(name)
        await self._seats[name].gone.wait()
        return True

    def states(self) -> Mapping[str, ModelState]:
        """All models, for whoever looks."""
        now_s = self._clock()
        return {name: seat.show(now_s) for name, seat in self._seats.items()}

    async def close(self) -> None:
        """Give all memory back; loads that have not ended are left to end with the process."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name, seat in self._seats.items():
            if seat.engine is not None:
                await in_thread(seat.engine.close, f"close-{name}")
                seat.engine, seat.state = None, "absent"

    def _decide(self) -> None:
        """Plan with what is known now, begin what is to be done, and wake up when time alone changes the plan."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        now_s = self._clock()
        wanted = [demand for demand in self._demands if self.failure(demand.model) is None]
        moments = [seat.cools_until_s for demand in wanted if (seat := self._seats[demand.model]).bytes is None]
        for name in {demand.model for demand in wanted}:
            self._size_once(name, now_s)
        views = self._views()
        found = plan(views, wanted, self.budget_bytes, now_s, self._settings)
        for name in found.evict:
            self._evict(name)
        for name in found.load:
            self._seats[name].state = "loading"
            self._begin(self._load(name, self._seats[name]))
        for name in found.too_large:
            most = unpinned_bytes(views, self.budget_bytes)
            self._fail(name, self._seats[name], too_large(name, views[name].bytes, most))
        moments = [moment for moment in [*moments, found.next_s] if moment is not None and moment > now_s]
        later_s = min(moments, default=None)
        loop = asyncio.get_running_loop()
        self._timer = None if later_s is None else loop.call_later(later_s - now_s, self._decide)

    def _views(self) -> dict[str, View]:
        return {name: seat.view(seat.bytes) for name, seat in self._seats.items() if seat.bytes is not None}

    def _size_once(self, name: str, now_s: float) -> None:
        seat = self._seats[name]
        if seat.bytes is None and not seat.sizing and now_s >= seat.cools_until_s:
            seat.sizing = True
            self._begin(self._size(name, seat))

    async def _size(self, name: str, seat: Seat) -> None:
        """Learn how large a model is; a failure counts as one to load."""
        try:
            seat.bytes = await size_bytes(self._opener, name)
        except WorkerError as error:
            self._fail(name, seat, error)
        finally:
            seat.sizing = False
        self._decide()

    async def _load(self, name: str, seat: Seat) -> None:
        seat.state = "loading"
        start_s = self._clock()
        try:
            engine = await load(self._opener, name)
        except WorkerError as error:
            seat.state = "absent"
            self._fail(name, seat, error)
        else:
            await self._seat(name, seat, engine, start_s)
        self._decide()

    async def _seat(self, name: str, seat: Seat, engine: Engine, start_s: float) -> None:
        """A model was loaded, and its true size is known."""
        now_s, facts = self._clock(), engine.facts
        seat.bytes = facts.bytes + facts.workspace_bytes
        most = unpinned_bytes(self._views(), self.budget_bytes)
        if not seat.pinned and seat.bytes > most:
            await in_thread(engine.close, f"close-{name}")
            seat.state = "absent"
            self._fail(name, seat, too_large(name, seat.bytes, most))
            return
        seat.loaded(engine, now_s - start_s, now_s)
        extra = {
            "model": name,
            "path": facts.path,
            "reason": facts.reason,
            "revision": facts.revision,
            "computed_in": facts.computed_in,
            "bytes": seat.bytes,
            "tokens_per_s": finite(facts.tokens_per_s),
            "seconds": round(now_s - start_s, 3),
        }
        log.info("model_loaded", extra=extra)
        if seat.begins_to_thrash(now_s):
            told = {"model": name, "loads": THRASH_LOADS, "period_s": THRASH_PERIOD_S, "remedy": THRASH_REMEDY}
            log.warning("model_thrashing", extra=told)
        self._tell(Loaded(name, facts, now_s - start_s))

    async def _insist(self, seat: Seat, attempt: Callable[[], Coroutine[None, None, None]]) -> None:
        """Try until it works, or has failed for good."""
        while True:
            failures = seat.failures
            await attempt()
            if seat.failures == failures:
                return
            if (error := seat.failure(self._clock())) is not None:
                raise error
            await asyncio.sleep(max(0.0, seat.cools_until_s - self._clock()))

    def _fail(self, name: str, seat: Seat, error: WorkerError) -> None:
        """Try again soon where that may help, else remember it and have those who wait answered."""
        final = seat.failed(error, self._clock(), self._settings)
        log.warning("model_not_loaded", extra={"model": name, "error": str(error), "tried_again": not final})
        if final:
            self._tell(Failed(name, error))

    def _release(self, name: str, seat: Seat) -> None:
        seat.leases -= 1
        seat.last_use_s = self._clock()
        if seat.state == "leaving" and seat.leases == 0:
            self._begin(self._close_engine(name, seat))
        elif self._unmet or (self._timer is None and self._settings.idle_evict_s is not None):
            self._decide()

    def _evict(self, name: str) -> None:
        """No new batch from now on; its memory is given back when the last one is done."""
        seat = self._seats[name]
        seat.state = "leaving"
        seat.gone.clear()
        if seat.leases == 0:
            self._begin(self._close_engine(name, seat))

    async def _close_engine(self, name: str, seat: Seat) -> None:
        engine, seat.engine = seat.engine, None
        if engine is not None:
            try:
                await in_thread(engine.close, f"close-{name}")
            except Exception:  # what it still holds cannot be had back, and nobody can do better than to go on
                log.exception("model_not_closed", extra={"model": name})
        seat.state = "absent"
        seat.evictions += 1
        seat.gone.set()
        log.info("model_evicted", extra={"model": name, "bytes": seat.bytes})
        self._tell(Evicted(name))
        self._decide()

    def _tell(self, change: Change) -> None:
        if isinstance(change, Failed):
            self._told.add(change.model)
        self._changes.put_nowait(change)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
