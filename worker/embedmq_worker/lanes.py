"""Which lane leads the next batch? Pure: device time served goes in, a lane comes out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from embedmq_schemas.requests import Lane

LONGEST_BULK_RUN: Final = 2
"""Bulk batches in a row while interactive work waits: an interactive arrival never waits behind more of them."""


MOST_EARNED: Final = 0.5
"""However long batches are, bulk earns no more than this for keeping its share over every second."""


class Lanes:
    """Interactive first; while both lanes wait, bulk earns credit by all that is served and spends it on its own.

    Device time is counted in full batches: tokens ÷ the budget of their model, so that a token of a model half as fast
    counts twice. The credit stays between `earn` and minus one batch: over any stretch in which both lanes wait, bulk
    gets at least `earn × all - 1` batches. A second holds at least `1000 / max_batch_ms` batches, so earning
    `max_batch_ms / 1000` more than `bulk_min_share` keeps the share over any single second, not only in the long run.
    """

    def __init__(self, bulk_min_share: float, max_batch_ms: float) -> None:
        more = min(MOST_EARNED, bulk_min_share + max_batch_ms / 1000)
        self.earn = max(bulk_min_share, more) if bulk_min_share else 0.0
        self._credit = 0.0
        self._bulk_run = 0

    def lead(self, waiting: Collection[Lane]) -> Lane:
        """The lane that the next batch belongs to, of those in which work waits."""
        if "interactive" not in waiting:
            return "bulk"
        if "bulk" in waiting and self._credit > 0 and self._bulk_run < LONGEST_BULK_RUN:
            return "bulk"
        return "interactive"

    def charge(self, lead: Lane, waiting: Collection[Lane], interactive: float, bulk: float) -> None:
        """Count a batch that `lead` was chosen for, by what it holds of each lane; `waiting` is as `lead` saw it."""
        self._bulk_run = self._bulk_run + 1 if lead == "bulk" else 0
        both = "interactive" in waiting and "bulk" in waiting
        owed = self._credit + self.earn * (interactive + bulk) - bulk
        if lead == "interactive":  # what bulk is given to fill a batch up does not put it into debt
            owed = max(owed, min(self._credit, -1.0))
        self._credit = owed if both else 0.0
