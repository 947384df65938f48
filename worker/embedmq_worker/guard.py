"""Does a model fail so often that its requests should wait, instead of being emptied into the dead letters? Pure.

A model is closed to requests (paused) after `guard_failures` failures in a row, or when `guard_ratio` of the last
`guard_window` failed. After the pause one request is let through: its success ends the pause and all that was counted,
its failure makes the pause begin anew, twice as long up to `LONGEST` times the first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

from embedmq_schemas.results import Failed, Result

from embedmq_worker.config import Worker

Change = Literal["paused", "resumed"]
"""What one request changed for its model; `paused` is said again when the request that was tried fails, too."""

LONGEST: Final = 16
"""A pause grows to at most so many times `guard_pause_s`."""
TELLING: Final = frozenset({"processing_failed", "model_unavailable"})
"""The codes by which a model fails; any other failure is the request's own and says nothing of the model."""


@dataclass(slots=True)
class _History:
    """What one model did of late, and until when it is paused."""

    recent: deque[bool]
    failed: int = 0
    in_row: int = 0
    until_s: float | None = None
    """None while it is not paused."""
    pause_s: float = 0.0
    trying: bool = False
    """Whether one request was let through, and nothing was heard of it yet."""


@dataclass(slots=True)
class Guard:
    """Watches every model of one worker. Times are of one monotonic clock, in seconds."""

    settings: Worker
    _histories: dict[str, _History] = field(default_factory=dict[str, _History])

    def observe(self, model: str, failed: bool, now_s: float) -> Change | None:
        """Count one finished request that says something of its model (see `failed`).

        Of requests that were under way when the pause began nothing is learnt any more. While one is tried, the first
        to finish is taken for it: pauses are far longer than requests.
        """
        history = self._history(model)
        if history.until_s is not None:
            return self._tried(model, history, failed, now_s) if history.trying else None
        if len(history.recent) == self.settings.guard_window:
            if not failed and not history.failed:
                return None  # nothing but good ones is known, and one more changes nothing
            history.failed -= history.recent[0]
        history.recent.append(failed)
        history.failed += failed
        history.in_row = history.in_row + 1 if failed else 0
        return self._pause(history, self.settings.guard_pause_s, now_s) if self._fails(history) else None

    def paused(self, model: str, now_s: float) -> bool:
        """Whether `admit` would refuse now."""
        until_s = self.until_s(model)
        return until_s is not None and now_s < until_s

    def until_s(self, model: str) -> float | None:
        """When the next request will be let through; None for a model that is not paused.

        A time that has passed means: now, and one only.
        """
        history = self._histories.get(model)
        return None if history is None else history.until_s

    def admit(self, model: str, now_s: float) -> bool:
        """Whether a request may be run. Of a paused model that is one after each pause, also where the one before was
        never heard of again (it expired, or its partition went to another worker).
        """
        history = self._histories.get(model)
        if history is None or history.until_s is None:
            return True
        if now_s < history.until_s:
            return False
        history.until_s, history.trying = now_s + history.pause_s, True
        return True

    def undecided(self, model: str, now_s: float) -> None:
        """The request that was let through after a pause said nothing: another one may be let through now."""
        history = self._histories.get(model)
        if history is not None and history.trying:
            history.until_s, history.trying = now_s, False

    def forget(self, model: str) -> None:
        """Nothing is known of a model any more, and it is not paused: another checkpoint answers for it."""
        self._histories.pop(model, None)

    def _history(self, model: str) -> _History:
        if (history := self._histories.get(model)) is None:
            history = self._histories[model] = _History(deque(maxlen=self.settings.guard_window))
        return history

    def _fails(self, history: _History) -> bool:
        settings, seen = self.settings, len(history.recent)
        often = seen == settings.guard_window and history.failed >= settings.guard_ratio * seen
        return history.in_row >= settings.guard_failures or often

    def _tried(self, model: str, history: _History, failed: bool, now_s: float) -> Change:
        if not failed:
            del self._histories[model]
            return "resumed"
        return self._pause(history, min(history.pause_s * 2, self.settings.guard_pause_s * LONGEST), now_s)

    def _pause(self, history: _History, pause_s: float, now_s: float) -> Change:
        history.pause_s, history.until_s, history.trying = pause_s, now_s + pause_s, False
        return "paused"


def failed(result: Result) -> bool | None:
    """Whether a result is one that `observe` should count as failed, or as good; None if it says nothing of its model.

    A request with some good items is no failure; one that has none, because the engine failed on every item, is.
    """
    if isinstance(result, Failed):
        return True if result.code in TELLING else None
    if len(result.failures) < result.count:
        return False
    return True if any(failure.code in TELLING for failure in result.failures) else None
