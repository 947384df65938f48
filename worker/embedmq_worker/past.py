"""What is still known of a partition that was taken away and given back? Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

Fate = Literal["skipped", "again"]
"""What becomes of a record that is read a second time: it was completed, or it is begun anew."""
Mark = tuple[int, int]
"""A record's timestamp and the hash of its value: beside its offset, what tells it from another one at its place."""
Marks = Mapping[int, Mark]
"""By offset."""

KEPT_S: Final = 60.0
"""How long a partition that was taken away is remembered: rebalances mostly give it back within seconds."""


class Current(Protocol):
    """The assignment of now."""

    def complete_for(self, offset: int, mark: Mark) -> bool: ...


class Past:
    """What earlier assignments of one partition in this process left behind: which records above the commit are
    complete, which were begun, and the assignment of now, if there is one.
    """

    __slots__ = ("_commit", "_current", "_repeated", "_revoked_s", "known")

    def __init__(self, repeated: Callable[[Fate], None] = lambda _: None) -> None:
        """`repeated` is told of each record that is read again."""
        self.known: dict[int, tuple[Mark, Fate]] = {}
        self._repeated = repeated
        self._current: Current | None = None
        self._commit = 0
        self._revoked_s = 0.0

    def assign(self, current: Current) -> None:
        """The partition is ours (again)."""
        self._current = current

    def keep(self, complete: Marks, begun: Marks, now_s: float) -> None:
        """An assignment ends, and leaves this behind. Below the last commit lies only what a new log begins with."""
        self._commit = min([self._commit, *complete, *begun])
        self._remember(begun, "again")
        self._remember(complete, "skipped")
        self._current, self._revoked_s = None, now_s

    def complete_late(self, offset: int, mark: Mark) -> None:
        """A job of an assignment that has ended was completed, for the assignment of now or the next one."""
        if self._current is None or not self._current.complete_for(offset, mark):
            self.known[offset] = (mark, "skipped")

    def meet(self, offset: int, mark: Mark) -> bool:
        """A record is read; whether it is complete already. One that differs from what was at its place, or stands
        before what was committed, is of another log: then nothing that is known holds any more.
        """
        known, fate = self.known.pop(offset, (mark, None))
        if known != mark or offset < self._commit:
            self.rewind(None)
            return False
        if fate is not None:
            self._repeated(fate)
        return fate == "skipped"

    def committed(self, offset: int) -> None:
        """What is below is not read again."""
        self._commit = offset
        if self.known:
            self.known = {at: known for at, known in self.known.items() if at >= offset}

    def rewind(self, complete: Marks | None) -> None:
        """The log is read anew: it is another one, of which nothing is known, or in it this is complete."""
        if complete is None:
            self.known, self._commit = {}, 0
        else:
            self._remember(complete, "skipped")

    def _remember(self, marks: Marks, fate: Fate) -> None:
        for offset, mark in marks.items():
            self.known[offset] = (mark, fate)

    def is_over(self, now_s: float) -> bool:
        """Whether the partition was taken away too long ago to be remembered."""
        return self._current is None and now_s - self._revoked_s >= KEPT_S
