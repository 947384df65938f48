"""How is a seat filled and cleared, off the event loop, and what if a model does not come?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final

from embedmq_worker.changes import Change, Evicted, Failed, Loaded, Repointed
from embedmq_worker.config import Worker
from embedmq_worker.engine.seam import Engine
from embedmq_worker.errors import WorkerError
from embedmq_worker.offload import in_thread
from embedmq_worker.opener import Opener, load, size_bytes
from embedmq_worker.residency import THRASH_LOADS, THRASH_PERIOD_S, too_large
from embedmq_worker.seat import Seat, finite

THRASH_REMEDY: Final = "raise worker.memory_budget_bytes, pin the model, or serve it by a worker of its own"

log = logging.getLogger(__name__)


class Loads:
    """Begins what `Residents` decides, and says what came of it."""

    def __init__(
        self,
        opener: Opener,
        settings: Worker,
        clock: Callable[[], float],
        most_bytes: Callable[[], int],
        tell: Callable[[Change], None],
    ) -> None:
        """`most_bytes` is what the pinned models leave of the budget; `tell` is told of every change."""
        self._opener = opener
        self._settings = settings
        self._clock = clock
        self._most_bytes = most_bytes
        self._tell = tell

    async def size(self, name: str, seat: Seat) -> None:
        """Learn how large a model is; a failure counts as one to load."""
        try:
            size = await size_bytes(self._opener, name)
        except WorkerError as error:
            self._failed(name, seat, error)
        else:
            seat.bytes = size
        finally:
            seat.sizing = False
            self.renew(name, seat)

    async def load(self, name: str, seat: Seat) -> None:
        """Bring a model into memory; one that another took the place of meanwhile is not kept."""
        seat.state = "loading"
        start_s = self._clock()
        try:
            engine = await load(self._opener, name)
        except WorkerError as error:
            seat.state = "absent"
            self._failed(name, seat, error)
        else:
            if seat.stale:
                await give_back(name, engine)
                seat.state = "absent"
            else:
                await self._seat(name, seat, engine, start_s)
        self.renew(name, seat)

    async def close(self, name: str, seat: Seat) -> None:
        """Give a model's memory back."""
        engine, seat.engine = seat.engine, None
        if engine is not None:
            await give_back(name, engine)
        seat.state = "absent"
        seat.evictions += 1
        seat.gone.set()
        log.info("model_evicted", extra={"model": name, "bytes": seat.bytes})
        self._tell(Evicted(name))
        self.renew(name, seat)

    def renew(self, name: str, seat: Seat) -> None:
        """Make place for the checkpoint that is to answer from now on, if the one before is gone."""
        if seat.stale and seat.state == "absent" and not seat.sizing:
            seat.renew()
            self._tell(Repointed(name))

    def fail(self, name: str, seat: Seat, error: WorkerError) -> None:
        """Try again soon where that may help, else remember it and have those who wait answered."""
        final = seat.failed(error, self._clock(), self._settings)
        log.warning("model_not_loaded", extra={"model": name, "error": str(error), "tried_again": not final})
        if final:
            self._tell(Failed(name, error))

    async def insist(self, seat: Seat, attempt: Callable[[], Coroutine[None, None, None]]) -> None:
        """Try until it works, or has failed for good."""
        while True:
            failures = seat.failures
            await attempt()
            if seat.failures == failures:
                return
            if (error := seat.failure(self._clock())) is not None:
                raise error
            await asyncio.sleep(max(0.0, seat.cools_until_s - self._clock()))

    def _failed(self, name: str, seat: Seat, error: WorkerError) -> None:
        """A failure of a checkpoint that is not wanted any more is none."""
        if not seat.stale:
            self.fail(name, seat, error)

    async def _seat(self, name: str, seat: Seat, engine: Engine, start_s: float) -> None:
        """A model was loaded, and its true size is known."""
        now_s, facts = self._clock(), engine.facts
        seat.bytes = facts.bytes + facts.workspace_bytes
        most = self._most_bytes()
        if seat.bytes > most and (not seat.pinned or seat.misfit is not None):
            await give_back(name, engine)
            seat.state = "absent"
            self._failed(name, seat, too_large(name, seat.bytes, most))
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


async def give_back(name: str, engine: Engine) -> None:
    """Close a model. What one that cannot be closed still holds is lost, and nobody can do better than to go on."""
    try:
        await in_thread(engine.close, f"close-{name}")
    except Exception:
        log.exception("model_not_closed", extra={"model": name})
