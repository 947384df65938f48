"""How are rows read from a table or a query of PostgreSQL?"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

import psycopg
from msgspec import Struct
from psycopg.rows import TupleRow

from embedmq.bulk.errors import Away, BulkError, SourceRefused
from embedmq.bulk.ports import Repeats
from embedmq.bulk.postgres import is_unreachable, words_of
from embedmq.bulk.rows import MAX_BLOCK_ROWS, Block, Columns, Flaw, Position, Row
from embedmq.bulk.sources.blocks import Pile
from embedmq.bulk.sources.fields import MAX_ROW_BYTES, read_row
from embedmq.bulk.sources.positions import from_position, to_position
from embedmq.bulk.sources.postgres_address import Address, read_address
from embedmq.bulk.sources.postgres_rows import Layout, count, find_layout, page, sorted_rows

COUNT_TIMEOUT_MS: Final = 10_000
"""How long counting the rows may take before the job goes without their number."""

_PASSING: Final = ("08", "40", "53", "57", "25P", "55P03")
"""SQLSTATEs, or their classes, that a later attempt may not meet: no connection, conflict, no room, server going or
coming, a transaction that was ended for being idle, a lock."""


class PostgresSource:
    """`postgresql://user@host/db?table=docs` or `?query=select …`, and whatever else libpq knows (`sslmode=…`); a
    password by `PGPASSWORD`.

    A table whose id column is unique and never null is read page by page in the order of its index, so that no
    transaction is held meanwhile: a row that is inserted behind the reader is not seen. All else, a query, a view, an
    id without an index, is sorted by the server and read through a cursor, of one snapshot; a row without an id, which
    is a flaw, comes last. Ids are as PostgreSQL writes them as text. Without an id column, `id` or the primary key.
    """

    repeats: Repeats = "flaw"

    def __init__(self, uri: str, columns: Columns) -> None:
        self._address: Address = read_address(uri)
        self._columns = columns
        self._layout: Layout | None = None
        self._connection: psycopg.Connection[TupleRow] | None = None

    def open(self) -> None:
        """Look at columns, types and indexes."""
        with self._connected() as connection, connection.transaction():
            self._layout = find_layout(connection, self._address, self._columns)
        self._columns = self._layout.columns
        self.repeats = "flaw" if self._layout.key_type is None else "never"

    def count(self) -> int | None:
        """The rows there are, if the server can tell in `COUNT_TIMEOUT_MS`."""
        with self._connected() as connection, connection.transaction():
            connection.execute("select set_config('statement_timeout', %s, true)", (str(COUNT_TIMEOUT_MS),))
            try:
                row = connection.execute(count(self._opened())).fetchone()
            except psycopg.errors.QueryCanceled:
                row = None
        return None if row is None else int(row[0])

    def read(self, after: Position | None) -> Iterator[Block]:
        """The rows behind a position, or all."""
        place = _Place() if after is None else from_position(after, _Place)
        layout, pile = self._opened(), Pile()
        with self._connected() as connection:
            pages = _sorted if layout.key_type is None else _by_key
            with closing(pages(connection, layout, place)) as found:
                for row in itertools.chain.from_iterable(found):
                    place = place.behind(row[0])
                    pile.add(*self._read_row(row))
                    if pile.full:
                        yield pile.take(to_position(place))
            if pile:
                yield pile.take(to_position(place))

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()

    def _opened(self) -> Layout:
        if self._layout is None:
            raise RuntimeError("not open")
        return self._layout

    def _read_row(self, row: TupleRow) -> tuple[Row | Flaw, str]:
        id, text, size, *kept = row
        where = f"{self._address.name} without id" if id is None else f"{self._address.name} id {id}"
        if text is None and size is not None:
            return Flaw(where, "too_large", f"the text has {size} bytes; at most {MAX_ROW_BYTES} are read", id), where
        names = (*self._columns.keep, self._columns.id or "", self._columns.text)
        return read_row(self._columns, dict(zip(names, (*kept, id, text), strict=True)), where), where

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """A connection while it is needed; raises SourceRefused, Away."""
        try:
            # Unprepared, as poolers between us and the server want it.
            with psycopg.connect(self._address.conninfo, prepare_threshold=None) as connection:
                self._connection = connection
                connection.read_only = True
                yield connection
        except (psycopg.Error, UnicodeError) as error:
            raise _explain(error, self._address.shown) from error
        finally:
            self._connection = None


class _Place(Struct, frozen=True):
    """Where reading goes on: behind an id as text, and behind so many rows that have it."""

    id: str | None = None
    rows: int = 0

    def behind(self, id: str | None) -> _Place:
        return _Place(id, self.rows + 1 if self.rows and id == self.id else 1)


def _by_key(connection: psycopg.Connection[TupleRow], layout: Layout, place: _Place) -> Generator[Sequence[TupleRow]]:
    """Pages in the order of the index, each in a transaction of its own."""
    last = place.id
    while True:
        with connection.transaction():
            rows = connection.execute(page(layout, last, MAX_BLOCK_ROWS)).fetchall()
        yield rows
        if len(rows) < MAX_BLOCK_ROWS:
            return
        last = rows[-1][0]


def _sorted(connection: psycopg.Connection[TupleRow], layout: Layout, place: _Place) -> Generator[Sequence[TupleRow]]:
    """All rows from an id on, sorted, without those of that id that were read before."""
    left = place.rows
    with connection.transaction(), connection.cursor(name="embedmq_rows") as cursor:
        cursor.execute(sorted_rows(layout, place.id, begun=place.rows > 0))
        while rows := cursor.fetchmany(MAX_BLOCK_ROWS):
            known = 0
            while known < min(left, len(rows)) and rows[known][0] == place.id:
                known += 1
            left = left - known if known == len(rows) else 0
            yield rows[known:]


def _explain(error: psycopg.Error | UnicodeError, where: str) -> BulkError:
    """Away when it may work later with nothing changed, else SourceRefused; in one line, without any password."""
    if isinstance(error, UnicodeError):
        return SourceRefused(f"{where} holds text that is not UTF-8 ({error}): select it by ?query= and convert it")
    away = is_unreachable(error) if error.sqlstate is None else error.sqlstate.startswith(_PASSING)
    what = words_of(error)
    return Away(f"{where} is away: {what}") if away else SourceRefused(f"{where}: {what}")
