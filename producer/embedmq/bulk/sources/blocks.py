"""How are rows and flaws gathered into blocks, each of bounded size?"""

from __future__ import annotations

from typing import Final

from embedmq.bulk.rows import MAX_BLOCK_ROWS, Block, Flaw, Position, Row

BLOCK_CHARS: Final = 4 * 1_048_576
"""A block ends once its texts have as many characters, however few its rows are."""


class Pile:
    """What was read since the last block."""

    def __init__(self) -> None:
        self._begin()

    def add(self, found: Row | Flaw, place: str) -> None:
        """Put what stands at a place behind the others."""
        if isinstance(found, Row):
            self._rows.append(found)
            self._places.append(place)
        else:
            self._flaws.append(found)
        self._chars += len(found.text or "")

    @property
    def full(self) -> bool:
        """Whether it has to be taken before the next row."""
        return len(self) >= MAX_BLOCK_ROWS or self._chars >= BLOCK_CHARS

    def __len__(self) -> int:
        return len(self._rows) + len(self._flaws)

    def take(self, after: Position) -> Block:
        """All of it, as a block; the pile is empty then."""
        block = Block(self._rows, after, self._flaws, self._places)
        self._begin()
        return block

    def _begin(self) -> None:
        self._rows: list[Row] = []
        self._flaws: list[Flaw] = []
        self._places: list[str] = []
        self._chars = 0
