"""Which records of a long input are on their way, and which comes out next?"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from msgspec import Struct

from embedmq.packing import Packed

PARTIAL_RECORDS = 16
"""How many records may be on their way before one that is not full waits: for an answer, never for the source."""

T = TypeVar("T")


class Slot(Struct, Generic[T]):
    """A record on its way, and what became of it once it is `done`."""

    packed: Packed
    outcome: T | Exception | None = None
    done: bool = False


class Window(Generic[T]):
    """Counts the items that have been taken from a source and not yet been used up by a consumer. Records come out in
    the order in which they went in, or in that in which they were answered.
    """

    def __init__(self, max_items: int, record_items: int, *, ordered: bool) -> None:
        self._room = max_items
        self._record_items = record_items
        self._ordered = ordered
        self._under_way = 0
        self._slots: deque[Slot[T]] = deque()

    def may_take(self, gathered: int) -> bool:
        """Whether the source may be asked for one item, while `gathered` wait for the rest of their record.

        A record is begun where there is room for a whole one: a consumer that makes room for one item at a time would
        get records of one item else.
        """
        return self._room >= (1 if gathered else self._record_items)

    def may_send_partial(self) -> bool:
        """Whether a record may go that is not full."""
        return self._under_way < PARTIAL_RECORDS

    def take(self) -> None:
        """One item was taken from the source."""
        self._room -= 1

    def send(self, packed: Packed) -> Slot[T]:
        """A record goes on its way."""
        slot: Slot[T] = Slot(packed)
        self._under_way += 1
        if self._ordered:
            self._slots.append(slot)
        return slot

    def end(self, slot: Slot[T], outcome: T | Exception) -> None:
        """A record was answered, or failed."""
        slot.outcome, slot.done = outcome, True
        self._under_way -= 1
        if not self._ordered:
            self._slots.append(slot)

    def next(self) -> Slot[T] | None:
        """The record whose turn it is to come out; None while there is none."""
        return self._slots.popleft() if self._slots and self._slots[0].done else None

    def give_back(self, items: int) -> None:
        """The consumer is done with as many items."""
        self._room += items

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way and nothing waits to come out."""
        return not self._under_way and not self._slots
