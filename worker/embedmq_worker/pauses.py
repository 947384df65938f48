"""Which models are paused because they fail, and when is one of them tried again?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from embedmq_worker.guard import Guard
from embedmq_worker.meter import Meter


class Pauses:
    """Asks the guard by the clock, tells the meter, and wakes whoever waits for the end of a pause."""

    def __init__(self, guard: Guard, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self._guard = guard
        self._meter = meter
        self._clock = clock
        self._due_s: dict[str, float] = {}
        self._tried: set[str] = set()
        self._held: set[str] = set()
        self._changed = asyncio.Event()

    def holds(self, model: str) -> bool:
        """Whether its requests lie aside, because it is paused or one of them is being tried."""
        return model in self._held

    def blocks(self, model: str) -> bool:
        """Whether not even one of them is to be tried now, or is being tried."""
        return model not in self._tried and self._guard.paused(model, self._clock())

    def admits(self, model: str) -> bool:
        """Whether a request may be run; of a paused model one after each pause."""
        admitted = self._guard.admit(model, self._clock())
        if admitted and self.holds(model):
            self._tried.add(model)
            self._expect(model)
        return admitted

    def fail(self, model: str) -> None:
        """A paused model could not be loaded when it was to be tried: it is paused anew, whatever became of the request
        that it was tried for.
        """
        if model in self._tried or self.admits(model):
            self.observe(model, failed=True)

    def undecided(self, model: str) -> None:
        """A request of a model ended in a way that says nothing of it: if it was the one to be tried, another is."""
        if model in self._tried:
            self._tried.discard(model)
            self._guard.undecided(model, self._clock())
            self._changed.set()

    def observe(self, model: str, *, failed: bool) -> bool:
        """Count a finished request, or a load that failed; whether its model has been paused by that."""
        change = self._guard.observe(model, failed, self._clock())
        if change is None:
            return False
        self._tried.discard(model)
        self._expect(model)
        if change == "resumed":
            self._held.discard(model)
            self._meter.resumed(model)
        else:
            self._held.add(model)
            self._meter.paused(model, self._due_s[model] - self._clock())
        self._changed.set()
        return change == "paused"

    def forget(self, model: str) -> None:
        """Another checkpoint answers for a model: what the one before did says nothing of it, and its pause is over."""
        self._guard.forget(model)
        self._tried.discard(model)
        self._due_s.pop(model, None)
        if model in self._held:
            self._held.discard(model)
            self._meter.resumed(model)
            self._changed.set()

    def poke(self, model: str) -> None:
        """A request was laid aside: if its model is to be tried, it can be now."""
        if self.holds(model) and not self._guard.paused(model, self._clock()):
            self._changed.set()

    async def ended(self) -> None:
        """Wait until a model may be tried, or is no longer paused."""
        soonest_s = min(self._due_s.values(), default=None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                self._changed.wait(), None if soonest_s is None else max(0.0, soonest_s - self._clock())
            )
        self._changed.clear()
        now_s = self._clock()
        self._due_s = {model: due_s for model, due_s in self._due_s.items() if due_s > now_s}

    def _expect(self, model: str) -> None:
        until_s = self._guard.until_s(model)
        if until_s is None:
            self._due_s.pop(model, None)
        else:
            self._due_s[model] = until_s
