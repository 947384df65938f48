"""Which table or query of which database does an address name?"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from embedmq.bulk.errors import SourceRefused

OWN: Final = ("table", "query")
"""What of the address's query is ours; all else is libpq's."""
DEFAULTS: Final = {
    "application_name": "embedmq reindex",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""How soon a server that is gone is noticed, in s, where the address does not say otherwise."""


class Address(Struct, frozen=True):
    """What to read, by name or by query, and where."""

    secret: _Conninfo
    shown: str
    """For messages."""
    table: tuple[str, ...] = ()
    """Its name, behind its schema's where one is named; empty for a query."""
    query: str = ""

    @property
    def conninfo(self) -> str:
        """How libpq connects; it may hold a password."""
        return self.secret.value

    @property
    def name(self) -> str:
        """What rows are said to be of."""
        return ".".join(self.table) or "query"


class _Conninfo:
    """A text that no `repr` shows."""

    def __init__(self, value: str) -> None:
        self.value = value


def read_address(uri: str) -> Address:
    """Read `postgresql://user@host/db?table=[schema.]name` or `?query=select …`; raises SourceRefused.

    As libpq has it, `%` is an escape and `+` is not: `%` and `&` in a query are written `%25` and `%26`.
    """
    base, _, tail = uri.partition("?")
    parts = [part for part in tail.split("&") if part]
    own = {key: unquote(value) for key, _, value in (part.partition("=") for part in parts) if key in OWN}
    foreign = [part for part in parts if part.partition("=")[0] not in OWN]
    place = base.partition("://")[2]
    shown = f"postgresql://{place.rpartition('@')[2]}"
    if len([value for value in own.values() if value.strip()]) != 1:
        raise SourceRefused(f"{shown}: say what to read, by ?table=docs or by ?query=select …")
    try:
        found = conninfo_to_dict(f"postgresql://{place}" + ("?" + "&".join(foreign) if foreign else ""))
    except psycopg.Error:  # its message quotes what it stumbles over, which may be the password
        hint = "write what is special in user, password or query as %xx, and check the names behind the question mark"
        raise SourceRefused(f"{shown}: PostgreSQL cannot read this address: {hint}") from None
    return Address(
        _Conninfo(make_conninfo("", **(DEFAULTS | found))),
        shown,
        tuple(own["table"].split(".", 1)) if own.get("table") else (),
        own.get("query", "").strip().rstrip(";"),
    )
