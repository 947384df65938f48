"""How do vectors get into PostgreSQL, beside the documents or into a table of their own?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from msgspec import Struct
from psycopg import sql

from embedmq.bulk.errors import SinkRefused, ValueRefused
from embedmq.bulk.rows import Columns, Shape, Vectors
from embedmq.bulk.sinks.postgres_address import read_address
from embedmq.bulk.sinks.postgres_catalogue import find_table
from embedmq.bulk.sinks.postgres_errors import explain
from embedmq.bulk.sinks.postgres_rows import Kind, copy_rows
from embedmq.bulk.sinks.postgres_session import Connection, Session, begin
from embedmq.bulk.sinks.postgres_statements import Statements, statements
from embedmq.bulk.sinks.postgres_table import prepare

_OF_VALUES = (psycopg.DataError, psycopg.errors.CardinalityViolation)
"""Errors that a value of a row may be the reason of: no number where ids are numbers, two texts that are one id."""


class _Open(Struct, frozen=True):
    connection: Connection
    say: Statements
    kind: Kind
    job: str
    keep: Sequence[str]


class PgvectorSink:
    """`postgresql://user@host/db?table=docs[&id=id][&vector=embedding][&hash=content_hash][&schema=…]`, and what else
    libpq knows (`sslmode=…`); a password by `PGPASSWORD`.

    Every `write` is one transaction: rows that the table has are updated, then the others inserted. Thus vectors can go
    into a table of documents whose other columns want values. The checkpoint is a row of `embedmq_jobs` in the same
    schema. An advisory lock keeps a second process out of a job: it lives in the session, so the connection must not go
    through a pool that lends sessions by the transaction.
    """

    at_least_once = False

    def __init__(self, uri: str, columns: Columns) -> None:
        del columns  # the shape has what travels along
        self._address = read_address(uri)
        self._where = f"table {self._address.table} at {self._address.shown}"
        self._session: Session | None = None
        self._opened: _Open | None = None

    def is_there(self) -> bool:
        """Whether the table has a column for vectors."""
        with self._explained(), psycopg.connect(self._address.conninfo, autocommit=True) as connection:
            found = find_table(connection, sql.Identifier(*filter(None, (self._address.schema, self._address.table))))
        return found is not None and {self._address.vector, self._address.hash} <= found.types.keys()

    def open(self, job: str, shape: Shape) -> None:
        """Connect, take the job's lock, and make what is missing of the table."""
        with self._explained():
            self._session = begin(self._address.conninfo, job, self._session)
            connection = self._session.connection
            layout = prepare(connection, self._address, shape)
            say = statements(self._address, layout, shape.keep)
            connection.execute(say.stage)
        self._opened = _Open(connection, say, layout.kind, job, shape.keep)

    def load(self) -> bytes | None:
        """The checkpoint of this job."""
        with self._explained():
            here = self._here()
            row = here.connection.execute(here.say.load, (here.job,)).fetchone()
        return None if row is None else row[0]

    def hashes(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        """Those that have a vector: a document that has none yet counts as missing."""
        with self._explained():
            here = self._here()
            return dict(here.connection.execute(here.say.hashes, (list(ids),)).fetchall())

    def write(self, vectors: Vectors) -> None:
        """Replace and insert, in one transaction."""
        here = self._here()
        with self._explained():
            try:
                _put(here, vectors)
            except psycopg.errors.NotNullViolation as error:
                absent = here.connection.execute(here.say.absent, (list(vectors.ids),)).fetchone()
                raise SinkRefused(
                    f"{self._where} has no row {absent[0] if absent else '?'!r} to put a vector beside, and none can be"
                    f" inserted: column {error.diag.column_name!r} wants a value. Insert the documents first, let the"
                    " column have a default, or name another table"
                ) from None
            except _OF_VALUES as error:
                index = _culprit(here, vectors)
                if index is None:
                    raise
                raise ValueRefused(index, str(explain(error, self._where))) from None

    def commit(self, checkpoint: bytes) -> None:
        """Keep the checkpoint: what was written is durable already."""
        with self._explained():
            here = self._here()
            here.connection.execute(here.say.commit, (here.job, checkpoint))

    def clear(self) -> None:
        """Forget the checkpoint."""
        with self._explained():
            here = self._here()
            here.connection.execute(here.say.clear, (here.job,))

    def close(self) -> None:
        """Disconnect, which ends the lock."""
        self._opened = None
        if self._session is not None:
            self._session.connection.close()

    def _here(self) -> _Open:
        if self._opened is None:
            raise RuntimeError("not open")
        return self._opened

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, UnicodeError) as error:
            raise explain(error, self._where) from error


def _put(here: _Open, vectors: Vectors, *, for_good: bool = True) -> None:
    with here.connection.transaction(force_rollback=not for_good), here.connection.cursor() as cursor:
        with cursor.copy(here.say.copy) as copy:
            for row in copy_rows(vectors, here.kind, here.keep):
                copy.write_row(row)
        replaced = cursor.execute(here.say.update).rowcount
        if replaced < len(vectors):  # else the right to insert is not needed
            cursor.execute(here.say.insert)


def _culprit(here: _Open, vectors: Vectors) -> int | None:
    """The first row without which those before it would be taken: it is wrong itself, or its id is an earlier one's
    (`1` and `01`, where ids are numbers). None where PostgreSQL takes them all now.
    """
    good, bad = 0, len(vectors) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _is_bad(here, vectors.part(0, middle)) else (middle, bad)
    return None if bad > len(vectors) else bad - 1


def _is_bad(here: _Open, vectors: Vectors) -> bool:
    try:
        _put(here, vectors, for_good=False)
    except _OF_VALUES:
        return True
    return False
