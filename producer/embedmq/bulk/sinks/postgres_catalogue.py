"""What does a database say of a table, and of its types?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

import psycopg
from msgspec import Struct
from psycopg import sql

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.sinks.postgres_session import Connection


class Found(Struct, frozen=True):
    """A table: the types of its columns in PostgreSQL's words, and the columns that identify a row."""

    schema: str
    types: Mapping[str, str]
    unique: frozenset[str]

    def type_of(self, column: str) -> sql.SQL:
        """The type of a column as it may stand in a statement: the catalogue quotes what has to be quoted."""
        spelled: LiteralString = self.types[column]  # pyright: ignore[reportAssignmentType]  # nobody can have made it up
        return sql.SQL(spelled)


def find_table(connection: Connection, table: sql.Identifier) -> Found | None:
    """None where there is none; raises SinkRefused for what is no table."""
    oid = find_oid(connection, table)
    if oid is None:
        return None
    schema = connection.execute(
        "select nspname from pg_class c join pg_namespace n on n.oid = relnamespace"
        " where c.oid = %s and relkind in ('r', 'p')",
        (oid,),
    ).fetchone()
    if schema is None:
        message = f"{table.as_string(connection)} is no table, but a view or the like"
        raise SinkRefused(f"{message}: name the table behind it by table=")
    columns = connection.execute(
        "select attname, format_type(atttypid, atttypmod), exists ("
        " select from pg_index where indrelid = attrelid and indkey[0] = attnum and indnkeyatts = 1 and indisunique"
        " and indisvalid and indimmediate and indpred is null)"
        " from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped",
        (oid,),
    ).fetchall()
    return Found(
        schema=schema[0],
        types={name: type for name, type, _ in columns},
        unique=frozenset(name for name, _, unique in columns if unique),
    )


def find_oid(connection: Connection, table: sql.Identifier) -> int | None:
    """The number of what has this name; None where nothing has."""
    row = connection.execute("select to_regclass(%s)::oid", (table.as_string(connection),)).fetchone()
    return None if row is None else row[0]


def refuse_rights(connection: Connection, table: sql.Identifier, *rights: str) -> None:
    """Raise SinkRefused where we lack one of these rights on a table and on every column of it."""
    name = table.as_string(connection)
    query = (
        "select current_user, array(select wish from unnest(%s::text[]) as wish"
        " where not has_any_column_privilege(%s, wish))"
    )
    row = connection.execute(query, (list(rights), name)).fetchone()
    if row is not None and row[1]:
        message = f"we lack the right to {', '.join(row[1])} {name}"
        raise SinkRefused(f"{message}: grant {', '.join(rights)} on {name} to {row[0]}")


def find_pgvector(connection: Connection) -> str | None:
    """The schema that pgvector is in, after it was created where that is allowed; None where it cannot be had."""
    try:
        with connection.transaction():
            connection.execute("create extension if not exists vector")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
        return None
    row = connection.execute(
        "select nspname from pg_extension join pg_namespace n on n.oid = extnamespace where extname = 'vector'"
    ).fetchone()
    return None if row is None else row[0]


def find_width(connection: Connection, table: sql.Identifier, column: str) -> int | None:
    """How wide the vectors are in a column that takes any; None where there are none."""
    query = sql.SQL("select cardinality({0}::real[]) from {1} where {0} is not null limit 1")
    row = connection.execute(query.format(sql.Identifier(column), table)).fetchone()
    return None if row is None else row[0]
