"""What was done in the last minute? Pure: a clock goes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from msgspec import Struct

WINDOW_S: Final = 60


class Done(Struct):
    """Sums of one model: of one second, or of all that are remembered."""

    items: int = 0
    tokens: int = 0
    failed: int = 0
    filled: int = 0
    """Tokens that the device computed, …"""
    room: int = 0
    """… and how many its batches might have held."""

    def add(self, other: Done, sign: int) -> None:
        """Count another in, or (`sign` -1) out again."""
        self.items += sign * other.items
        self.tokens += sign * other.tokens
        self.failed += sign * other.failed
        self.filled += sign * other.filled
        self.room += sign * other.room


class Rate(Struct, frozen=True):
    """One model over the last minute; `batch_fill` is None without batches."""

    items_per_s: float = 0.0
    tokens_per_s: float = 0.0
    failed_per_s: float = 0.0
    batch_fill: float | None = None


class Rates:
    """Sums by second and model. What nobody asked for within a minute costs nothing."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start_s = clock()
        self._seconds: deque[tuple[int, dict[str, Done]]] = deque()
        self._sums: dict[str, Done] = {}

    def add(self, model: str, done: Done) -> None:
        """Something was done."""
        second = int(self._clock())
        if not self._seconds or self._seconds[-1][0] != second:
            self._expire()
            self._seconds.append((second, {}))
        self._seconds[-1][1].setdefault(model, Done()).add(done, 1)
        self._sums.setdefault(model, Done()).add(done, 1)

    def now(self) -> dict[str, Rate]:
        """Every model of which anything was done; a process younger than a minute is judged by its age."""
        self._expire()
        over_s = min(WINDOW_S, max(1.0, self._clock() - self._start_s))
        return {model: _rate(done, over_s) for model, done in self._sums.items()}

    def _expire(self) -> None:
        oldest = int(self._clock()) - WINDOW_S
        while self._seconds and self._seconds[0][0] <= oldest:
            for model, done in self._seconds.popleft()[1].items():
                total = self._sums[model]
                total.add(done, -1)
                if total == Done():
                    del self._sums[model]


class Busy:
    """Which part of the last minute something was under way, however many at once: `with busy:` around each."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start_s = clock()
        self._under_way = 0
        self._since_s = 0.0
        self._seconds: deque[tuple[int, float]] = deque()
        """When each second's share ended, and how long it was."""

    def __enter__(self) -> None:
        if not self._under_way:
            self._since_s = self._clock()
        self._under_way += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._note(self._clock())

    def ratio(self) -> float:
        """0 to 1; what is under way counts until now."""
        now_s = self._clock()
        if self._under_way:
            self._note(now_s)
            self._since_s = now_s
        while self._seconds and self._seconds[0][0] <= int(now_s) - WINDOW_S:
            self._seconds.popleft()
        over_s = min(WINDOW_S, max(1.0, now_s - self._start_s))
        return min(1.0, sum(length_s for _, length_s in self._seconds) / over_s)

    def _note(self, end_s: float) -> None:
        """What lasted is counted in the second of its end: exact to the time between two looks."""
        length_s, second = min(end_s - self._since_s, WINDOW_S), int(end_s)
        if self._seconds and self._seconds[-1][0] == second:
            length_s += self._seconds.pop()[1]
        self._seconds.append((second, length_s))
        if len(self._seconds) > WINDOW_S:
            self._seconds.popleft()


def _rate(done: Done, over_s: float) -> Rate:
    return Rate(
        round(done.items / over_s, 3),
        round(done.tokens / over_s, 3),
        round(done.failed / over_s, 3),
        round(min(1.0, done.filled / done.room), 3) if done.room else None,
    )
