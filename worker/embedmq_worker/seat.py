"""What is remembered of one configured model, in memory or not?"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from msgspec import Struct

from embedmq_worker.config import Worker
from embedmq_worker.engine.seam import Engine, ModelFacts
from embedmq_worker.errors import WorkerError
from embedmq_worker.residency import THRASH_LOADS, THRASH_PERIOD_S, State, View, cooldown_s, is_thrashing

LOAD_BYTES_PER_S: Final = 500e6
"""How fast a model is taken to load before it was loaded once, beside …"""
LOAD_S: Final = 1.0
"""… what any load takes."""


class ModelState(Struct, frozen=True, kw_only=True):
    """One model for whoever looks. `state` is `resident`, `loading`, `absent` or `failing`."""

    state: str
    pinned: bool
    bytes: int
    last_use_s: float | None
    loads: int
    evictions: int
    failures: int
    error: str
    thrashing: bool


class Seat:
    """What is remembered of one model."""

    def __init__(self, pinned: bool, dismissed: bool = False) -> None:
        self.pinned = pinned
        self.dismissed = dismissed
        """Nobody is to ask for it any more: it goes as soon as nothing of it is left."""
        self.stale = False
        """Another checkpoint is to answer: what is in memory goes, what is being loaded is not taken."""
        self.misfit: WorkerError | None = None
        """Why it is not pinned although it is to be."""
        self.state: State = "absent"
        self.engine: Engine | None = None
        self.facts: ModelFacts | None = None
        self.bytes: int | None = None
        self.sizing = False
        self.leases = 0
        self.served = False
        self.used = False
        self.last_use_s = 0.0
        self.loaded_at_s = 0.0
        self.load_s: float | None = None
        self.loads_s: deque[float] = deque(maxlen=THRASH_LOADS)
        self.thrash_told_s = float("-inf")
        self.loads = self.evictions = self.failures = self.attempts = 0
        self.cools_until_s = self.fails_until_s = float("-inf")
        self.error: WorkerError | None = None
        self.gone = asyncio.Event()

    def view(self, size: int) -> View:
        """As `plan` sees it."""
        return View(
            bytes=size,
            state=self.state,
            pinned=self.pinned,
            dismissed=self.dismissed,
            leases=self.leases,
            served=self.served,
            last_use_s=self.last_use_s,
            loaded_at_s=self.loaded_at_s,
            load_s=LOAD_S + size / LOAD_BYTES_PER_S if self.load_s is None else self.load_s,
            cools_until_s=self.cools_until_s,
        )

    def renew(self) -> None:
        """Nothing is known of the checkpoint that is to answer from now on."""
        self.stale, self.bytes, self.facts, self.load_s = False, None, None, None
        self.forgive()

    def forgive(self) -> None:
        """Whatever failed may be tried again at once."""
        self.error, self.attempts, self.cools_until_s, self.fails_until_s = None, 0, float("-inf"), float("-inf")

    def failure(self, now_s: float) -> WorkerError | None:
        """Why it is not even tried now; None if it is."""
        return self.error if now_s < self.fails_until_s else None

    def loaded(self, engine: Engine, load_s: float, now_s: float) -> None:
        """It is in memory."""
        self.engine, self.facts, self.state, self.served, self.error = engine, engine.facts, "resident", False, None
        self.load_s, self.loaded_at_s, self.last_use_s = load_s, now_s, now_s
        self.loads += 1
        self.attempts = 0
        self.loads_s.append(now_s)

    def failed(self, error: WorkerError, now_s: float, settings: Worker) -> bool:
        """It could not be had; whether that is remembered, instead of tried again soon."""
        self.error = error
        self.failures += 1
        self.attempts += 1
        if error.retryable and self.attempts < settings.load_attempts:
            self.cools_until_s = now_s + cooldown_s(self.attempts, random.random())
            return False
        self.attempts = 0
        self.fails_until_s = now_s + settings.load_failure_s
        return True

    def begins_to_thrash(self, now_s: float) -> bool:
        """Whether it is to be said, which is once a period."""
        if not is_thrashing(self.loads_s, now_s) or now_s - self.thrash_told_s < THRASH_PERIOD_S:
            return False
        self.thrash_told_s = now_s
        return True

    def show(self, now_s: float) -> ModelState:
        """For whoever looks."""
        shown = "resident" if self.state == "leaving" else str(self.state)
        return ModelState(
            state="failing" if now_s < self.fails_until_s and self.state == "absent" else shown,
            pinned=self.pinned,
            bytes=self.bytes or 0,
            last_use_s=self.last_use_s if self.used else None,
            loads=self.loads,
            evictions=self.evictions,
            failures=self.failures,
            error=str(self.error or self.misfit or ""),
            thrashing=is_thrashing(tuple(self.loads_s), now_s),  # a copy: metrics are read in another thread
        )


class Lease:
    """Keeps a model in memory from when it is asked for until the end of its `with` block."""

    def __init__(self, engine: Engine, end: Callable[[], None]) -> None:
        self._engine = engine
        self._end = end

    def __enter__(self) -> Engine:
        return self._engine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def finite(rate: float) -> float | None:
    """A rate for the log: JSON has no infinity."""
    return None if rate == float("inf") else round(rate, 1)
