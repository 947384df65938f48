"""How fast does a job go, and when will it be done?"""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 30.0
READINGS: Final = 60
"""About how many readings a window keeps."""
CLOCK_STEP_S: Final = 0.001
"""Readings closer than this say nothing about a rate."""


class Pace:
    """The rate over the last `window_s`. What was done before the first reading, in an earlier run, never counts."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._kept: deque[tuple[float, int]] = deque()  # the first is the last one before the window, if there is one
        self._last = (0.0, 0)

    def note(self, now_s: float, rows: int) -> None:
        """A reading: `rows` have been dealt with up to now. Note the beginning of a run, too."""
        if self._kept and now_s < self._last[0]:
            return  # no clock that only goes forward: nothing can be said of this moment
        self._last = (now_s, rows)
        if not self._kept or now_s - self._kept[-1][0] >= self._window_s / READINGS:
            self._kept.append(self._last)
        while len(self._kept) > 1 and self._kept[1][0] <= now_s - self._window_s:
            self._kept.popleft()

    def rate_per_s(self, now_s: float) -> float:
        """Rows a second; 0 before there are two readings. A job that stands still slows down as time goes by."""
        if not self._kept:
            return 0.0
        began_s, before = self._kept[0]
        span_s = max(now_s, self._last[0]) - began_s
        return max(0, self._last[1] - before) / span_s if span_s >= CLOCK_STEP_S else 0.0

    def left_s(self, now_s: float, rows_total: int | None) -> float | None:
        """How long the rest takes at this rate; None where nobody can tell."""
        rate_per_s = self.rate_per_s(now_s)
        if rows_total is None or not self._kept:
            return None
        left = max(0, rows_total - self._last[1])
        if left == 0:
            return 0.0
        return left / rate_per_s if rate_per_s > 0 else None
