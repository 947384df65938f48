"""Which statements read the rows of a table or a query, from any of them on?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg
from msgspec import Struct
from psycopg import sql
from psycopg.rows import TupleRow

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.rows import Columns
from embedmq.bulk.sources.fields import MAX_ROW_BYTES, settle, suggest
from embedmq.bulk.sources.postgres_address import Address

_KEYS: Final = """
select a.attname, format_type(a.atttypid, -1), i.indisprimary
from pg_index i join pg_class c on c.oid = i.indrelid
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = %s::regclass and i.indisunique and i.indisvalid and i.indimmediate and i.indnkeyatts = 1
  and i.indpred is null and i.indexprs is null and a.attnotnull and (c.relkind = 'p' or not c.relhassubclass)
order by i.indisprimary desc
"""
"""Columns whose values tell all rows apart: those of a table with children need not be unique among these."""
_TABLES: Final = "select relname from pg_class where relkind = any('{r,p,v,m,f}') and pg_table_is_visible(oid)"
_IDS, _FLOATS = "SNED", ("float4", "float8", "money")
"""Categories of `pg_type` that can be ids (strings, numbers, enumerations, dates), and the numbers that cannot."""


class Layout(Struct, frozen=True):
    """What is read: which columns of which relation; `key_type` where the id has an index that tells all rows apart."""

    relation: sql.Composable
    columns: Columns
    key_type: str | None

    @property
    def key(self) -> sql.Composable:
        """The id column; with its table, since `order by id` alone would mean what is selected under that name."""
        return _column(self.columns.id or "")


def find_layout(connection: psycopg.Connection[TupleRow], address: Address, columns: Columns) -> Layout:
    """Look at names, types and indexes; raises SourceRefused, psycopg.Error."""
    where = f"{address.name} at {address.shown}"
    relation: sql.Composable = sql.SQL("({}\n)").format(_trusted(address.query))
    if address.table:
        relation = sql.Identifier(*address.table)
    there = _types(connection, relation, address)
    keys = {} if address.query else _keys(connection, relation)
    settled = settle(columns, there, where)
    id = settled.id or next((name for name, key in keys.items() if key.primary), None)
    if id is None:
        raise SourceRefused(f"{where} has neither a column 'id' nor a primary key: name what tells rows apart by --id")
    text_type, id_type = there[settled.text], there[id]
    if text_type.category != "S":
        raise SourceRefused(f"{where}: column {settled.text!r} is {text_type.name}, not text: cast it in a ?query=")
    if id_type.name in _FLOATS or not (id_type.category in _IDS or id_type.name == "uuid"):
        raise SourceRefused(f"{where}: column {id!r} is {id_type.name}, which is no id: cast it in a ?query=")
    key_type = keys[id].type if id in keys else None
    layout = Layout(relation, Columns(text=settled.text, id=id, keep=settled.keep), key_type)
    connection.execute(_select(layout, sql.SQL("limit 0")))  # whether we may
    return layout


def count(layout: Layout) -> sql.Composed:
    """How many rows there are."""
    return sql.SQL("select count(*) from {} as source").format(layout.relation)


def page(layout: Layout, after: str | None, rows: int) -> sql.Composed:
    """The next rows behind a key, by the index."""
    literal = sql.SQL("{}::{}").format(sql.Literal(after), _trusted(layout.key_type or ""))
    behind = sql.SQL("" if after is None else "where {} > {}").format(layout.key, literal)
    order = sql.SQL("{} order by {} limit {}").format(behind, layout.key, sql.Literal(rows))
    return _select(layout, order)


def sorted_rows(layout: Layout, id: str | None, *, begun: bool) -> sql.Composed:
    """All rows from an id on, those without one last; of equal ids by their text, so that they can be counted."""
    exact = sql.SQL('{}::text collate "C"').format(layout.key)  # the same order everywhere; what differs is unequal
    behind = sql.SQL("where {} is null").format(layout.key)
    if id is not None:
        behind += sql.SQL(" or {} >= {}").format(exact, sql.Literal(id))
    text = _column(layout.columns.text)
    order = sql.SQL('{} order by {} nulls last, {}::text collate "C"')
    return _select(layout, order.format(behind if begun else sql.SQL(""), exact, text))


class _Key(Struct, frozen=True):
    type: str
    primary: bool


class _Type(Struct, frozen=True):
    name: str
    category: str


def _select(layout: Layout, rest: sql.Composable) -> sql.Composed:
    """Id, text or null, the text's size, and what is kept."""
    text = _column(layout.columns.text)
    size, most = sql.SQL("octet_length({}::text)").format(text), sql.Literal(MAX_ROW_BYTES)
    short = sql.SQL("case when {} <= {} then {}::text end").format(size, most, text)
    kept = [_column(name) for name in layout.columns.keep]
    columns = sql.SQL(", ").join([sql.SQL("{}::text").format(layout.key), short, size, *kept])
    return sql.SQL("select {} from {} as source {}").format(columns, layout.relation, rest)


def _column(name: str) -> sql.Composable:
    return sql.Identifier("source", name)


def _types(connection: psycopg.Connection[TupleRow], relation: sql.Composable, address: Address) -> dict[str, _Type]:
    """The types of all columns by their names."""
    try:
        with connection.transaction():
            found = connection.execute(sql.SQL("select * from {} as source limit 0").format(relation)).description or []
    except psycopg.errors.UndefinedTable as error:
        names = [str(name) for (name,) in connection.execute(_TABLES)] if address.table else []
        hint = f": {suggest(address.table[-1], names)}" if address.table else ""
        raise SourceRefused(f"{address.shown}: {error.diag.message_primary}{hint}") from None
    query = "select oid, typname, typcategory from pg_type where oid = any(%s)"
    types = {oid: _Type(name, category) for oid, name, category in connection.execute(query, ([c[1] for c in found],))}
    return {column.name: types[column.type_code] for column in found}


def _keys(connection: psycopg.Connection[TupleRow], relation: sql.Composable) -> Mapping[str, _Key]:
    """The columns that tell rows apart, by name."""
    rows = connection.execute(_KEYS, (relation.as_string(connection),)).fetchall()
    return {name: _Key(type, primary) for name, type, primary in reversed(rows)}


def _trusted(text: str) -> sql.SQL:
    """What is no literal of ours: the user's own query, or how the server writes a type."""
    return sql.SQL(text)  # pyright: ignore[reportArgumentType]  # it wants what no user wrote
