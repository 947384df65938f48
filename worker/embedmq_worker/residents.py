"""Which models are in memory? Loads and evicts them as `residency` decides, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial

from msgspec import structs

from embedmq_worker.changes import Change, Evicted, Failed, Loaded, Repointed
from embedmq_worker.config import Model, Worker
from embedmq_worker.engine.seam import Engine, ModelFacts
from embedmq_worker.errors import WorkerError
from embedmq_worker.loads import Loads
from embedmq_worker.offload import in_thread
from embedmq_worker.opener import Opener
from embedmq_worker.residency import (
    Demand,
    View,
    check_pinned,
    least_missed,
    misfits,
    plan,
    too_large,
    unpinned_bytes,
)
from embedmq_worker.seat import Lease, ModelState, Seat
from embedmq_worker.served import Changes

__all__ = ["Change", "Evicted", "Failed", "Lease", "Loaded", "ModelState", "Opener", "Repointed", "Residents"]

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
        self._seats = {name: _seat_for(model) for name, model in models.items()}
        self._dismissed = {name for name, seat in self._seats.items() if seat.dismissed}
        self._loads = Loads(opener, settings, clock, self._most_bytes, self._tell)
        self._settings = settings
        self._clock = clock
        self._demands: Sequence[Demand] = ()
        self._unmet = False
        self._told: set[str] = set()
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self._last: Change | None = None
        self._repointed = Counter[str]()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeps_pinned = False
        self._closed = False
        self.budget_bytes = budget_bytes

    async def load_pinned(self, but: Collection[str] = ()) -> None:
        """Load the pinned models, one after the other, and see from now on that they stay; those in `but` come when
        they can.

        Raises:
            CheckpointTooLarge: they exceed the budget together.
            CheckpointInvalid, CheckpointUnreachable, OutOfMemory: one of them cannot be loaded.
        """
        pinned = {name: seat for name, seat in self._seats.items() if seat.pinned and name not in but}
        for attempt in (self._size, self._load):
            for name, seat in pinned.items():
                await self._loads.insist(seat, partial(attempt, name, seat))
            views = self._views()
            check_pinned({name: views[name] for name in pinned}, self.budget_bytes)
        self._keeps_pinned = True
        self._decide()

    def follow(self, changes: Changes, models: Mapping[str, Model]) -> None:
        """What is to be served has changed to `models`. Batches that are begun are finished, by what they began with;
        whoever is pinned is loaded, and whoever is not to be asked for any more goes when nothing of it is left.
        """
        again = {name for name in changes.added if name in self._seats}  # it was here before, and is another one now
        for name in changes.added - again:
            self._seats[name] = _seat_for(models[name])
        for name in changes.repointed | again:
            self._repoint(name, self._seats[name])
        for name in changes.pinned | changes.served:
            self._seats[name].forgive()
        for name, seat in self._seats.items():
            model = models.get(name)
            seat.pinned = model is not None and model.pinned
            seat.dismissed = not seat.pinned and (model is None or not model.served)
        self._dismissed = {name for name, seat in self._seats.items() if seat.dismissed}
        self._decide()

    def engine(self, model: str) -> Engine | None:
        """The model, if it is in memory and stays. One that was re-pointed is nobody's before that is taken up: what
        waits was prepared for another checkpoint.
        """
        seat = self._seats[model]
        return seat.engine if seat.state == "resident" and not self._repointed[model] else None

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
        if unmet or self._dismissed:
            self._decide()

    async def next_change(self) -> Change:
        """What changed next; every change is told once, in order. Whoever asks has taken up the one before."""
        if isinstance(self._last, Repointed):
            self._repointed[self._last.model] -= 1
        self._last = None
        change = self._last = await self._changes.get()
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
        return {name: seat.show(now_s) for name, seat in list(self._seats.items())}

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
        now_s, views = self._clock(), self._views()
        asked = [*self._demands, *self._unloaded(now_s)]
        wanted = [demand for demand in asked if self.failure(demand.model) is None]
        moments = [seat.fails_until_s for seat in self._seats.values() if seat.pinned and self._keeps_pinned]
        moments += [seat.cools_until_s for demand in wanted if (seat := self._seats[demand.model]).bytes is None]
        for name in {demand.model for demand in wanted}:
            self._size_once(name, now_s)
        found = plan(views, wanted, self.budget_bytes, now_s, self._settings)
        self._dismissed = {name for name in self._dismissed if self._seats[name].state != "absent"}
        self._dismissed |= {name for name in found.load if self._seats[name].dismissed}
        for name in found.evict:
            self._evict(name)
        for name in found.load:
            self._seats[name].state = "loading"
            self._begin(self._load(name, self._seats[name]))
        for name in found.too_large:
            most = unpinned_bytes(views, self.budget_bytes)
            self._loads.fail(name, self._seats[name], too_large(name, views[name].bytes, most))
        moments = [moment for moment in [*moments, found.next_s] if moment is not None and moment > now_s]
        later_s = min(moments, default=None)
        loop = asyncio.get_running_loop()
        self._timer = None if later_s is None else loop.call_later(later_s - now_s, self._decide)

    def _views(self) -> dict[str, View]:
        """As `plan` sees them: whoever has no room beside the other pinned ones is not pinned."""
        views = {name: seat.view(seat.bytes) for name, seat in self._seats.items() if seat.bytes is not None}
        out = misfits(views, self.budget_bytes) if self._keeps_pinned else ()
        for name, seat in self._seats.items():
            if name not in out:
                seat.misfit = None
            elif seat.misfit is None:
                left = unpinned_bytes(views, self.budget_bytes) + views[name].bytes
                seat.misfit = too_large(name, views[name].bytes, left)
                log.warning("model_not_pinned", extra={"model": name, "error": str(seat.misfit)})
        return views | {name: structs.replace(views[name], pinned=False) for name in out}

    def _most_bytes(self) -> int:
        return unpinned_bytes(self._views(), self.budget_bytes)

    def _unloaded(self, now_s: float) -> list[Demand]:
        """The pinned models that are not in memory, since they were pinned while the worker ran, or have failed."""
        if not self._keeps_pinned:
            return []
        wanted = {name: seat for name, seat in self._seats.items() if seat.pinned and seat.misfit is None}
        return [Demand(name, now_s, 0) for name, seat in wanted.items() if seat.state == "absent"]

    def _size_once(self, name: str, now_s: float) -> None:
        seat = self._seats[name]
        if seat.bytes is None and not seat.sizing and now_s >= seat.cools_until_s:
            seat.sizing = True
            self._begin(self._size(name, seat))

    async def _size(self, name: str, seat: Seat) -> None:
        await self._loads.size(name, seat)
        self._decide()

    async def _load(self, name: str, seat: Seat) -> None:
        await self._loads.load(name, seat)
        self._decide()

    async def _close(self, name: str, seat: Seat) -> None:
        await self._loads.close(name, seat)
        self._decide()

    def _repoint(self, name: str, seat: Seat) -> None:
        """What is in memory, or on its way there, goes, and leaves its place to another checkpoint."""
        seat.stale = True
        if seat.state == "resident":
            self._evict(name)
        else:
            self._loads.renew(name, seat)

    def _release(self, name: str, seat: Seat) -> None:
        seat.leases -= 1
        seat.last_use_s = self._clock()
        if seat.state == "leaving" and seat.leases == 0:
            self._begin(self._close(name, seat))
        elif self._unmet or seat.dismissed or (self._timer is None and self._settings.idle_evict_s is not None):
            self._decide()

    def _evict(self, name: str) -> None:
        """No new batch from now on; its memory is given back when the last one is done."""
        seat = self._seats[name]
        seat.state = "leaving"
        seat.gone.clear()
        if seat.leases == 0:
            self._begin(self._close(name, seat))

    def _tell(self, change: Change) -> None:
        if isinstance(change, Failed):
            self._told.add(change.model)
        elif isinstance(change, Repointed):
            self._repointed[change.model] += 1
        self._changes.put_nowait(change)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _seat_for(model: Model) -> Seat:
    return Seat(model.pinned, dismissed=not model.served and not model.pinned)
