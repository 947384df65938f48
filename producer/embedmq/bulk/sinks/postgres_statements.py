"""Which statements put vectors by id, and ask for them?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from msgspec import Struct
from psycopg import sql

from embedmq.bulk.sinks.postgres_address import PostgresAddress
from embedmq.bulk.sinks.postgres_table import Layout


class Statements(Struct, frozen=True):
    """All that is said to the database of one table."""

    stage: sql.Composed
    copy: sql.Composed
    update: sql.Composed
    insert: sql.Composed
    absent: sql.Composed
    hashes: sql.Composed
    load: sql.Composed
    commit: sql.Composed
    clear: sql.Composed


def statements(address: PostgresAddress, layout: Layout, keep: Sequence[str]) -> Statements:
    """Rows are copied into a temporary table, as text but for vector and hash, and cast from there to the types of the
    columns: an update for rows that are in the table, an insert for the others. `insert … on conflict` alone would fail
    where a column of the documents must not be null.
    """
    columns = [address.id, address.vector, address.hash, *keep]
    staged = ["id", "vector", "hash", *(f"kept_{i}" for i in range(len(keep)))]
    types = [layout.found.type_of(column) for column in columns]
    forms = [sql.SQL("text"), sql.SQL("real[]") if layout.kind == "real[]" else types[1], sql.SQL("bytea")]
    forms += [sql.SQL("text")] * len(keep)
    cast = [sql.SQL("s.{}::{}").format(sql.Identifier(name), type) for name, type in zip(staged, types, strict=True)]
    names = [sql.Identifier(column) for column in columns]
    parts: dict[str, sql.Composable] = {
        "table": layout.table,
        "jobs": layout.jobs,
        "id": names[0],
        "vector": names[1],
        "hash": names[2],
        "id_type": types[0],
        "columns": sql.SQL(", ").join(names),
        "values": sql.SQL(", ").join(cast),
        "staged": sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), form) for name, form in zip(staged, forms, strict=True)
        ),
        "set": sql.SQL(", ").join(
            sql.SQL("{} = {}").format(name, value) for name, value in zip(names[1:], cast[1:], strict=True)
        ),
        "set_again": sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in names[1:]),
    }

    def say(text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(**parts)

    return Statements(
        stage=say("create temporary table embedmq_staged ({staged}) on commit delete rows"),
        copy=say("copy pg_temp.embedmq_staged from stdin (format binary)"),
        update=say("update {table} as t set {set} from pg_temp.embedmq_staged as s where t.{id} = s.id::{id_type}"),
        insert=say(
            "insert into {table} ({columns}) select {values} from pg_temp.embedmq_staged as s"
            " where not exists (select from {table} as t where t.{id} = s.id::{id_type})"
            " on conflict ({id}) do update set {set_again}"
        ),
        absent=say(
            "select w.id from unnest(%s::text[]) as w(id)"
            " where not exists (select from {table} as t where t.{id} = w.id::{id_type}) limit 1"
        ),
        hashes=say(
            "select w.id, t.{hash} from unnest(%s::text[]) as w(id) join {table} as t on t.{id} = w.id::{id_type}"
            " where t.{vector} is not null"
        ),
        load=say("select checkpoint from {jobs} where job = %s"),
        commit=say(
            "insert into {jobs} (job, checkpoint, updated) values (%s, %s, now())"
            " on conflict (job) do update set checkpoint = excluded.checkpoint, updated = excluded.updated"
        ),
        clear=say("delete from {jobs} where job = %s"),
    )
