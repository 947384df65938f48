"""What fits into one batch? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from embedmq_worker.jobs import Job, Part

UNLIMITED: Final = 2**62


class Budget(Struct, frozen=True):
    """What one batch of a model may hold: `tokens` is its device time by the rate measured at load."""

    tokens: int
    items: int


class Cursor:
    """A place in a row of jobs: the first job not yet taken whole, and its first item not yet taken."""

    def __init__(self, jobs: Sequence[Job], start: int) -> None:
        self._jobs: Iterator[Job] = iter(jobs)
        self.job: Job | None = next(self._jobs, None)
        self.start = start

    def advance(self) -> None:
        """Go on to the next job."""
        self.job = next(self._jobs, None)
        self.start = 0


class Filling:
    """A batch in the making; `full` once something did not fit."""

    def __init__(self, limit: Budget) -> None:
        self._limit = limit
        self.parts: list[Part] = []
        self.items = 0
        self.tokens = 0
        self.full = False

    def fill(self, cursor: Cursor, allowance: int = UNLIMITED) -> int:
        """Take items in order while budget and allowance last; returns what was spent of the allowance.

        An item costs its tokens and one more, so that empty ones are not free. The first item of a batch fits however
        large it is, so nothing waits for ever for a budget that it exceeds. What does not fit is split between items.
        """
        spent, parts = 0, self.parts
        most_tokens, most_items = self._limit.tokens, self._limit.items
        while (job := cursor.job) is not None:
            start, counts = cursor.start, job.prepared.tokens
            stop, tokens = len(counts), sum(counts[start:]) if start else job.cost.tokens
            cost = tokens + stop - start
            if self.tokens + tokens > most_tokens or self.items + stop - start > most_items or spent + cost > allowance:
                stop, tokens = self._split(counts, start, allowance - spent)
                cost = tokens + stop - start
            if stop > start:
                parts.append(Part(job, start, stop))
                self.items += stop - start
                self.tokens += tokens
                spent += cost
            if stop < len(counts):
                cursor.start = stop
                break
            cursor.advance()
        return spent

    def _split(self, counts: Sequence[int], start: int, allowance: int) -> tuple[int, int]:
        """How far a job fits: the index after its last item, and their tokens."""
        stop, tokens = start, 0
        while stop < len(counts):
            items, total = self.items + stop - start, self.tokens + tokens + counts[stop]
            if items and (items >= self._limit.items or total > self._limit.tokens):
                self.full = True
                break
            if tokens + counts[stop] + stop + 1 - start > allowance:
                break
            tokens += counts[stop]
            stop += 1
        return stop, tokens
