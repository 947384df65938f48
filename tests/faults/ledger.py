"""What was asked, and what of it did Kafka accept?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

Where = Literal["stream", "topic", "kept", "nobody"]
"""How the caller gets its answer: `nobody` waits for it."""


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


class Asked(Struct, frozen=True, kw_only=True):
    """One request, and what may become of it."""

    id: str
    items: Sequence[str]
    where: Where
    client: str = ""
    failures: Mapping[int, str] = {}
    """Items that must fail alone, and their code."""
    codes: frozenset[str] = frozenset()
    """The request itself must fail, with one of these."""
    or_codes: frozenset[str] = frozenset()
    """It may, for a reason that the row makes."""
    dead: bool = False
    """It must have a dead letter."""


class Ledger:
    """Every request that was sent, and where Kafka says it is: accepted, from then on."""

    def __init__(self) -> None:
        self.asked: dict[str, Asked] = {}
        self.accepted: dict[str, list[Place]] = {}

    def ask(self, asked: Asked) -> None:
        """It is about to be sent."""
        self.asked[asked.id] = asked

    def accept(self, id: str, place: Place) -> None:
        """Kafka acknowledged it; a request that is published twice has two places."""
        self.accepted.setdefault(id, []).append(place)

    def __len__(self) -> int:
        return len(self.accepted)

    def __iter__(self) -> Iterator[Asked]:
        return (self.asked[id] for id in self.accepted)
