"""Which dead letters are meant?"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from embedmq.errors import InvalidRequest

if TYPE_CHECKING:
    from embedmq.dead import DeadLetter, Place

MAX_CHOSEN: Final = 250_000
"""Most letters that are replayed at a time; to know the last one of each id takes about 400 bytes a letter."""


class Selection(Struct, frozen=True, kw_only=True):
    """Filters that must all hold; an empty one lets everything through. Times are those of the letters, in Unix ms."""

    models: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    since_unix_ms: int | None = None
    until_unix_ms: int | None = None
    """From the first, up to but without the second."""

    def has(self, letter: DeadLetter) -> bool:
        """Whether this letter is meant; one that cannot be read has no model and no code."""
        return (
            (not self.models or letter.model in self.models)
            and (not self.codes or letter.code in self.codes)
            and (self.since_unix_ms is None or letter.buried_unix_ms >= self.since_unix_ms)
            and (self.until_unix_ms is None or letter.buried_unix_ms < self.until_unix_ms)
        )


class Chosen(Struct, frozen=True):
    """The places of some letters, and the last of each id: the others tell of earlier deaths of the same request."""

    places: frozenset[Place]
    last: dict[str, Place]


async def choose(letters: AsyncIterable[DeadLetter], selection: Selection, limit: int | None) -> Chosen:
    """Choose letters, of too many the newest `limit`; raises InvalidRequest for more than may be chosen without one."""
    bound = min(MAX_CHOSEN + 1, limit or MAX_CHOSEN + 1)
    found: deque[tuple[str, Place]] = deque(maxlen=bound)
    async for letter in letters:
        if selection.has(letter):
            found.append((letter.id, letter.place))
            if len(found) > MAX_CHOSEN:
                raise InvalidRequest(f"more than {MAX_CHOSEN} letters: choose fewer, by --until, --model or --limit")
    return Chosen(frozenset(place for _, place in found), dict(found))
