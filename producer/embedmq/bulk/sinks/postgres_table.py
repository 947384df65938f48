"""Can a table take the vectors of a job, and what is missing of it?"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

import psycopg
from msgspec import Struct
from psycopg import sql

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.rows import Shape
from embedmq.bulk.sinks.postgres_address import PostgresAddress
from embedmq.bulk.sinks.postgres_catalogue import Found, find_oid, find_pgvector, find_table, find_width, refuse_rights
from embedmq.bulk.sinks.postgres_rows import Kind
from embedmq.bulk.sinks.postgres_session import Connection

JOBS: Final = "embedmq_jobs"
"""The table of checkpoints, in the schema of the vectors."""
_CHECKPOINTS: Final = sql.SQL(
    "create table {} (job text primary key, checkpoint bytea not null, updated timestamptz not null)"
)
_DEFINING: Final = 0x656D6265646D71
"""The advisory lock under which tables are made: two jobs that begin at once would make one of them twice."""
_KINDS: Final[Mapping[str, Kind]] = {
    "vector": "vector",
    "halfvec": "halfvec",
    "real[]": "real[]",
    "double precision[]": "real[]",
}
_FITTING: Final[Mapping[str, tuple[Kind, ...]]] = {"float32": ("vector", "real[]"), "float16": ("halfvec", "real[]")}
_TYPE: Final = re.compile(r"(?:.+\.)?(?P<name>[a-z ]+(?:\[\])?)(?:\((?P<width>\d+)\))?")
"""`vector(384)`, `extensions.halfvec(8)`, `real[]`."""

_LOG = logging.getLogger(__name__)


class Layout(Struct, frozen=True):
    """A table that can take the vectors, and the one of checkpoints."""

    table: sql.Identifier
    jobs: sql.Identifier
    found: Found
    kind: Kind


def prepare(connection: Connection, address: PostgresAddress, shape: Shape) -> Layout:
    """Create what is missing and check what is there; raises SinkRefused where the vectors cannot go there."""
    columns = [address.id, address.vector, address.hash, *shape.keep]
    for name in columns:
        if columns.count(name) > 1:
            message = f"column {name!r} of {address.table} would have to hold two things"
            raise SinkRefused(f"{message}: name other columns by &id=, &vector= and &hash=")
    named = sql.Identifier(*filter(None, (address.schema, address.table)))
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (_DEFINING,))
        found = find_table(connection, named)
        if found is None:
            _create(connection, named, address, shape)
        else:
            refuse_rights(connection, named, "SELECT", "UPDATE")
            _extend(connection, address, shape, found)
        found = find_table(connection, named)
        if found is None:
            raise SinkRefused(f"table {address.table} was made, and is not on the search path: add &schema=…")
        layout = _check(connection, address, shape, found)
        if find_oid(connection, layout.jobs) is None:
            _define(connection, _CHECKPOINTS.format(layout.jobs))
        refuse_rights(connection, layout.jobs, "SELECT", "INSERT", "UPDATE")
        return layout


def _create(connection: Connection, named: sql.Identifier, address: PostgresAddress, shape: Shape) -> None:
    columns = {
        address.id: sql.SQL("text primary key"),
        address.vector: _vector_type(connection, shape),
        address.hash: sql.SQL("bytea"),
        **dict.fromkeys(shape.keep, sql.SQL("text")),
    }
    listed = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), type) for name, type in columns.items())
    _define(connection, sql.SQL("create table {} ({})").format(named, listed))


def _extend(connection: Connection, address: PostgresAddress, shape: Shape, found: Found) -> None:
    """Add the columns that an existing table lacks: vectors often go beside the documents."""
    if address.id not in found.types:
        names = ", ".join(found.types)
        raise SinkRefused(f"table {address.table} has no column {address.id!r}: name one of {names} by &id=")
    lacking: dict[str, sql.Composable] = {}
    if address.vector not in found.types:
        lacking[address.vector] = _vector_type(connection, shape)
    if address.hash not in found.types:
        lacking[address.hash] = sql.SQL("bytea")
    lacking |= {name: sql.SQL("text") for name in shape.keep if name not in found.types}
    if lacking:
        adding = sql.SQL(", ").join(
            sql.SQL("add column {} {}").format(sql.Identifier(name), type) for name, type in lacking.items()
        )
        table = sql.Identifier(found.schema, address.table)
        _define(connection, sql.SQL("alter table {} {}").format(table, adding))


def _vector_type(connection: Connection, shape: Shape) -> sql.Composable:
    """pgvector's type where the database has it, or lets us have it, else an array."""
    schema = find_pgvector(connection)
    if schema is None:
        _LOG.warning("the database has no pgvector, and we may not create it: vectors go into a column of type real[]")
        return sql.SQL("real[]")
    name = "vector" if shape.dtype == "float32" else "halfvec"
    return sql.SQL("{}({})").format(sql.Identifier(schema, name), sql.Literal(shape.dimensions))


def _check(connection: Connection, address: PostgresAddress, shape: Shape, found: Found) -> Layout:
    name, type = address.table, found.types[address.vector]
    table = sql.Identifier(found.schema, name)
    if address.id not in found.unique:
        message = f"column {address.id!r} of {name} is not unique, so that no row could be replaced by id"
        raise SinkRefused(f"{message}: create unique index on {name} ({address.id})")
    if found.types[address.hash] != "bytea":
        message = f"column {address.hash!r} of {name} is {found.types[address.hash]}, not bytea"
        raise SinkRefused(f"{message}: add &hash=another_column, which will be made")
    match = _TYPE.fullmatch(type)
    kind = _KINDS.get(match["name"]) if match else None
    width = None if match is None or match["width"] is None else int(match["width"])
    if width is None and kind is not None:
        width = find_width(connection, table, address.vector)
    if kind is None or kind not in _FITTING[shape.dtype] or width not in (None, shape.dimensions):
        has = type if width is None or str(width) in type else f"{type} of {width} numbers"
        message = f"column {address.vector!r} of {name} is {has}, the job's vectors are {shape.dtype}"
        raise SinkRefused(f"{message} of {shape.dimensions} numbers: add &vector=another_column, which will be made")
    return Layout(table, sql.Identifier(found.schema, JOBS), found, kind)


def _define(connection: Connection, statement: sql.Composed) -> None:
    """Change the schema; who may not is told what to ask for."""
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        message = f"{error.diag.message_primary}: ask who may for: {statement.as_string(connection)}"
        raise SinkRefused(f"{message}; and for the right to read and write it") from None
