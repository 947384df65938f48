"""Which table of which database does an address name?"""

from __future__ import annotations

from typing import Final

import psycopg
from msgspec import Struct

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.postgres import take_apart

OWN: Final = ("table", "schema", "id", "vector", "hash")
"""What of the query is ours; all else is libpq's."""
USER_TIMEOUT_MS: Final = "60000"
"""How soon a server is given up that takes what is written to it and confirms none of it."""


class PostgresAddress(Struct, frozen=True, kw_only=True):
    """`conninfo` is libpq's and may hold a password; `shown` is for messages."""

    conninfo: str
    shown: str
    table: str
    schema: str | None = None
    """None: wherever the search path finds the table."""
    id: str = "id"
    vector: str = "embedding"
    hash: str = "content_hash"


def read_address(uri: str) -> PostgresAddress:
    """Read `postgresql://user@host/db?table=docs[&schema=…][&id=…][&vector=…][&hash=…]`; raises SinkRefused."""
    named = take_apart(uri, OWN)
    own, shown = named.own, named.shown
    empty = [key for key, value in own.items() if not value]
    if "table" not in own or empty:
        wants = f"{empty[0]}= is empty" if empty else "it names no table"
        raise SinkRefused(f"{shown}: {wants}: add ?table=docs_vectors")
    schema, _, table = own["table"].rpartition(".") if "schema" not in own else ("", "", own["table"])
    try:
        conninfo = named.conninfo(tcp_user_timeout=USER_TIMEOUT_MS)
    except psycopg.Error:
        remedy = "percent-encode what is special in user and password, and check the names behind the question mark"
        raise SinkRefused(f"{shown}: PostgreSQL cannot read this address: {remedy}") from None
    rest = {key: value for key, value in own.items() if key not in ("table", "schema")}
    return PostgresAddress(
        conninfo=conninfo,
        shown=shown,
        table=table,
        schema=own.get("schema") or schema or None,
        **rest,
    )
