"""Has an id come before in this source?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.rows import Block, Flaw, Row

DUPLICATE = "duplicate_id"


class Seen:
    """Every id of a source so far, and where it stood: on disk as soon as there are many, gone with the process.

    It belongs to the thread in which it was made.
    """

    def __init__(self) -> None:
        # an empty name is SQLite's private temporary database: in memory while it is small, then in an unnamed file
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("create table seen (id text primary key, place text) without rowid")
        self._file.execute("begin")  # one transaction, never committed: nobody else reads it

    def split(self, block: Block) -> tuple[list[tuple[Row, str]], list[Flaw]]:
        """The rows whose ids are new, with their places, and a flaw for each of the others."""
        new: list[tuple[Row, str]] = []
        flaws: list[Flaw] = []
        for row, place in zip(block.rows, block.places, strict=True):
            try:
                first = self._add(row.id, place)
            except sqlite3.Error as error:
                message = f"the ids of the source do not fit where temporary files go: {error}"
                raise SourceRefused(f"{message}: make room, or name another folder in SQLITE_TMPDIR") from error
            if first is None:
                new.append((row, place))
            else:
                message = f"id {row.id!r} was there before, at {first}: ids are unique in a source"
                flaws.append(Flaw(place, DUPLICATE, message, row.id, row.text, row.kept))
        return new, flaws

    def fill(self, blocks: Iterable[Block], rows: int) -> None:
        """Note the ids of the first `rows` rows of a source."""
        for block in blocks:
            part = msgspec.structs.replace(block, rows=block.rows[:rows], places=block.places[:rows])
            self.split(part)
            rows -= len(part.rows)
            if rows == 0:
                return

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _add(self, id: str, place: str) -> str | None:
        if self._file.execute("insert or ignore into seen values (?, ?)", (id, place)).rowcount:
            return None
        found: tuple[str] = self._file.execute("select place from seen where id = ?", (id,)).fetchone()
        return found[0]


def latest(block: Block) -> list[tuple[Row, str]]:
    """Of rows with the same id in one block the last, which is the newest version."""
    rows: Sequence[Row] = block.rows
    return list({row.id: (row, place) for row, place in zip(rows, block.places, strict=True)}.values())
