"""Which table of which database does an address name?"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from embedmq.bulk.errors import SinkRefused

OWN: Final = ("table", "schema", "id", "vector", "hash")
"""What of the query is ours; all else is libpq's."""
DEFAULTS: Final = {
    "application_name": "embedmq reindex",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""How soon a server that is gone is noticed, where the address does not say otherwise: s, and ms for the last one."""


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
    base, _, query = uri.partition("?")
    parts = [part for part in query.split("&") if part]
    own = {key: unquote(value) for key, _, value in (part.partition("=") for part in parts) if key in OWN}
    foreign = [part for part in parts if part.partition("=")[0] not in OWN]
    place = base.partition("://")[2]
    shown = f"postgresql://{place.rpartition('@')[2]}"
    empty = [key for key, value in own.items() if not value]
    if "table" not in own or empty:
        wants = f"{empty[0]}= is empty" if empty else "it names no table"
        raise SinkRefused(f"{shown}: {wants}: add ?table=docs_vectors")
    schema, _, table = own["table"].rpartition(".") if "schema" not in own else ("", "", own["table"])
    try:
        found = conninfo_to_dict(f"postgresql://{place}" + ("?" + "&".join(foreign) if foreign else ""))
    except psycopg.Error:  # its message quotes what it stumbles over, which may be the password
        remedy = "percent-encode what is special in user and password, and check the names behind the question mark"
        raise SinkRefused(f"{shown}: PostgreSQL cannot read this address: {remedy}") from None
    rest = {key: value for key, value in own.items() if key not in ("table", "schema")}
    return PostgresAddress(
        conninfo=make_conninfo("", **(DEFAULTS | found)),
        shown=shown,
        table=table,
        schema=own.get("schema") or schema or None,
        **rest,
    )
