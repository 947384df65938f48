"""When may the next rows go out under a ceiling of rows a second?"""

from __future__ import annotations

from math import inf

BURST_S = 1.0
"""How much of the ceiling may be made up for after a pause, in seconds."""


class Rate:
    """A ceiling: `delay_s` says how long to wait before sending. Pure: it is told what time it is."""

    def __init__(self, rows_per_s: float = inf) -> None:
        self._rows_per_s = rows_per_s
        self._free_s = -inf

    def delay_s(self, rows: int, now_s: float) -> float:
        """Seconds to wait from now before these rows may go; they count as sent then."""
        if self._rows_per_s == inf:
            return 0.0
        start_s = max(self._free_s, now_s - BURST_S)
        self._free_s = start_s + rows / self._rows_per_s
        return max(0.0, start_s - now_s)
